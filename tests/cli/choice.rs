//! Which prefix is meant, and what `list` and `status` say of it.

use insta::assert_snapshot;

use crate::harness::World;

/// What `status` says first is the prefix that was chosen.
fn chosen(world: &World, args: &[&str]) -> String {
    let said = world.fprefix(args).args(["status"]).said().succeeds();
    said.stdout.lines().next().unwrap().to_owned()
}

#[test]
fn none_is_there() {
    let world = World::new();
    let mut text = String::new();
    for args in [&["list"][..], &["status"], &["-P", "demo", "status"], &["emerge", "jq"]] {
        text += &world.fprefix(args).said().transcript();
    }
    assert_snapshot!(text);
    assert!(!world.home().exists());
}

#[test]
fn the_only_one_needs_no_name() {
    let world = World::new();
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    assert_eq!(chosen(&world, &[]), "demo-amd64-usr");
    assert_eq!(chosen(&world, &["-P", "demo"]), "demo-amd64-usr");
    assert_eq!(chosen(&world, &["--prefix=demo-amd64-usr"]), "demo-amd64-usr");
    // A variable that is empty says nothing.
    let said = world.fprefix(["status"]).env("FPREFIX", "").said();
    said.succeeds().prints("demo-amd64-usr");
    world.fprefix(["status"]).env("FPREFIX", "none").said().ends_with(1);
}

#[test]
fn several() {
    let world = World::new();
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    world.prefix("demo", "arm64-usr", "/usr/local/demo");
    world.prefix("other", "amd64-usr", "/opt/other");
    assert_eq!(chosen(&world, &["-P", "other"]), "other-amd64-usr");
    assert_eq!(chosen(&world, &["-P", "demo-arm64-usr"]), "demo-arm64-usr");
    let said = world.fprefix(["status"]).env("FPREFIX", "other").said();
    said.succeeds().prints("other-amd64-usr");
    // What is given on the command line wins.
    let said = world.fprefix(["status", "-P", "demo-amd64-usr"]).env("FPREFIX", "other").said();
    said.succeeds().prints("demo-amd64-usr");
    let mut text = String::new();
    for args in [&["status"][..], &["-P", "demo", "status"], &["-P", "none", "status"]] {
        text += &world.fprefix(args).said().ends_with(1).transcript();
    }
    assert_snapshot!(text);
}

/// A prefix may be called what another one has for its whole name; the scripts name it so.
#[test]
fn a_whole_name_wins_over_a_name() {
    let world = World::new();
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    world.prefix("demo-amd64-usr", "amd64-usr", "/usr/local/demo2");
    assert_eq!(chosen(&world, &["-P", "demo-amd64-usr"]), "demo-amd64-usr");
    assert_eq!(chosen(&world, &["-P", "demo"]), "demo-amd64-usr");
    assert_eq!(chosen(&world, &["-P", "demo-amd64-usr-amd64-usr"]), "demo-amd64-usr-amd64-usr");
}

#[test]
fn lists() {
    let world = World::new();
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let mut other = world.prefix("a-longer-name", "arm64-usr", "/opt/other");
    other.complete = false;
    world.define(&other);
    let text = world.fprefix(["list"]).said().succeeds().transcript();
    assert_snapshot!("list", text);
    let said = world.fprefix(["list", "--json"]).said().succeeds();
    assert_snapshot!("list_json", said.transcript());
    let rows: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    // A script gets a list, also of nothing.
    let world = World::new();
    assert_eq!(world.fprefix(["list", "--json"]).said().succeeds().stdout, "[]\n");
}

