//! The manual pages that `fprefix man` writes.

use std::process::Command;

use crate::harness::World;

#[test]
fn mandoc_finds_nothing_in_any_page() {
    let world = World::new();
    let dir = world.path("man");
    world.fprefix(["man", "--output", dir.to_str().unwrap()]).said().succeeds();
    let mut pages: Vec<_> = ["man1", "man5"]
        .into_iter()
        .flat_map(|section| fs_err::read_dir(dir.join(section)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    assert!(pages.iter().any(|page| page.ends_with("man5/fprefix.toml.5")), "{pages:?}");
    assert!(pages.len() > 30, "{pages:?}");
    let lint = Command::new("mandoc")
        .args(["-T", "lint"])
        .args(&pages)
        .output()
        .expect("mandoc checks manual pages; `fprefix doctor --for test` says how to get it");
    assert_eq!(String::from_utf8_lossy(&lint.stdout), "");
    assert!(lint.status.success());
}
