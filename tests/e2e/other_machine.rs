//! Programs for a machine of another kind: built with the cross compiler that this one has, and run
//! by an emulator in an empty root.

use crate::harness::World;
use crate::prefix::lend_portage;

#[test]
fn packages_of_every_build_system_are_built_for_arm64() {
    let world = World::new();
    lend_portage(&world);
    let eprefix = "/usr/local/fprefix-arm";
    let setup = ["setup", "arm", eprefix, "--board", "arm64-usr", "--wrapper-dir", "wrappers"];
    world.fprefix(setup).said().succeeds();
    // Autotools, CMake, Meson.
    let packages = ["app-misc/jq", "app-text/cmark", "app-arch/lz4"];
    world.fprefix(["emerge"]).args(packages).said().succeeds();
    world.fprefix(["check"]).said().succeeds().prints("nothing reaches outside of the prefix");
    for (line, printed) in [
        ("jq --null-input '[range(1; 101)] | add | tostring | test(\"5050\")'", "true\n"),
        ("cmark --version", "cmark 0.30.2"),
        ("lz4 --version", "1.10.0"),
    ] {
        let said = world.fprefix(["check", "--run", line]).said().succeeds();
        let said = said.prints(printed).prints("ended with status 0").prints(", 0 from outside");
        said.prints("inside   /usr/local/fprefix-arm/usr/lib64/libc.so.6");
    }
    world.fprefix(["pack", "--format", "directory", "--no-reports"]).said().succeeds();
    let release = world.path("arm/usr/lib/extension-release.d/extension-release.arm");
    let release = fs_err::read_to_string(release).unwrap();
    assert!(release.contains("\nARCHITECTURE=arm64\n"), "{release}");
    let said = world.run("file").args([world.path("arm/usr/local/fprefix-arm/usr/bin/jq")]).said();
    said.succeeds().prints("ARM aarch64");
}
