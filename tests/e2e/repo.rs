//! Repositories that a prefix gets, builds from, follows, and loses again.

use crate::harness::World;
use crate::prefix::{Prefix, own};
use crate::trees::{ebuild_in, repository};

/// Runs git in the checkout `dir`.
fn git(world: &World, dir: &str, args: &[&str]) -> String {
    let name = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=trunk"];
    world.run("git").args(name).args(["-C", dir]).args(args).said().succeeds().stdout
}

fn commit(world: &World) {
    git(world, "origin", &["add", "."]);
    git(world, "origin", &["commit", "-q", "-m", "x"]);
}

/// What the package of the repository left in final, and which version it is.
fn installed(prefix: &Prefix) -> (String, Vec<String>) {
    let text = fs_err::read_to_string(prefix.in_final("usr/share/followed")).unwrap();
    let (mut packages, _) = prefix.packages();
    packages.retain(|package| package.starts_with("app-misc/followed-"));
    (text, packages)
}

#[test]
fn a_checkout_that_is_added_followed_and_removed() {
    let prefix = own();
    let world = World::new();
    repository(&world, "origin", "followed", "");
    ebuild_in(&world, "origin", "first", "app-misc/followed", "1", "");
    git(&world, "origin", &["init", "-q"]);
    commit(&world);
    git(&world, ".", &["clone", "-q", "origin", "clone"]);
    let clone = world.path("clone");
    let repo = |args: &[&str]| prefix.fprefix(&["repo"]).args(args);
    let emerge = |args: &[&str]| prefix.fprefix(&["emerge"]).args(args).said();

    emerge(&["app-misc/followed"]).ends_with(1);
    repo(&["add"]).args([&clone]).said().succeeds().tells("takes ebuilds of followed from");
    emerge(&["app-misc/followed"]).succeeds();
    assert_eq!(installed(&prefix), ("first\nextra\n".into(), vec!["app-misc/followed-1".into()]));

    ebuild_in(&world, "origin", "second", "app-misc/followed", "2", "");
    world.write("origin/skel/etc/portage/package.use", "app-misc/followed::followed -extra\n");
    commit(&world);
    emerge(&["--update", "app-misc/followed"]).succeeds();
    assert_eq!(installed(&prefix).1, ["app-misc/followed-1"]);
    repo(&["sync", "followed"]).said().succeeds();
    emerge(&["--update", "app-misc/followed"]).succeeds();
    assert_eq!(installed(&prefix), ("second\n".into(), vec!["app-misc/followed-2".into()]));

    // What would not fit the prefix any more is not followed, and can be built from as before.
    let before = git(&world, "clone", &["rev-parse", "HEAD"]);
    world.write("origin/metadata/layout.conf", "masters = gone\nthin-manifests = true\n");
    commit(&world);
    let said = repo(&["sync"]).said().ends_with(1).tells("fits the prefix no more");
    said.tells("the repository followed builds upon gone now");
    assert_eq!(git(&world, "clone", &["rev-parse", "HEAD"]), before);
    emerge(&["--stage", "app-misc/followed"]).succeeds();

    let said = repo(&["remove", "followed"]).said().succeeds().tells("stays installed");
    assert_eq!(said.stdout, "app-misc/followed-2  staging\napp-misc/followed-2  final\n");
    assert_eq!(installed(&prefix).1, ["app-misc/followed-2"]);
    emerge(&["--stage", "--usepkg=n", "app-misc/followed"]).ends_with(1);
    emerge(&["--unmerge", "app-misc/followed"]).succeeds();
    assert!(!prefix.in_final("usr/share/followed").exists());
}
