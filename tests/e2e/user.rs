//! An ordinary user builds, checks and packs. Who runs these tests as one does so in all of them.

use crate::harness::World;
use crate::prefix::overlay;

#[test]
fn an_ordinary_user_needs_no_root() {
    let world = World::new();
    let overlay = overlay(&world);
    let root = fprefix::host::machine::is_root();
    let world = if root { world.for_user(65534) } else { world };
    // The caller's own directories may be closed to others.
    let path = "/usr/local/bin:/usr/bin:/bin";
    let run = |args: &[&str]| world.fprefix(args).env("PATH", path).said();
    let eprefix = "/opt/fprefix-test/user";
    run(&["setup", "test", eprefix, "--overlay", overlay.to_str().unwrap()]).succeeds();
    // Wrappers are where the user's programs are.
    let wrappers = fs_err::read_dir(world.path("user/.local/bin")).unwrap().count();
    assert!(wrappers > 3);
    run(&["emerge", "test-cases/small"]).succeeds();
    // A namespace in the namespace keeps builds from writing to the prefix.
    world.write("home/distfiles/stray", format!("install {eprefix}/usr/bin/stray\n"));
    let said = run(&["emerge", "test-cases/strays"]).ends_with(1);
    said.tells(&format!("{eprefix}/usr/bin/stray': Read-only file system"));
    run(&["check"]).succeeds();
    run(&["check", "--run", "small"]).prints("ended with status 42").prints(", 0 from outside");
    run(&["status"]).succeeds().prints("test-cases/small-1").prints("[WORLD]/home/prefixes/");
    let output = world.path("user");
    run(&["pack", "--output", output.to_str().unwrap()]).succeeds();
    assert!(output.join("test.raw").exists());
    run(&["remove", "test", "--yes"]).succeeds();
    assert_eq!(run(&["list", "--json"]).succeeds().stdout, "[]\n");
}
