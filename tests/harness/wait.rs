//! Waiting for what another process does: for the event, never for an amount of time.

use std::path::Path;
use std::time::{Duration, Instant};

/// Far longer than anything takes that still comes to its end.
pub(crate) const LIMIT: Duration = Duration::from_secs(1800);

/// Waits until `is_so` returns true; fails when that never comes.
#[track_caller]
pub(crate) fn wait_for(event: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "this never came: {event}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the clock of the kernel for files has ticked since the last change below `dir`: what
/// changes from then on has another time.
pub(crate) fn wait_for_a_tick_since_changes(dir: &Path) {
    let changed = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        let meta = fs_err::symlink_metadata(path).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let entries = walkdir::WalkDir::new(dir).into_iter();
    let last = entries.map(|entry| changed(entry.unwrap().path())).max().unwrap();
    // fprefix leaves this much room, as ticks differ between kernels (time(7)).
    let settled = last.0 * 1000 + last.1 / 1_000_000 + 100;
    wait_for("a tick of the kernel's clock", || {
        let probe = tempfile::NamedTempFile::new().unwrap();
        let (seconds, nanoseconds) = changed(probe.path());
        seconds * 1000 + nanoseconds / 1_000_000 > settled
    });
}
