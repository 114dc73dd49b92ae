//! What `setup` refuses, and that it does so before anything is written.

use std::ffi::OsStr;

use insta::assert_snapshot;

use crate::harness::{Said, World};

/// Runs `setup`, which has to fail and to leave the world as it was.
fn refused<S: AsRef<OsStr>>(world: &World, args: &[S]) -> Said {
    let before = world.contents();
    let given = args.iter().any(|arg| arg.as_ref() == "--wrapper-dir");
    let wrappers = if given { &[][..] } else { &["--wrapper-dir", "wrappers"] };
    let said = world.fprefix(["setup"]).args(wrappers).args(args).said();
    assert!(!said.status.success(), "{said}");
    assert_eq!(world.contents(), before, "something was written\n{said}");
    said
}

/// The transcripts of several refusals in a world where nothing is.
fn all_refused(cases: &[&[&str]]) -> String {
    let world = World::new();
    cases.iter().map(|args| refused(&world, args).transcript() + "\n").collect()
}

#[test]
fn unknown_board() {
    assert_snapshot!(all_refused(&[
        &["demo", "/usr/local/demo", "--board", "riscv-usr"],
        &["demo", "/usr/local/demo", "--board", ""],
    ]));
}

#[test]
fn names_that_cannot_be() {
    let long = "x".repeat(65);
    assert_snapshot!(all_refused(&[
        &["", "/usr/local/demo"],
        &["a b", "/usr/local/demo"],
        &["a/b", "/usr/local/demo"],
        &["..", "/usr/local/demo"],
        &["a$b", "/usr/local/demo"],
        &["a'b", "/usr/local/demo"],
        &["a\nb", "/usr/local/demo"],
        &["ä", "/usr/local/demo"],
        &["demo.raw", "/usr/local/demo"],
        &["demo.v", "/usr/local/demo"],
        &[&long, "/usr/local/demo"],
    ]));
}

#[test]
fn eprefixes_that_cannot_be() {
    let long = format!("/opt/{}", "x".repeat(200));
    assert_snapshot!(all_refused(&[
        &["demo", ""],
        &["demo", "usr/local/demo"],
        &["demo", "/"],
        &["demo", "//"],
        &["demo", "/usr"],
        &["demo", "/usr/"],
        &["demo", "/usr/local"],
        &["demo", "/opt"],
        &["demo", "/usr/local/../demo"],
        &["demo", "/proc/demo"],
        &["demo", "/tmp/demo"],
        &["demo", "/opt/a b"],
        &["demo", "/opt/a:b"],
        &["demo", "/opt/$a"],
        &["demo", "/opt/a\nb"],
        &["demo", "/opt/ü"],
        &["demo", &long],
    ]));
}

#[test]
fn names_that_are_not_text() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let name = OsStr::from_bytes(b"a\xffb");
    refused(&world, &[name, OsStr::new("/usr/local/demo")]).ends_with(2);
    // The definition is a text, so a directory has to have a name that can be in one.
    let dir = OsStr::from_bytes(b"dir\xff");
    for option in ["--staging-dir", "--final-dir", "--distdir", "--wrapper-dir"] {
        let args = ["demo", "/usr/local/demo", option].map(OsStr::new);
        let args: Vec<_> = args.iter().copied().chain([dir]).collect();
        refused(&world, &args).ends_with(1).tells("not UTF-8");
        assert!(!world.home().exists());
    }
    let home = world.path("home").join(dir);
    let said = world
        .fprefix(["setup", "--wrapper-dir", "wrappers", "demo", "/usr/local/demo"])
        .env("FPREFIX_HOME", &home)
        .said();
    said.ends_with(1).tells("not UTF-8");
    assert!(!home.exists());
}

