//! The package test-cases/slow, which stops in a phase until the test lets it go on.

use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::harness::wait::wait_for;
use crate::prefix::Prefix;

/// A place to stop in the build of test-cases/slow. Dropped, it is none any more.
pub(crate) struct Stop {
    /// File that the ebuild reads: phase and ROOT.
    place: PathBuf,
    /// File that the ebuild makes when it is there.
    reached: PathBuf,
    /// Pipe that it then reads from: it waits until somebody opens the other end.
    gate: PathBuf,
}

impl Stop {
    /// Lets the next builds in `prefix` stop in `phase` of an installation into `root`.
    pub(crate) fn new(prefix: &Prefix, phase: &str, root: &str) -> Self {
        let file = |name: &str| prefix.distfiles().join(name);
        let stop = Self {
            place: file("slow-phase"),
            reached: file("slow-begun"),
            gate: file("slow-gate"),
        };
        stop.remove();
        rustix::fs::mknodat(CWD, &stop.gate, FileType::Fifo, Mode::from(0o644), 0).unwrap();
        fs_err::write(&stop.place, format!("{phase} {root}\n")).unwrap();
        stop
    }

    /// Returns whether a build has stopped here.
    pub(crate) fn is_reached(&self) -> bool {
        self.reached.exists()
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
