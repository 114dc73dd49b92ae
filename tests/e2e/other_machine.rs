//! Programs for a machine of another kind: built with the cross compiler that this one has, and run
//! by an emulator in an empty root.

use crate::harness::World;
use crate::prefix::lend_portage;
use crate::tools::{TOOLCHAIN, WITHOUT_VERSION};

/// The board's tools and this machine's, each under the name of what it is for.
fn names_that_ebuilds_expect(world: &World) {
    let boards = ["aarch64", std::env::consts::ARCH].map(|arch| format!("{arch}-cros-linux-gnu"));
    let names = boards.iter().flat_map(|chost| TOOLCHAIN.map(|name| format!("{chost}-{name}")));
    let enter = |args: &[&str]| world.fprefix(["enter", "--"]).args(args);
    let said = enter(&["sh", "-c", WITHOUT_VERSION, "sh"]).args(names).said().succeeds();
    assert_eq!(said.stdout, "");
    for chost in &boards {
        let (arch, _) = chost.split_once('-').unwrap();
        let said = enter(&[&format!("{chost}-gcc"), "-dumpmachine"]).said().succeeds();
        assert!(said.stdout.starts_with(arch), "{said}");
        let said = enter(&[&format!("{chost}-ld"), "-V"]).said().succeeds();
        said.prints(&arch.replace("x86_64", "elf_x86_64"));
    }
    // A plain name is a program for this machine.
    let said = enter(&["gcc", "-dumpmachine"]).said().succeeds();
    assert!(said.stdout.starts_with(std::env::consts::ARCH), "{said}");
}

#[test]
fn packages_of_every_build_system_are_built_for_arm64() {
    let world = World::new();
    lend_portage(&world);
    let eprefix = "/usr/local/fprefix-arm";
    let setup = ["setup", "arm", eprefix, "--board", "arm64-usr", "--wrapper-dir", "wrappers"];
    world.fprefix(setup).said().succeeds();
    names_that_ebuilds_expect(&world);
    // Autotools, CMake, Meson.
    let packages = ["app-misc/jq", "net-misc/socat", "app-text/cmark", "app-arch/lz4"];
    // Its line editing would take as long as all the rest.
    let emerge = world.fprefix(["emerge"]).args(packages).env("USE", "-readline");
    emerge.said().succeeds();
    world.fprefix(["check"]).said().succeeds().prints("nothing reaches outside of the prefix");
    for (line, printed) in [
        ("jq --null-input '[range(1; 101)] | add | tostring | test(\"5050\")'", "true\n"),
        ("socat -V", "socat version 1.8"),
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
