//! Mutated ELF files, each known by its number, and all that the engine does with one.

use fprefix::elf::{self, Edit, PatchPlan, SearchPathEdit};

use super::random::Random;

/// Everything that the engine offers, on one input. True if there was a plan.
pub(crate) fn exercise(bytes: &[u8], edit: &Edit, number: u64) -> bool {
    let _ = elf::read(bytes);
    let _ = elf::seal_loader(bytes);
    let plan = elf::plan(bytes, edit);
    if let Ok(plan) = &plan {
        assert!(is_orderly(plan), "input {number}: patches overlap or leave the file");
        let new = plan.apply_to_vec(bytes);
        let _ = elf::read(&new);
        let _ = elf::plan(&new, edit);
    }
    plan.is_ok()
}

fn is_orderly(plan: &PatchPlan) -> bool {
    let mut at = 0;
    plan.patches.iter().all(|patch| {
        let follows = patch.offset >= at;
        at = patch.offset + patch.bytes.len() as u64;
        follows && at <= plan.source_size
    }) && plan.growth() <= 10 * plan.source_size + (1 << 20)
}

pub(crate) fn edits() -> Vec<Edit> {
    let text = |len: usize| vec![b'x'; len];
    let both = |interpreter, runpath| Edit {
        interpreter: Some(text(interpreter)),
        search_path: SearchPathEdit::Runpath(text(runpath)),
        ..Edit::default()
    };
    let needed = Edit {
        soname: Some(text(30)),
        add_needed: vec![text(20), text(21), text(22)],
        remove_needed: vec![b"libc.so.6".to_vec()],
        no_default_lib: true,
        ..Edit::default()
    };
    let renamed = Edit {
        search_path: SearchPathEdit::Remove,
        replace_needed: vec![(b"libc.so.6".to_vec(), text(200))],
        ..Edit::default()
    };
    vec![both(10, 10), both(120, 120), both(120, 6000), needed, renamed]
}

impl Random {
    /// Returns `seed` with a few numbers changed, as an ELF file.
    pub(crate) fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(6) {
            let at = self.place(&bytes);
            let width = 1 << self.below(4);
            let value = self.number().to_le_bytes();
            for (byte, value) in bytes.iter_mut().skip(at).take(width).zip(value) {
                *byte = value;
            }
        }
        if self.below(8) == 0 {
            let len = self.below(bytes.len() + 1);
            bytes.truncate(len);
        }
        bytes
    }

    /// Mostly where structure is: the headers at the front, the section headers at the end, the
    /// dynamic section, the tables.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len();
        match self.below(6) {
            0 => self.below(64),
            1 | 2 => self.below(len.min(0x1000)),
            3 => len - 1 - self.below(len.min(0xa00)),
            4 => {
                let starts = bytes.windows(4).position(|word| word == [0xfb, 0xff, 0xff, 0x6f]);
                starts.unwrap_or(0).saturating_sub(0x200) + self.below(0x300)
            }
            _ => self.below(len),
        }
    }
}