#[test]
fn status_shows_what_is_installed() {
    let world = World::new();
    let definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    for (dir, package) in [
        (&definition.staging, "sys-libs/glibc-2.36"),
        (&definition.r#final, "sys-libs/glibc-2.36"),
        (&definition.r#final, "app-misc/jq-1.7.1"),
        // One that a killed merge left.
        (&definition.r#final, "app-misc/-MERGING-more-1"),
    ] {
        let package = dir.join("root/usr/local/demo/var/db/pkg").join(package);
        fs_err::create_dir_all(package).unwrap();
    }
    let text = world.fprefix(["status"]).said().succeeds().transcript();
    assert_snapshot!("status", text);
    let said = world.fprefix(["status", "--json"]).said().succeeds();
    let mut status: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    *status.pointer_mut("/definition/data").unwrap() = "[DIGEST]".into();
    assert_snapshot!("status_json", serde_json::to_string_pretty(&status).unwrap());
}

#[test]
fn what_a_killed_merge_left_in_final() {
    let world = World::new();
    let definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let eroot = definition.r#final.join("root/usr/local/demo");
    for (package, contents) in
        [("jq-1", "obj /usr/local/demo/bin/jq 0 1\n"), ("-MERGING-more-1", "")]
    {
        let entry = eroot.join("var/db/pkg/app-misc").join(package);
        world.write(entry.join("CONTENTS"), contents);
    }
    world.write(eroot.join("bin/jq"), "");
    world.write(eroot.join("bin/more"), "");
    let said = world.fprefix(["renew", "--dry-run"]).said().succeeds();
    assert_snapshot!(said.transcript(), @"
    $ fprefix renew --dry-run
    gone: app-misc/more-1
    of no package: /usr/local/demo/bin/more
    [0]
    ");
}

#[test]
fn status_of_what_is_not_whole() {
    let world = World::new();
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    definition.data = "of another version".into();
    world.define(&definition);
    world.fprefix(["status"]).said().succeeds().tells("was set up by another version of fprefix");
    definition.complete = false;
    world.define(&definition);
    world.fprefix(["status"]).said().succeeds().tells("did not come to its end");
    // Nothing is built into it, and the message says how it goes on.
    let mut text = String::new();
    for args in [&["emerge", "jq"][..], &["enter"], &["run", "portageq"], &["check"]] {
        text += &world.fprefix(args).said().ends_with(1).transcript();
    }
    definition.complete = true;
    world.define(&definition);
    fs_err::remove_dir_all(&definition.r#final).unwrap();
    text += &world.fprefix(["emerge", "jq"]).said().ends_with(1).transcript();
    assert_snapshot!(text);
}

#[test]
fn no_home_to_keep_prefixes_in() {
    let world = World::new();
    let list = || world.fprefix(["list"]).env("FPREFIX_HOME", "");
    // The machine may have prefixes of root.
    let usual = list().without_env("XDG_DATA_HOME").said().succeeds();
    // An empty variable is none (XDG Base Directory Specification), and so is a relative one.
    for data in ["", "relative"] {
        let said = list().env("XDG_DATA_HOME", data).said().succeeds();
        assert_eq!(said.transcript(), usual.transcript());
        assert!(!world.path("relative").exists());
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let world = World::new();
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let script = "set -o pipefail; \"$0\" list --json | head -c 0";
    world.run("bash").args(["-c", script, env!("CARGO_BIN_EXE_fprefix")]).said().succeeds();
}

/// One definition that cannot be read does not hide the others.
#[test]
fn a_definition_that_cannot_be_read() {
    let world = World::new();
    world.prefix("broken", "amd64-usr", "/usr/local/broken");
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    let file = world.home().join("prefixes/broken-amd64-usr/prefix.toml");
    fs_err::write(&file, "no = [\n").unwrap();
    let said = world.fprefix(["list"]).said().ends_with(1);
    said.prints("demo-amd64-usr  /usr/local/demo\n").tells("broken-amd64-usr/prefix.toml cannot");
    assert_eq!(chosen(&world, &["-P", "demo"]), "demo-amd64-usr");
    // Which one is meant is not known.
    let said = world.fprefix(["status"]).said().ends_with(1).tells("mend it, or remove");
    said.tells("broken-amd64-usr/prefix.toml");
}

/// What another version of fprefix made says so in a line, with what to do about it.
#[test]
fn a_prefix_of_another_version() {
    let world = World::new();
    let mut definition = world.prefix("demo", "amd64-usr", "/usr/local/demo");
    definition.rewriting -= 1;
    world.define(&definition);
    let line = "demo-amd64-usr was set up by another version of fprefix; `fprefix setup";
    world.fprefix(["status"]).said().succeeds().tells(line).tells("/usr/local/demo` brings it up");
    world.fprefix(["check", "--rule", "link"]).said().tells(line);
}
