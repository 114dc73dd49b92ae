//! Files and links that appear whole, at once, also if a run is killed or the power fails.
//!
//! A new file has no name before its content is complete (`O_TMPFILE`, open(2)). To replace another
//! entry, it needs a hidden name for the moment between linkat(2) and rename(2). On filesystems
//! without unnamed files it has that name from the start, and is locked. A run that is killed may
//! leave such an entry; the next one that writes to the directory removes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::base::escape::Escape;

/// Start of the names of everything that fprefix leaves when it is killed.
const HIDDEN: &str = ".fprefix-";

/// Start of the names of unfinished files and links.
const UNFINISHED: &str = ".fprefix-new-";

/// Number of attempts to put an entry in place, if another run removes it as left over.
const ATTEMPTS: u32 = 64;

/// Safety of new content against a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Content and name are on the disk before the call returns (fsync(2)).
    Flushed,
    /// The kernel writes them out in its own time. For large numbers of small files, of which each
    /// fsync(2) would cost more than the file: one [`flush_filesystem`] follows them all.
    Cached,
}

/// File that is being written, and has no name yet.
#[derive(Debug)]
pub struct NewFile {
    dir: OwnedFd,
    file: File,
    /// Hidden name, on filesystems where a file cannot be without one.
    hidden: Option<OsString>,
}

impl NewFile {
    /// Creates a file for the directory at `dir`. Only its owner may read it.
    ///
    /// # Errors
    ///
    /// Fails if there is no directory, or if it cannot be written.
    pub fn create_in(dir: &Path) -> std::io::Result<Self> {
        Self::create_at(open_directory(dir)?)
    }