#[test]
fn arguments_that_are_missing_or_empty() {
    assert_snapshot!(all_refused(&[
        &[],
        &["demo"],
        &["demo", "/usr/local/demo", "--staging-dir", ""],
        &["demo", "/usr/local/demo", "--final-dir", ""],
        &["demo", "/usr/local/demo", "--distdir", ""],
        &["demo", "/usr/local/demo", "--wrapper-dir", ""],
        &["demo", "/usr/local/demo", "--overlay", ""],
        &["demo", "/usr/local/demo", "--repo", ""],
        &["demo", "/usr/local/demo", "--repo", "=/x"],
        &["demo", "/usr/local/demo", "--repo", "gentoo="],
        &["demo", "/usr/local/demo", "--profile", ""],
        &["demo", "/usr/local/demo", "--use", "a$b"],
        &["demo", "/usr/local/demo", "--use", "good\n\"bad"],
    ]));
}

#[test]
fn outside_of_what_sysext_merges() {
    let world = World::new();
    let said = world
        .fprefix(["setup", "demo", "/srv/demo", "--dry-run", "--wrapper-dir", "wrappers"])
        .said()
        .succeeds();
    assert!(!world.home().exists());
    let versions = regex::Regex::new(r"-[0-9]+(\.[0-9]+)+\n").unwrap();
    assert_snapshot!(versions.replace_all(&said.transcript(), "-[VERSION]\n"));
}

