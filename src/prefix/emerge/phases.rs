//! The file to which the script around phases reports them, and a progress bar that follows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

use crate::base::limits::LIST;
use crate::base::{files, input, output};
use crate::portage::cpv::Cpv;
use crate::portage::events::{self, PhaseEvent};
use crate::prefix::definition::Prefix;

/// The file that phases are reported to. It is emptied before each run.
#[derive(Debug)]
pub(crate) struct Phases {
    file: PathBuf,
}

impl Phases {
    /// Begins a run on `prefix`.
    pub(crate) fn start(prefix: &Prefix) -> Result<Self> {
        let file = prefix.layout.events();
        files::write_atomically(&file, b"")?;
        Ok(Self { file })
    }

    /// Returns the packages that failed, each with its phase.
    pub(crate) fn failures(&self) -> Result<Vec<(Cpv, String)>> {
        Ok(events::failures(&input::read_lossy(&self.file, LIST)?))
    }

    /// Shows on `bar` which package is in which phase and for how long, until it is dropped.
    pub(crate) fn follow(&self, bar: &ProgressBar) -> Follower {
        let done = Arc::new(AtomicBool::new(false));
        let (file, bar, stop) = (self.file.clone(), bar.clone(), Arc::clone(&done));
        let thread = std::thread::spawn(move || follow(&file, &bar, &stop));
        Follower { done, thread: Some(thread) }
    }
}

/// Shows phases while it lives.
#[derive(Debug)]
pub(crate) struct Follower {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It only draws; that it ended badly changes nothing.
            let _ = thread.join();
        }
    }
}

fn follow(file: &Path, bar: &ProgressBar, done: &AtomicBool) {
    let mut since = Instant::now();
    let mut last = String::new();
    while !done.load(Ordering::SeqCst) {
        if let Ok(text) = input::read_lossy(file, LIST)
            && let Some(event) = text.lines().last().and_then(PhaseEvent::parse)
        {
            let now = format!("{} {}", event.cpv, event.phase);
            if now != last {
                since = Instant::now();
                last = now;
            }
            let seconds = since.elapsed().as_secs();
            output::show(bar, &format!("{} {last} ({seconds} s)", bar.prefix()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
