//! Flatcar's SDK, as far as setup can tell: its paths, its user, compilers named for CHOST, its own
//! Portage, directories that are root's. In it, the quick start of PREFIX.md.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{World, write_program};
use crate::look_alike::{LookAlike, MACHINE};
use crate::prefix::lend_portage;
use crate::trees::{checkout, ebuild};

const CHOST: &str = chost();

/// CHOST of the board that is not the machine's.
const OTHER: &str = "aarch64-cros-linux-gnu";

const fn chost() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-cros-linux-gnu" } else { "x86_64-cros-linux-gnu" }
}

/// A mount namespace that looks like the SDK.
fn sdk(world: &World) -> LookAlike<'_> {
    let mut sdk = LookAlike::new(world, "1000", &["/mnt", "/build"]);
    programs(&mut sdk);
    configuration(&mut sdk);
    sdk.empty("/usr/local/bin");
    let third_party = world.path("scripts/sdk_container/src/third_party");
    sdk.bind(&third_party, "/mnt/host/source/src/third_party");
    for (name, place, mode) in [
        ("sdk/build", "/build", 0o555),
        ("sdk/wrappers", "/usr/local/bin", 0o555),
        ("sdk/cache", "/mnt/host/source/.cache", 0o755),
        ("sdk/scripts", "/mnt/host/source/src/scripts", 0o755),
    ] {
        let dir = world.path(name);
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
        sdk.bind(&dir, place);
    }
    sdk.start_in("/mnt/host/source/src/scripts");
    sdk
}

/// The SDK's own programs beside Portage: compilers by CHOST, sudo.
fn programs(sdk: &mut LookAlike<'_>) {
    let bin = sdk.own("/usr/bin");
    for tool in ["gcc", "g++"] {
        for (name, of) in [(CHOST, tool.to_owned()), (OTHER, format!("aarch64-linux-gnu-{tool}"))] {
            let target = format!("{MACHINE}/usr/bin/{of}");
            fs_err::os::unix::fs::symlink(target, bin.join(format!("{name}-{tool}"))).unwrap();
        }
    }
    // sudo makes writable what its user may not write, and says what it was asked to do.
    fs_err::remove_file(bin.join("sudo")).ok();
    write_program(
        &bin.join("sudo"),
        "#!/bin/sh\n\
         echo \"$1\" >> /mnt/host/source/.cache/sudo\n\
         chmod u+w /build /usr/local/bin\n\
         \"$@\"\n\
         code=$?\n\
         chmod u-w /build /usr/local/bin\n\
         exit $code\n",
    );
}

/// The SDK's Portage configuration: BROOT is the machine, which has what is needed.
fn configuration(sdk: &mut LookAlike<'_>) {
    let portage = sdk.empty("/etc/portage");
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    fs_err::create_dir_all(portage.join("profile")).unwrap();
    let profile =
        format!("/mnt/host/source/src/third_party/portage-stable/profiles/default/linux/{arch}");
    fs_err::os::unix::fs::symlink(profile, portage.join("make.profile")).unwrap();
    let repos = ["portage-stable", "coreos-overlay"]
        .map(|name| format!("[{name}]\nlocation = /mnt/host/source/src/third_party/{name}\n"));
    let repos = format!("[DEFAULT]\nmain-repo = portage-stable\n{}", repos.concat());
    let world = sdk.world;
    world.write(portage.join("repos.conf"), repos);
    world.write(portage.join("profile/package.provided"), "app-misc/tool-1\n");
    world.write(portage.join("profile/eapi"), "6\n");
    sdk.empty("/var/db");
    sdk.empty("/var/db/pkg");
}

/// What the C library of a board says of itself, in place of what this machine's says.
const BANNER: &str = "GNU C Library (Board6 GLIBC ";

/// Makes the C library or loader at `path` say that it is the board's.
fn mark(path: &Path) {
    let mut bytes = fs_err::read(path).unwrap();
    let said = b"(Debian GLIBC ";
    let at = bytes.windows(said.len()).position(|part| part == said).unwrap();
    bytes[at..at + said.len()].copy_from_slice(b"(Board6 GLIBC ");
    fs_err::write(path, bytes).unwrap();
}

