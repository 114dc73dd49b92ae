//! Files that emerge writes about a run while it goes on: `emerge.log`, a line each with its time, which
//! genlop(1) and qlop(1) read as well, and the list of packages that are left, for `--resume`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use crate::portage::cpv::Cpv;

/// A step of a package in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MergeStage {
    /// emerge began to build or install it.
    Begun,
    /// It is installed.
    Completed,
}

/// A line of emerge.log about one package of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MergeRecord {
    /// Seconds since 1970.
    pub seconds: u64,
    pub stage: MergeStage,
    /// Position among the packages of the run. After a failure emerge counts what is left anew.
    pub position: u64,
    /// Number of packages of the run.
    pub total: u64,
    pub cpv: Cpv,
}

impl MergeRecord {
    /// Parses a line; `None` where it is about something else.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (seconds, text) = line.split_once(':')?;
        let text = text.trim_start();
        let (stage, text) = match text.strip_prefix(">>> emerge (") {
            Some(text) => (MergeStage::Begun, text),
            None => (MergeStage::Completed, text.strip_prefix("::: completed emerge (")?),
        };
        let (count, text) = text.split_once(") ")?;
        let (position, total) = count.split_once(" of ")?;
        Some(Self {
            seconds: seconds.parse().ok()?,
            stage,
            position: position.parse().ok()?,
            total: total.parse().ok()?,
            cpv: text.split(' ').next()?.parse().ok()?,
        })
    }

    /// Parses the lines of a log that are about packages.
    pub(crate) fn parse_all(log: &str) -> Vec<Self> {
        log.lines().filter_map(Self::parse).collect()
    }
}

/// The time that packages took when they were last installed, by category and name.
#[derive(Clone, Debug, Default)]
pub(crate) struct MergeTimes(BTreeMap<String, Duration>);

impl MergeTimes {
    /// Reads the times of the runs in emerge.log.
    pub(crate) fn parse(log: &str) -> Self {
        let mut begun = HashMap::new();
        let mut times = BTreeMap::new();
        for record in MergeRecord::parse_all(log) {
            match record.stage {
                MergeStage::Begun => {
                    begun.insert(record.cpv, record.seconds);
                }
                MergeStage::Completed => {
                    let Some(start) = begun.remove(&record.cpv) else { continue };
                    // A clock may have been set back.
                    let took = record.seconds.saturating_sub(start);
                    times.insert(record.cpv.package(), Duration::from_secs(took));
                }
            }
        }
        Self(times)
    }

    /// Returns how long `cpv`, or another version of it, took.
    pub(crate) fn of(&self, cpv: &Cpv) -> Option<Duration> {
        self.0.get(&cpv.package()).copied()
    }
}

/// Returns the packages that a run has still to install, from Portage's `mtimedb` (portage(5)): its
/// `resume.mergelist` has lists of type, ROOT, CPV and operation.
pub(crate) fn parse_merge_list(mtimedb: &str) -> Vec<Cpv> {
    let Ok(database) = serde_json::from_str::<Value>(mtimedb) else { return Vec::new() };
    let list = database.pointer("/resume/mergelist").and_then(Value::as_array);
    let cpv = |package: &Value| package.get(2)?.as_str()?.parse().ok();
    list.into_iter().flatten().filter_map(cpv).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
100: Started emerge on: Nov 28, 2026 14:52:26
100:  >>> emerge (1 of 2) sys-libs/zlib-1.3 to /
100:  === (1 of 2) Compiling/Packaging (sys-libs/zlib-1.3::x)
107:  ::: completed emerge (1 of 2) sys-libs/zlib-1.3 to /
107:  >>> emerge (2 of 2) app-misc/jq-1.7.1 to /
190:  *** exiting unsuccessfully with status '1'.
200: Started emerge on: Nov 28, 2026 14:54:06
201:  >>> emerge (1 of 3) sys-libs/zlib-1.3.1 to /
205:  ::: completed emerge (1 of 3) sys-libs/zlib-1.3.1 to /
205:  >>> emerge (2 of 3) app-misc/jq-1.7.1 to /
";

    #[test]
    fn records_of_a_run() {
        let cpv = |text: &str| -> Cpv { text.parse().unwrap() };
        let run = LOG.split_once("200: Started").unwrap().1;
        let records = MergeRecord::parse_all(run);
        let record =
            |seconds, stage, position, cpv| MergeRecord { seconds, stage, position, total: 3, cpv };
        assert_eq!(
            records,
            [
                record(201, MergeStage::Begun, 1, cpv("sys-libs/zlib-1.3.1")),
                record(205, MergeStage::Completed, 1, cpv("sys-libs/zlib-1.3.1")),
                record(205, MergeStage::Begun, 2, cpv("app-misc/jq-1.7.1")),
            ]
        );
        for other in ["", "1:", "x:  >>> emerge (1 of 2) a/b-1 to /", "1: >>> emerge (1 of 2) a/b"]
        {
            assert_eq!(MergeRecord::parse(other), None, "{other}");
        }
    }

    #[test]
    fn times_of_earlier_runs() {
        let times = MergeTimes::parse(LOG);
        let of = |cpv: &str| times.of(&cpv.parse().unwrap()).map(|time| time.as_secs());
        assert_eq!(of("sys-libs/zlib-2"), Some(4), "that of the last run");
        assert_eq!(of("app-misc/jq-1.7.1"), None, "it never ended");
    }

    #[test]
    fn what_is_left() {
        let left = parse_merge_list(
            r#"{"resume": {"mergelist": [["ebuild", "/", "app-misc/jq-1.7.1", "merge"], [1]]}}"#,
        );
        assert_eq!(left, ["app-misc/jq-1.7.1".parse().unwrap()]);
        assert_eq!(parse_merge_list("{}"), []);
        assert_eq!(parse_merge_list("half {"), []);
    }
}
