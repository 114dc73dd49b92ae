//! SIGKILL at system calls of all kinds, in commands that build: the next run ends what was begun,
//! and what ships is the same as without a kill. tests/cli/killed.rs has those that do not build.

use std::path::Path;

use fprefix::base::publish::is_unfinished;

use crate::harness::killing::{Contents, Kill, Moments, mounts, number_of_kills, processes};
use crate::harness::wait::wait_for;
use crate::harness::{Run, Said, World};
use crate::prefix::{Prefix, lend_portage, overlay, own};

/// A command that is killed, in its world.
struct Killed<'w> {
    name: &'static str,
    world: &'w World,
    moments: Moments,
    mounted: String,
}

impl<'w> Killed<'w> {
    /// Counts the calls of `run`, which has to succeed.
    fn count(name: &'static str, world: &'w World, run: Run<'w>) -> Self {
        fs_err::create_dir_all(world.path("tmp")).unwrap();
        let mounted = mounts();
        Self { name, world, moments: Moments::count(name, false, of(world, run)), mounted }
    }

    /// Kills `run` at the next moment, and waits for the end of all that it started.
    fn kill(&mut self, run: Run<'w>) -> (Kill, Said) {
        let kill = self.moments.next();
        let said = self.moments.kill(&kill, of(self.world, run));
        let dir = self.world.path("");
        wait_for("the end of all that the run started", || processes(&dir).is_empty());
        assert_eq!(mounts(), self.mounted, "{}, {kill:?}", self.name);
        (kill, said)
    }

    /// Runs `run` to its end, which has to leave nothing of the run that was killed.
    #[track_caller]
    fn finish(&self, kill: &Kill, run: Run<'w>) {
        let said = of(self.world, run).said();
        assert_eq!(said.code(), 0, "{}, {kill:?}\n{said}", self.name);
        self.nothing_is_left(kill);
    }

    #[track_caller]
    fn nothing_is_left(&self, kill: &Kill) {
        let left = walkdir::WalkDir::new(self.world.path("tmp")).min_depth(1).into_iter();
        let left: Vec<_> = left.map(Result::unwrap).collect();
        assert!(left.is_empty(), "{}, {kill:?}: {left:?}", self.name);
        // In the places where Portage works, it cleans up by itself.
        let entries = walkdir::WalkDir::new(self.world.path("")).into_iter();
        let entries = entries.filter_entry(|entry| entry.file_name() != "portage");
        let left: Vec<_> = entries
            .map(Result::unwrap)
            .filter(|entry| is_unfinished(entry.file_name()))
            .map(walkdir::DirEntry::into_path)
            .collect();
        assert!(left.is_empty(), "{}, {kill:?}: {left:?}", self.name);
    }
}

fn of<'w>(world: &World, run: Run<'w>) -> Run<'w> {
    run.env("TMPDIR", world.path("tmp"))
}

/// Returns the files that ship, without Portage's database and caches, which have times in them.
fn shipped(r#final: &Path) -> Contents {
    let is_own =
        |path: &Path| ["var/db", "var/cache", "var/lib"].iter().any(|own| path.ends_with(own));
    Contents::read(&r#final.join("root"), is_own)
}

fn emerge(prefix: &Prefix) -> Run<'_> {
    prefix.fprefix(&["emerge", "--oneshot", "test-cases/small"])
}

