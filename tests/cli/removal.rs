//! `remove` asks, follows no link out, and leaves alone what is not ours.

use fprefix::base::lock::{Busy, Lock};
use fprefix::base::names::Environment;
use fprefix::prefix::definition::Definition;
use fprefix::prefix::layout;
use fs_err::os::unix::fs::symlink;
use insta::assert_snapshot;

use crate::harness::{Said, World, write_program};

fn world() -> (World, Definition) {
    let world = World::new();
    let definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    (world, definition)
}

/// `remove`, at a terminal at which `answer` is typed.
fn at_a_terminal(world: &World, answer: &str) -> Said {
    let command = format!("{} remove demo", env!("CARGO_BIN_EXE_fprefix"));
    let words = ["--quiet", "--return", "--command", &command, "/dev/null"];
    world.run("script").args(words).said_to(answer)
}

#[test]
fn asks() {
    let (world, definition) = world();
    let before = world.contents();
    let mut text = world.fprefix(["remove", "demo"]).said().ends_with(1).transcript();
    text += &world.fprefix(["remove", "none", "--yes"]).said().ends_with(1).transcript();
    text += &world.fprefix(["remove"]).said().ends_with(2).transcript();
    text += &world.fprefix(["remove", "--yes", "--dry-run", "demo"]).said().succeeds().transcript();
    assert_snapshot!(text);
    for answer in ["n\n", "\n", "no\n", "yesterday\n"] {
        at_a_terminal(&world, answer).ends_with(1).prints("nothing was removed");
    }
    assert_eq!(world.contents(), before);
    at_a_terminal(&world, "y\n").succeeds().prints("removed demo-amd64-usr");
    assert!(!definition.staging.exists());
}

#[test]
fn removes_all_that_is_its_own() {
    let (world, mut definition) = world();
    let wrapper = world.path("wrappers/emerge-prefix-demo-amd64-usr");
    let text = "#!/bin/sh\n# Written by `fprefix setup`: emerge for the prefix demo-amd64-usr.\n\
                # prefix: /usr/local/demo\n";
    write_program(&wrapper, text);
    definition.wrappers = vec![wrapper.clone(), world.path("wrappers/gone")];
    world.define(&definition);
    // Portage leaves directories that their owner may not write.
    let closed = definition.r#final.join("root/closed/inner");
    fs_err::create_dir_all(&closed).unwrap();
    fs_err::write(closed.join("file"), "").unwrap();
    for dir in [&closed, closed.parent().unwrap()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o500);
        fs_err::set_permissions(dir, mode).unwrap();
    }
    let said = world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
    assert_snapshot!(said.transcript());
    assert!(!wrapper.exists());
    assert!(!world.home().join("prefixes/demo-amd64-usr").exists());
    world.fprefix(["remove", "demo", "--yes"]).said().ends_with(1);
}

