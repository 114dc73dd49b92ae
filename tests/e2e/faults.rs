//! What goes wrong around fprefix: the network, the disk, what upstream serves, other runs.

use std::ffi::OsString;

use crate::harness::World;
use crate::prefix::{lend_portage, own};
use crate::slow::Stop;

/// The words that start a program without a network.
fn offline() -> Vec<OsString> {
    ["bwrap", "--dev-bind", "/", "/", "--unshare-net", "--"].map(OsString::from).into()
}

/// The words that start a program with a small disk at `dir`.
fn small_disk(dir: &std::path::Path, size: &str) -> Vec<OsString> {
    let mut words = ["bwrap", "--dev-bind", "/", "/", "--size"].map(OsString::from).to_vec();
    words.extend([size.into(), "--tmpfs".into(), dir.into(), "--".into()]);
    words
}

#[test]
fn no_network_for_portage() {
    let world = World::new();
    let setup = || world.fprefix(["setup", "demo", "/opt/demo", "--wrapper-dir", "w"]);
    let said = setup().through(offline()).said().ends_with(1);
    said.tells("could not fetch portage from PyPI").tells("is the network up?");
    // Nothing half-fetched is taken for Portage, nor left behind.
    let left = fs_err::read_dir(world.home().join("portage")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
    world.fprefix(["emerge", "jq"]).said().ends_with(1).tells("did not come to its end");
    world.fprefix(["remove", "demo", "--yes"]).said().succeeds();
}

#[test]
fn no_room_for_portage() {
    let world = World::new();
    let home = world.home();
    fs_err::create_dir(&home).unwrap();
    let said = world
        .fprefix(["setup", "demo", "/opt/demo", "--wrapper-dir", "w"])
        .through(small_disk(&home, "8000000"))
        .said()
        .ends_with(1);
    assert!(said.stderr.contains("No space left on device"), "{said}");
}

/// Staging alone is on a full disk, so it is Portage that finds no room.
#[test]
fn no_room_for_packages() {
    let world = World::new();
    lend_portage(&world);
    let staging = world.path("staging");
    fs_err::create_dir(&staging).unwrap();
    let setup = || {
        let args = ["setup", "demo", "/opt/demo", "--wrapper-dir", "w", "--staging-dir", "staging"];
        world.fprefix(args)
    };
    let said = setup().through(small_disk(&staging, "12000000")).said().ends_with(1);
    assert!(said.stderr.contains("No space left on device"), "{said}");
    assert!(said.stderr.lines().count() < 30, "{said}");
    world.fprefix(["list"]).said().succeeds().prints("(set-up not finished)");
}

#[test]
fn no_network_for_sources() {
    let prefix = own();
    let before = prefix.packages();
    let source = prefix.distfiles().join("cmark-0.30.2.tar.gz");
    let _ = fs_err::remove_file(&source);
    let args = ["emerge", "--fetchonly", "app-text/cmark"];
    let said = prefix.fprefix(&args).through(offline()).said().ends_with(1);
    said.prints("cmark-0.30.2.tar.gz");
    let args = ["emerge", "app-text/cmark"];
    let said = prefix.fprefix(&args).through(offline()).said().ends_with(1);
    assert!(!said.stderr.contains("final:"), "{said}");
    let said =
        said.tells("error: app-text/cmark-0.30.2 needs cmark-0.30.2.tar.gz, in staging, and");
    let said = said.tells("/commonmark/cmark/archive/0.30.2.tar.gz\n");
    said.tells("/distfiles/cmark-0.30.2.tar.gz");
    assert_eq!(prefix.packages(), before);
    assert!(!source.exists());
    let args = ["emerge", "--fetchonly", "app-text/cmark"];
    prefix.fprefix(&args).said().succeeds();
    let size = source.metadata().unwrap().len();
    // What came to lie there broken is fetched again.
    fs_err::write(&source, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
    prefix.fprefix(&args).said().succeeds();
    assert_ne!(fs_err::read(&source).unwrap()[0], b'x');
    // So is what was fetched in part.
    fs_err::write(&source, "half").unwrap();
    prefix.fprefix(&args).said().succeeds();
    assert_eq!(source.metadata().unwrap().len(), size);
}

#[test]
fn a_source_with_another_hash() {
    let prefix = own();
    let before = prefix.packages();
    let said = prefix.fprefix(&["emerge", "test-cases/altered"]).said().ends_with(1);
    assert!(said.stdout.contains("VERIFY FAILED"), "{said}");
    assert!(!said.stderr.contains("final:"), "{said}");
    said.tells("needs altered-1.tar.gz, in staging, and what came is not what the");
    assert_eq!(prefix.packages(), before);
    assert!(!prefix.distfiles().join("altered-1.tar.gz").exists(), "it is not taken for whole");
}

#[test]
fn a_repository_that_is_gone() {
    let prefix = own();
    let (overlay, away) = (prefix.world.path("overlay"), prefix.world.path("away"));
    fs_err::rename(&overlay, &away).unwrap();
    let said = prefix.fprefix(&["emerge", "-p", "jq"]).said();
    fs_err::rename(&away, &overlay).unwrap();
    said.ends_with(1).tells("error: the repository test-cases is not at [WORLD]/overlay any more");
}

#[test]
fn the_second_run_waits_and_says_for_whom() {
    let prefix = own();
    let stop = Stop::new(&prefix, "compile", "/");
    let mut first = prefix.fprefix(&["emerge", "--oneshot", "test-cases/slow"]).start();
    assert!(first.until(|_| stop.is_reached()), "{}", first.wait(&prefix.world));
    let holder = format!("fprefix emerge --oneshot test-cases/slow (process {})", first.id());
    let mut second = prefix.fprefix(&["emerge", "-p", "test-cases/slow"]).start();
    assert!(second.until(|second| second.stderr().contains(&format!("waiting for {holder}"))));
    // What would take the ground from under the first one does not wait.
    let said = prefix.fprefix(&["remove", "test", "--yes"]).said().ends_with(1);
    said.tells(&format!("{holder} is at work on this prefix"));
    // Who only looks need not wait.
    prefix.fprefix(&["status"]).said().succeeds();
    assert!(second.runs() && first.runs());
    stop.pass();
    first.wait(&prefix.world).succeeds();
    // It can only show the package as installed because the first one came to its end before.
    second.wait(&prefix.world).succeeds().prints("[binary   R");
}

#[test]
fn an_index_of_binary_packages_that_is_lost_or_damaged() {
    let prefix = own();
    let pkgdir = prefix.staging.join("pkgs");
    let index = pkgdir.join("Packages");
    let install = || prefix.fprefix(&["emerge", "--install", "--oneshot", "app-misc/jq"]).said();
    let whole = fs_err::read_to_string(&index).unwrap();
    let made_anew = "Portage makes it anew";
    assert!(!install().succeeds().stderr.contains(made_anew));
    fs_err::remove_file(&index).unwrap();
    install().succeeds().tells(made_anew);
    fs_err::write(&index, &whole[..whole.len() / 3]).unwrap();
    install().succeeds().tells(made_anew);
    assert!(!install().succeeds().stderr.contains(made_anew));
    // A file that is no package cannot be in the index.
    prefix.world.write(pkgdir.join("app-misc/jq/jq-9-1.gpkg.tar"), "half");
    install().succeeds().tells("jq-9-1.gpkg.tar is no binary package that Portage can read");
}
