//! ctrl-C and SIGKILL, at several moments: the same command again goes on or starts clean.

use rustix::process::Signal;

use crate::harness::wait::wait_for;
use crate::harness::{Running, World};
use crate::prefix::{Prefix, contents_are_true, lend_portage, mounts, own, processes, vdb};
use crate::slow::Stop;

/// A run begun in the background of a shell has ctrl-C ignored, and so has all that it starts: a test
/// that sends it must not depend on who began it.
const HEARS_INTERRUPTS: [&str; 2] = ["env", "--default-signal=INT"];

/// How a run is ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// ctrl-C at a terminal.
    Interrupt,
    /// Of fprefix alone, as `systemctl stop` or `timeout` does it.
    Terminate,
    /// Of fprefix alone, which can do nothing any more.
    Kill,
}

impl End {
    fn send(self, run: &Running) {
        match self {
            Self::Interrupt => run.signal_group(Signal::INT),
            Self::Terminate => run.signal(Signal::TERM),
            Self::Kill => run.signal(Signal::KILL),
        }
    }
}

/// Nothing of a run that was ended is left: no process and nothing mounted.
#[track_caller]
fn nothing_is_left(dir: &std::path::Path, mounts_before: &str) {
    wait_for("the end of all that the run started", || processes(dir).is_empty());
    assert_eq!(mounts(), mounts_before);
}

/// No package is recorded in part.
#[track_caller]
fn nothing_is_half_merged(prefix: &Prefix) {
    for dir in [&prefix.r#final, &prefix.staging] {
        for package in fprefix::portage::vdb::packages(&vdb(dir)).unwrap() {
            assert!(
                vdb(dir).join(package.to_string()).join("CONTENTS").exists(),
                "{package} has no CONTENTS"
            );
        }
        contents_are_true(&prefix.world, dir);
    }
}

#[test]
fn emerge() {
    let prefix = own();
    let into_final = "/fprefix/final/root";
    let before = mounts();
    for (moment, root, end) in [
        ("compile", "/", End::Interrupt),
        ("compile", "/", End::Terminate),
        ("compile", "/", End::Kill),
        ("preinst", into_final, End::Kill),
        ("postinst", "/", End::Kill),
        ("postinst", into_final, End::Interrupt),
    ] {
        eprintln!("{end:?} in {moment} of {root}");
        let stop = Stop::new(&prefix, moment, root);
        let slow = prefix.fprefix(&["emerge", "--oneshot", "test-cases/slow"]);
        let mut run = slow.through(HEARS_INTERRUPTS).start();
        assert!(run.until(|_| stop.is_reached()), "{}", run.wait(&prefix.world));
        // Nobody lets the build go on: it ends because fprefix does.
        end.send(&run);
        let said = run.wait(&prefix.world);
        let code = said.code();
        match end {
            End::Interrupt => assert_eq!(code, 130, "{said}"),
            End::Terminate => assert_eq!(code, 143, "{said}"),
            End::Kill => assert_eq!(code, 137, "{said}"),
        }
        nothing_is_left(&prefix.staging, &before);
        nothing_is_half_merged(&prefix);
    }
    prefix.fprefix(&["emerge", "--oneshot", "test-cases/slow"]).said().succeeds();
    nothing_is_half_merged(&prefix);
    for list in [prefix.packages().0, prefix.packages().1] {
        assert!(list.iter().any(|package| package == "test-cases/slow-1"), "{list:?}");
    }
    for dir in [&prefix.r#final, &prefix.staging] {
        let left = fs_err::read_dir(vdb(dir).join("test-cases")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        let merging = left.iter().any(|name| name.to_string_lossy().starts_with('-'));
        assert!(!merging, "{left:?}");
    }
    prefix.fprefix(&["check"]).said().succeeds();
}

/// Things that steps of a set-up make one after the other.
#[derive(Clone, Copy, Debug)]
enum Made {
    /// A part of the toolchain among the sources.
    Distfile,
    /// A package in this environment.
    Package(&'static str),
}

impl Made {
    /// Counts the prefixes in the home directory `home`.
    fn count(self, home: &std::path::Path) -> usize {
        let dir = match self {
            Self::Distfile => home.join("distfiles"),
            Self::Package(environment) => {
                let Some(prefix) = only_prefix(home) else { return 0 };
                prefix.join(environment).join("root/opt/fprefix-test/demo/var/db/pkg")
            }
        };
        let depth = if matches!(self, Self::Distfile) { 1 } else { 2 };
        let entries = walkdir::WalkDir::new(dir).min_depth(depth).max_depth(depth).into_iter();
        // What Portage is recording has a - in front. It may go while it is looked at.
        let entries = entries.filter_map(Result::ok);
        entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"-")).count()
    }
}

