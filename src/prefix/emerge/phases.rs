//! The file to which the script around phases reports them, and the display that follows a run.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

use crate::base::limits::LIST;
use crate::base::names::Environment;
use crate::base::output::{self, Reporter};
use crate::base::{files, input};
use crate::portage::cpv::Cpv;
use crate::portage::events;
use crate::portage::merge_log::{MergeRecord, MergeTimes, parse_merge_list};
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::run_state::RunState;

/// Time between two looks at what a run has written.
const INTERVAL: Duration = Duration::from_millis(200);

/// The file that phases are reported to. It is emptied before each run.
#[derive(Debug)]
pub(crate) struct Phases {
    file: PathBuf,
    /// emerge.log of the environment.
    log: PathBuf,
    mtimedb: PathBuf,
    /// Size of it when the run began, in bytes.
    log_before: u64,
}

impl Phases {
    /// Begins a run on `prefix`.
    pub(crate) fn start(prefix: &Prefix, environment: Environment) -> Result<Self> {
        let layout = &prefix.layout;
        let file = layout.events();
        files::write_atomically(&file, b"")?;
        let log = layout.logs(environment).join("emerge.log");
        let log_before = fs_err::metadata(&log).map_or(0, |log| log.len());
        Ok(Self { file, log, log_before, mtimedb: layout.mtimedb(environment) })
    }

    /// Returns the packages that failed, each with its phase.
    pub(crate) fn failures(&self) -> Result<Vec<(Cpv, String)>> {
        Ok(events::failures(&input::read_lossy(&self.file, LIST)?))
    }

    /// Shows on `bar` which package of how many is in which phase and for how long, until the
    /// follower is dropped. Where nothing is drawn, a line is written for each phase that takes long.
    pub(crate) fn follow(&self, bar: &ProgressBar, reporter: Reporter) -> Follower {
        let (stop, stopped) = mpsc::channel();
        let files = Self {
            file: self.file.clone(),
            log: self.log.clone(),
            mtimedb: self.mtimedb.clone(),
            log_before: self.log_before,
        };
        let bar = bar.clone();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let mut state = RunState::new(MergeTimes::parse(&read(&files.log)));
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                files.update(&mut state, begun.elapsed());
                show(&mut state, &bar, reporter);
            }
        });
        Follower { stop: Some(stop), thread: Some(thread) }
    }

    fn update(&self, state: &mut RunState, now: Duration) {
        let log = input::read_from(&self.log, self.log_before).unwrap_or_default();
        let records = MergeRecord::parse_all(&log);
        let phases = input::read_lossy(&self.file, LIST).unwrap_or_default();
        // It has the list of an earlier run until this one begins.
        let left =
            if records.is_empty() { Vec::new() } else { parse_merge_list(&read(&self.mtimedb)) };
        state.update(&records, &phases, left, now);
    }
}

/// Reads what there is of a file of Portage. It only serves the display.
fn read(file: &Path) -> String {
    input::read_end(file).unwrap_or_default()
}

fn show(state: &mut RunState, bar: &ProgressBar, reporter: Reporter) {
    if !reporter.draws() {
        for line in state.take_long_phases() {
            reporter.step(&line);
        }
        return;
    }
    if let Some((done, total)) = state.count() {
        output::count(bar, done, total);
    }
    output::show(bar, &state.describe());
}

/// Shows phases while it lives.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The thread ends when the other end of the channel is gone.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only draws; that it ended badly changes nothing.
            let _ = thread.join();
        }
    }
}
