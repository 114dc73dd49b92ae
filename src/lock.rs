//! One lock per prefix: two runs do not change the same environments at once.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err::{File, OpenOptions};
use rustix::fs::{FlockOperation, flock};

/// A held lock; dropping it, or the end of the process however it ends, lets it go (flock(2)).
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What to do when somebody else holds the lock.
pub enum Busy<'a> {
    /// Fail at once, naming the holder.
    Fail,
    /// Tell the caller who holds it, then wait.
    Wait(&'a dyn Fn(&str)),
}

impl Lock {
    /// Takes the lock of which the file is at `path`, for `what` (shown to whoever waits).
    pub fn take(path: &Path, what: &str, busy: &Busy<'_>) -> Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = holder(&mut file);
            match busy {
                Busy::Fail => bail!(
                    "{holder} is at work on this prefix; wait for it to end, then try again \
                     (lock: {})",
                    path.display()
                ),
                Busy::Wait(tell) => tell(&holder),
            }
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("could not take the lock {}", path.display()))?;
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{what} (process {})", std::process::id())?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(count) if count > 0 => text,
        _ => "another fprefix".to_owned(),
    }
}

/// The path of the lock file below a directory that carries our marker.
pub fn path_below(marker: &Path) -> PathBuf {
    marker.join("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_below(dir.path());
        let held = Lock::take(&path, "fprefix emerge jq", &Busy::Fail).unwrap();
        let error = Lock::take(&path, "fprefix pack", &Busy::Fail).unwrap_err().to_string();
        assert!(error.contains("fprefix emerge jq (process "), "{error}");
        drop(held);
        Lock::take(&path, "fprefix pack", &Busy::Fail).unwrap();
    }
}
