//! Writing a plan: into memory, into the file itself, or into a copy of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use super::edit::Plan;

impl Plan {
    /// The file as the plan makes it.
    pub fn apply_to_vec(&self, source: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(source.len() + self.tail.len());
        out.extend_from_slice(source);
        out.extend_from_slice(&self.tail);
        for patch in &self.patches {
            let range = usize::try_from(patch.offset).ok().and_then(|start| {
                let end = start.checked_add(patch.bytes.len())?;
                out.get_mut(start..end)
            });
            if let Some(range) = range {
                range.copy_from_slice(&patch.bytes);
            }
        }
        out
    }

    /// Write into the file itself, which has to be open for writing and the one that was
    /// planned for.
    ///
    /// Several writes are not atomic: a process that is killed between them leaves a file that
    /// does not run. What is appended is written first, so that an append that was cut short
    /// there left everything working. The kernel drops file capabilities and, for other users
    /// than root, setuid bits of a file that is written to; a program that runs is refused
    /// (ETXTBSY). [`Plan::write_copy`] and a rename avoid all of this.
    pub fn write_in_place(&self, file: &File) -> io::Result<()> {
        self.check_source(file)?;
        if !self.tail.is_empty() {
            file.write_all_at(&self.tail, self.source_size)?;
        }
        self.write_patches(file)
    }

    /// Write the source with the plan applied into `dest`, an empty file open for writing.
    /// Holes stay holes; where the file system can share blocks, only the patches cost space.
    ///
    /// Contents only: owner, mode, times and attributes are the caller's.
    pub fn write_copy(&self, source: &File, dest: &File) -> io::Result<()> {
        self.check_source(source)?;
        copy_contents(source, dest, self.source_size)?;
        if !self.tail.is_empty() {
            dest.write_all_at(&self.tail, self.source_size)?;
        }
        self.write_patches(dest)
    }

    fn write_patches(&self, file: &File) -> io::Result<()> {
        self.patches.iter().try_for_each(|patch| file.write_all_at(&patch.bytes, patch.offset))
    }

    fn check_source(&self, file: &File) -> io::Result<()> {
        let size = file.metadata()?.len();
        if size == self.source_size {
            return Ok(());
        }
        let message = format!("planned for a file of {} bytes, it has {size}", self.source_size);
        Err(io::Error::other(message))
    }
}

/// Share the blocks if the file system can, else copy what is not a hole.
fn copy_contents(source: &File, dest: &File, size: u64) -> io::Result<()> {
    if ioctl_ficlone(dest, source).is_ok() {
        return Ok(());
    }
    dest.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // The file system does not know holes: all of it is data.
            Err(_) => at,
        };
        let end = seek(source, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        copy_range(source, dest, start, end)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn copy_range(source: &File, dest: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let want = usize::try_from(end - from).unwrap_or(usize::MAX);
        match copy_file_range(source, Some(&mut from), dest, Some(&mut to), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Across file systems, on old kernels or where it is forbidden.
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_plainly(source, dest, from, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_plainly(source: &File, dest: &File, start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 17];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = source.read_at(&mut buffer[..want], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        dest.write_all_at(&buffer[..got], at)?;
        at += got as u64;
    }
    Ok(())
}

/// Map a file for reading, so that only the parts that are looked at are ever read.
///
/// The mapping is private to the engine's use of it: what another process writes to the file
/// meanwhile may or may not be seen, and a file that is cut short makes the access fail (SIGBUS),
/// as with any mapping. Callers hold the lock of the prefix, or work on trees of their own.
#[expect(unsafe_code, reason = "mapping a file has no safe form; see the callers' duty above")]
pub fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the bytes are only ever read, and every read is checked against the mapped length;
    // no reference to them is given a stronger promise than that of a file's contents.
    unsafe { memmap2::Mmap::map(file) }
}
