//! The caller's umask reaches neither a prefix nor its image.

use crate::harness::World;
use crate::prefix::{EPREFIX, lend_portage, overlay};

/// Builds a prefix with this umask; returns its image.
fn build(umask: &str) -> Vec<u8> {
    let world = World::new();
    lend_portage(&world);
    let overlay = overlay(&world);
    let run = |args: &[&str]| {
        let words = ["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"];
        world.fprefix(args).env("SOURCE_DATE_EPOCH", "1700000000").through(words).said().succeeds()
    };
    let wrappers = world.path("wrappers");
    run(&[
        "setup",
        "test",
        EPREFIX,
        "--overlay",
        overlay.to_str().unwrap(),
        "--wrapper-dir",
        wrappers.to_str().unwrap(),
    ]);
    run(&["emerge", "test-cases/small"]);
    let notes = run(&["check", "--rule", "access,mode", "-v"]).stdout;
    assert!(!notes.contains("[access]") && !notes.contains("everybody"), "{notes}");
    let output = world.path("output");
    run(&["pack", "--format", "erofs", "--output", output.to_str().unwrap()]);
    fs_err::read(output.join("test.raw")).unwrap()
}

#[test]
fn a_prefix_is_the_same_with_every_umask() {
    assert!(build("077") == build("000"), "the images differ");
}
