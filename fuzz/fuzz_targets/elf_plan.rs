//! Whatever the bytes are, a plan stays inside the file, and its result can be planned for.
#![no_main]

use fprefix::elf::{Edit, SearchPathEdit, plan, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The edit comes from the last bytes, so that an ELF file is a good seed as it is.
    let Some((bytes, &[i0, i1, s0, s1, choice])) = input.split_last_chunk() else { return };
    let (interpreter, search) = (u16::from_le_bytes([i0, i1]), u16::from_le_bytes([s0, s1]));
    let text = |len: u16| vec![b'x'; usize::from(len % 5_000) + 1];
    let edit = Edit {
        interpreter: (choice & 1 == 1).then(|| text(interpreter % 4_000)),
        search_path: match choice >> 1 & 3 {
            0 => SearchPathEdit::Keep,
            1 => SearchPathEdit::Runpath(text(search)),
            2 => SearchPathEdit::Rpath(text(search)),
            _ => SearchPathEdit::Remove,
        },
        soname: (choice & 8 == 8).then(|| text(30)),
        add_needed: if choice & 16 == 16 { vec![text(20), text(21)] } else { vec![] },
        remove_needed: if choice & 32 == 32 { vec![b"libc.so.6".to_vec()] } else { vec![] },
        replace_needed: if choice & 64 == 64 {
            vec![(b"libc.so.6".to_vec(), text(100))]
        } else {
            vec![]
        },
        no_default_lib: choice & 128 == 128,
        remove_others: vec![],
    };
    let Ok(made) = plan(bytes, &edit) else { return };
    let mut at = 0;
    for patch in &made.patches {
        assert!(patch.offset >= at);
        at = patch.offset + patch.bytes.len() as u64;
        assert!(at <= made.source_size);
    }
    let new = made.apply_to_vec(bytes);
    let _ = read(&new);
    let _ = plan(&new, &edit);
});
