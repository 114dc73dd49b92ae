//! Working directories beside the final place of images, so that an image appears there by rename:
//! complete, or not at all.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, RenameFlags};
use rustix::process::geteuid;

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::lock::{Busy, Lock, path_below};
use crate::base::names::PrefixName;

/// Start of the name of such a directory.
const PREFIX: &str = ".fprefix-pack-";

/// Subdirectory for the files that are made, in which every name is free.
const MADE: &str = "made";

/// Number of times that another run may remove a new directory.
const ATTEMPTS: u32 = 16;

/// File that marks the directory as a workplace of fprefix.
const MARKER: &str = "lock";

/// Returns the name of the record that lies beside the images of the extension `name`.
pub(crate) fn record(name: &PrefixName) -> String {
    format!(".{name}.packed")
}

/// Working directory, which is removed when dropped. The next run removes the directory of a killed
/// run, whose lock was released with it.
#[derive(Debug)]
pub(crate) struct Workplace {
    output: PathBuf,
    dir: tempfile::TempDir,
    _lock: Lock,
}

impl Workplace {
    /// Makes a workplace in the directory `output`.
    pub(crate) fn open(output: &Path) -> Result<Self> {
        fs_err::create_dir_all(output)?;
        let output = fs_err::canonicalize(output)?;
        remove_abandoned(&output)?;
        let (dir, lock) = make_locked(&output)?;
        fs_err::create_dir(dir.path().join(MADE))?;
        Ok(Self { output, dir, _lock: lock })
    }

    /// Returns a path to work at.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(MADE).join(name)
    }

    /// Returns the final path of the file that is made at `name`.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.output.join(name)
    }

    /// Moves the file or directory made at `name` to its final path and returns that path. A file
    /// replaces a file; a directory replaces one that `may_replace` accepts.
    pub(crate) fn publish(
        &self,
        name: &str,
        may_replace: impl Fn(&Path) -> bool,
    ) -> Result<PathBuf> {
        let target = self.place(name);
        let made = self.path(name);
        let (old, new) = (is_directory(&target), is_directory(&made));
        if old && !(new && may_replace(&target)) {
            bail!("{} is there, and is a directory that is not ours to replace", target.escaped());
        }
        if !old {
            // Without fsync(2), the rename may reach the disk before the content does.
            fs_err::File::open(&made)?.sync_all()?;
            if new {
                let _ = fs_err::remove_file(&target);
            }
            fs_err::rename(made, &target)?;
            return Ok(target);
        }
        rustix::fs::renameat_with(CWD, &made, CWD, &target, RenameFlags::EXCHANGE)
            .with_context(|| format!("could not put {} in place", target.escaped()))?;
        files::remove(&made)?;
        Ok(target)
    }

    /// Returns the text of the published file `name`, or an empty text if there is none.
    pub(crate) fn published(&self, name: &str) -> Result<String> {
        if !self.has_published(name) {
            return Ok(String::new());
        }
        input::read_text(&self.place(name), TEXT)
    }

    /// Returns whether a file `name` is published.
    pub(crate) fn has_published(&self, name: &str) -> bool {
        self.place(name).is_file()
    }

    /// Publishes a link `name` to `target`, replacing any other file of that name.
    pub(crate) fn publish_link(&self, name: &str, target: &str) -> Result<PathBuf> {
        let place = self.place(name);
        if is_directory(&place) {
            bail!("{} is there, and is a directory", place.escaped());
        }
        let made = self.path(name);
        fs_err::os::unix::fs::symlink(target, &made)?;
        fs_err::rename(made, &place)?;
        Ok(place)
    }
}

/// Makes a directory in `output`, and locks it.
fn make_locked(output: &Path) -> Result<(tempfile::TempDir, Lock)> {
    let mut attempts = 0;
    loop {
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(output)
            .with_context(|| format!("could not make a directory in {}", output.escaped()))?;
        match Lock::acquire(&path_below(dir.path()), "fprefix pack", &Busy::Fail) {
            Ok(lock) => return Ok((dir, lock)),
            // Before it was locked, another run may have removed it as abandoned.
            Err(error) if attempts == ATTEMPTS => return Err(error),
            Err(_) => attempts += 1,
        }
    }
}

fn is_directory(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // Unpacked directories may have no write permission. The next run removes the directories
        // that cannot be removed now.
        let _ = files::remove(self.dir.path());
    }
}

/// Removes the workplaces in `output` whose runs have ended.
fn remove_abandoned(output: &Path) -> Result<()> {
    for entry in fs_err::read_dir(output)? {
        let path = entry?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        // Others can make directories of that name in an output directory that is not only ours.
        let ours = named
            && fs_err::symlink_metadata(&path)
                .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
        if ours && !path.join(MARKER).exists() {
            // The run was killed before it wrote anything. A directory with content is not from
            // fprefix; rmdir(2) leaves it in place.
            let _ = fs_err::remove_dir(&path);
        } else if ours
            && path.join(MARKER).is_file()
            && let Ok(_lock) = Lock::acquire(&path_below(&path), "fprefix pack", &Busy::Fail)
        {
            files::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_side_by_side_have_places_of_their_own() {
        let output = tempfile::tempdir().unwrap();
        let open = |_| (0..50).map(|_| Workplace::open(output.path()).unwrap()).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let threads = [0; 4].map(|thread| scope.spawn(move || open(thread)));
            for thread in threads {
                for place in thread.join().unwrap() {
                    assert!(place.path("").is_dir());
                }
            }
        });
        assert_eq!(fs_err::read_dir(output.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_run_left_goes() {
        let output = tempfile::tempdir().unwrap();
        let abandoned = output.path().join(".fprefix-pack-dead");
        fs_err::create_dir(&abandoned).unwrap();
        fs_err::write(abandoned.join(MARKER), "").unwrap();
        let begun = output.path().join(".fprefix-pack-begun");
        fs_err::create_dir(&begun).unwrap();
        let other = output.path().join(".fprefix-pack-other");
        fs_err::create_dir_all(other.join("something")).unwrap();
        let alive = Workplace::open(output.path()).unwrap();
        let next = Workplace::open(output.path()).unwrap();
        assert!(!abandoned.exists() && !begun.exists() && other.exists());
        assert!(alive.path("x").parent().unwrap().exists());
        drop((alive, next));
        assert_eq!(fs_err::read_dir(output.path()).unwrap().count(), 1);
    }
}
