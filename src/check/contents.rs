//! Contents of files: their kind, and paths of the build sandbox in them. Every file is opened and
//! read once.

use std::cell::RefCell;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use memchr::memmem::Finder;

use crate::base::files;
use crate::base::input::{self, DataExtents};
use crate::base::inside::FPREFIX;
use crate::check::code_names::find_code_names;
use crate::check::facts::{Fact, FactKind};
use crate::check::symbols::DynamicSymbols;
use crate::elf;
use crate::prefix::final_root::FinalRoot;
use crate::relocate::libc::is_static_glibc;

/// Treatment of paths of the build sandbox in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StagingPaths {
    Forbidden,
    /// Portage's own records name the build paths of packages; they are never shipped.
    Allowed,
}

/// Number of bytes that are kept of a script for its `#!` line: more than the kernel reads.
const START: usize = 4096;

/// Largest size of files that are copied into memory: this is faster than mapping them.
const SMALL: u64 = 128 << 10;

pub(super) fn read_file(root: &FinalRoot, disk: &Path, size: u64, fact: &mut Fact) -> Result<()> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let is_record = disk.starts_with(root.eroot().join("var"));
    let paths = if is_record { StagingPaths::Allowed } else { StagingPaths::Forbidden };
    if size > LARGE {
        return read_large(&input::open_walked(disk)?, size, paths, fact);
    }
    if size > SMALL {
        read_bytes(&files::map(disk)?, paths, fact);
        return Ok(());
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut file = input::open_walked(disk)?;
        buffer.resize(usize::try_from(size)?, 0);
        let mut length = 0;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                0 => break,
                count => length += count,
            }
        }
        read_bytes(buffer.get(..length).unwrap_or_default(), paths, fact);
        Ok(())
    })
}

/// Size above which files are read in pieces, because they may not fit into memory.
const LARGE: u64 = 32 << 20;

/// Size of a piece in memory.
const PIECE: usize = 4 << 20;

/// Longest quotation of a sandbox path.
const QUOTED: usize = 200;

/// Does the work of [`read_bytes`] for a file of any size. Of an ELF file, its tables alone are read
/// through a mapping. The rest is searched in pieces, and holes are skipped: no path is in them.
fn read_large(file: &fs_err::File, size: u64, paths: StagingPaths, fact: &mut Fact) -> Result<()> {
    let mut start = Vec::with_capacity(START);
    (&mut &*file).take(START as u64).read_to_end(&mut start)?;
    if start.starts_with(b"#!") {
        fact.kind = FactKind::Script(start);
    } else if elf::is_elf(&start) {
        if size > elf::LARGEST {
            // A process may have less address space than such a file needs.
            fact.kind = FactKind::BrokenElf(elf::Error::TOO_LARGE);
        } else {
            read_bytes(&elf::open(file.file())?, StagingPaths::Allowed, fact);
        }
    }
    if paths == StagingPaths::Allowed {
        return Ok(());
    }
    for extent in DataExtents::new(file.file(), 0..size) {
        (&mut &*file).seek(SeekFrom::Start(extent.start))?;
        find_in_pieces((&mut &*file).take(extent.end - extent.start), fact)?;
        if fact.staging.is_some() {
            break;
        }
    }
    Ok(())
}

/// Finds a path of the build sandbox in `file`. The pieces overlap, so a path across two pieces is
/// found too.
fn find_in_pieces(mut file: impl Read, fact: &mut Fact) -> Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    let mut is_first = true;
    loop {
        let kept = piece.len();
        let room = (PIECE - kept) as u64;
        let is_last = (&mut file).take(room).read_to_end(&mut piece)? < PIECE - kept;
        // The end of a piece is searched again with the next piece, which completes it. The first
        // byte of a later piece is only context: it shows whether a path begins after it.
        let begin = usize::from(!is_first);
        let end = if is_last { piece.len() } else { piece.len() - QUOTED };
        is_first = false;
        fact.staging = find_staging_path_in(&piece, begin..end);
        if is_last || fact.staging.is_some() {
            return Ok(());
        }
        piece.drain(..end - 1);
    }
}

