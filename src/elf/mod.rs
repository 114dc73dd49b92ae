//! Reading and rewriting ELF files.
//!
//! [`read`] parses a file. [`plan`] computes the bytes that an [`Edit`] has to change. A
//! [`PatchPlan`] writes them, in place or into a copy. The file is never laid out anew:
//!
//! 1. values that are already right stay unchanged;
//! 2. values that fit are written in place;
//! 3. otherwise tables slide into the padding of their segment;
//! 4. otherwise one segment is appended to the file.
//!
//! The program header table never moves: `strip` puts it back, and kernels before 5.18 and
//! qemu-user take its address from `e_phoff`.
//!
//! This module does not know about prefixes.

mod codec;
mod contents;
mod dynamic_edit;
mod edit;
mod emit;
mod file_map;
mod headers;
mod ident;
mod image;
mod library_tag;
mod notes;
mod patch_set;
mod placement;
mod plan;
mod raw;
#[cfg(test)]
mod sample;
mod seal;
mod slack;
mod strings;
mod symbols;
mod tables;
mod version_tables;
mod versions;
mod write;

pub use crate::elf::contents::{ElfContents, open};
pub use crate::elf::edit::{Edit, Patch, PatchMethod, PatchPlan, SearchPathEdit, UnchangedReason};
pub use crate::elf::ident::{ElfIdent, Fit, HEADER};
pub use crate::elf::image::{ElfClass, ElfData, ElfImage, NeededVersion, ObjectKind, read};
pub use crate::elf::library_tag::LibraryTag;
pub use crate::elf::plan::plan;
pub use crate::elf::seal::{Seal, SealError, is_loader, seal_loader};
pub(crate) use crate::elf::seal::{has_sealed_directories, library_directory_lists};
pub use crate::elf::symbols::{DebugSymbols, find_debug_symbols, loads_alike};

/// Reason that a file cannot be read or an edit cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes are not those of an ELF file.
    #[error("not an ELF file")]
    NotElf,
    /// It is ELF, but of a form that is not supported.
    #[error("unsupported ELF file: {0}")]
    Unsupported(&'static str),
    /// Its headers or tables contradict each other or the size of the file.
    #[error("malformed ELF file: {what} (offset {offset:#x})")]
    Malformed {
        /// Description of the fault.
        what: &'static str,
        /// File offset of the part that is at fault.
        offset: u64,
    },
    /// A limit of this reader is exceeded; a loader may still take the file.
    #[error("more than is read of an ELF file: {0}")]
    LimitExceeded(&'static str),
    /// A value of the new file does not fit its field.
    #[error("the value {value:#x} does not fit 32 bits")]
    TooLarge {
        /// The value.
        value: u64,
    },
    /// The edit makes no sense for any file.
    #[error("invalid edit: {0}")]
    InvalidEdit(&'static str),
    /// There is no safe place for the bytes that have to be added.
    #[error("no room: {0}")]
    NoRoom(&'static str),
}

/// Size of the largest file that is read, in bytes. Only a hole makes a larger one: a browser with all
/// of its debug sections has 8 GiB.
pub const LARGEST: u64 = 64 << 30;

impl Error {
    /// The error for a file of more than [`LARGEST`] bytes.
    pub const TOO_LARGE: Self = Self::LimitExceeded("it has more than 64 GiB");

    pub(crate) const fn malformed(what: &'static str, offset: u64) -> Self {
        Error::Malformed { what, offset }
    }
}

/// Returns whether a file that begins with these bytes is an ELF file.
pub fn is_elf(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(b"\x7fELF")
}
