//! Runs that are killed, and what the next run makes of what they left.

use std::path::Path;

use fprefix::base::publish::is_unfinished;

use super::libc_root::{on, root};
use super::pack_ddi::key;
use crate::harness::killing::{Contents, Moments, Original, mounts, number_of_kills, processes};
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::{stdout_of, stdout_of_success};
use crate::harness::wait::wait_for;
use crate::harness::{Run, World};

const EPREFIX: &str = "/usr/local/iso";

#[test]
fn what_was_left_in_a_tree_is_found_removed_and_never_packed() {
    let root = root(EPREFIX);
    stdout_of_success(on(&root, &["rewrite"]));
    let left = ["usr/bin/.fprefix-new-7-0", "usr/lib64/.fprefix-new-7-1"];
    for path in left {
        root.file(path, "half");
    }
    let text = String::from_utf8(on(&root, &["check"]).stdout).unwrap();
    assert!(text.contains(&format!("error[unfinished]: {EPREFIX}/{}", left[0])), "{text}");
    assert!(text.contains(&format!("fprefix rewrite --root {}", root.root().display())), "{text}");
    root.pack("out", &["--name", "small"]);
    let listing = stdout_of("unsquashfs", ["-l", root.beside("out/small.raw").to_str().unwrap()]);
    assert!(listing.contains("usr/bin/") && !listing.contains(".fprefix-"), "{listing}");
    stdout_of_success(on(&root, &["rewrite", "--dry-run"]));
    assert!(left.iter().all(|path| root.inside(path).exists()));
    stdout_of_success(on(&root, &["rewrite"]));
    assert!(!left.iter().any(|path| root.inside(path).exists()));
    stdout_of_success(on(&root, &["check"]));
}

/// A command that is killed.
struct Case {
    name: &'static str,
    /// True if its threads are killed as well. It starts no programs then.
    follows: bool,
    /// Makes everything that the command works on.
    make: fn(&World),
    words: &'static [&'static str],
    /// Names of files that have a content in between.
    passing: &'static [&'static str],
}

const REWRITE: &[&str] = &["rewrite", "--root", "root", "--eprefix", EPREFIX];
const PACK: &[&str] = &[
    "pack",
    "--root",
    "root",
    "--eprefix",
    "/usr/local/small",
    "--output",
    "out",
    "--version",
    "1",
    "--architecture",
    "arm64",
    "--format",
    "squashfs",
    "--format",
    "erofs",
    "--format",
    "directory",
];
const PACK_SIGNED: &[&str] = &[
    "pack",
    "--root",
    "root",
    "--eprefix",
    "/usr/local/small",
    "--output",
    "out",
    "--architecture",
    "arm64",
    "--format",
    "ddi:none",
    "--private-key",
    "own.key",
    "--certificate",
    "own.crt",
];
const IMAGE_ADD: &[&str] =
    &["image", "add", "--rootfs", "rootfs", "--certificate", "own.crt", "out/small.raw"];

const CASES: &[Case] = &[
    Case {
        name: "rewrite",
        follows: true,
        make: |world| copy(world, &root(EPREFIX)),
        words: REWRITE,
        passing: &[],
    },
    Case {
        name: "elf set",
        follows: true,
        make: |world| copy(world, &root(EPREFIX)),
        words: &["elf", "set", "--rpath", "/usr", "root/usr/local/iso/usr/bin/program"],
        passing: &[],
    },
    Case { name: "pack", follows: false, make: packed, words: PACK, passing: &[] },
    Case { name: "pack, signed", follows: false, make: with_key, words: PACK_SIGNED, passing: &[] },
    Case { name: "image add", follows: false, make: to_add, words: IMAGE_ADD, passing: &[] },
    Case {
        name: "image remove",
        follows: false,
        make: |world| {
            to_add(world);
            world.fprefix(IMAGE_ADD).said().succeeds();
        },
        words: &["image", "remove", "--rootfs", "rootfs", "small"],
        passing: &[],
    },
    Case {
        name: "repo add",
        follows: false,
        make: with_repository,
        words: &["repo", "add", "main"],
        passing: &["prefix.toml"],
    },
    Case {
        name: "repo remove",
        follows: false,
        make: |world| {
            with_repository(world);
            world.fprefix(["repo", "add", "main"]).said().succeeds();
        },
        words: &["repo", "remove", "main"],
        passing: &["prefix.toml"],
    },
    Case {
        name: "remove",
        follows: false,
        make: with_repository,
        words: &["remove", "demo", "--yes"],
        passing: &["prefix.toml"],
    },
    Case {
        name: "init",
        follows: false,
        make: |_| {},
        words: &["init", "fprefix.toml", "--name", "x"],
        passing: &[],
    },
];

