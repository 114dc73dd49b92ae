//! Working directories beside the final place of images, so that an image appears there by rename:
//! complete, or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::names::PrefixName;
use crate::base::publish;
use crate::base::scratch::ScratchDir;
use crate::base::umask;

/// Start of the name of such a directory.
const PREFIX: &str = ".fprefix-pack-";

/// Subdirectory for the files that are made, in which every name is free.
const MADE: &str = "made";

/// Returns the name of the record that lies beside the images of the extension `name`.
pub(crate) fn record(name: &PrefixName) -> String {
    format!(".{name}.packed")
}

/// Working directory, which is removed when dropped. The next run removes the directory of a killed
/// run, whose lock was released with it.
#[derive(Debug)]
pub(crate) struct Workplace {
    output: PathBuf,
    dir: ScratchDir,
}

impl Workplace {
    /// Makes a workplace in the directory `output`.
    pub(crate) fn open(output: &Path) -> Result<Self> {
        fs_err::create_dir_all(output)?;
        let output = fs_err::canonicalize(output)?;
        let dir = ScratchDir::new_in(&output, PREFIX, "fprefix pack")?;
        fs_err::create_dir(dir.path().join(MADE))?;
        Ok(Self { output, dir })
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
    /// replaces a file, and can be read by those whom the caller's umask lets; a directory replaces
    /// one that `may_replace` accepts.
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
        if old {
            publish::exchange_flushed(&made, &target)?;
            files::remove(&made)?;
            return Ok(target);
        }
        // Otherwise the rename may reach the disk before the content does.
        if new {
            publish::flush_filesystem(&made)?;
            let _ = fs_err::remove_file(&target);
        } else {
            umask::limit(&made)?;
            fs_err::File::open(&made)?.sync_all()?;
        }
        publish::rename_flushed(&made, &target)?;
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
        publish::rename_flushed(&made, &place)?;
        Ok(place)
    }
}

fn is_directory(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
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
}
