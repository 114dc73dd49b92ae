//! Facts that a single walk over a root gathers. Every file is opened and read once.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Read;
use std::ops::{Deref, Range};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::Result;
use memchr::memmem::Finder;
use memmap2::Mmap;
use rayon::prelude::*;

use crate::base::files;
use crate::base::inside::FPREFIX;
use crate::check::changes::{NewContent, NewEntry, TreeChanges};
use crate::check::symbols::DynamicSymbols;
use crate::elf::{self, ElfImage};
use crate::fstree::walk::{TreeWalk, WalkEntry};
use crate::fstree::xattr;
use crate::prefix::final_root::FinalRoot;

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
    /// Dynamic symbols of an ELF file.
    pub symbols: Option<DynamicSymbols>,
    /// Place of the content, if it is not in the tree.
    elsewhere: Option<Elsewhere>,
}

/// Content that is not in the tree.
enum Elsewhere {
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
    BrokenElf(String),
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

/// Number of bytes that are kept of a script for its `#!` line: more than the kernel reads.
const START: usize = 4096;

/// Gathers facts about every entry of the tree, as it will be after `changes`.
pub(super) fn gather(root: &FinalRoot, changes: &TreeChanges) -> Result<Vec<Fact>> {
    let mut entries = Vec::new();
    for entry in TreeWalk::below(root.path()) {
        let entry = entry?;
        let path = entry.inside();
        if !changes.0.contains_key(&path) {
            entries.push((path, entry));
        }
    }
    let there = entries.into_par_iter().map(|(path, entry)| look_at(root, path, &entry));
    let put = changes.0.par_iter().filter_map(|(path, put)| Some((path, put.as_ref()?)));
    let put = put.map(|(path, put)| look_at_put(root, path, put));
    there.chain(put).collect()
}

fn look_at_put(root: &FinalRoot, path: &Path, put: &NewEntry) -> Result<Fact> {
    let mut fact = Fact {
        path: path.to_owned(),
        kind: FactKind::File,
        mode: put.mode,
        owner: put.owner,
        attributes: put.attributes.clone(),
        staging: None,
        symbols: None,
        elsewhere: None,
    };
    match &put.content {
        NewContent::Directory => fact.kind = FactKind::Directory,
        NewContent::Link(target) => {
            fact.staging = names_staging(target.as_os_str().as_bytes());
            fact.kind = FactKind::Link(target.clone());
        }
        NewContent::Disk(disk) => {
            let size = fs_err::metadata(disk)?.len();
            if size > 0 {
                look_into(root, disk, size, &mut fact)?;
            }
            fact.elsewhere = Some(Elsewhere::Disk(disk.clone()));
        }
        NewContent::Bytes(bytes) => {
            look_at_bytes(bytes, false, &mut fact);
            fact.elsewhere = Some(Elsewhere::Bytes(bytes.clone()));
        }
    }
    Ok(fact)
}

fn look_at(root: &FinalRoot, path: PathBuf, entry: &WalkEntry) -> Result<Fact> {
    let disk = entry.disk();
    let meta = entry.metadata()?;
    let kind = entry.file_type();
    let mut fact = Fact {
        path,
        kind: FactKind::File,
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        attributes: Vec::new(),
        staging: None,
        symbols: None,
        elsewhere: None,
    };
    if kind.is_symlink() {
        let target = entry.link_target()?;
        fact.staging = names_staging(target.as_os_str().as_bytes());
        fact.kind = FactKind::Link(target);
    } else if kind.is_dir() {
        fact.kind = FactKind::Directory;
        fact.attributes = xattr::names(entry.xattrs())?;
    } else if kind.is_file() {
        fact.attributes = xattr::names(entry.xattrs())?;
        if meta.len() > 0 {
            look_into(root, disk, meta.len(), &mut fact)?;
        }
    } else {
        fact.kind = FactKind::Special { whiteout: kind.is_char_device() && meta.rdev() == 0 };
    }
    Ok(fact)
}

/// Largest size of files that are copied into memory: this is faster than mapping them.
const SMALL: u64 = 128 << 10;

fn look_into(root: &FinalRoot, disk: &Path, size: u64, fact: &mut Fact) -> Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    // Portage's own records name the build paths of packages; they are never shipped.
    let is_record = disk.starts_with(root.eroot().join("var"));
    if size > LARGE && !begins_like_elf(disk)? {
        return look_through(fs_err::File::open(disk)?, is_record, fact);
    }
    if size > SMALL {
        look_at_bytes(&files::map(disk)?, is_record, fact);
        return Ok(());
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut file = fs_err::File::open(disk)?;
        buffer.resize(usize::try_from(size)?, 0);
        let mut length = 0;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                0 => break,
                count => length += count,
            }
        }
        look_at_bytes(buffer.get(..length).unwrap_or_default(), is_record, fact);
        Ok(())
    })
}

