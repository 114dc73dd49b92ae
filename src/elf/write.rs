//! Writes a plan: into memory, into the file itself, or into a copy of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};
use rustix::io::Errno;

use crate::elf::edit::{Patch, PatchPlan};

/// Number of bytes that are copied at once; they fit into the cache of a processor.
const CHUNK: usize = 256 << 10;

impl PatchPlan {
    /// Returns the file with the plan applied.
    pub fn apply_to_vec(&self, source: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(source.len() + self.appended.len());
        out.extend_from_slice(source);
        out.extend_from_slice(&self.appended);
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

    /// Writes into the file itself. It must be open for writing, and be the file of the plan.
    ///
    /// Several writes are not atomic: a process that is killed between them leaves a file that does
    /// not run. Appended bytes are written first, so that an interrupted append leaves everything
    /// working. The kernel drops file capabilities of a file that is written to and, for users
    /// other than root, setuid bits. It refuses to write to a running program (ETXTBSY).
    /// [`PatchPlan::write_copy`] and a rename avoid all of this.
    ///
    /// # Errors
    ///
    /// Fails if the file has another size than the plan expects, or cannot be written.
    pub fn write_in_place(&self, file: &File) -> io::Result<()> {
        self.check_source(file)?;
        self.write_appended(file)?;
        self.write_patches(file)
    }

    /// Writes the source with the plan applied into `dest`, an empty file open for writing. Holes
    /// stay holes. Where the file system can share blocks, only the patches cost space.
    ///
    /// Only contents are copied: the caller sets owner, mode, times and attributes.
    ///
    /// # Errors
    ///
    /// Fails if the source has another size than the plan expects, or if reading or writing fails.
    pub fn write_copy(&self, source: &File, dest: &File) -> io::Result<()> {
        let blocks = self.check_source(source)?;
        if ioctl_ficlone(dest, source).is_err() {
            if blocks.saturating_mul(512) >= self.source_size {
                self.copy_patched(source, dest)?;
                return self.write_appended(dest);
            }
            copy_data(source, dest, self.source_size)?;
        }
        self.write_appended(dest)?;
        self.write_patches(dest)
    }

    /// Copies a file without holes and applies the patches, so that every byte is written once. On
    /// ext4 reading and writing takes two thirds of the time of `copy_file_range(2)`, which copies
    /// page by page.
    fn copy_patched(&self, source: &File, dest: &File) -> io::Result<()> {
        let size = usize::try_from(self.source_size).unwrap_or(usize::MAX);
        let mut buffer = vec![0; size.min(CHUNK)];
        let mut at = 0;
        while at < self.source_size {
            let got = source.read_at(&mut buffer, at)?;
            let chunk = buffer.get_mut(..got).unwrap_or_default();
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.patches.iter().for_each(|patch| patch.overlay(chunk, at));
            dest.write_all_at(chunk, at)?;
            at += got as u64;
        }
        Ok(())
    }

    fn write_appended(&self, file: &File) -> io::Result<()> {
        if self.appended.is_empty() {
            return Ok(());
        }
        file.write_all_at(&self.appended, self.source_size)
    }

    fn write_patches(&self, file: &File) -> io::Result<()> {
        self.patches.iter().try_for_each(|patch| file.write_all_at(&patch.bytes, patch.offset))
    }

    /// Returns the number of blocks of the file, if its size is that of the plan.
    fn check_source(&self, file: &File) -> io::Result<u64> {
        let meta = file.metadata()?;
        let size = meta.len();
        if size == self.source_size {
            return Ok(meta.blocks());
        }
        let message = format!("planned for a file of {} bytes, it has {size}", self.source_size);
        Err(io::Error::other(message))
    }
}

impl Patch {
    /// Copies the part of the patch that falls into `chunk` there. `chunk` holds the bytes of the
    /// file from `start` on.
    fn overlay(&self, chunk: &mut [u8], start: u64) {
        let into = self.offset.saturating_sub(start);
        let from = start.saturating_sub(self.offset);
        let (Ok(into), Ok(from)) = (usize::try_from(into), usize::try_from(from)) else { return };
        let to = chunk.get_mut(into..).unwrap_or_default().iter_mut();
        to.zip(self.bytes.get(from..).unwrap_or_default()).for_each(|(to, &byte)| *to = byte);
    }
}

/// Copies the data of the file and leaves its holes.
fn copy_data(source: &File, dest: &File, size: u64) -> io::Result<()> {
    dest.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // The file system does not support holes: all of the file is data.
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
            // The call fails across file systems, on old kernels, or where it is forbidden.
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_reading(source, dest, from, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_reading(source: &File, dest: &File, start: u64, end: u64) -> io::Result<()> {
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