/// The directory of the one prefix in the home directory `home`, if it is there yet.
fn only_prefix(home: &std::path::Path) -> Option<std::path::PathBuf> {
    Some(home.join("prefixes").read_dir().ok()?.next()?.ok()?.path())
}

/// A set-up that is ended again and again goes on where it was, and is whole in the end.
#[test]
fn setup() {
    let world = World::new();
    lend_portage(&world);
    let before = mounts();
    let setup = |force: bool| {
        let args = ["setup", "demo", "/opt/fprefix-test/demo", "--wrapper-dir", "wrappers"];
        world.fprefix(args).args(force.then_some("--force")).through(HEARS_INTERRUPTS)
    };
    let home = world.home();
    for (moment, end, made) in [
        ("importing the toolchain", End::Kill, Made::Distfile),
        ("installing the toolchain's packages", End::Kill, Made::Package("staging")),
        ("installing the toolchain's packages", End::Interrupt, Made::Package("staging")),
        ("installing the runtime", End::Terminate, Made::Package("final")),
    ] {
        eprintln!("{end:?} while {moment}");
        let begun = made.count(&home);
        let mut run = setup(false).start();
        assert!(run.until(|run| run.stderr().contains(moment)), "{}", run.wait(&world));
        // Into the midst of the step.
        assert!(run.until(|_| made.count(&home) > begun), "{}", run.wait(&world));
        end.send(&run);
        let said = run.wait(&world);
        assert!(!said.status.success(), "{said}");
        nothing_is_left(&home, &before);
        world.fprefix(["list"]).said().succeeds().prints("(set-up not finished)");
        let said = world.fprefix(["emerge", "jq"]).said().ends_with(1);
        said.tells("did not come to its end")
            .tells("hint: run `fprefix setup demo /opt/fprefix-test/demo` again");
    }
    setup(false).said().succeeds();
    assert!(!world.fprefix(["list"]).said().stdout.contains("not finished"));
    whole(&world);

    // Two at once: the second refuses, and changes nothing.
    let mut first = setup(true).start();
    assert!(first.until(|run| run.stderr().contains("importing")), "{}", first.wait(&world));
    let holder = format!("fprefix setup demo (process {}) is at work on this prefix", first.id());
    setup(false).said().ends_with(1).tells(&holder);
    setup(true).said().ends_with(1).tells(&holder);
    first.wait(&world).succeeds();
    whole(&world);
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
    assert_eq!(fs_err::read_dir(world.path("wrappers")).unwrap().count(), 0);
    assert_eq!(fs_err::read_dir(home.join("prefixes")).unwrap().count(), 0);
    // Nothing that was being written when a run ended is left among what prefixes share.
    let left: Vec<_> = fs_err::read_dir(home.join("distfiles"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The prefix demo has all that a prefix starts with, and its database is true.
#[track_caller]
fn whole(world: &World) {
    let dir = only_prefix(&world.home()).unwrap();
    for environment in ["staging", "final"] {
        let root = dir.join(environment).join("root/opt/fprefix-test/demo");
        let packages = fprefix::portage::vdb::packages(&root.join("var/db/pkg")).unwrap();
        let has = |name: &str| packages.iter().any(|package| package.to_string().starts_with(name));
        assert!(has("sys-libs/glibc-") && has("prefix/prefix-final-"), "{packages:?}");
        for package in packages {
            let contents = root.join("var/db/pkg").join(package.to_string()).join("CONTENTS");
            assert!(contents.exists(), "{package} is recorded in part");
        }
    }
    world.fprefix(["check"]).said().succeeds();
}
