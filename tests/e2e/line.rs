//! The line as a user walks it: setup, emerge, check.

use crate::harness::contents;
use crate::harness::loader::compare_prefix;
use crate::prefix::{EPREFIX, contents_are_true, eroot, original, own, shared};

#[test]
fn setup_and_emerge_say_what_they_do() {
    let made = original();
    for text in ["fetching Portage from PyPI", "importing the toolchain", "test-amd64-usr is ready"]
    {
        let text = text.replace(
            "amd64-usr",
            if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" },
        );
        assert!(made.setup.stderr.contains(&text), "{}", made.setup);
    }
    assert!(made.jq.stdout.contains(">>> Emerging (2 of 2) app-misc/jq"), "{}", made.jq);
    assert!(made.jq.stderr.contains(">>> final: emerge app-misc/jq"), "{}", made.jq);
}

#[test]
fn the_database_is_true_of_what_is_on_disk() {
    let prefix = shared();
    assert!(contents_are_true(&prefix.world, &prefix.r#final) > 300);
    assert!(contents_are_true(&prefix.world, &prefix.staging) > 1000);
}

#[test]
fn final_is_self_contained_and_has_the_runtime_alone() {
    let prefix = shared();
    prefix.fprefix(&["check"]).said().succeeds().prints("nothing reaches outside of the prefix");
    let said = prefix
        .fprefix(&["check", "--run", "jq --null-input '[range(1; 101)] | add'"])
        .said()
        .succeeds()
        .prints("5050\n")
        .prints(", 0 from outside");
    assert!(!said.stdout.contains("OUTSIDE"), "{said}");
    let (runtime, staging) = prefix.packages();
    let has = |list: &[String], name: &str| list.iter().any(|package| package.contains(name));
    assert!(has(&runtime, "sys-libs/glibc-") && has(&runtime, "app-misc/jq-"));
    assert!(has(&staging, "sys-kernel/linux-headers-"));
    assert!(!has(&runtime, "sys-kernel/linux-headers-"), "{runtime:?}");
}

#[test]
fn the_loader_opens_what_fprefix_says() {
    let prefix = shared();
    let said = prefix.fprefix(&["elf", "libraries", "--json"]).said().succeeds();
    let on_disk = eroot(&prefix.r#final);
    let judged = compare_prefix(&prefix.world, &said, &on_disk, EPREFIX, "usr/bin/jq");
    assert!(judged > 10, "{judged} files are too few to mean much");
}

#[test]
fn a_second_setup_refuses_at_once() {
    let prefix = own();
    let before = contents(&prefix.world.path("."));
    let said = prefix.fprefix(&["setup", "test", EPREFIX]).said().ends_with(1);
    let said = said.tells("is there already").tells("setup --force").tells("remove");
    // The command that it names has all that this prefix was set up with.
    assert!(said.stderr.contains("--staging-dir") && said.stderr.contains("--repo"), "{said}");
    assert_eq!(contents(&prefix.world.path(".")), before);
}

#[test]
fn status_and_list_know_it() {
    let prefix = shared();
    prefix.fprefix(&["status"]).said().succeeds().prints("app-misc/jq-1.7.1").prints(EPREFIX);
    prefix.fprefix(&["list"]).said().succeeds().prints(EPREFIX);
}

#[test]
fn emerge_is_there_inside_staging() {
    let said = shared().fprefix(&["enter", "--", "emerge", "--version"]).said().succeeds();
    said.prints("Portage 3");
}