fn copy(world: &World, small: &SmallRoot) {
    world.run("cp").args(["-a"]).args([small.root(), world.path("")]).said().succeeds();
}

/// A root that was packed, and has changed since.
fn packed(world: &World) {
    let small = SmallRoot::full();
    copy(world, &small);
    world.fprefix(PACK).said().succeeds();
    world.write("root/usr/local/small/usr/share/thing/data", "other data\n");
}

fn with_key(world: &World) {
    let small = SmallRoot::full();
    copy(world, &small);
    for path in key(&small, "own") {
        fs_err::copy(&path, world.path(Path::new(&path).file_name().unwrap())).unwrap();
    }
}

/// A signed extension, and an image that has an older one of that name.
fn to_add(world: &World) {
    with_key(world);
    fs_err::create_dir_all(world.path("rootfs/usr")).unwrap();
    world.fprefix(PACK_SIGNED).said().succeeds();
    world.fprefix(IMAGE_ADD).said().succeeds();
    world.write("root/usr/local/small/usr/share/thing/data", "other data\n");
    world.fprefix(PACK_SIGNED).said().succeeds();
}

fn with_repository(world: &World) {
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let wrapper = "wrappers/emerge-prefix-demo-amd64-usr";
    let text = "# Written by `fprefix setup`: emerge for the prefix demo-amd64-usr.\n\
                # prefix: /usr/local/demo\n";
    definition.wrappers = vec![world.write(wrapper, text)];
    world.define(&definition);
    world.write("main/profiles/repo_name", "main\n");
    world.write("main/metadata/layout.conf", "masters =\n");
    world.write("main/skel/etc/portage/package.use", "a/b c\n");
}

/// Everything in a world but what differs between runs that do the same.
fn state(world: &World) -> Contents {
    let is_own = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy();
        let is_of_test = ["original", "trace", "tmp"].iter().any(|own| path == world.path(own));
        // Times and inodes are in the record of a packed image, the process in a lock.
        is_of_test || name.ends_with(".packed") || name == "lock"
    };
    Contents::read(&world.path(""), is_own)
}

/// Kills `case` again and again. Returns how often that was, and how often it left something.
fn kill(case: &Case) -> (usize, usize) {
    let world = World::new();
    (case.make)(&world);
    fs_err::create_dir(world.path("tmp")).unwrap();
    let original = Original::keep(&world);
    let run = || -> Run<'_> {
        let run = world.fprefix(case.words).env("TMPDIR", world.path("tmp"));
        // One thread makes its calls in the same order each time.
        run.env("RAYON_NUM_THREADS", "1")
    };
    let before = state(&world);
    let mut moments = Moments::count(case.name, case.follows, run());
    let after = state(&world);
    assert_ne!(before, after, "{}", case.name);
    let mounted = mounts();
    let mut interrupted = 0;
    let kills = number_of_kills(4);
    for _ in 0..kills {
        original.restore(&world);
        let kill = moments.next();
        let context = format!("{}, {kill:?}", case.name);
        moments.kill(&kill, run());
        wait_for("the end of all that the run started", || processes(&world.path("")).is_empty());
        assert_eq!(mounts(), mounted, "{context}");
        let left = state(&world);
        let mut half = left.half_written(&before, &after);
        half.retain(|path| !case.passing.iter().any(|name| path.ends_with(name)));
        assert!(half.is_empty(), "{context}: half written: {half:?}");
        interrupted += usize::from(left != before && left != after);
        let again = run().said();
        // What was done to its end may be refused a second time.
        assert!(again.code() == 0 || left == after, "{context}\n{again}");
        let differences = state(&world).differences(&after);
        assert!(differences.is_empty(), "{context}: not as without a kill: {differences:?}");
        let temporary: Vec<_> =
            walkdir::WalkDir::new(world.path("tmp")).min_depth(1).into_iter().collect();
        assert!(temporary.is_empty(), "{context}: {temporary:?}");
        let hidden = walkdir::WalkDir::new(world.path("")).into_iter().map(Result::unwrap);
        let hidden: Vec<_> = hidden.filter(|entry| is_unfinished(entry.file_name())).collect();
        assert!(hidden.is_empty(), "{context}: {hidden:?}");
    }
    (kills, interrupted)
}

#[test]
fn a_run_that_was_killed_is_ended_by_the_next() {
    for case in CASES {
        let (kills, interrupted) = kill(case);
        eprintln!("{}: killed {kills} times, {interrupted} of them half-way", case.name);
    }
}