    /// Creates a file for the open directory `dir`.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read or written.
    pub fn create_at(dir: impl AsFd) -> std::io::Result<Self> {
        let dir = open_again(dir)?;
        if *HAS_LINKS_TO_OPEN_FILES {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match rustix::fs::openat(&dir, ".", flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => return Ok(Self { dir, file: file.into(), hidden: None }),
                // The filesystem or the kernel has no unnamed files (open(2), "O_TMPFILE").
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (file, hidden) = create_hidden(&dir)?;
        Ok(Self { dir, file, hidden: Some(hidden) })
    }

    /// Returns the file, to be written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file the name `name`, which another file or link may have.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be flushed or named. Then nothing of it stays.
    pub fn publish(mut self, name: &OsStr, durability: Durability) -> std::io::Result<()> {
        self.flush(durability)?;
        match self.hidden.take() {
            Some(hidden) => {
                let renamed = rustix::fs::renameat(&self.dir, &hidden, &self.dir, name);
                renamed.inspect_err(|_| remove(&self.dir, &hidden))?;
            }
            None => match self.link(self.dir.as_fd(), name) {
                Err(Errno::EXIST) => {
                    rename_into_place(&self.dir, name, |dir, hidden| self.link(dir, hidden))?;
                }
                linked => linked?,
            },
        }
        flush_directory(&self.dir, durability)
    }

    /// Gives the file the name `name`, which must be free.
    ///
    /// # Errors
    ///
    /// Fails if the name is taken, and like [`NewFile::publish`].
    pub fn publish_new(mut self, name: &OsStr, durability: Durability) -> std::io::Result<()> {
        self.flush(durability)?;
        match self.hidden.take() {
            Some(hidden) => {
                let flags = RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(&self.dir, &hidden, &self.dir, name, flags)
                    .inspect_err(|_| remove(&self.dir, &hidden))?;
            }
            None => self.link(self.dir.as_fd(), name)?,
        }
        flush_directory(&self.dir, durability)
    }

    fn flush(&self, durability: Durability) -> std::io::Result<()> {
        if durability == Durability::Flushed { self.file.sync_all() } else { Ok(()) }
    }

    fn link(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        // Of an unnamed file, only this path can be linked without privileges (open(2)).
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, open, dir, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            remove(&self.dir, hidden);
        }
    }
}

/// True if open files can be linked to, which needs /proc.
static HAS_LINKS_TO_OPEN_FILES: LazyLock<bool> =
    LazyLock::new(|| Path::new("/proc/self/fd").is_dir());

/// Writes `contents` to a file with this mode at `path`, in a directory that is created as needed.
/// A reader sees either the old file or the new one, each complete.
///
/// # Errors
///
/// Fails if the directory or the file cannot be written. Then the old file stays.
pub fn write(path: &Path, contents: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let act = || format!("could not write {}", path.escaped());
    let (dir, name) = path.parent().zip(path.file_name()).with_context(act)?;
    create_directories(dir, durability)?;
    let dir = open_directory(dir).with_context(act)?;
    let written = || -> std::io::Result<()> {
        remove_unfinished(&dir)?;
        let new = NewFile::create_at(&dir)?;
        new.file().write_all(contents)?;
        new.file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        new.publish(name, durability)
    };
    written().with_context(act)
}

/// Replaces the entry `name` of the directory `dir` by the one that `make` makes at another name.
///
/// # Errors
///
/// Fails if the entry cannot be made or renamed. Then nothing of it stays.
pub fn replace_entry(
    dir: impl AsFd,
    name: &OsStr,
    durability: Durability,
    make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<(), Errno>,
) -> std::io::Result<()> {
    rename_into_place(&dir, name, make)?;
    if durability == Durability::Cached {
        return Ok(());
    }
    flush_directory(open_again(dir)?, durability)
}

/// Renames the file or directory `from` to `to`, and flushes both directories.
///
/// # Errors
///
/// Fails if it cannot be renamed.
pub fn rename_flushed(from: &Path, to: &Path) -> Result<()> {
    fs_err::rename(from, to)?;
    flush_parent(to)
}

/// Lets the directories `made` and `place`, which are on one filesystem, change their names at
/// once, after all of `made` is on the disk.
///
/// # Errors
///
/// Fails if they cannot be written or renamed. Then `place` is as it was.
pub fn exchange_flushed(made: &Path, place: &Path) -> Result<()> {
    flush_filesystem(made)?;
    rustix::fs::renameat_with(CWD, made, CWD, place, RenameFlags::EXCHANGE)
        .with_context(|| format!("could not put {} in place", place.escaped()))?;
    flush_parent(place)
}

/// Flushes the names in the directory of `path`.
///
/// # Errors
///
/// Fails if the directory cannot be read or flushed.
pub fn flush_parent(path: &Path) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let act = || format!("could not flush the directory {}", dir.escaped());
    tolerate(rustix::fs::fsync(open_directory(dir).with_context(act)?)).with_context(act)
}

/// Flushes the names in the open directory `dir`.
///
/// # Errors
///
/// Fails if they cannot be written.
pub fn flush_names(dir: impl AsFd) -> Result<(), Errno> {
    tolerate(rustix::fs::fsync(dir))
}

/// Flushes all that was written to the filesystem of the directory `dir`.
///
/// # Errors
///
/// Fails if the directory cannot be opened, or if something cannot be written.
pub fn flush_filesystem(dir: &Path) -> Result<()> {
    let act = || format!("could not flush the filesystem of {}", dir.escaped());
    tolerate(rustix::fs::syncfs(open_directory(dir).with_context(act)?)).with_context(act)
}

/// Opens the directory at `dir`, to put entries in place there. An empty path is the working
/// directory.
///
/// # Errors
///
/// Fails if there is no directory, or if it cannot be read.
pub fn open_directory(dir: &Path) -> std::io::Result<OwnedFd> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, dir, flags, Mode::empty())?)
}

/// Returns whether an entry of this name was left by a run that was killed, or is being written by
/// one that goes on. It belongs to no image.
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_bytes().starts_with(HIDDEN.as_bytes())
}

/// Removes the files and links that killed runs left in the open directory `dir`. Those that
/// another run is about to put in place stay, or are made again by it.
///
/// # Errors
///
/// Fails if the directory cannot be read.
pub fn remove_unfinished(dir: impl AsFd) -> std::io::Result<()> {
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(UNFINISHED.as_bytes()) {
            remove_left_over(&dir, OsStr::from_bytes(name.to_bytes()));
        }
    }
    Ok(())
}

