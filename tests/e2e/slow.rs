//! The package test-cases/slow, which stops in a phase until the test lets it go on.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::harness::wait::wait_for;
use crate::prefix::Prefix;

/// A place to stop in the build of test-cases/slow. Dropped, it is none any more.
pub(crate) struct Stop {
    /// File that the ebuild reads: phase and ROOT.
    place: PathBuf,
    /// Pipe that the ebuild writes to when it is there.
    reached: PathBuf,
    /// The end of it that is read, and whether something came.
    signal: (OwnedFd, Cell<bool>),
    /// Pipe that it then reads from: it waits until somebody opens the other end.
    gate: PathBuf,
}

impl Stop {
    /// Lets the next builds in `prefix` stop in `phase` of an installation into `root`.
    pub(crate) fn new(prefix: &Prefix, phase: &str, root: &str) -> Self {
        let file = |name: &str| prefix.distfiles().join(name);
        let place = file("slow-phase");
        let [reached, gate] = ["slow-begun", "slow-gate"].map(|name| {
            let pipe = file(name);
            let _ = fs_err::remove_file(&pipe);
            rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o644), 0).unwrap();
            pipe
        });
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let signal = rustix::fs::open(&reached, flags, Mode::empty()).unwrap();
        fs_err::write(&place, format!("{phase} {root}\n")).unwrap();
        Self { place, reached, signal: (signal, Cell::new(false)), gate }
    }

    /// Returns whether a build has stopped here.
    pub(crate) fn is_reached(&self) -> bool {
        let (signal, came) = &self.signal;
        // Without a writer, a pipe ends (fifo(7)).
        came.set(came.get() || rustix::io::read(signal, &mut [0; 8]).is_ok_and(|count| count > 0));
        came.get()
    }

    /// Lets the build that has stopped here go on.
    pub(crate) fn pass(&self) {
        // Without a reader, opening for writing fails (fifo(7)).
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        wait_for("the build at the gate", || {
            rustix::fs::open(&self.gate, flags, Mode::empty()).is_ok()
        });
    }

    fn remove(&self) {
        for path in [&self.place, &self.reached, &self.gate] {
            let _ = fs_err::remove_file(path);
        }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.remove();
    }
}
