//! A directory that is removed when this process ends, even if it is killed.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::command::{Attendant, Command};
use crate::base::files;

/// Waits for the end of its input, which comes when this process ends. Then it removes the
/// directory, unless it has read `done`. It tries for a while, because the programs in our sandbox
/// end with this process, but not at once.
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
    /// Guards the directory `dir`.
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
        // If the directory cannot be removed now, the attendant removes it later.
        if files::remove(&self.dir).is_ok()
            && let Some(attendant) = self.attendant.take()
        {
            attendant.dismiss("done\n");
        }
    }
}
