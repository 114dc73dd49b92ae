//! Whoever waits for a lock is told at once whom it waits for, and can end the wait.

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::harness::World;

#[test]
fn a_wait_says_for_whom_and_can_be_ended() {
    let world = World::new();
    let definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let lock = definition.staging.join(".fprefix/lock");
    // Not a file that fprefix wrote: the kernel knows who holds it.
    let held = fs_err::File::create(&lock).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    for args in [&["emerge", "jq"][..], &["pack", "--name", "demo"]] {
        // Whoever runs the tests in the background makes them ignore ctrl-C.
        let run = world.fprefix(args).env("PATH", "/usr/bin:/bin");
        let mut run = run.through(["env", "--default-signal=INT"]).start();
        let id = std::process::id();
        let expected = format!("(process {id}), which holds {}; ", lock.display());
        let is_told = run.until(|run| run.stderr().contains(&expected));
        assert!(is_told && run.runs(), "{args:?}: {}", run.stderr());
        assert!(run.stderr().contains(&format!("`ps -fp {id}` shows it, ctrl-C ends the wait")));
        run.signal_group(Signal::INT);
        run.wait(&world).ends_with(130);
    }
    let said = world.fprefix(["remove", "demo", "--yes"]).said().ends_with(1);
    said.tells(" is at work on this prefix; wait for it to end").tells("\nhint: `ps -fp ");
}
