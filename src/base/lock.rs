//! One lock per prefix: two runs cannot change the same environments at once.

use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err::os::unix::fs::OpenOptionsExt;
use fs_err::{File, OpenOptions};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;

use crate::base::command::Command;
use crate::base::escape::{Escape, visible_line};

/// Held lock. It is released when dropped and when the process ends for any reason (flock(2)).
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Behaviour while another process holds the lock.
pub enum Busy<'a> {
    /// Fail at once, naming the holder.
    Fail,
    /// Tell the user whom it waits for and how to see that, then wait. ctrl-C ends the wait.
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
            let holder = Holder::find(&mut file);
            let (name, look, shown) = (&holder.name, holder.command(path), path.escaped());
            match busy {
                Busy::Fail => bail!(
                    "{name} is at work on this prefix; wait for it to end, then try again \
                     (lock: {shown})\nhint: `{look}` shows it"
                ),
                Busy::Wait(tell) => tell(&format!(
                    "waiting for {name}, which holds {shown}; `{look}` shows it, ctrl-C ends the wait"
                )),
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

/// Process that holds a lock.
struct Holder {
    /// Its work or its name, and its number.
    name: String,
    process: Option<u32>,
}

impl Holder {
    /// Longest text of a lock file that is shown.
    const LONGEST: u64 = 1024;

    /// Finds the holder of the lock on `file`. The kernel knows its process; the text of the file
    /// says what it does, unless it has not written it yet.
    fn find(file: &mut File) -> Self {
        let mut text = Vec::new();
        // A text that cannot be read says nothing.
        let _ = file.take(Self::LONGEST).read_to_end(&mut text);
        let text = visible_line(&text);
        let written = text.rsplit_once("(process ").and_then(|(_, end)| end.strip_suffix(')'));
        let written = written.and_then(|number| number.parse().ok());
        let locks = fs_err::read_to_string("/proc/locks").unwrap_or_default();
        let process = file.metadata().ok().and_then(|meta| find_process(&locks, &meta));
        match process.filter(|process| written != Some(*process)) {
            Some(process) => {
                let comm = fs_err::read(format!("/proc/{process}/comm")).unwrap_or_default();
                let name = visible_line(comm.trim_ascii_end());
                let name = if name.is_empty() { "another program" } else { &name };
                Self { name: format!("{name} (process {process})"), process: Some(process) }
            }
            None if text.is_empty() => Self { name: "another fprefix".into(), process: None },
            None => Self { name: text, process: written },
        }
    }

    /// Returns the command that shows the process to the user.
    fn command(&self, lock: &Path) -> String {
        match self.process {
            Some(process) => format!("ps -fp {process}"),
            // It is in a namespace of its own.
            None => Command::new("look", "fuser").arg("-v").arg(lock).to_string(),
        }
    }
}

/// Returns the process that holds a lock on the file with these facts by the table `locks`
/// (`/proc/locks`, proc(5)): `1: FLOCK ADVISORY WRITE 708 08:01:131 0 EOF`, the device in
/// hexadecimal digits.
fn find_process(locks: &str, meta: &std::fs::Metadata) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        // Processes that wait have an arrow here.
        let is_held = words.next() == Some("FLOCK");
        let process = words.nth(2)?;
        (is_held && words.next() == Some(&place)).then(|| process.parse().ok())?
    };
    // A process of another namespace has the number 0 or -1.
    locks.lines().find_map(holder).filter(|process| *process > 0)
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
        let ours = format!("fprefix emerge jq (process {0}) is at work", std::process::id());
        assert!(error.starts_with(&ours), "{error}");
        let hint = format!("\nhint: `ps -fp {}` shows it", std::process::id());
        assert!(error.ends_with(&hint), "{error}");
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
    fn the_kernel_knows_better_than_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_below(dir.path());
        let _held = Lock::acquire(&path, "fprefix emerge jq", &Busy::Fail).unwrap();
        for text in ["", "fprefix pack (process 1)", "\u{1b}[31m\nhint: x (process 1)"] {
            fs_err::write(&path, text).unwrap();
            let error = Lock::acquire(&path, "fprefix pack", &Busy::Fail).unwrap_err().to_string();
            let process = format!(" (process {}) is at work", std::process::id());
            assert!(error.contains(&process) && !error.contains('\u{1b}'), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_table_of_locks() {
        let meta = fs_err::metadata("/").unwrap();
        let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
        let place = format!("{major:02x}:{minor:02x}:{}", meta.ino());
        let find = |line: &str| find_process(&line.replace("PLACE", &place), &meta);
        assert_eq!(find("1: FLOCK  ADVISORY  WRITE 708 PLACE 0 EOF\n"), Some(708));
        let waits = "1: FLOCK  ADVISORY  WRITE 708 00:01:7 0 EOF\n";
        assert_eq!(find(&format!("{waits}1: -> FLOCK  ADVISORY  WRITE 709 PLACE 0 EOF\n")), None);
        assert_eq!(find("1: POSIX  ADVISORY  WRITE 708 PLACE 0 EOF\n"), None);
        assert_eq!(find("1: FLOCK  ADVISORY  WRITE 0 PLACE 0 EOF\n"), None);
        assert_eq!(find("1: FLOCK\nx\n"), None);
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