/// Size above which files other than ELF files are read in pieces, because they may not fit into
/// memory.
const LARGE: u64 = 32 << 20;

/// Size of a piece in memory.
const PIECE: usize = 4 << 20;

/// Longest quotation of a sandbox path.
const QUOTED: usize = 200;

fn begins_like_elf(disk: &Path) -> Result<bool> {
    let mut start = Vec::new();
    fs_err::File::open(disk)?.take(4).read_to_end(&mut start)?;
    Ok(elf::is_elf(&start))
}

/// Does the work of [`look_at_bytes`] for a file that is not an ELF file. The pieces overlap, so a
/// path across two pieces is found too.
fn look_through(mut file: impl Read, is_record: bool, fact: &mut Fact) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    let mut is_first = true;
    loop {
        let kept = piece.len();
        let room = (PIECE - kept) as u64;
        let is_last = (&mut file).take(room).read_to_end(&mut piece)? < PIECE - kept;
        if is_first && piece.starts_with(b"#!") {
            fact.kind = FactKind::Script(piece.get(..START).unwrap_or(&piece).to_vec());
        }
        // The end of a piece is searched again with the next piece, which completes it. The first
        // byte of a later piece is only context: it shows whether a path begins after it.
        let begin = usize::from(!is_first);
        let end = if is_last { piece.len() } else { piece.len() - QUOTED };
        is_first = false;
        if !is_record {
            fact.staging = names_staging_in(&piece, begin..end);
        }
        if is_record || is_last || fact.staging.is_some() {
            return Ok(());
        }
        piece.drain(..end - 1);
    }
}

fn look_at_bytes(bytes: &[u8], is_record: bool, fact: &mut Fact) {
    if elf::is_elf(bytes) {
        fact.kind = match elf::read(bytes) {
            Ok(image) => {
                fact.symbols = DynamicSymbols::read(bytes);
                FactKind::Elf(Box::new(image))
            }
            Err(error) => FactKind::BrokenElf(error.to_string()),
        };
    } else if bytes.starts_with(b"#!") {
        fact.kind = FactKind::Script(bytes.get(..START).unwrap_or(bytes).to_vec());
    }
    if !is_record {
        fact.staging = names_staging(bytes);
    }
}

/// Returns the first path of the build sandbox that `bytes` contain.
fn names_staging(bytes: &[u8]) -> Option<String> {
    names_staging_in(bytes, 0..bytes.len())
}

/// Returns the first path of the build sandbox that begins in this range.
fn names_staging_in(bytes: &[u8], range: Range<usize>) -> Option<String> {
    static NEEDLE: LazyLock<Finder<'static>> =
        LazyLock::new(|| Finder::new(&format!("{FPREFIX}/")).into_owned());
    let at = NEEDLE.find_iter(bytes).filter(|at| range.contains(at)).find(|&at| {
        // "/usr/share/fprefix/" is not a path of the sandbox.
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.' && *byte != b'_')
    })?;
    let rest = bytes.get(at..).unwrap_or_default();
    let end = rest
        .iter()
        .take(QUOTED)
        .position(|byte| !byte.is_ascii_graphic() || b"\"':;,<>()".contains(byte))
        .unwrap_or(rest.len().min(QUOTED));
    Some(String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8]) -> Fact {
        let mut fact = Fact {
            path: PathBuf::from("/opt/x/a"),
            kind: FactKind::File,
            mode: 0o100_644,
            owner: (0, 0),
            attributes: Vec::new(),
            staging: None,
            symbols: None,
            elsewhere: None,
        };
        look_through(bytes, false, &mut fact).unwrap();
        fact
    }

    #[test]
    fn nothing_is_missed_between_pieces() {
        let path = format!("{FPREFIX}/staging/tmp");
        for at in [0, 5, PIECE - 230, PIECE - 210, PIECE - 9, PIECE - 1, PIECE, 2 * PIECE - 240] {
            let mut bytes = vec![b' '; 2 * PIECE];
            bytes.splice(at..at, path.bytes());
            assert_eq!(look(&bytes).staging.as_deref(), Some(&*path), "{at}");
            if at > 0 {
                bytes[at - 1] = b'x';
                assert_eq!(look(&bytes).staging, None, "{at}");
            }
        }
        assert!(matches!(look(b"#!/bin/sh\n").kind, FactKind::Script(_)));
        assert_eq!(look(b"").staging, None);
    }
}
