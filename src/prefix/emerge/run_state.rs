//! The state of a run of emerge: what it did, does and has still to do, for people.

use std::time::Duration;

use crate::portage::cpv::Cpv;
use crate::portage::events::PhaseEvent;
use crate::portage::merge_log::{MergeRecord, MergeStage, MergeTimes};

/// Time after which a phase is worth a line in a log.
const LONG: Duration = Duration::from_secs(30);

/// A package at work.
#[derive(Debug)]
struct PackageAtWork {
    cpv: Cpv,
    phase: String,
    /// When it was first seen in this phase, by the run's clock.
    since: Duration,
    /// A line has been said of this phase.
    told: bool,
    /// When it began.
    begun: Duration,
}

/// State of a run.
#[derive(Debug, Default)]
pub(super) struct RunState {
    times: MergeTimes,
    /// Number of packages, once it is known.
    total: u64,
    completed: u64,
    at_work: Vec<PackageAtWork>,
    /// Packages that are not installed yet.
    left: Vec<Cpv>,
    now: Duration,
}

impl RunState {
    /// The state at the start, with what is known of earlier runs.
    pub(super) fn new(times: MergeTimes) -> Self {
        Self { times, ..Self::default() }
    }

    /// Takes in what the run has written so far, at `now` of its own clock: all of its records in
    /// emerge.log, its phases, and what is left.
    pub(super) fn update(
        &mut self,
        records: &[MergeRecord],
        phases: &str,
        left: Vec<Cpv>,
        now: Duration,
    ) {
        self.now = now;
        self.left = left;
        self.completed = 0;
        let mut at_work = Vec::new();
        for record in records {
            self.total = record.total;
            match record.stage {
                MergeStage::Begun => {
                    if record.position == 1 {
                        self.completed = 0;
                    }
                    at_work.push(&record.cpv);
                }
                MergeStage::Completed => {
                    self.completed += 1;
                    at_work.retain(|cpv| **cpv != record.cpv);
                }
            }
        }
        let phases: Vec<_> = phases.lines().filter_map(PhaseEvent::parse).collect();
        // emerge.log says nothing of a failure.
        at_work.retain(|cpv| !phases.iter().any(|event| event.died && event.cpv == **cpv));
        let mut before = std::mem::take(&mut self.at_work);
        for cpv in at_work {
            let event = phases.iter().rfind(|event| event.cpv == *cpv);
            let phase = event.map_or("begin", |event| event.phase).to_owned();
            let known = before.iter().position(|package| package.cpv == *cpv);
            let known = known.map(|index| before.swap_remove(index));
            self.at_work.push(match known {
                Some(package) if package.phase == phase => package,
                other => PackageAtWork {
                    cpv: cpv.clone(),
                    phase,
                    since: now,
                    told: false,
                    begun: other.map_or(now, |package| package.begun),
                },
            });
        }
    }

    /// Returns how many packages are installed, and of how many, once that is known.
    pub(super) fn count(&self) -> Option<(u64, u64)> {
        (self.total > 0).then_some((self.completed.min(self.total), self.total))
    }

    /// Describes what goes on now: the package that began first, its phase, and
    /// how long all will take if it is known.
    pub(super) fn describe(&self) -> String {
        let Some(package) = self.at_work.first() else { return String::new() };
        let seconds = self.now.saturating_sub(package.since).as_secs();
        let mut text =
            [package.cpv.to_string(), package.phase.clone(), duration(seconds)].join(" ");
        if self.at_work.len() > 1 {
            text += &format!(", {} more at work", self.at_work.len() - 1);
        }
        match self.estimate() {
            Some(left) => text + &format!(", about {} left", duration(left.as_secs())),
            None => text,
        }
    }

    /// Returns the time until the end, as if one package came after the other, if the time of each
    /// that is left is known.
    fn estimate(&self) -> Option<Duration> {
        let time = |cpv: &Cpv| {
            let package = self.at_work.iter().find(|package| package.cpv == *cpv);
            let elapsed = package.map(|package| self.now.saturating_sub(package.begun));
            Some(self.times.of(cpv)?.saturating_sub(elapsed.unwrap_or_default()))
        };
        let left: Duration = self.left.iter().map(time).sum::<Option<_>>()?;
        (left > Duration::ZERO).then_some(left)
    }

    /// Returns a line for each phase that takes long and was not told yet.
    pub(super) fn take_long_phases(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for package in &mut self.at_work {
            let took = self.now.saturating_sub(package.since);
            if took < LONG || package.told {
                continue;
            }
            package.told = true;
            lines.push(format!(
                "{}: {} goes on after {} s",
                package.cpv,
                package.phase,
                took.as_secs()
            ));
        }
        lines
    }
}

/// A time for people.
fn duration(seconds: u64) -> String {
    if seconds < 100 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "\
1: >>> emerge (1 of 2) sys-libs/zlib-1 to /
9: ::: completed emerge (1 of 2) sys-libs/zlib-1 to /
9: >>> emerge (2 of 2) app-misc/jq-1 to /
209: ::: completed emerge (2 of 2) app-misc/jq-1 to /
";

    #[test]
    fn a_run_is_told_as_it_goes_on() {
        let mut state = RunState::new(MergeTimes::parse(EARLIER));
        let cpv = |text: &str| -> Cpv { text.parse().unwrap() };
        let records = MergeRecord::parse_all;
        assert_eq!((state.count(), state.describe()), (None, String::new()));

        let mut log = "300: >>> emerge (1 of 2) sys-libs/zlib-1 to /\n".to_owned();
        let left = vec![cpv("sys-libs/zlib-1"), cpv("app-misc/jq-2")];
        let second = Duration::from_secs;
        state.update(&records(&log), "setup sys-libs/zlib-1 staging\n", left.clone(), second(1));
        state.update(&records(&log), "setup sys-libs/zlib-1 staging\n", left, second(3));
        assert_eq!(state.count(), Some((0, 2)));
        assert_eq!(state.describe(), "sys-libs/zlib-1 setup 2 s, about 3 min left");

        log += "305: ::: completed emerge (1 of 2) sys-libs/zlib-1 to /\n\
                305: >>> emerge (2 of 2) app-misc/jq-2 to /\n";
        let phases = "compile app-misc/jq-2 staging\n";
        state.update(&records(&log), phases, vec![cpv("app-misc/jq-2")], second(5));
        assert_eq!(state.take_long_phases(), Vec::<String>::new());
        state.update(&records(&log), phases, vec![cpv("app-misc/jq-2")], second(150));
        assert_eq!(state.count(), Some((1, 2)));
        assert_eq!(state.describe(), "app-misc/jq-2 compile 2 min, about 55 s left");
        assert_eq!(state.take_long_phases(), ["app-misc/jq-2: compile goes on after 145 s"]);
        assert_eq!(state.take_long_phases(), Vec::<String>::new(), "once");

        // With --keep-going, what is left is counted anew.
        let phases = "died:compile app-misc/jq-2 staging\n";
        log += "500: >>> emerge (1 of 1) app-misc/other-1 to /\n";
        state.update(&records(&log), phases, vec![cpv("app-misc/other-1")], second(200));
        assert_eq!(state.count(), Some((0, 1)));
        assert_eq!(state.describe(), "app-misc/other-1 begin 0 s");
    }
}