pub(super) fn read_bytes(bytes: &[u8], paths: StagingPaths, fact: &mut Fact) {
    if elf::is_elf(bytes) {
        fact.kind = match elf::read(bytes) {
            Ok(image) => {
                fact.symbols = DynamicSymbols::read(bytes);
                fact.static_glibc = is_static_glibc(&image, bytes);
                fact.code_names = find_code_names(bytes);
                FactKind::Elf(Box::new(image))
            }
            Err(error) => FactKind::BrokenElf(error),
        };
    } else if bytes.starts_with(b"#!") {
        fact.kind = FactKind::Script(bytes.get(..START).unwrap_or(bytes).to_vec());
    }
    if paths == StagingPaths::Forbidden {
        fact.staging = find_staging_path(bytes);
    }
}

/// Returns the first path of the build sandbox that `bytes` contain.
pub(super) fn find_staging_path(bytes: &[u8]) -> Option<String> {
    find_staging_path_in(bytes, 0..bytes.len())
}

/// Returns the first path of the build sandbox that begins in this range.
fn find_staging_path_in(bytes: &[u8], range: Range<usize>) -> Option<String> {
    static NEEDLE: LazyLock<Finder<'static>> =
        LazyLock::new(|| Finder::new(&format!("{FPREFIX}/")).into_owned());
    let at = NEEDLE.find_iter(bytes).filter(|at| range.contains(at)).find(|&at| {
        // "/usr/share/fprefix/" is not a path of the sandbox, and that of "-L/fprefix/" is one.
        let ends_word = |before: &[u8]| {
            let last = before.last();
            last.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"._".contains(byte))
        };
        let before = bytes.get(..at).unwrap_or_default();
        ends_word(before)
            || matches!(before, [start @ .., b'-', letter]
                if letter.is_ascii_alphabetic() && ends_word(start) && !start.ends_with(b"/"))
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
    use std::io::Write;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;

    use super::*;

    fn new_fact() -> Fact {
        Fact::new(PathBuf::from("/opt/x/a"), 0o100_644, (0, 0))
    }

    fn fact_of(bytes: &[u8]) -> Fact {
        let mut fact = new_fact();
        find_in_pieces(bytes, &mut fact).unwrap();
        fact
    }

    #[test]
    fn nothing_is_missed_between_pieces() {
        let path = format!("{FPREFIX}/staging/tmp");
        for at in [0, 5, PIECE - 230, PIECE - 210, PIECE - 9, PIECE - 1, PIECE, 2 * PIECE - 240] {
            let mut bytes = vec![b' '; 2 * PIECE];
            bytes.splice(at..at, path.bytes());
            assert_eq!(fact_of(&bytes).staging.as_deref(), Some(&*path), "{at}");
            if at > 0 {
                bytes[at - 1] = b'x';
                assert_eq!(fact_of(&bytes).staging, None, "{at}");
            }
        }
        assert_eq!(fact_of(b"").staging, None);
    }

    #[test]
    fn options_of_compilers_are_seen_through() {
        let found = |text: &str| find_staging_path(text.as_bytes()).is_some();
        for text in
            ["-L/fprefix/a", "cc -I/fprefix/a", "\"-B/fprefix/a", "-Wl,/fprefix/a", "=/fprefix/a"]
        {
            assert!(found(text), "{text}");
        }
        for text in ["/usr/share/fprefix/a", "/x-L/fprefix/a", "/-a/fprefix/b", "./fprefix/a"] {
            assert!(!found(text), "{text}");
        }
    }

    #[test]
    fn holes_of_terabytes_are_skipped() {
        let path = format!("{FPREFIX}/staging/tmp");
        let size = 8 << 40;
        for (start, at) in [("#!/bin/sh\n", 7 << 40), ("\x7fELF\x02\x01\x01", 3 << 40), ("", 100)] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(start.as_bytes()).unwrap();
            file.as_file().set_len(size).unwrap();
            let mut fact = new_fact();
            let read = |fact: &mut Fact| {
                let file = input::open_walked(file.path()).unwrap();
                read_large(&file, size, StagingPaths::Forbidden, fact).unwrap();
            };
            read(&mut fact);
            assert_eq!(fact.staging, None);
            file.as_file().write_all_at(path.as_bytes(), at).unwrap();
            read(&mut fact);
            assert_eq!(fact.staging.as_deref(), Some(&*path), "{start:?}");
            match fact.kind {
                FactKind::Script(_) => assert!(start.starts_with("#!")),
                FactKind::BrokenElf(elf::Error::TOO_LARGE) => assert!(start.contains("ELF")),
                FactKind::File => assert!(start.is_empty()),
                _ => panic!("{start:?} is of another kind"),
            }
        }
    }
}
