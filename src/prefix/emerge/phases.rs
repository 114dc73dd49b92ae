//! What Portage is doing, as the bashrc of both environments reports it: a line a phase.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::ProgressBar;

use crate::base::names::Environment;
use crate::prefix::definition::Prefix;

/// The file that phases are reported to. It is emptied before each run.
#[derive(Debug)]
pub(crate) struct Phases {
    file: PathBuf,
}

/// A line of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    /// The ebuild phase.
    pub phase: &'a str,
    /// The package, as `category/PF`.
    pub package: &'a str,
    /// Whether the phase failed.
    pub died: bool,
}

impl Phases {
    /// Begins a run on `prefix`.
    pub(crate) fn begin(prefix: &Prefix) -> Result<Self> {
        let file = prefix.layout.tmp(Environment::Staging).join("events");
        fs_err::write(&file, "")?;
        Ok(Self { file })
    }

    /// The packages that failed, each with its phase.
    pub(crate) fn failures(&self) -> Result<Vec<(String, String)>> {
        let text = fs_err::read_to_string(&self.file)?;
        let mut failures: Vec<(String, String)> = text
            .lines()
            .filter_map(Event::parse)
            .filter(|event| event.died)
            .map(|event| (event.package.to_owned(), event.phase.to_owned()))
            .collect();
        failures.dedup();
        Ok(failures)
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
        if let Ok(text) = fs_err::read_to_string(file)
            && let Some(event) = text.lines().last().and_then(Event::parse)
        {
            let now = format!("{} {}", event.package, event.phase);
            if now != last {
                since = Instant::now();
                last = now;
            }
            let seconds = since.elapsed().as_secs();
            bar.set_message(format!("{} {last} ({seconds} s)", bar.prefix()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl<'a> Event<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let (first, package) = (words.next()?, words.next()?);
        let (phase, died) = match first.strip_prefix("died:") {
            Some(phase) => (phase, true),
            None => (first, false),
        };
        Some(Self { phase, package, died })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        let event = Event::parse("died:compile app-misc/jq-1.7.1 staging").unwrap();
        assert_eq!(event, Event { phase: "compile", package: "app-misc/jq-1.7.1", died: true });
        assert_eq!(Event::parse("half"), None);
    }
}
