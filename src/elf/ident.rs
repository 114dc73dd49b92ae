//! Judgement of a file by its ELF header, as the loader judges what it finds under the name of a
//! library.

use elf::abi;

use crate::elf::image::{ElfClass, ElfData, ElfImage, ObjectKind};

/// Fields of an ELF header that the loader compares (glibc elf/dl-load.c, `open_verify`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfIdent {
    /// Word size.
    pub class: ElfClass,
    /// Byte order.
    pub data: ElfData,
    /// `e_machine`.
    pub machine: u16,
    /// `e_flags`, as far as they tell ABIs of the machine apart.
    pub abi_flags: u32,
    /// `EI_OSABI` and `EI_ABIVERSION`.
    os_abi: (u8, u8),
    /// True if it can be loaded into a program: a shared object, and no program itself.
    loads: bool,
}

/// Judgement of the loader on a file that has the name of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is loaded.
    Loads,
    /// It is for another machine: the loader goes on to the next directory.
    OtherMachine,
    /// The loader gives up: nothing is searched for behind it. The text says what it is.
    Stops(&'static str),
}

/// Number of bytes that [`ElfIdent::read`] needs at most.
pub const HEADER: usize = 64;

impl ElfIdent {
    /// Reads the header of a file that begins with `start`.
    ///
    /// # Errors
    ///
    /// Returns what the file is, if it has no ELF header that a loader accepts.
    pub fn read(start: &[u8]) -> Result<Self, &'static str> {
        if start.is_empty() {
            return Err("is empty");
        }
        if !crate::elf::is_elf(start) {
            return Err("is no ELF file");
        }
        let byte = |at: usize| start.get(at).copied().ok_or("is cut short");
        let class = match byte(4)? {
            1 => ElfClass::Elf32,
            2 => ElfClass::Elf64,
            _ => return Err("has a broken ELF header"),
        };
        let data = match byte(5)? {
            1 => ElfData::Little,
            2 => ElfData::Big,
            _ => return Err("has a broken ELF header"),
        };
        let number = |at: usize, len: usize| {
            let bytes = start.get(at..at + len).ok_or("is cut short")?;
            let add = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
            Ok::<_, &'static str>(match data {
                ElfData::Little => bytes.iter().rev().fold(0, add),
                ElfData::Big => bytes.iter().fold(0, add),
            })
        };
        let narrow = |value: u32| u16::try_from(value).unwrap_or_default();
        let machine = narrow(number(18, 2)?);
        let flags = number(if class == ElfClass::Elf64 { 48 } else { 36 }, 4)?;
        let kind = narrow(number(16, 2)?);
        Ok(Self {
            class,
            data,
            machine,
            abi_flags: flags & abi_mask(machine),
            os_abi: (byte(7)?, byte(8)?),
            loads: kind == abi::ET_DYN,
        })
    }

    /// Returns the fields of a file that was read as a whole.
    pub fn of(image: &ElfImage) -> Self {
        Self {
            class: image.class,
            data: image.data,
            machine: image.machine,
            abi_flags: image.machine_flags & abi_mask(image.machine),
            os_abi: (image.os_abi, image.abi_version),
            loads: image.flags_1 & abi::DF_1_PIE.unsigned_abs() == 0
                && matches!(
                    image.kind,
                    ObjectKind::PieExecutable | ObjectKind::SharedObject | ObjectKind::Loader
                ),
        }
    }

    /// Judges `other`, found under the name of a library of this file.
    pub fn fit(&self, other: &Self) -> Fit {
        if self.class != other.class {
            return Fit::OtherMachine;
        }
        if self.data != other.data {
            return Fit::Stops("has another byte order");
        }
        // glibc knows these two, and no version of them but the first ones.
        if !matches!(other.os_abi, (0 | 97, 0) | (3, 0..=8)) {
            return Fit::Stops("is for another system (EI_OSABI)");
        }
        if self.machine != other.machine || self.abi_flags != other.abi_flags {
            return Fit::OtherMachine;
        }
        if !other.loads {
            return Fit::Stops("is no shared object");
        }
        Fit::Loads
    }
}

/// Returns the bits of `e_flags` that tell ABIs of a machine apart: programs of one cannot load
/// libraries of another (`elf_machine_matches_host` of glibc; the machines' psABI documents).
fn abi_mask(machine: u16) -> u32 {
    match machine {
        // EF_ARM_ABI_FLOAT_HARD is not set by every linker, and nor is EF_ARM_ABI_FLOAT_SOFT.
        abi::EM_ARM => 0xff00_0000,
        // EF_MIPS_ABI2 and EF_MIPS_ABI.
        abi::EM_MIPS => 0x0000_f020,
        // EF_PPC64_ABI.
        abi::EM_PPC64 => 0x3,
        // EF_RISCV_FLOAT_ABI and EF_RISCV_RVE.
        abi::EM_RISCV => 0xe,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        bytes[16] = 3;
        bytes[18] = 62;
        change(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_not_loaded_is_told_apart() {
        let own = ElfIdent::read(&header(|_| {})).unwrap();
        let judge = |bytes: &[u8]| match ElfIdent::read(bytes) {
            Ok(other) => own.fit(&other),
            Err(what) => Fit::Stops(what),
        };
        for (expected, bytes) in [
            (Fit::Loads, header(|_| {})),
            (Fit::Loads, header(|bytes| bytes[7] = 3)),
            (Fit::OtherMachine, header(|bytes| bytes[4] = 1)),
            (Fit::OtherMachine, header(|bytes| bytes[18] = 183)),
            (Fit::Stops("has another byte order"), header(|bytes| bytes[5] = 2)),
            (Fit::Stops("is for another system (EI_OSABI)"), header(|bytes| bytes[7] = 9)),
            (Fit::Stops("is no shared object"), header(|bytes| bytes[16] = 1)),
            (Fit::Stops("is no ELF file"), b"INPUT ( libx.so.6 )".to_vec()),
            (Fit::Stops("is empty"), Vec::new()),
            (Fit::Stops("is cut short"), header(|bytes| bytes.truncate(30))),
            (Fit::Stops("has a broken ELF header"), header(|bytes| bytes[4] = 7)),
        ] {
            assert_eq!(judge(&bytes), expected, "{bytes:?}");
        }
    }
}
