//! One lock per prefix: two runs cannot change the same environments at once.

use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err::{File, OpenOptions};
use rustix::fs::{FlockOperation, flock};

/// Held lock. It is released when dropped and when the process ends for any reason (flock(2)).
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Behaviour while another process holds the lock.
pub enum Busy<'a> {
    /// Fail at once, naming the holder.
    Fail,
    /// Report the holder, then wait.
    Wait(&'a dyn Fn(&str)),
}

impl Lock {
    /// Takes the lock file `path`; processes that wait for it show `what`.
    pub fn acquire(path: &Path, what: &str, busy: &Busy<'_>) -> Result<Self> {
        loop {
            let lock = Self::take_file(path, what, busy)?;
            // The last holder may have removed the file, and another process may have made a new
            // one.
            if lock.is_at(path)? {
                return Ok(lock);
            }
        }
    }

    fn is_at(&self, path: &Path) -> Result<bool> {
        let ours = self.file.metadata()?;
        match fs_err::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn take_file(path: &Path, what: &str, busy: &Busy<'_>) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .context("the lock cannot be taken; was the prefix removed meanwhile?")?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = read_holder(&mut file);
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
        Ok(Self { file })
    }
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(count) if count > 0 => text,
        _ => "another fprefix".to_owned(),
    }
}

/// Returns the path of the lock file in a marker directory of fprefix.
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
        let held = Lock::acquire(&path, "fprefix emerge jq", &Busy::Fail).unwrap();
        let error = Lock::acquire(&path, "fprefix pack", &Busy::Fail).unwrap_err().to_string();
        assert!(error.contains("fprefix emerge jq (process "), "{error}");
        drop(held);
        Lock::acquire(&path, "fprefix pack", &Busy::Fail).unwrap();
    }

    #[test]
    fn a_lock_that_was_removed_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_below(dir.path());
        let held = Lock::acquire(&path, "fprefix remove demo", &Busy::Fail).unwrap();
        let waits = std::thread::spawn({
            let path = path.clone();
            move || Lock::acquire(&path, "fprefix emerge jq", &Busy::Wait(&|_| ())).unwrap()
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs_err::remove_file(&path).unwrap();
        drop(held);
        let _held = waits.join().unwrap();
        assert!(Lock::acquire(&path, "fprefix pack", &Busy::Fail).is_err());
    }
}
