//! Files that are read. Whoever made a tree, an image or a checkout chose what lies at each path: a
//! pipe without a writer, a device without end, a link to one, a hole of terabytes. So a file is
//! opened without waiting, it has to be a regular one, and what is kept of it in memory has a limit.
//!
//! `tests/house` holds the rest of the program to these functions.

use std::fs::FileType;
use std::io::{Read, Seek};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::Errno;

use crate::base::escape::Escape as _;
use crate::base::limits::{self, ReadLimit};

/// Opens the regular file at `path`, following links.
///
/// # Errors
///
/// Fails if there is none, or if something else is there.
pub(crate) fn open(path: &Path) -> Result<File> {
    open_sized(path).map(|(file, _)| file)
}

/// Opens the regular file at `path` like [`open`], and returns its size with it.
///
/// # Errors
///
/// Fails like [`open`].
pub(crate) fn open_sized(path: &Path) -> Result<(File, u64)> {
    let file = open_walked(path)?;
    let meta = file.metadata()?;
    let kind = meta.file_type();
    ensure!(kind.is_file(), "could not read {}: it is {}", path.escaped(), describe(kind));
    Ok((file, meta.len()))
}

/// Opens the file at `path` of which a walk found that it is regular. What takes its place meanwhile
/// is not waited for either; the caller reads no more than the size that the walk found.
///
/// # Errors
///
/// Fails if it cannot be opened.
pub(crate) fn open_walked(path: &Path) -> std::io::Result<File> {
    // Without O_NONBLOCK, opening a pipe waits for its writer. A regular file never waits.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)
}

/// Reads the regular file at `path`.
///
/// # Errors
///
/// Fails like [`open`], and if the file is larger than `limit`.
pub(crate) fn read(path: &Path, limit: ReadLimit) -> Result<Vec<u8>> {
    let (file, size) = open_sized(path)?;
    let too_large = || {
        format!(
            "could not read {}: it has more than {} MiB, the limit of {}",
            path.escaped(),
            limit.bytes >> 20,
            limit.kind
        )
    };
    ensure!(size <= limit.bytes, too_large());
    let mut bytes = Vec::with_capacity(usize::try_from(size)?);
    // Files of the kernel have no size, and a file may grow meanwhile.
    file.take(limit.bytes + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= limit.bytes, too_large());
    Ok(bytes)
}

/// Reads the regular file at `path`, which has to be UTF-8.
///
/// # Errors
///
/// Fails like [`read`], and if the text is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: ReadLimit) -> Result<String> {
    let text = String::from_utf8(read(path, limit)?);
    text.map_err(|error| error.utf8_error())
        .with_context(|| format!("could not read {}: it is not UTF-8", path.escaped()))
}

/// Reads the regular file at `path`; bytes that are not UTF-8 are replaced.
///
/// # Errors
///
/// Fails like [`read`].
pub(crate) fn read_lossy(path: &Path, limit: ReadLimit) -> Result<String> {
    let text = String::from_utf8(read(path, limit)?);
    Ok(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Reads at most `length` bytes from the start of the regular file at `path`.
///
/// # Errors
///
/// Fails like [`open`].
pub(crate) fn read_start(path: &Path, length: u64) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    open(path)?.take(length).read_to_end(&mut start)?;
    Ok(start)
}

/// Reads the regular file at `path` from `offset` on, up to a limit: what was added to a log. Bytes
/// that are not UTF-8 are replaced.
///
/// # Errors
///
/// Fails like [`open`].
pub(crate) fn read_from(path: &Path, offset: u64) -> Result<String> {
    let mut file = open(path)?;
    file.seek(std::io::SeekFrom::Start(offset))?;
    let mut added = Vec::new();
    file.take(limits::END).read_to_end(&mut added)?;
    Ok(String::from_utf8_lossy(&added).into_owned())
}

/// Reads the end of the regular file at `path`: of a log, the last lines say why something failed.
/// Bytes that are not UTF-8 are replaced.
///
/// # Errors
///
/// Fails like [`open`].
pub(crate) fn read_end(path: &Path) -> Result<String> {
    let (mut file, size) = open_sized(path)?;
    file.seek(std::io::SeekFrom::Start(size.saturating_sub(limits::END)))?;
    let mut end = Vec::new();
    file.take(limits::END).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// Copies the regular file at `from`, with its mode, to `to`. Holes stay holes.
///
/// # Errors
///
/// Fails like [`open`] and [`copy_data`].
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let (source, size) = open_sized(from)?;
    let copy = File::create(to)?;
    copy_data(source.file(), 0..size, copy.file(), 0)
        .with_context(|| format!("could not copy {}", from.escaped()))?;
    Ok(copy.set_permissions(source.metadata()?.permissions())?)
}

/// Copies the bytes of `source` in `range` to the place `at` of `to`, whose end that is: holes stay
/// holes.
///
/// # Errors
///
/// Fails if reading or writing fails, or if the file ends early.
pub(crate) fn copy_data(
    source: &std::fs::File,
    range: Range<u64>,
    to: &std::fs::File,
    at: u64,
) -> Result<()> {
    let size = range.end - range.start;
    to.set_len(at + size)?;
    let mut buffer = vec![0; usize::try_from(size)?.min(1 << 20)];
    for extent in DataExtents::new(source, range.clone()) {
        let mut from = extent.start;
        while from < extent.end {
            let wanted = usize::try_from(extent.end - from).unwrap_or(usize::MAX).min(buffer.len());
            let got = source.read_at(buffer.get_mut(..wanted).unwrap_or_default(), from)?;
            if got == 0 {
                bail!("it was cut short meanwhile");
            }
            let place = at + (from - range.start);
            to.write_all_at(buffer.get(..got).unwrap_or_default(), place)?;
            from += got as u64;
        }
    }
    Ok(())
}

/// Ranges of a file that hold data; holes between them read as zeros and take no space. Where the
/// file system knows no holes, all of the file is data.
#[derive(Debug)]
pub(crate) struct DataExtents<'a> {
    file: &'a std::fs::File,
    rest: Range<u64>,
}

