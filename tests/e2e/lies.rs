//! Ebuilds and configuration that do not keep to what they are for.

use crate::prefix::{EPREFIX, own};

#[test]
fn what_builds_a_package_writes_to_its_own_directories_alone() {
    let prefix = own();
    let before = prefix.packages();
    let order = prefix.distfiles().join("stray");
    let inside = format!("{EPREFIX}/usr/bin/stray");
    let places = [
        (inside.as_str(), prefix.in_staging("usr/bin/stray")),
        ("/fprefix/final/stray", prefix.r#final.join("stray")),
        ("/fprefix/staging/broot/stray", prefix.staging.join("broot/stray")),
        ("/fprefix/repos/test-cases/stray", prefix.world.path("overlay/stray")),
        ("/usr/bin/stray", "/usr/bin/stray".into()),
    ];
    for (number, (place, on_disk)) in places.iter().enumerate() {
        let phase = ["compile", "install"][number % 2];
        fs_err::write(&order, format!("{phase} {place}\n")).unwrap();
        let said = prefix.fprefix(&["emerge", "--oneshot", "test-cases/strays"]).said();
        let said = said.ends_with(1).tells(&format!("test-cases/strays-1 failed in its {phase} "));
        let said = said.tells("it wrote where it must not: ");
        said.tells(&format!("{place}': Read-only file system"));
        assert!(!on_disk.exists(), "{place}");
        assert_eq!(prefix.packages(), before);
    }
    fs_err::remove_file(order).unwrap();
    prefix.fprefix(&["emerge", "--oneshot", "test-cases/strays"]).said().succeeds();
    assert!(prefix.in_final("usr/share/strays/mine").exists());
}

#[test]
fn what_is_said_to_be_provided_is_suspected() {
    let prefix = own();
    let before = prefix.packages();
    let lie = |environment: &std::path::Path| {
        let file = environment.join("etc/portage/profile/package.provided");
        prefix.world.write(file, "# of mine\ntest-cases/library-1\n")
    };
    // Staging lacks what a package is built with.
    let file = lie(&prefix.staging);
    let emerge = || prefix.fprefix(&["emerge", "--oneshot", "test-cases/uses-library"]).said();
    let said = emerge().ends_with(1);
    let said = said.tells("test-cases/uses-library-1 failed in its compile phase, in staging");
    let said = said.tells("/etc/portage/profile/package.provided lists ");
    said.tells(
        "test-cases/library-1 as installed, and Portage does not check that; if one of them is",
    );
    assert_eq!(prefix.packages(), before);
    fs_err::remove_file(file).unwrap();
    // Final lacks what it runs with.
    let file = lie(&prefix.r#final);
    emerge().succeeds();
    let said = prefix.fprefix(&["check"]).said().ends_with(3);
    let said = said.prints("/usr/bin/uses-library: needs libtest-cases.so.1");
    said.prints(
        "/etc/portage/profile/package.provided lists test-cases/library-1 as installed, and",
    );
    fs_err::remove_file(file).unwrap();
    emerge().succeeds();
    prefix.fprefix(&["check"]).said().succeeds();
    let run = prefix.fprefix(&["check", "--run", "uses-library"]).said();
    run.prints("ended with status 7");
}
