//! ctrl-C and SIGKILL, at several moments: the same command again goes on or starts clean.

use rustix::process::Signal;

use crate::harness::{Running, World};
use crate::prefix::{Prefix, contents_are_true, lend_portage, mounts, processes, shared, vdb};

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
    let begun = std::time::Instant::now();
    while !processes(dir).is_empty() {
        assert!(begun.elapsed().as_secs() < 60, "{:#?}", processes(dir));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
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
    let prefix = shared();
    let (phase, begun) =
        (prefix.distfiles().join("slow-phase"), prefix.distfiles().join("slow-begun"));
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
        fs_err::write(&phase, format!("{moment} {root}\n")).unwrap();
        let _ = fs_err::remove_file(&begun);
        let slow = prefix.fprefix(&["emerge", "--oneshot", "test-cases/slow"]);
        let mut run = slow.through(HEARS_INTERRUPTS).start();
        assert!(run.until(|_| begun.exists()), "{}", run.wait(&prefix.world));
        let sent = std::time::Instant::now();
        end.send(&run);
        let said = run.wait(&prefix.world);
        let took = sent.elapsed().as_secs();
        assert!(took < 60, "it took {took} s to end\n{said}");
        let code = said.code();
        match end {
            End::Interrupt => assert_eq!(code, 130, "{said}"),
            End::Terminate => assert_eq!(code, 143, "{said}"),
            End::Kill => assert_eq!(code, 137, "{said}"),
        }
        nothing_is_left(&prefix.staging, &before);
        nothing_is_half_merged(&prefix);
        fs_err::remove_file(&phase).unwrap();
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
    for (moment, end) in [
        ("importing the toolchain", End::Kill),
        ("installing the toolchain's packages", End::Kill),
        ("installing the toolchain's packages", End::Interrupt),
        ("installing the runtime", End::Terminate),
    ] {
        eprintln!("{end:?} while {moment}");
        let mut run = setup(false).start();
        assert!(run.until(|run| run.stderr().contains(moment)), "{}", run.wait(&world));
        // Into the midst of the step.
        std::thread::sleep(std::time::Duration::from_millis(700));
        end.send(&run);
        let said = run.wait(&world);
        assert!(!said.status.success(), "{said}");
        nothing_is_left(&home, &before);
        world.fprefix(["list"]).said().succeeds().prints("(set-up not finished)");
        let said = world.fprefix(["emerge", "jq"]).said().ends_with(1);
        said.tells(
            "did not come to its end; run `fprefix setup demo /opt/fprefix-test/demo` again",
        );
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
    let dir = world.home().join("prefixes").read_dir().unwrap().next().unwrap().unwrap().path();
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
