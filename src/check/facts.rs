//! Facts about the entries of a root.

use std::ffi::OsString;
use std::ops::Deref;
use std::path::PathBuf;

use anyhow::Result;
use memmap2::Mmap;

use crate::base::files;
use crate::check::symbols::DynamicSymbols;
use crate::elf::{self, ElfImage};
use crate::prefix::final_root::FinalRoot;
use crate::relocate::prefix_change::OldPath;

/// Facts about one entry of the tree.
pub(crate) struct Fact {
    /// Path as programs see it.
    pub path: PathBuf,
    /// Type of the entry.
    pub kind: FactKind,
    /// Permission bits and file type, as in stat(2).
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Names of the extended attributes.
    pub attributes: Vec<OsString>,
    /// First path in the content that exists only in the build sandbox.
    pub staging: Option<String>,
    /// Trace of the EPREFIX that the root was built for.
    pub former: Option<OldPath>,
    /// Dynamic symbols of an ELF file.
    pub symbols: Option<DynamicSymbols>,
    /// True if it may be a program that is linked statically with glibc.
    pub static_glibc: bool,
    /// Absolute paths in the data of an ELF file that code may be loaded from.
    pub code_names: Vec<PathBuf>,
    /// Place of the content, if it is not in the tree.
    pub(super) elsewhere: Option<Elsewhere>,
}

/// Content that is not in the tree.
pub(super) enum Elsewhere {
    Disk(PathBuf),
    Bytes(Vec<u8>),
}

/// Content of a file.
pub(crate) enum FileContents<'a> {
    /// Content that is mapped from disk.
    Mapped(Mmap),
    /// Content in memory.
    Bytes(&'a [u8]),
}

impl Deref for FileContents<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// Type of an entry.
pub(crate) enum FactKind {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(PathBuf),
    /// An ELF file.
    Elf(Box<ElfImage>),
    /// A file that begins like an ELF file and cannot be parsed; the reason.
    BrokenElf(elf::Error),
    /// A file that begins with `#!`; its first bytes.
    Script(Vec<u8>),
    /// Any other file.
    File,
    /// A device, a socket or a pipe.
    Special {
        /// True for a whiteout of overlayfs: a character device 0/0.
        whiteout: bool,
    },
}

impl Fact {
    /// Returns the facts about an empty file.
    pub(super) fn new(path: PathBuf, mode: u32, owner: (u32, u32)) -> Self {
        Self {
            path,
            kind: FactKind::File,
            mode,
            owner,
            attributes: Vec::new(),
            staging: None,
            former: None,
            symbols: None,
            static_glibc: false,
            code_names: Vec::new(),
            elsewhere: None,
        }
    }

    /// Returns the ELF file, if the entry is one.
    pub(crate) fn elf(&self) -> Option<&ElfImage> {
        match &self.kind {
            FactKind::Elf(image) => Some(image),
            _ => None,
        }
    }

    /// Returns the content of the file.
    pub(crate) fn contents(&self, root: &FinalRoot) -> Result<FileContents<'_>> {
        Ok(match &self.elsewhere {
            None => FileContents::Mapped(files::map(&root.on_disk(&self.path))?),
            Some(Elsewhere::Disk(disk)) => FileContents::Mapped(files::map(disk)?),
            Some(Elsewhere::Bytes(bytes)) => FileContents::Bytes(bytes),
        })
    }
}