fn remove_left_over(dir: impl AsFd, name: &OsStr) {
    let kind = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|found| FileType::from_raw_mode(found.st_mode));
    match kind {
        Ok(FileType::Symlink) => remove(dir, name),
        Ok(FileType::RegularFile) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let Ok(file) = rustix::fs::openat(&dir, name, flags, Mode::empty()) else { return };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove(dir, name);
            }
        }
        _ => {}
    }
}

/// Creates the directory `dir` and those above it, whose names are flushed as well.
fn create_directories(dir: &Path, durability: Durability) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    if missing.is_empty() || dir.as_os_str().is_empty() {
        return Ok(());
    }
    fs_err::create_dir_all(dir)?;
    if durability == Durability::Flushed {
        missing.into_iter().filter(|dir| !dir.as_os_str().is_empty()).try_for_each(flush_parent)?;
    }
    Ok(())
}

/// Filesystems without a disk of their own (FUSE, 9p) may know nothing of flushing directories.
fn tolerate(flushed: Result<(), Errno>) -> Result<(), Errno> {
    match flushed {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        flushed => flushed,
    }
}

fn open_again(dir: impl AsFd) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, ".", flags, Mode::empty())?)
}

fn flush_directory(dir: impl AsFd, durability: Durability) -> std::io::Result<()> {
    if durability == Durability::Flushed {
        tolerate(rustix::fs::fsync(dir))?;
    }
    Ok(())
}

/// Makes an entry at a hidden name with `make`, and renames it to `name` at once.
fn rename_into_place(
    dir: impl AsFd,
    name: &OsStr,
    make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut result = Err(Errno::NOENT);
    for _ in 0..ATTEMPTS {
        let hidden = next_name();
        match make(dir.as_fd(), &hidden) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(error) => {
                remove(&dir, &hidden);
                return Err(error);
            }
        }
        result = rustix::fs::renameat(&dir, &hidden, &dir, name);
        // Two names of one file: rename(2) does nothing then.
        remove(&dir, &hidden);
        // Another run may have removed the hidden name as left over.
        if result != Err(Errno::NOENT) {
            break;
        }
    }
    result
}

/// Creates a file with a hidden name in `dir`, and locks it.
fn create_hidden(dir: &OwnedFd) -> std::io::Result<(File, OsString)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        let name = next_name();
        let file = match rustix::fs::openat(dir, &name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => continue,
            opened => File::from(opened?),
        };
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        // Before it was locked, another run may have removed it as left over.
        if file.metadata()?.nlink() > 0 {
            return Ok((file, name));
        }
    }
}

fn next_name() -> OsString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{UNFINISHED}{}-{number}", std::process::id()).into()
}

