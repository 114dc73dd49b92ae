//! Limits of a program that may compute, allocate or write without end (`setrlimit(2)`).

use std::num::NonZero;

use rustix::process::{Resource, Signal, getrlimit};

use crate::base::command::Symptom;

/// Address space, in bytes, and what each processor adds to it: unsquashfs has several threads for
/// each.
const MEMORY: u64 = 4 << 30;
const MEMORY_OF_PROCESSOR: u64 = 64 << 20;

/// Limits of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// CPU time, in seconds.
    pub seconds: u64,
    /// Address space, in bytes.
    pub memory: u64,
    /// Size of a file that it writes, in bytes.
    pub file_size: u64,
}

impl Limits {
    /// Returns limits that the largest images do not reach.
    pub(super) fn of_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            seconds: 900,
            memory: MEMORY + MEMORY_OF_PROCESSOR * processors as u64,
            file_size: 64 << 30,
        }
    }

    /// Returns the options of prlimit.
    pub(super) fn options(self) -> [String; 4] {
        // Only root can raise a limit that the caller has.
        let lower = |resource, wanted: u64| {
            getrlimit(resource).maximum.map_or(wanted, |allowed| allowed.min(wanted))
        };
        // At the hard limit, a process is killed without a signal that names the reason.
        let hard = lower(Resource::Cpu, self.seconds + 5);
        [
            format!("--as={}", lower(Resource::As, self.memory)),
            format!("--cpu={}:{hard}", self.seconds.min(hard)),
            format!("--fsize={}", lower(Resource::Fsize, self.file_size)),
            "--core=0".to_owned(),
        ]
    }

    /// Returns the ways in which a process ends at a limit, and the reasons. bubblewrap reports
    /// signals as a shell does.
    pub(super) fn symptoms(self) -> [(Symptom, String); 4] {
        let status = |signal: Signal| Symptom::Status(128 + signal.as_raw());
        let memory = format!("it may use {} MiB of memory", self.memory >> 20);
        [
            (status(Signal::XCPU), format!("it may compute for {} seconds", self.seconds)),
            (status(Signal::XFSZ), format!("it may write files of {} MiB", self.file_size >> 20)),
            (Symptom::Message("annot allocate memory"), memory.clone()),
            (Symptom::Message("ut of memory"), memory),
        ]
    }
}