#[test]
fn directories_that_are_in_use() {
    let world = World::new();
    world.write("strange/file", "something of the user");
    world.write("file", "no directory");
    let other = world.prefix("other", "amd64-usr", "/usr/local/other");
    let mut text = String::new();
    let mut add = |args: &[&OsStr]| {
        let start = ["demo", "/usr/local/demo"].map(OsStr::new);
        let args: Vec<_> = start.iter().chain(args).copied().collect();
        text += &refused(&world, &args).ends_with(1).transcript();
    };
    for option in ["--staging-dir", "--final-dir"] {
        let option = OsStr::new(option);
        add(&[option, "strange".as_ref()]);
        add(&[option, "file".as_ref()]);
        add(&[option, "file/below".as_ref()]);
        add(&[option, "none/../other".as_ref()]);
        add(&[option, other.staging.as_os_str()]);
        add(&[option, other.r#final.as_os_str()]);
    }
    add(&["--distdir".as_ref(), "file".as_ref()]);
    add(&["--wrapper-dir".as_ref(), "file".as_ref()]);
    assert_snapshot!(world.plain(text.as_bytes()));
}

#[test]
fn directories_inside_each_other() {
    let world = World::new();
    fs_err::create_dir(world.path("a")).unwrap();
    fs_err::os::unix::fs::symlink("a", world.path("link")).unwrap();
    let pairs = [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "link/b"), ("./a/../a", "a//")];
    let text: String = pairs
        .into_iter()
        .map(|(staging, r#final)| {
            let args = ["demo", "/opt/demo", "--staging-dir", staging, "--final-dir", r#final];
            refused(&world, &args).ends_with(1).transcript()
        })
        .collect();
    assert_snapshot!(text);
    // The definition of a prefix, and what all prefixes share, are no place for an environment
    // either: removing it would remove them.
    let around = world.home();
    let said = refused(&world, &["demo", "/opt/demo", "--staging-dir", around.to_str().unwrap()]);
    said.ends_with(1).tells("staging and final have to be apart");
    for dir in [world.path("home"), world.path("home/prefixes"), world.path("home/distfiles")] {
        let dir = dir.to_str().unwrap();
        let args = ["demo", "/opt/demo", "--staging-dir", dir, "--final-dir", "elsewhere"];
        refused(&world, &args).ends_with(1).tells("which belongs to more than that");
    }
}

#[test]
fn directories_that_may_not_be_written() {
    let world = World::new();
    let closed = world.path("closed");
    fs_err::create_dir(&closed).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
    fs_err::set_permissions(&closed, mode).unwrap();
    // Root may write everywhere, but for what is mounted read-only.
    let words = ["bwrap", "--dev-bind", "/", "/", "--ro-bind"];
    for option in ["--staging-dir", "--final-dir", "--distdir", "--wrapper-dir"] {
        let said = world
            .fprefix(["setup", "demo", "/usr/local/demo", option, "closed/new"])
            .args(
                (option != "--wrapper-dir").then_some(["--wrapper-dir", "w"]).into_iter().flatten(),
            )
            .through([closed.as_os_str(), closed.as_os_str(), "--".as_ref()])
            .through(words)
            .said();
        said.ends_with(1).tells("[WORLD]/closed/new cannot be written");
        assert!(!world.home().exists());
    }
}

#[test]
fn something_at_eprefix_that_is_no_directory() {
    let world = World::new();
    // Some file that every machine has where a prefix could be.
    let eprefix = std::path::Path::new("/usr/bin/env");
    let said = refused(&world, &["demo", eprefix.to_str().unwrap()]);
    said.ends_with(1).tells("error: /usr/bin/env is there and is not a directory");
    let below = eprefix.join("below");
    let said = refused(&world, &["demo", below.to_str().unwrap()]);
    said.ends_with(1).tells("error: /usr/bin/env is there and is not a directory");
}

#[test]
fn repositories_that_are_none() {
    let world = World::new();
    world.write("empty/file", "");
    world.write("bad/profiles/repo_name", "a b\n");
    world.write("one/profiles/repo_name", "same\n");
    world.write("two/profiles/repo_name", "same\n");
    world.write("ours/profiles/repo_name", "fprefix\n");
    let cases: [&[&str]; 8] = [
        &["--overlay", "none"],
        &["--overlay", "empty"],
        &["--overlay", "empty/file"],
        &["--overlay", "bad"],
        &["--repo", "other=one"],
        &["--repo", "same=one", "--overlay", "two"],
        &["--overlay", "one", "--overlay", "one"],
        &["--overlay", "ours"],
    ];
    let text: String = cases
        .into_iter()
        .map(|case| {
            let args: Vec<_> = ["demo", "/usr/local/demo"].iter().chain(case).collect();
            refused(&world, &args).ends_with(1).transcript()
        })
        .collect();
    assert_snapshot!(text);
}

#[test]
fn profiles_that_are_none() {
    let world = World::new();
    world.write("one/profiles/repo_name", "one\n");
    fs_err::create_dir_all(world.path("one/profiles/default/amd64")).unwrap();
    let text: String = ["none", "default", "/none", "../.."]
        .into_iter()
        .map(|profile| {
            let args = ["demo", "/opt/demo", "--overlay", "one", "--profile", profile];
            refused(&world, &args).ends_with(1).transcript()
        })
        .collect();
    assert_snapshot!(text);
}

/// A repository that could be the main one of a tree.
fn repository(world: &World, dir: &str, name: &str, masters: &str) {
    world.write(format!("{dir}/profiles/repo_name"), format!("{name}\n"));
    world.write(format!("{dir}/metadata/layout.conf"), format!("masters = {masters}\n"));
}

/// A profile for prefixes in it, below default/linux.
fn profile(world: &World, dir: &str, name: &str, parent: &str) {
    world.write(format!("{dir}/profiles/default/linux/{name}/parent"), parent);
}

#[test]
fn trees_that_are_none() {
    let world = World::new();
    world.write("empty/file", "");
    world.write("folder/no-repository/file", "");
    repository(&world, "alone", "alone", "stable");
    repository(&world, "bare", "bare", "");
    for dir in ["old", "third_party/stable"] {
        repository(&world, dir, "stable", "");
    }
    profile(&world, "old", "amd64/23.0/no-multilib/prefix/kernel-3.2+", "");
    world.write(
        "old/profiles/default/linux/amd64/23.0/no-multilib/prefix/kernel-3.2+/deprecated",
        "",
    );
    profile(&world, "third_party/stable", "amd64/23.0/no-multilib/prefix/kernel-3.2+", "../none\n");
    profile(&world, "third_party/stable", "amd64/17.1/prefix/kernel-3.2+", "gentoo:base\n");
    repository(&world, "third_party/overlay", "over", "stable");
    repository(&world, "circle/a", "a", "b");
    repository(&world, "circle/b", "b", "a");
    repository(&world, "twice/a", "same", "");
    repository(&world, "twice/b", "same", "");
    world.write("config/package.use", "");
    world.write("config/make.conf", "");
    world.write("strange/package.uses", "");
    world.write("wrong/profile/packages", "");
    world.write("flat/patches", "");
    world.write("named/broot.provided", "# not on this machine\nsys-devel/gnuconfig\n");
    let cases: [&[&str]; 21] = [
        &["--tree", ""],
        &["--tree", "none"],
        &["--tree", "empty"],
        &["--tree", "empty/file"],
        &["--tree", "folder"],
        &["--tree", "alone"],
        &["--tree", "circle"],
        &["--tree", "twice"],
        &["--tree", "third_party", "--overlay", "old"],
        &["--tree", "bare"],
        &["--tree", "old"],
        &["--tree", "third_party"],
        &["--tree", "third_party", "--profile", "default/linux/amd64/17.1/prefix/kernel-3.2+"],
        &["--tree", "old", "--profile", "default/linux/none"],
        &["--overlay", "alone"],
        &["--package-config", "none"],
        &["--package-config", "config"],
        &["--package-config", "strange"],
        &["--package-config", "wrong"],
        &["--package-config", "flat"],
        &["--package-config", "named"],
    ];
    let text: String = cases
        .into_iter()
        .map(|case| {
            let start = ["demo", "/usr/local/demo", "--board=amd64-usr"];
            let args: Vec<_> = start.iter().chain(case).collect();
            refused(&world, &args).transcript()
        })
        .collect();
    assert_snapshot!(text);
}

#[test]
fn a_tree_is_recognised() {
    let world = World::new();
    let third_party = "scripts/sdk_container/src/third_party";
    repository(&world, &format!("{third_party}/stable"), "stable", "");
    repository(&world, &format!("{third_party}/coreos-overlay"), "coreos-overlay", "stable");
    repository(&world, &format!("{third_party}/prefix-overlay"), "prefix", "stable");
    let skeleton = format!("{third_party}/prefix-overlay/skel/etc/portage");
    world.write(format!("{skeleton}/package.mask/coreos"), "a/b::coreos # why\nc/d::gone\n");
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let stable = format!("{third_party}/stable");
    for version in ["17.1", "23.0"] {
        profile(&world, &stable, &format!("{arch}/{version}/no-multilib/prefix/kernel-3.2+"), "");
    }
    let said = world
        .fprefix(["setup", "demo", "/usr/local/demo", "--wrapper-dir", "w", "--dry-run"])
        .args(["--tree", "scripts"])
        .said()
        .succeeds();
    let plan: Vec<&str> = said
        .stdout
        .lines()
        .filter(|line| !line.starts_with("import") && !line.starts_with("fetch"))
        .collect();
    let plan = plan.join("\n").replace(arch, "[ARCH]");
    assert_snapshot!(plan);
    assert!(!world.home().exists());
}

#[test]
fn a_prefix_that_is_there() {
    let world = World::new();
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let mut text = refused(&world, &["--board=amd64-usr", "demo", "/usr/local/demo"]).transcript();
    definition.complete = false;
    world.define(&definition);
    text += &refused(&world, &["--board=amd64-usr", "demo", "/opt/demo"]).transcript();
    assert_snapshot!(text);
}

#[test]
fn wrappers_that_are_not_ours() {
    let world = World::new();
    world.write("wrappers/emerge-prefix-demo-amd64-usr", "#!/bin/sh\necho mine\n");
    let said = refused(&world, &["--board=amd64-usr", "demo", "/usr/local/demo"]);
    assert_snapshot!(said.transcript());
}

#[test]
fn a_set_up_is_going_on() {
    let world = World::new();
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    definition.complete = false;
    world.define(&definition);
    let lock = definition.staging.join(".fprefix/lock");
    let _held = fprefix::base::lock::Lock::acquire(
        &lock,
        "fprefix setup demo",
        &fprefix::base::lock::Busy::Fail,
    );
    let said = refused(&world, &["--board=amd64-usr", "demo", "/usr/local/demo"]);
    let text = said.transcript();
    let id = std::process::id();
    let text = text.replace(&format!("(process {id})"), "(process [ID])");
    assert_snapshot!(text.replace(&format!("`ps -fp {id}`"), "`ps -fp [ID]`"));
}
