//! A directory that goes when we end, however we end.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::command::{Attendant, Command};
use crate::base::files;

/// Waits until its input ends, which it does when we do, and removes the directory then, unless
/// it was told that this is done. What runs in a sandbox of ours ends with us, but not at once.
const SCRIPT: &str = "trap '' HUP INT QUIT TERM
read -r word
[ \"$word\" != done ] || exit 0
for again in $(seq 120); do
	chmod -R u+rwX -- \"$1\" && rm -rf -- \"$1\" && exit 0
	sleep 0.5
done 2> /dev/null";

/// Removes a directory when it is dropped, and also when this process is killed.
pub(super) struct CleanupGuard {
    dir: PathBuf,
    attendant: Option<Attendant>,
}

impl CleanupGuard {
    /// For the directory `dir`.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let attendant = Command::new("watch over a directory", "sh")
            .args(["-c", SCRIPT, "clean-up"])
            .arg(dir)
            .attend()?;
        Ok(Self { dir: dir.to_owned(), attendant: Some(attendant) })
    }
}

impl Drop for CleanupGuard {
    fn drop(&mut self) {
        // What can not be removed now is left to whoever watches.
        if files::remove(&self.dir).is_ok()
            && let Some(attendant) = self.attendant.take()
        {
            attendant.dismiss("done\n");
        }
    }
}
