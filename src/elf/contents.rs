//! Cheap access to the bytes of a file: small files are read, large files are mapped, so that only
//! the parts in use are loaded.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Largest file that is read and not mapped, in bytes. Up to this size reading costs less than a
/// mapping, its page faults and its removal. Nine of ten files of a distribution are smaller.
const SMALL: usize = 64 << 10;

thread_local! {
    /// Buffer of the last small file, kept for the next one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes of a file.
#[derive(Debug)]
pub struct ElfContents(ContentsStorage);

#[derive(Debug)]
enum ContentsStorage {
    Read { buffer: Vec<u8>, len: usize },
    Mapped(memmap2::Mmap),
}

/// Returns the bytes of an open file.
///
/// Writes of another process to the file may or may not be seen. If a large file is cut short, an
/// access fails (SIGBUS), as with any mapping. Callers hold the lock of the prefix, or work on
/// private trees.
///
/// # Errors
///
/// Fails if the file cannot be examined, read or mapped.
pub fn open(file: &File) -> io::Result<ElfContents> {
    let len = file.metadata()?.len();
    match usize::try_from(len) {
        Ok(len) if len <= SMALL => read(file, len),
        _ => map(file),
    }
}

fn read(file: &File, len: usize) -> io::Result<ElfContents> {
    let mut buffer = BUFFER.take();
    buffer.resize(SMALL, 0);
    let mut contents = ElfContents(ContentsStorage::Read { buffer, len: 0 });
    let ElfContents(ContentsStorage::Read { buffer, len: got }) = &mut contents else {
        return Ok(contents);
    };
    while *got < len {
        match file.read_at(&mut buffer[*got..len], *got as u64) {
            Ok(0) => break,
            Ok(more) => *got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(contents)
}

#[expect(unsafe_code, reason = "mapping a file has no safe form; see the callers' duty above")]
fn map(file: &File) -> io::Result<ElfContents> {
    // SAFETY: the bytes are only read, and every read is checked against the mapped length. No
    // reference to them is given a stronger promise than that of a file's contents.
    unsafe { memmap2::Mmap::map(file) }.map(|map| ElfContents(ContentsStorage::Mapped(map)))
}

impl std::ops::Deref for ElfContents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            ContentsStorage::Read { buffer, len } => buffer.get(..*len).unwrap_or_default(),
            ContentsStorage::Mapped(map) => map,
        }
    }
}

impl Drop for ElfContents {
    fn drop(&mut self) {
        if let ContentsStorage::Read { buffer, .. } = &mut self.0 {
            BUFFER.set(std::mem::take(buffer));
        }
    }
}
