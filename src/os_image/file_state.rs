//! State of a file that was verified, by which it is known to be the same when it is copied.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use std::path::Path;

use anyhow::Result;

use crate::base::input;

/// Device, inode, size, and the times of the last changes. Only the kernel sets the time of a change
/// (ctime), so another content has another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    identity: (u64, u64),
    size: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl FileState {
    /// Reads the state of the file at `path`.
    ///
    /// # Errors
    ///
    /// Fails if there is no regular file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::of(input::open(path)?.file())
    }

    /// Reads the state of an open file.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub(super) fn of(file: &File) -> Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            identity: (meta.dev(), meta.ino()),
            size: meta.size(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_another_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs_err::write(&path, "one").unwrap();
        let before = FileState::read(&path).unwrap();
        assert_eq!(FileState::read(&path).unwrap(), before);
        fs_err::write(&path, "three").unwrap();
        assert_ne!(FileState::read(&path).unwrap(), before);
        // Another file in its place, with the old times.
        let other = dir.path().join("other");
        fs_err::write(&other, "one").unwrap();
        fs_err::rename(&other, &path).unwrap();
        assert_ne!(FileState::read(&path).unwrap(), before);
    }
}