#[test]
fn emerge_goes_on() {
    let prefix = own();
    emerge(&prefix).said().succeeds();
    let mut killed = Killed::count("emerge", &prefix.world, emerge(&prefix));
    let (files, packages) = (shipped(&prefix.r#final), prefix.packages());
    for _ in 0..number_of_kills(3) {
        let (kill, _) = killed.kill(emerge(&prefix));
        eprintln!("{kill:?}");
        killed.finish(&kill, emerge(&prefix));
        let differences = shipped(&prefix.r#final).differences(&files);
        assert!(differences.is_empty(), "{kill:?}: {differences:?}");
        assert_eq!(prefix.packages(), packages, "{kill:?}");
        prefix.fprefix(&["check"]).said().succeeds();
    }
}

/// Kills a set-up again and again, each of which goes on from where the one before was killed.
#[test]
fn setup_goes_on() {
    let world = World::new();
    lend_portage(&world);
    let args = ["setup", "demo", "/opt/fprefix-test/demo", "--wrapper-dir", "wrappers"];
    let setup = |force: bool| world.fprefix(args).args(force.then_some("--force"));
    let mut killed = Killed::count("setup", &world, setup(false));
    let r#final = world.home().join("prefixes").read_dir().unwrap().next().unwrap().unwrap().path();
    let r#final = r#final.join("final");
    let whole = shipped(&r#final);
    let mut force = true;
    for _ in 0..number_of_kills(3) {
        let (kill, said) = killed.kill(setup(force));
        eprintln!("{kill:?}");
        // It may have come to its end before the moment.
        force = said.code() == 0;
        if force {
            killed.nothing_is_left(&kill);
        } else {
            let said = world.fprefix(["emerge", "jq"]).said();
            assert_eq!(said.code(), 1, "a prefix that is not whole was used: {kill:?}\n{said}");
        }
    }
    let last = killed.moments.next();
    let code = of(&world, setup(false)).said().code();
    assert!(code == 0 || force, "{code}");
    killed.nothing_is_left(&last);
    let differences = shipped(&r#final).differences(&whole);
    assert!(differences.is_empty(), "{differences:?}");
    world.fprefix(["check"]).said().succeeds();
}

#[test]
fn build_goes_on() {
    let world = World::new();
    lend_portage(&world);
    overlay(&world);
    world.write(
        "fprefix.toml",
        "[prefix]\nname = \"line\"\neprefix = \"/usr/local/fprefix-line\"\n\
         wrapper-dir = \"wrappers\"\n[trees]\noverlays = [\"overlay\"]\n\
         [pack]\noutput = \"out\"\n[emerge]\npackages = [\"test-cases/small\"]\n",
    );
    world.fprefix(["build"]).said().succeeds();
    let out = world.path("out");
    // The record has times in it; the manifest says how much is left out of Portage's own files.
    let is_record = |path: &Path| {
        [".packed", "_manifest.json"].iter().any(|end| path.to_string_lossy().ends_with(end))
    };
    let whole = Contents::read(&out, is_record);
    fs_err::remove_dir_all(&out).unwrap();
    let mut killed = Killed::count("build", &world, world.fprefix(["build"]));
    let same = |kill: Option<&Kill>| {
        let differences = Contents::read(&out, is_record).differences(&whole);
        assert!(differences.is_empty(), "{kill:?}: {differences:?}");
    };
    same(None);
    for _ in 0..number_of_kills(3) {
        fs_err::remove_dir_all(&out).unwrap();
        let (kill, _) = killed.kill(world.fprefix(["build"]));
        eprintln!("{kill:?}");
        if out.exists() {
            let left = Contents::read(&out, is_record);
            let half = left.half_written(&whole, &whole);
            assert!(half.is_empty(), "{kill:?}: {half:?}");
        }
        killed.finish(&kill, world.fprefix(["build"]));
        same(Some(&kill));
    }
}

#[test]
fn image_build_goes_on() {
    let prefix = own();
    let world = &prefix.world;
    let rootfs = world.path("os/rootfs");
    let os = || {
        fprefix::base::files::remove(&world.path("os")).unwrap();
        world.write("os/rootfs/usr/lib/os-release", "ID=flatcar\nVERSION=4000.1.0\n");
    };
    let words = ["image", "build", "--rootfs", "os/rootfs", "--output", "os/out", "--sysexts"];
    let build = || world.fprefix(words).args(["small|test-cases/small"]);
    let everything = |_: &Path| false;
    os();
    let mut killed = Killed::count("image build", world, build());
    let whole = Contents::read(&rootfs, everything);
    for _ in 0..number_of_kills(2) {
        os();
        let before = Contents::read(&rootfs, everything);
        let (kill, _) = killed.kill(build());
        eprintln!("{kill:?}");
        let half = Contents::read(&rootfs, everything).half_written(&before, &whole);
        assert!(half.is_empty(), "{kill:?}: {half:?}");
        killed.finish(&kill, build());
        let differences = Contents::read(&rootfs, everything).differences(&whole);
        assert!(differences.is_empty(), "{kill:?}: {differences:?}");
    }
}