impl<'a> DataExtents<'a> {
    /// Looks for data in the range `within` of `file`. The position in the file changes.
    pub(crate) fn new(file: &'a std::fs::File, within: Range<u64>) -> Self {
        Self { file, rest: within }
    }
}

impl Iterator for DataExtents<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.rest.is_empty() {
            return None;
        }
        let start = match rustix::fs::seek(self.file, SeekFrom::Data(self.rest.start)) {
            Ok(start) => start,
            // There is no more data.
            Err(Errno::NXIO) => return None,
            Err(_) => self.rest.start,
        };
        if start >= self.rest.end {
            return None;
        }
        let end = rustix::fs::seek(self.file, SeekFrom::Hole(start)).unwrap_or(self.rest.end);
        let extent = start..end.clamp(start + 1, self.rest.end);
        self.rest.start = extent.end;
        Some(extent)
    }
}

/// Returns the kind of a file that is not a regular one.
fn describe(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe, and no regular file",
        _ if kind.is_socket() => "a socket, and no regular file",
        _ => "a device, and no regular file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::TEXT;
    use rustix::fs::{CWD, FileType, Mode};

    const SMALL: ReadLimit = ReadLimit { kind: "a test", bytes: 5 };

    fn error_of<T: std::fmt::Debug>(result: Result<T>) -> String {
        format!("{:#}", result.unwrap_err())
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        fs_err::os::unix::fs::symlink("/dev/zero", path("zeros")).unwrap();
        fs_err::os::unix::fs::symlink("pipe", path("link")).unwrap();
        for (name, kind) in [
            ("pipe", "it is a pipe, and no regular file"),
            ("link", "it is a pipe, and no regular file"),
            ("zeros", "it is a device, and no regular file"),
            (".", "it is a directory"),
        ] {
            for error in [
                error_of(open(&path(name))),
                error_of(read(&path(name), TEXT)),
                error_of(read_text(&path(name), TEXT)),
                error_of(read_start(&path(name), 4)),
            ] {
                let expected = format!("could not read {}: {kind}", path(name).escaped());
                assert_eq!(error, expected);
            }
        }
        // A socket cannot be opened at all.
        assert!(error_of(open(&path("socket"))).contains("No such device or address"));
        assert!(error_of(open(&path("none"))).contains("No such file"));
    }

    #[test]
    fn texts_have_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs_err::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, SMALL).unwrap(), "12345");
        assert_eq!(read_start(&path, 2).unwrap(), b"12");
        fs_err::write(&path, "123456").unwrap();
        let expected = format!(
            "could not read {}: it has more than 0 MiB, the limit of a test",
            path.escaped()
        );
        assert_eq!(error_of(read(&path, SMALL)), expected);
        fs_err::write(&path, b"\xffabc").unwrap();
        assert!(error_of(read_text(&path, SMALL)).contains("it is not UTF-8"));
        assert_eq!(read_lossy(&path, SMALL).unwrap(), "\u{fffd}abc");
        // A file of the kernel has no size, and content.
        assert!(!read(Path::new("/proc/self/mountinfo"), TEXT).unwrap().is_empty());
        assert!(read(Path::new("/proc/self/mountinfo"), SMALL).is_err());
        // A hole is not read before it is refused.
        File::create(&path).unwrap().set_len(8 << 40).unwrap();
        assert!(error_of(read(&path, TEXT)).contains("more than 16 MiB, the limit of a text"));
        fs_err::write(&path, "first\nlast\n").unwrap();
        assert_eq!(read_end(&path).unwrap(), "first\nlast\n");
    }

    #[test]
    fn holes_are_neither_read_nor_copied() {
        let dir = tempfile::tempdir().unwrap();
        let source = File::create_new(dir.path().join("source")).unwrap();
        source.set_len(8 << 40).unwrap();
        source.file().write_all_at(b"first", 0).unwrap();
        source.file().write_all_at(b"last", 4 << 40).unwrap();
        let source = open(&dir.path().join("source")).unwrap();
        let extents: Vec<_> = DataExtents::new(source.file(), 0..8 << 40).collect();
        assert_eq!(extents.len(), 2, "{extents:?}");
        assert_eq!((extents[0].start, extents[1].start), (0, 4 << 40));
        assert_eq!(DataExtents::new(source.file(), 0..3).next(), Some(0..3));
        assert_eq!(DataExtents::new(source.file(), 5 << 40..8 << 40).count(), 0);
        let mut options = OpenOptions::new();
        let to = options.read(true).write(true).create_new(true).open(dir.path().join("to"));
        let to = to.unwrap();
        copy_data(source.file(), 2..(4 << 40) + 4, to.file(), 7).unwrap();
        let mut bytes = [0; 8];
        to.file().read_exact_at(&mut bytes[..6], 5).unwrap();
        assert_eq!(&bytes[..6], b"\0\0rst\0");
        to.file().read_exact_at(&mut bytes[..4], (4 << 40) + 5).unwrap();
        assert_eq!(&bytes[..4], b"last");
        assert_eq!(to.metadata().unwrap().len(), (4 << 40) + 9);
    }
}