#[test]
fn follows_no_link_out() {
    let (world, definition) = world();
    let kept = world.write("kept/file", "of the user");
    let outside = kept.parent().unwrap();
    symlink(outside, definition.staging.join("link")).unwrap();
    symlink(outside, definition.staging.join("root/usr/local/demo/link")).unwrap();
    symlink(&kept, definition.r#final.join("file")).unwrap();
    fs_err::remove_dir_all(definition.r#final.join("root")).unwrap();
    symlink(outside, definition.r#final.join("root")).unwrap();
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
    assert_eq!(fs_err::read_to_string(&kept).unwrap(), "of the user");
    assert!(!definition.staging.exists() && !definition.r#final.exists());
}

/// Somebody put staging on another disk and left a link behind.
#[test]
fn an_environment_behind_a_link() {
    let (world, definition) = world();
    let moved = world.path("disk/staging");
    fs_err::create_dir_all(moved.parent().unwrap()).unwrap();
    fs_err::rename(&definition.staging, &moved).unwrap();
    symlink(&moved, &definition.staging).unwrap();
    let beside = world.write("disk/beside", "of the user");
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
    assert!(beside.exists());
    assert!(!moved.exists(), "what carries our marker is removed");
    assert!(!world.home().join("prefixes/demo-amd64-usr").exists());
}

#[test]
fn leaves_alone_what_does_not_carry_its_marker() {
    for environment in [Environment::Staging, Environment::Final] {
        let (world, definition) = world();
        let dir = match environment {
            Environment::Staging => &definition.staging,
            Environment::Final => &definition.r#final,
        };
        fs_err::remove_dir_all(dir.join(".fprefix")).unwrap();
        let before = world.contents();
        let said = world.fprefix(["remove", "demo", "--yes"]).said().ends_with(1);
        assert_snapshot!(format!("unmarked_{environment}"), said.transcript());
        assert_eq!(world.contents(), before);

        let other = world.prefix("other", "amd64-usr", "/opt/other").id;
        layout::mark(dir, &other, environment).unwrap();
        let before = world.contents();
        world.fprefix(["remove", "demo", "--yes"]).said().ends_with(1).tells("is left alone");
        assert_eq!(world.contents(), before);

        // Replaced by a link to something of the user's.
        fs_err::remove_dir_all(dir).unwrap();
        let kept = world.write("kept/file", "of the user");
        symlink(kept.parent().unwrap(), dir).unwrap();
        world.fprefix(["remove", "demo", "--yes"]).said().ends_with(1).tells("is left alone");
        assert!(kept.exists());
    }
}

#[test]
fn removes_what_is_left_of_a_prefix() {
    let (world, definition) = world();
    fs_err::remove_dir_all(&definition.staging).unwrap();
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
    assert!(!definition.r#final.exists());
    assert!(world.fprefix(["list", "--json"]).said().stdout == "[]\n");
}

#[test]
fn wrappers_that_became_the_users() {
    let (world, mut definition) = world();
    let ours = "#!/bin/sh\n# Written by `fprefix setup`: ebuild for the prefix demo-amd64-usr.\n";
    let cases = [
        ("mine", "#!/bin/sh\necho mine\n".to_owned()),
        ("of-another", format!("{ours}# prefix: /usr/local/demo2\n")),
        ("ours", format!("{ours}# prefix: /usr/local/demo\n")),
    ];
    definition.wrappers =
        cases.iter().map(|(name, text)| world.write(format!("wrappers/{name}"), text)).collect();
    world.define(&definition);
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
    let left = |name: &str| world.path("wrappers").join(name).exists();
    assert!(left("mine") && left("of-another") && !left("ours"));
}

#[test]
fn refuses_while_somebody_works_on_it() {
    let (world, definition) = world();
    let lock = definition.staging.join(".fprefix/lock");
    let held = Lock::acquire(&lock, "fprefix emerge app-misc/jq", &Busy::Fail).unwrap();
    let before = world.contents();
    let said = world.fprefix(["remove", "demo", "--yes"]).said().ends_with(1);
    said.tells("error: fprefix emerge app-misc/jq (process ");
    assert_eq!(world.contents(), before);
    drop(held);
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
}

/// What was half removed is no prefix that something is built into.
#[test]
fn a_removal_that_was_cut_short() {
    let (world, definition) = world();
    // What cannot be removed stands for a kill: here a mount point.
    let busy = definition.staging.join("busy");
    fs_err::create_dir(&busy).unwrap();
    let bind = ["bwrap", "--dev-bind", "/", "/", "--tmpfs"];
    let said = world
        .fprefix(["remove", "demo", "--yes"])
        .through([busy.as_os_str(), "--".as_ref()])
        .through(bind)
        .said();
    said.ends_with(1);
    insta::assert_snapshot!(world.fprefix(["emerge", "jq"]).said().ends_with(1).transcript(), @"
    $ fprefix emerge jq
    error: the set-up of demo-amd64-usr did not come to its end
    hint: run `fprefix setup demo /usr/local/demo` again, it goes on where it stopped
    [1]
    ");
    insta::assert_snapshot!(world.fprefix(["list"]).said().succeeds().transcript(), @"
    $ fprefix list
    demo-amd64-usr  /usr/local/demo  (set-up not finished)
    [0]
    ");
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
}