/// Returns whether `text` is in the file at `path`.
fn has(path: &Path, text: &str) -> bool {
    let bytes = fs_err::read(path).unwrap();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// The root directory of the machine's own board in the SDK: the C library of this machine, which
/// says that it is the board's, laid out as Gentoo does; libgcc as the board's own gcc has it.
fn board_root(world: &World, board: &str) {
    let root = world.path("sdk/build").join(board);
    let multiarch = format!("{}-linux-gnu/", std::env::consts::ARCH);
    let packages = ["libc6", "libc6-dev", "libc-bin", "linux-libc-dev"];
    let files = world.run("dpkg").args(["--listfiles"]).args(packages).said().succeeds().stdout;
    for file in files.lines().map(Path::new).filter(|path| !path.is_dir()) {
        let name = file.to_str().unwrap().trim_start_matches('/').trim_start_matches("usr/");
        let place = name.replacen(&format!("lib/{multiarch}"), "lib64/", 1).replacen(
            &format!("include/{multiarch}"),
            "include/",
            1,
        );
        let to = root.join("usr").join(&place);
        if !["lib64/", "include/", "bin/"].iter().any(|top| place.starts_with(top)) || to.exists() {
            continue;
        }
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::copy(file, &to).unwrap();
    }
    fs_err::os::unix::fs::symlink("usr/lib64", root.join("lib64")).unwrap();
    mark(&root.join("usr/lib64/libc.so.6"));
    let loaders = fs_err::read_dir(root.join("usr/lib64")).unwrap().map(Result::unwrap);
    for loader in loaders.filter(|file| file.file_name().to_str().unwrap().starts_with("ld-linux"))
    {
        mark(&loader.path());
    }
    let said = world.run("gcc").args(["-print-file-name=libgcc_s.so.1"]).said().succeeds();
    let libgcc = fs_err::canonicalize(said.stdout.trim()).unwrap();
    let said = world.run("gcc").args(["-print-libgcc-file-name"]).said().succeeds();
    let dir = Path::new(said.stdout.trim()).parent().unwrap();
    let dir = root.join(dir.strip_prefix("/").unwrap());
    fs_err::create_dir_all(&dir).unwrap();
    let section = format!(".board={}", world.write("section", "libgcc of the board").display());
    let objcopy = world.run("objcopy").args(["--add-section", &section]);
    objcopy.args([libgcc, dir.join("libgcc_s.so.1")]).said().succeeds();
}

/// The root directory of the other board: the libraries that this machine's cross compiler has.
fn other_root(world: &World) {
    let root = world.path("sdk/build/arm64-usr/usr");
    let from = Path::new("/usr/aarch64-linux-gnu");
    fs_err::create_dir_all(&root).unwrap();
    for (dir, to) in [("lib", "lib64"), ("include", "include")] {
        let copy = world.run("cp").args(["-a".into(), from.join(dir).join("."), root.join(to)]);
        copy.said().succeeds();
    }
    mark(&root.join("lib64/libc.so.6"));
}

#[test]
fn the_quick_start_of_the_manual() {
    let world = World::new();
    lend_portage(&world);
    checkout(&world);
    ebuild(&world, "portage-stable", "app-misc/where", "1", "BDEPEND=\"app-misc/tool\"");
    let board = if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" };
    board_root(&world, board);
    let sdk = sdk(&world);
    sdk.fprefix(&["doctor", "--for", "setup"]).said().prints("machine         Flatcar SDK");
    // ./setup_prefix my-prefix /usr/local/my-stuff
    let said = sdk
        .fprefix(&["setup", "--cross_boss_root", "cross-boss", "my-prefix", "/usr/local/my-stuff"])
        .said()
        .succeeds();
    let said = said.tells("cross-boss is not needed");
    said.tells(&format!("importing the toolchain, with the C library of /build/{board}"));
    let staging = world.path(format!("sdk/build/prefix-{board}/my-prefix"));
    let r#final = world.path(format!("sdk/scripts/__prefix__/{board}/my-prefix"));
    for dir in [&staging, &r#final] {
        let lib = dir.join("root/usr/local/my-stuff/usr/lib64");
        assert!(has(&lib.join("libc.so.6"), BANNER));
        assert!(has(&lib.join("libgcc_s.so.1"), "libgcc of the board"));
    }
    assert!(world.path("sdk/cache/distfiles").exists());
    // emerge-prefix-my-prefix-amd64-usr where
    sdk.run(&format!("emerge-prefix-my-prefix-{board}"), &["where"]).said().succeeds();
    let from = r#final.join("root/usr/local/my-stuff/usr/share/where");
    assert_eq!(fs_err::read_to_string(from).unwrap(), "portage-stable\nextra\n");
    sdk.fprefix(&["check"]).said().succeeds();
    // ../../../bake.sh python
    sdk.fprefix(&["pack", "--output", "."]).said().succeeds();
    assert!(world.path("sdk/scripts/my-prefix.raw").exists());
    sdk.fprefix(&["setup", "--uninstall", "my-prefix"]).said().succeeds();
    assert!(!staging.exists() && !r#final.exists());
    assert_eq!(fs_err::read_dir(world.path("sdk/wrappers")).unwrap().count(), 0);
    // sudo was needed for directories and wrappers alone.
    let asked = fs_err::read_to_string(world.path("sdk/cache/sudo")).unwrap();
    // They are named by their paths, whatever the user's search path leads to.
    let mut asked: Vec<&Path> = asked.lines().map(Path::new).collect();
    asked.sort_unstable();
    asked.dedup();
    assert!(asked.iter().all(|program| program.is_absolute()), "{asked:?}");
    let names: Vec<_> = asked.iter().map(|program| program.file_name().unwrap()).collect();
    assert_eq!(names, ["install", "rm"]);
}

#[test]
fn the_other_board_has_a_c_library_of_its_own() {
    let world = World::new();
    lend_portage(&world);
    checkout(&world);
    other_root(&world);
    let sdk = sdk(&world);
    let setup = ["setup", "other", "/usr/local/other", "--board", "arm64-usr"];
    let said = sdk.fprefix(&setup).said().succeeds();
    said.tells("importing the toolchain, with the C library of /build/arm64-usr");
    let lib = "root/usr/local/other/usr/lib64/libc.so.6";
    assert!(has(&world.path("sdk/build/prefix-arm64-usr/other").join(lib), BANNER));
    assert!(has(&world.path("sdk/scripts/__prefix__/arm64-usr/other").join(lib), BANNER));
    // What is built for it runs with that library.
    let build = format!("cd /tmp && {OTHER}-gcc -x c - -o it && cp it $EPREFIX/tmp/it");
    let said = sdk.fprefix(&["enter", "--", "sh", "-c", &build]);
    said.said_to("int main(void) { return 0; }\n").succeeds();
    let it = world.path("sdk/build/prefix-arm64-usr/other/root/usr/local/other/tmp/it");
    let said = world.run("readelf").args(["--program-headers"]).args([it]).said().succeeds();
    said.prints("/usr/local/other/usr/lib64/ld-linux-aarch64.so.1");
}
