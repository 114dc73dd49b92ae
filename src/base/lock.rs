//! One lock per prefix: two runs cannot change the same environments at once.

use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;

use crate::base::escape::Escape;

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
    ///
    /// # Errors
    ///
    /// Fails if another process holds the lock and `busy` forbids to wait, and if the file is
    /// something that another user may have put there: a link, a pipe, a file with a second name.
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
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .context("the lock cannot be taken; was the prefix removed meanwhile?")?;
        require_own(&file, path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = read_holder(&mut file);
            match busy {
                Busy::Fail => bail!(
                    "{holder} is at work on this prefix; wait for it to end, then try again \
                     (lock: {})",
                    path.escaped()
                ),
                Busy::Wait(tell) => tell(&holder),
            }
            flock(&file, FlockOperation::LockExclusive)
                .with_context(|| format!("could not take the lock {}", path.escaped()))?;
        }
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{what} (process {})", std::process::id())?;
        Ok(Self { file })
    }
}

/// Fails unless `file` is a lock file of ours, or of whoever owns its directory. Another user
/// could have put a second name of a foreign file there, and writing would replace its content.
fn require_own(file: &File, path: &Path) -> Result<()> {
    let meta = file.metadata()?;
    let directory = path.parent().map(fs_err::metadata).transpose()?;
    let owners = [Some(geteuid().as_raw()), directory.map(|directory| directory.uid())];
    if !meta.is_file() || meta.nlink() > 1 || !owners.contains(&Some(meta.uid())) {
        bail!("{} is no lock file of fprefix; remove it, then try again", path.escaped());
    }
    Ok(())
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
    fn what_others_could_have_put_there_is_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("precious");
        fs_err::write(&file, "precious").unwrap();
        let path = path_below(dir.path());
        for put in [
            |file: &Path, path: &Path| std::os::unix::fs::symlink(file, path).unwrap(),
            |file: &Path, path: &Path| std::fs::hard_link(file, path).unwrap(),
            |_: &Path, path: &Path| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            },
        ] {
            put(&file, &path);
            assert!(Lock::acquire(&path, "fprefix pack", &Busy::Fail).is_err());
            assert_eq!(fs_err::read_to_string(&file).unwrap(), "precious");
            fs_err::remove_file(&path).unwrap();
        }
        Lock::acquire(&path, "fprefix pack", &Busy::Fail).unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_lock_that_was_removed_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_below(dir.path());
        let held = Lock::acquire(&path, "fprefix remove demo", &Busy::Fail).unwrap();
        let (says, said) = std::sync::mpsc::channel();
        let waits = std::thread::spawn({
            let path = path.clone();
            let tell = move |_: &str| says.send(()).unwrap();
            move || Lock::acquire(&path, "fprefix emerge jq", &Busy::Wait(&tell)).unwrap()
        });
        said.recv().unwrap();
        fs_err::remove_file(&path).unwrap();
        drop(held);
        let _held = waits.join().unwrap();
        assert!(Lock::acquire(&path, "fprefix pack", &Busy::Fail).is_err());
    }
}