/// Removes what may be at a hidden name. If it stays, the next run removes it.
fn remove(dir: impl AsFd, name: &OsStr) {
    let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with a file `old`.
    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("old"), "old").unwrap();
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs_err::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A new file of each kind: without a name, and with a hidden one.
    fn new_files(dir: &Path) -> [NewFile; 2] {
        let open = open_directory(dir).unwrap();
        let (file, hidden) = create_hidden(&open).unwrap();
        let new =
            [NewFile::create_in(dir).unwrap(), NewFile { dir: open, file, hidden: Some(hidden) }];
        for file in &new {
            file.file().write_all(b"new").unwrap();
        }
        new
    }

    #[test]
    fn a_file_appears_whole_and_replaces_another() {
        for kind in 0..2 {
            for durability in [Durability::Flushed, Durability::Cached] {
                let dir = directory();
                for name in ["old", "fresh"] {
                    let [unnamed, hidden] = new_files(dir.path());
                    let new = if kind == 0 { unnamed } else { hidden };
                    new.publish(name.as_ref(), durability).unwrap();
                    assert_eq!(fs_err::read(dir.path().join(name)).unwrap(), b"new");
                }
                assert_eq!(names(dir.path()), ["fresh", "old"]);
            }
        }
    }

    #[test]
    fn a_name_that_is_taken_stays_as_it_is() {
        let dir = directory();
        for new in new_files(dir.path()) {
            new.publish_new("old".as_ref(), Durability::Cached).unwrap_err();
        }
        let [unnamed, hidden] = new_files(dir.path());
        unnamed.publish_new("a".as_ref(), Durability::Cached).unwrap();
        hidden.publish_new("b".as_ref(), Durability::Flushed).unwrap();
        assert_eq!(fs_err::read(dir.path().join("old")).unwrap(), b"old");
        // What cannot be put in place leaves nothing.
        fs_err::create_dir(dir.path().join("directory")).unwrap();
        for new in new_files(dir.path()) {
            new.publish("directory".as_ref(), Durability::Cached).unwrap_err();
        }
        assert_eq!(names(dir.path()), ["a", "b", "directory", "old"]);
    }

    #[test]
    fn links_replace_links_and_files() {
        let dir = directory();
        let open = open_directory(dir.path()).unwrap();
        for target in ["one", "two"] {
            let make = |dir: BorrowedFd<'_>, name: &OsStr| rustix::fs::symlinkat(target, dir, name);
            replace_entry(&open, "old".as_ref(), Durability::Flushed, make).unwrap();
            assert_eq!(fs_err::read_link(dir.path().join("old")).unwrap(), Path::new(target));
        }
        // rename(2) does nothing where both names are of one file.
        fs_err::write(dir.path().join("file"), "x").unwrap();
        let same = |dir: BorrowedFd<'_>, name: &OsStr| {
            rustix::fs::linkat(dir, "file", dir, name, AtFlags::empty())
        };
        replace_entry(&open, "file".as_ref(), Durability::Cached, same).unwrap();
        assert_eq!(names(dir.path()), ["file", "old"]);
    }

    #[test]
    fn what_killed_runs_left_goes_and_nothing_else() {
        let dir = directory();
        let left = |name: &str| dir.path().join(format!("{UNFINISHED}{name}"));
        fs_err::write(left("9-1"), "half").unwrap();
        fs_err::os::unix::fs::symlink("/nowhere", left("9-2")).unwrap();
        fs_err::create_dir(left("directory")).unwrap();
        fs_err::write(dir.path().join(".fprefix-other"), "").unwrap();
        let [_, held] = new_files(dir.path());
        let name = held.hidden.clone().unwrap();
        remove_unfinished(open_directory(dir.path()).unwrap()).unwrap();
        assert!(dir.path().join(&name).exists(), "it is being written");
        drop(held);
        assert_eq!(names(dir.path()), [".fprefix-new-directory", ".fprefix-other", "old"]);
        assert!(is_unfinished(&name) && is_unfinished(".fprefix-other".as_ref()));
        assert!(!is_unfinished(".fprefix".as_ref()) && !is_unfinished("new".as_ref()));
    }

    #[test]
    fn a_hidden_name_that_another_run_removed_is_made_again() {
        let dir = directory();
        let open = open_directory(dir.path()).unwrap();
        let attempts = AtomicU64::new(0);
        let make = |dir: BorrowedFd<'_>, name: &OsStr| {
            rustix::fs::symlinkat("target", dir, name)?;
            if attempts.fetch_add(1, Ordering::Relaxed) < 2 {
                remove_unfinished(dir).unwrap();
            }
            Ok(())
        };
        replace_entry(&open, "old".as_ref(), Durability::Cached, make).unwrap();
        assert_eq!(attempts.into_inner(), 3);
        assert_eq!(names(dir.path()), ["old"]);
    }

    #[test]
    fn directories_are_made_on_the_way() {
        let dir = directory();
        let path = dir.path().join("a/b/c");
        write(&path, b"1", 0o640, Durability::Flushed).unwrap();
        write(&path, b"2", 0o640, Durability::Flushed).unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"2");
        assert_eq!(fs_err::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(names(path.parent().unwrap()), ["c"]);
    }
}
