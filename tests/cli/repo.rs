//! The repositories of a prefix: what `repo` lists, what it writes, and what it refuses before
//! anything is written.

use std::path::PathBuf;

use fprefix::base::lock::{Busy, Lock};
use fprefix::prefix::definition::{Definition, PrefixRepo};
use insta::assert_snapshot;

use crate::harness::{Said, World, contents};

/// A world with a prefix that builds from a tree `main`, by a profile in it.
fn world() -> (World, Definition) {
    let world = World::new();
    repository(&world, "main", "main", "");
    world.write("main/eclass/own.eclass", "");
    world.write("main/profiles/default/base/make.defaults", "");
    world.write("main/profiles/default/linux/parent", "../base\n");
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    definition.profile = "/fprefix/repos/main/profiles/default/linux".into();
    definition.repos = vec![
        PrefixRepo { name: "fprefix".into(), path: None, priority: -100 },
        PrefixRepo { name: "fprefix-toolchain".into(), path: None, priority: 10_000 },
        PrefixRepo { name: "main".into(), path: Some(world.path("main")), priority: 1 },
    ];
    world.define(&definition);
    (world, definition)
}

fn repository(world: &World, dir: &str, name: &str, masters: &str) {
    world.write(format!("{dir}/profiles/repo_name"), format!("{name}\n"));
    world.write(format!("{dir}/metadata/layout.conf"), format!("masters = {masters}\n"));
}

fn repo(world: &World, args: &[&str]) -> Said {
    world.fprefix(["repo"]).args(args).said()
}

/// Runs `repo`, which has to fail and to leave the world as it was.
fn refused(world: &World, args: &[&str]) -> String {
    let before = world.contents();
    let said = repo(world, args).ends_with(1);
    assert_eq!(world.contents(), before, "something was written\n{said}");
    said.transcript()
}

