//! Machines that lack something: a clear error with the remedy, before anything is written.

use std::ffi::OsString;

use insta::assert_snapshot;

use crate::harness::World;
use crate::harness::hidden::{without, without_programs};

/// Tries a set-up on a machine that is entered by the words that `machine` makes.
fn refused_on(machine: impl Fn(&World) -> Vec<OsString>) -> String {
    let world = World::new();
    let said = world
        .fprefix(["setup", "demo", "/usr/local/demo", "--board", native()])
        .args(["--staging-dir", "s", "--final-dir", "f", "--wrapper-dir", "w"])
        .through(machine(&world))
        .said()
        .ends_with(1);
    for name in ["home", "s", "f", "w", "user"] {
        assert!(!world.path(name).exists(), "{name} was written\n{said}");
    }
    said.stderr
}

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" }
}

#[test]
fn no_bubblewrap() {
    // The namespace is made by unshare, since bwrap cannot hide itself.
    let world = World::new();
    let said = world
        .fprefix(["setup", "demo", "/usr/local/demo", "--wrapper-dir", "w"])
        .through(without_programs(&world, |name| name == "bwrap"))
        .said()
        .ends_with(1);
    assert!(!world.home().exists());
    assert_snapshot!(said.stderr);
}

#[test]
fn no_compiler() {
    let machine = |world: &World| {
        without_programs(world, |name| {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-');
            stem == "gcc" || stem.ends_with("-gcc")
        })
    };
    let text = refused_on(machine);
    assert_snapshot!(text.replace(native(), "[BOARD]").replace(std::env::consts::ARCH, "[ARCH]"));
}

#[test]
fn no_scanelf() {
    assert_snapshot!(refused_on(|world| without_programs(world, |name| name == "scanelf")));
}

#[test]
fn no_python() {
    assert_snapshot!(
        refused_on(|world| without_programs(world, |name| name.starts_with("python")))
    );
}

#[test]
fn no_make() {
    assert_snapshot!(refused_on(|world| without_programs(world, |name| name == "make")));
}

#[test]
fn no_bash() {
    assert_snapshot!(refused_on(|world| without_programs(world, |name| name == "bash")));
}

#[test]
fn no_module_to_keep_portage_with() {
    let world = World::new();
    let found = world
        .run("/usr/bin/python3")
        .args(["-c", "import ensurepip; print(ensurepip.__path__[0])"])
        .said()
        .succeeds();
    let module = found.stdout.trim_end();
    let text = refused_on(|world| without(world, &[module.into()]));
    assert!(text.starts_with("error: cannot use /usr/bin/python3, which keeps Portage"), "{text}");
    assert!(text.contains("No module named 'ensurepip'"), "{text}");
    assert!(
        text.ends_with("hint: install it with `fprefix doctor --install --for setup`\n"),
        "{text}"
    );
}

/// The words that start a program for an ordinary user who may have so many namespaces in all. The
/// limit counts for the user who set it, and those below.
fn with_namespaces(count: u32) -> Vec<OsString> {
    let script = format!(
        "echo {} > /proc/sys/user/max_user_namespaces && \
         exec unshare --user --map-user=1000 --map-group=1000 -- \"$@\"",
        count + 1
    );
    let words = ["unshare", "--user", "--map-root-user", "--", "sh", "-ec", &script, "sh"];
    words.map(OsString::from).into()
}

#[test]
fn namespaces_in_namespaces_are_forbidden() {
    let world = World::new();
    let doctor = |count| world.fprefix(["doctor"]).through(with_namespaces(count)).said();
    let forbids = "this machine forbids namespaces in namespaces";
    assert!(doctor(1).stderr.contains(forbids));
    assert!(!doctor(9).stderr.contains(forbids));
}

#[test]
fn namespaces_are_forbidden() {
    let text = refused_on(|_| with_namespaces(0));
    assert!(text.starts_with("error: namespaces are forbidden here."), "{text}");
    assert!(text.contains("user.max_user_namespaces"), "{text}");
}
