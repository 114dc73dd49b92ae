//! Directories for the time of a run. They are locked, and removed when dropped. If a run is
//! killed, the next one removes them: their locks were released.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::lock::{Busy, Lock, path_below};

/// Start of the names in the directory for temporary files. Nobody else calls a directory like that,
/// so that one of it may be removed.
const TEMPORARY: &str = ".fprefix-run-";

/// Number of times that another run may remove a new directory.
const ATTEMPTS: u32 = 16;

/// File that marks the directory as one of fprefix.
const MARKER: &str = "lock";

/// Directory for the time of a run. Only its owner may look into it.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    dir: TempDir,
    _lock: Lock,
}

impl ScratchDir {
    /// Makes a directory below that for temporary files.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made or locked.
    pub(crate) fn new() -> Result<Self> {
        Self::make(&std::env::temp_dir(), TEMPORARY, "fprefix")
            .context("could not make a temporary directory")
    }

    /// Makes a directory in `parent` with a name that begins with `start`, and removes those of
    /// runs that have ended. Processes that wait for it show `what`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made or locked, and if an abandoned one cannot be removed.
    pub(crate) fn new_in(parent: &Path, start: &str, what: &str) -> Result<Self> {
        remove_abandoned(parent, start)?;
        Self::make(parent, start, what)
    }

    fn make(parent: &Path, start: &str, what: &str) -> Result<Self> {
        let mut attempts = 0;
        loop {
            let dir = tempfile::Builder::new()
                .prefix(start)
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .with_context(|| format!("could not make a directory in {}", parent.escaped()))?;
            match Lock::acquire(&path_below(dir.path()), what, &Busy::Fail) {
                Ok(lock) => return Ok(Self { dir, _lock: lock }),
                // Before it was locked, another run may have removed it as abandoned.
                Err(error) if attempts == ATTEMPTS => return Err(error),
                Err(_) => attempts += 1,
            }
        }
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Unpacked directories may have no write permission. The next run removes the directories
        // that cannot be removed now.
        let _ = remove_marker_last(self.dir.path());
    }
}

/// Removes the directory at `dir`. Should that be cut short, what is left still carries the marker.
fn remove_marker_last(dir: &Path) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files::remove(&entry.path())?;
        } else {
            files::remove_file(&entry.path())?;
        }
    }
    files::remove(dir)
}

/// Empty file in a directory of its own, for programs that are given a path. Only its owner may read
/// it.
#[derive(Debug)]
pub(crate) struct ScratchFile {
    path: PathBuf,
    _dir: ScratchDir,
}

impl ScratchFile {
    /// Makes an empty file.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub(crate) fn new() -> Result<Self> {
        let dir = ScratchDir::new()?;
        let path = dir.path().join("file");
        fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, _dir: dir })
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the temporary directories of runs that were killed. What is left hinders nobody, so a run
/// that cannot remove it goes on.
pub(crate) fn remove_abandoned_temporary() {
    let _ = remove_abandoned(&std::env::temp_dir(), TEMPORARY);
}

/// Removes the directories in `parent` with names that begin with `start` whose runs have ended.
fn remove_abandoned(parent: &Path, start: &str) -> Result<()> {
    for entry in fs_err::read_dir(parent)? {
        let path = entry?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        // Others can make directories of that name where the parent is not only ours.
        let ours = named
            && fs_err::symlink_metadata(&path)
                .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
        if ours && !path.join(MARKER).exists() {
            // The run was killed before it wrote anything. A directory with content is not from
            // fprefix; rmdir(2) leaves it in place.
            let _ = fs_err::remove_dir(&path);
        } else if ours
            && path.join(MARKER).is_file()
            && let Ok(_lock) = Lock::acquire(&path_below(&path), "fprefix", &Busy::Fail)
        {
            remove_marker_last(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_goes() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = parent.path().join("work-dead");
        fs_err::create_dir(&abandoned).unwrap();
        fs_err::write(abandoned.join(MARKER), "").unwrap();
        let begun = parent.path().join("work-begun");
        fs_err::create_dir(&begun).unwrap();
        let other = parent.path().join("work-other");
        fs_err::create_dir_all(other.join("something")).unwrap();
        let alive = ScratchDir::new_in(parent.path(), "work-", "fprefix pack").unwrap();
        let next = ScratchDir::new_in(parent.path(), "work-", "fprefix pack").unwrap();
        assert!(!abandoned.exists() && !begun.exists() && other.exists());
        assert!(alive.path().exists());
        drop((alive, next));
        assert_eq!(fs_err::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_owner_can_look_into_them() {
        let file = ScratchFile::new().unwrap();
        let mode = |path: &Path| fs_err::metadata(path).unwrap().mode() & 0o777;
        assert_eq!([mode(file.path()), mode(file.path().parent().unwrap())], [0o600, 0o700]);
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.parent().unwrap().exists());
    }
}