/// The file `name` of etc/portage in both environments.
fn configured(definition: &Definition, name: &str) -> [Option<String>; 2] {
    [&definition.staging, &definition.r#final]
        .map(|dir| fs_err::read_to_string(dir.join("etc/portage").join(name)).ok())
}

/// All that a prefix's repositories decide: what is in etc/portage, and the definition.
fn all_configured(world: &World, definition: &Definition) -> Vec<(PathBuf, String)> {
    let home = world.home().join("prefixes").join(definition.id.to_string());
    let mut all = vec![home.join("prefix.toml")];
    for dir in [&definition.staging, &definition.r#final] {
        let files = contents(&dir.join("etc/portage")).into_iter().map(|(path, ..)| path);
        all.extend(files.filter(|path| path.is_file()));
    }
    all.into_iter().map(|path| (path.clone(), fs_err::read_to_string(path).unwrap())).collect()
}

#[test]
fn lists() {
    let (world, mut definition) = world();
    repository(&world, "more", "more", "main");
    definition.repos.push(PrefixRepo {
        name: "more".into(),
        path: Some(world.path("more")),
        priority: 2,
    });
    world.define(&definition);
    let before = world.contents();
    let said = repo(&world, &["list"]).succeeds();
    assert_snapshot!(said.transcript());
    let said = repo(&world, &["list", "--json"]).succeeds();
    assert_eq!(world.contents(), before);
    let rows: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(rows[0]["built_in"], true);
    assert_eq!(rows[2]["main"], true);
    assert_eq!(
        rows[3],
        serde_json::json!({
            "name": "more", "path": "[WORLD]/more", "built_in": false, "priority": 2,
            "masters": ["main"], "main": false,
        })
    );
}

#[test]
fn added_and_removed_again() {
    let (world, definition) = world();
    // What the toolchain's repository has is masked elsewhere.
    let toolchain = definition.staging.join("repos/fprefix-toolchain");
    world.write(toolchain.join("sys-libs/glibc/glibc-2.ebuild"), "");
    repository(&world, "first", "first", "main");
    insta::assert_snapshot!(repo(&world, &["add", "first"]).succeeds().transcript(), @"
    $ fprefix repo add first
    >>> demo-amd64-usr takes ebuilds of first from [WORLD]/first
    [0]
    ");
    for masks in configured(&definition, "package.mask/fprefix") {
        let masks = masks.unwrap();
        assert!(masks.contains("\nsys-libs/glibc\n") && !masks.contains("app-misc/jq"), "{masks}");
    }
    let before = all_configured(&world, &definition);
    // It has a package of the built-in repository, and configuration of its own.
    repository(&world, "second", "second", "first");
    world.write("second/app-misc/jq/jq-1.ebuild", "");
    world.write("second/skel/etc/portage/package.use/some", "a/b::second c\na/b::gone c\n");
    world.write("second/skel/etc/portage/patches/a/b/x.patch", "x");
    repo(&world, &["add", "second=second"]).succeeds();
    for masks in configured(&definition, "package.mask/fprefix") {
        assert!(masks.unwrap().contains("\napp-misc/jq::fprefix\n"));
    }
    let wanted = Some("a/b::second c\n".to_owned());
    assert_eq!(configured(&definition, "package.use/second-some"), [wanted.clone(), wanted]);
    assert!(configured(&definition, "patches/a/b/x.patch").iter().all(Option::is_some));
    for repos in configured(&definition, "repos.conf") {
        assert_snapshot!("repos_conf", repos.unwrap());
    }
    let status = world.fprefix(["status"]).said().succeeds();
    status.prints("second ([WORLD]/second)");
    // The same once more changes nothing.
    let after = all_configured(&world, &definition);
    insta::assert_snapshot!(repo(&world, &["add", "second"]).succeeds().transcript(), @"
    $ fprefix repo add second
    >>> demo-amd64-usr has ebuilds of second from [WORLD]/second
    [0]
    ");
    assert_eq!(all_configured(&world, &definition), after);
    repo(&world, &["remove", "second"]).succeeds();
    assert_eq!(all_configured(&world, &definition), before);
    assert!(world.path("second/app-misc/jq/jq-1.ebuild").exists());
}

#[test]
fn moved_on_disk() {
    let (world, definition) = world();
    for (name, masters) in [("first", "main"), ("second", "first")] {
        repository(&world, name, name, masters);
        repo(&world, &["add", name]).succeeds();
    }
    world.write("first/skel/etc/portage/package.use", "a/b c\n");
    let before = all_configured(&world, &definition);
    fs_err::create_dir(world.path("elsewhere")).unwrap();
    for name in ["main", "first"] {
        fs_err::rename(world.path(name), world.path("elsewhere").join(name)).unwrap();
    }
    repo(&world, &["list"]).succeeds().prints("first                  2        [WORLD]/first");
    // The first one still has its place below the main one, and the second one above it.
    repo(&world, &["add", "main=elsewhere/main"]).succeeds();
    let said = repo(&world, &["add", "elsewhere/first"]).succeeds();
    said.tells("demo-amd64-usr takes ebuilds of first from [WORLD]/elsewhere/first");
    let ranks = repo(&world, &["list"]).succeeds().stdout;
    assert_snapshot!(ranks);
    let after = all_configured(&world, &definition);
    let settings = |all: &[(PathBuf, String)]| all.get(1..).unwrap().to_vec();
    let with_skeleton = settings(&after).into_iter().filter(|(path, _)| !path.ends_with("first"));
    assert_eq!(with_skeleton.collect::<Vec<_>>(), settings(&before));
    assert!(configured(&definition, "package.use/first").iter().all(Option::is_some));
    // As long as it is where it was, another one of its name is refused.
    repository(&world, "copy", "first", "main");
    refused(&world, &["add", "copy"]);
}

#[test]
fn what_came_from_it_is_named() {
    let (world, definition) = world();
    repository(&world, "more", "more", "");
    repo(&world, &["add", "more"]).succeeds();
    for (dir, package, from) in [
        (&definition.staging, "a/b-1", "more"),
        (&definition.staging, "a/c-1", "main"),
        (&definition.r#final, "a/b-1", "more"),
    ] {
        let vdb = dir.join("root/usr/local/demo/var/db/pkg");
        world.write(vdb.join(package).join("repository"), format!("{from}\n"));
    }
    let said = repo(&world, &["remove", "more"]).succeeds().tells("stays installed");
    assert_eq!(said.stdout, "a/b-1  staging\na/b-1  final\n");
}

#[test]
fn only_one_that_was_given_may_go() {
    let world = World::new();
    let definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    repository(&world, "mine", "mine", "");
    // Portage would take eclasses from it that it does not have, and see no ebuild at all.
    for main in ["fprefix", "mine"] {
        repo(&world, &["add", "mine"]).succeeds();
        for repos in configured(&definition, "repos.conf") {
            assert!(repos.unwrap().contains(&format!("main-repo = {main}\n")));
        }
        repo(&world, &["remove", "mine"]).succeeds();
        world.write("mine/eclass/own.eclass", "");
    }
    for repos in configured(&definition, "repos.conf") {
        let repos = repos.unwrap();
        assert!(repos.contains("main-repo = fprefix\n") && !repos.contains("mine"), "{repos}");
    }
}

#[test]
fn refuses_to_add() {
    let (world, _) = world();
    world.write("empty/file", "");
    repository(&world, "same", "main", "");
    repository(&world, "ours", "fprefix", "");
    repository(&world, "orphan", "orphan", "nobody");
    repository(&world, "bad", "bad", "");
    world.write("bad/skel/etc/portage/package.use", b"\xff\n");
    let cases =
        ["", "none", "empty", "empty/file", "same", "ours", "orphan", "other=orphan", "bad"];
    let text: String = cases.into_iter().map(|case| refused(&world, &["add", case])).collect();
    assert_snapshot!(text);
}

#[test]
fn refuses_to_remove() {
    let (world, definition) = world();
    for (name, masters) in [("first", ""), ("second", "first")] {
        repository(&world, name, name, masters);
        repo(&world, &["add", name]).succeeds();
    }
    let mut text = String::new();
    for name in ["none", "fprefix", "fprefix-toolchain", "main", "first"] {
        text += &refused(&world, &["remove", name]);
    }
    // The main one, although the profile is another's.
    let mut other = definition.clone();
    other.profile = "/fprefix/staging/profiles/portage/amd64".into();
    let file = world.home().join("prefixes/demo-amd64-usr/prefix.toml");
    let now: Definition = toml::from_str(&fs_err::read_to_string(file).unwrap()).unwrap();
    other.repos = now.repos;
    world.define(&other);
    text += &refused(&world, &["remove", "main"]);
    // Its profile builds upon one of another.
    world.write("main/profiles/default/linux/parent", "second:special\n");
    world.write("second/profiles/special/make.defaults", "");
    other.profile = definition.profile;
    world.define(&other);
    text += &refused(&world, &["remove", "second"]);
    assert_snapshot!(text);
}

#[test]
fn what_was_cut_short_is_ended() {
    let (world, mut definition) = world();
    repository(&world, "more", "more", "");
    world.write("more/skel/etc/portage/package.use", "a/b c\n");
    let begun = |definition: &mut Definition, is_added: bool| {
        let mut with = definition.repos.clone();
        with.retain(|repo| repo.name != "more");
        let without = with.clone();
        with.push(PrefixRepo { name: "more".into(), path: Some(world.path("more")), priority: 2 });
        let (now, before) = if is_added { (with, without) } else { (without, with) };
        definition.repos = now;
        definition.repos_before = Some(before);
        world.define(definition);
    };
    begun(&mut definition, true);
    let said = world.fprefix(["emerge", "jq"]).said().ends_with(1);
    said.tells("a change of the repositories of demo-amd64-usr did not come to its end");
    repo(&world, &["add", "more"]).succeeds();
    let added = all_configured(&world, &definition);
    assert!(configured(&definition, "package.use/more").iter().all(Option::is_some));
    assert!(!added[0].1.contains("repos_before"), "{}", added[0].1);
    begun(&mut definition, false);
    repo(&world, &["remove", "more"]).succeeds();
    assert!(configured(&definition, "package.use/more").iter().all(Option::is_none));
    // Another command ends it as well.
    begun(&mut definition, true);
    insta::assert_snapshot!(repo(&world, &["sync"]).succeeds().transcript(), @"
    $ fprefix repo sync
    >>> main at [WORLD]/main is no git checkout; whatever brought it there brings it up to date, and the next build takes it as it is
    >>> more at [WORLD]/more is no git checkout; whatever brought it there brings it up to date, and the next build takes it as it is
    [0]
    ");
    assert_eq!(all_configured(&world, &definition), added);
}

#[test]
fn waits_for_nobody() {
    let (world, definition) = world();
    repository(&world, "more", "more", "");
    let lock = definition.staging.join(".fprefix/lock");
    let _held = Lock::acquire(&lock, "fprefix emerge jq", &Busy::Fail).unwrap();
    for args in [&["add", "more"][..], &["sync"]] {
        let said = refused(&world, args);
        assert!(said.contains("fprefix emerge jq (process "), "{said}");
    }
    repo(&world, &["list"]).succeeds();
}

/// Runs git in the directory `dir` of a world.
fn git(world: &World, dir: &str, args: &[&str]) -> String {
    let name = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "init.defaultBranch=trunk"];
    world.run("git").args(name).args(["-C", dir]).args(args).said().succeeds().stdout
}

fn commit(world: &World, dir: &str) {
    git(world, dir, &["add", "."]);
    git(world, dir, &["commit", "-q", "-m", "x"]);
}

/// A world with a prefix that builds from two repositories in one checkout, `clone` of `origin`.
fn world_with_checkout() -> (World, Definition) {
    let (world, mut definition) = world();
    fs_err::create_dir(world.path("origin")).unwrap();
    git(&world, "origin", &["init", "-q"]);
    fs_err::rename(world.path("main"), world.path("origin/main")).unwrap();
    repository(&world, "origin/more", "more", "main");
    commit(&world, "origin");
    git(&world, ".", &["clone", "-q", "origin", "clone"]);
    definition.repos.truncate(2);
    for (name, priority) in [("main", 1), ("more", 2)] {
        let path = Some(world.path("clone").join(name));
        definition.repos.push(PrefixRepo { name: name.into(), path, priority });
    }
    world.define(&definition);
    (world, definition)
}

#[test]
fn a_checkout_is_pulled() {
    let (world, definition) = world_with_checkout();
    repo(&world, &["sync"]).succeeds().tells("main, more: up to date");
    world.write("origin/more/app-misc/jq/jq-1.ebuild", "");
    world.write("origin/more/skel/etc/portage/package.use", "a/b c\n");
    commit(&world, "origin");
    // What git does not know stays.
    world.write("clone/main/metadata/md5-cache/a/b-1", "");
    repo(&world, &["sync", "more"]).succeeds().tells(" now\n");
    assert!(world.path("clone/main/metadata/md5-cache/a/b-1").exists());
    for masks in configured(&definition, "package.mask/fprefix") {
        assert!(masks.unwrap().contains("\napp-misc/jq::fprefix\n"));
    }
    assert!(configured(&definition, "package.use/more").iter().all(Option::is_some));
    fs_err::remove_dir_all(world.path("origin/more/skel")).unwrap();
    commit(&world, "origin");
    repo(&world, &["sync"]).succeeds();
    assert!(configured(&definition, "package.use/more").iter().all(Option::is_none));
}

#[test]
fn a_checkout_that_would_not_fit_goes_back() {
    let (world, _) = world_with_checkout();
    let before = git(&world, "clone", &["rev-parse", "HEAD"]);
    fs_err::remove_dir_all(world.path("origin/main/profiles/default/base")).unwrap();
    commit(&world, "origin");
    let said = repo(&world, &["sync"]).ends_with(1).tells("fits the prefix no more");
    said.tells("builds upon ../base");
    assert_eq!(git(&world, "clone", &["rev-parse", "HEAD"]), before);
    assert!(world.path("clone/main/profiles/default/base/make.defaults").exists());
}

#[test]
fn refuses_to_sync() {
    let (world, mut definition) = world_with_checkout();
    repository(&world, "plain", "plain", "");
    definition.repos.push(PrefixRepo {
        name: "plain".into(),
        path: Some(world.path("plain")),
        priority: 3,
    });
    world.define(&definition);
    let mut text = String::new();
    for name in ["none", "fprefix", "plain"] {
        text += &refused(&world, &["sync", name]);
    }
    let layout = "clone/main/metadata/layout.conf";
    let was = fs_err::read_to_string(world.path(layout)).unwrap();
    world.write(layout, "masters =\n# mine\n");
    text += &refused(&world, &["sync"]);
    world.write(layout, was);
    git(&world, "clone", &["checkout", "-q", "--detach"]);
    text += &refused(&world, &["sync"]);
    git(&world, "clone", &["checkout", "-q", "-b", "mine"]);
    text += &refused(&world, &["sync"]);
    assert_snapshot!(text);
    // Both sides have commits: nobody but the owner says which.
    git(&world, "clone", &["checkout", "-q", "trunk"]);
    for side in ["origin", "clone"] {
        world.write(format!("{side}/{side}"), "");
        commit(&world, side);
    }
    let before = git(&world, "clone", &["rev-parse", "HEAD"]);
    repo(&world, &["sync"]).ends_with(1).tells("could not bring [WORLD]/clone up to date");
    assert_eq!(git(&world, "clone", &["rev-parse", "HEAD"]), before);
}
