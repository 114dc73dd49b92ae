//! Programs and packages that others could put in the place of those that are meant.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Run, World};

fn set_mode(path: &Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs the copy of fprefix in `world` as root, if only that of a namespace.
fn setup_as_root(world: &World) -> Run<'_> {
    let words = ["setup", "demo", "/usr/local/demo", "--wrapper-dir", "wrappers", "--dry-run"];
    let run = world.run(world.path("programs/bin/fprefix")).args(words);
    if rustix::process::geteuid().is_root() {
        return run;
    }
    let root =
        ["bwrap", "--unshare-user", "--uid", "0", "--gid", "0", "--dev-bind", "/", "/", "--"];
    run.through(root)
}

#[test]
fn root_is_given_no_wrapper_of_a_program_that_others_can_replace() {
    let world = World::new();
    let dir = world.path("programs");
    let program = dir.join("bin/fprefix");
    fs_err::create_dir_all(program.parent().unwrap()).unwrap();
    fs_err::copy(env!("CARGO_BIN_EXE_fprefix"), &program).unwrap();
    setup_as_root(&world).said().succeeds().prints("write wrappers to ");
    let before = world.contents();
    for (place, open, closed) in [(&program, 0o757, 0o755), (&dir, 0o757, 0o755)] {
        set_mode(place, open);
        let said = setup_as_root(&world).said().ends_with(1);
        let place_is_open = format!(
            "{} is writable for everybody",
            world.plain(place.as_os_str().as_encoded_bytes())
        );
        let said = said.tells("which others than root can replace: ").tells(&place_is_open);
        said.tells("hint: install the program where only root can write");
        set_mode(place, closed);
    }
    // Nobody can replace what is not their own in a directory like /tmp.
    set_mode(&dir, 0o1777);
    setup_as_root(&world).said().succeeds();
    set_mode(&dir, 0o755);
    assert_eq!(world.contents().len(), before.len(), "something was written");
}

#[test]
fn a_binhost_that_proves_nothing_is_warned_of() {
    let world = World::new();
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let warning = "are neither encrypted nor checked for a signature";
    for (binhost, features, is_warned) in [
        ("http://x.example/p", "ccache", true),
        ("ftp://x.example/p", "ccache", true),
        ("https://x.example/p", "ccache", false),
        ("/nowhere", "ccache", false),
        ("http://x.example/p", "binpkg-request-signature", false),
    ] {
        definition.binhost = Some(binhost.parse().unwrap());
        definition.features = vec![features.to_owned()];
        world.define(&definition);
        let said = world.fprefix(["emerge", "--pretend", "jq"]).said();
        assert_eq!(said.stderr.contains(warning), is_warned, "{binhost} {features}: {said}");
        // What is installed only comes from nowhere else.
        let said = world.fprefix(["emerge", "--install", "jq"]).said();
        assert!(!said.stderr.contains(warning), "{said}");
    }
    definition.binhost = Some("http://x.example/p".parse().unwrap());
    definition.features = Vec::new();
    world.define(&definition);
    let settings = "FEATURES=\"${FEATURES} binpkg-request-signature\"\n";
    world.write(definition.staging.join("etc/portage/make.conf.user"), settings);
    let said = world.fprefix(["emerge", "--pretend", "jq"]).said();
    assert!(!said.stderr.contains(warning), "{said}");
    let said =
        world.fprefix(["emerge", "--pretend", "jq"]).env("FEATURES", "-binpkg-request-signature");
    said.said().tells(warning).tells("hint: use https, or ask for signatures: FEATURES=");
}
