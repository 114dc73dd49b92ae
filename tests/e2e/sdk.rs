//! Flatcar's SDK, as far as setup can tell: its paths, its user, compilers named for CHOST, its own
//! Portage, directories that are root's. In it, the quick start of PREFIX.md.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{Run, World, write_script};
use crate::prefix::lend_portage;
use crate::trees::{checkout, ebuild};

const CHOST: &str = chost();

const fn chost() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-cros-linux-gnu" } else { "x86_64-cros-linux-gnu" }
}

/// A mount namespace that looks like the SDK. What is bound into it lasts as long as the world.
struct Sdk<'w> {
    world: &'w World,
    words: Vec<OsString>,
}

/// The folder of the machine, where all that is replaced can still be found.
const MACHINE: &str = "/machine";

impl<'w> Sdk<'w> {
    fn new(world: &'w World) -> Self {
        let portage = fs_err::read_dir(world.home().join("portage")).unwrap();
        let portage = portage
            .map(|entry| entry.unwrap().path())
            .find(|path| path.join("bin/emerge").exists())
            .unwrap();
        let portage = fs_err::canonicalize(portage).unwrap();
        let mut sdk = Self { world, words: Vec::new() };
        sdk.add(["bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-pid"]);
        sdk.add(["--die-with-parent", "--tmpfs", "/"]);
        for entry in fs_err::read_dir("/").unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_str().unwrap();
            if ["/mnt", "/build", "/proc", "/dev", "/portage"].contains(&name) {
                continue;
            }
            match fs_err::read_link(&path) {
                Ok(target) => sdk.add(["--symlink".as_ref(), target.as_os_str(), path.as_ref()]),
                Err(_) => sdk.add(["--bind", name, name]),
            }
        }
        sdk.add(["--proc", "/proc", "--dev-bind", "/dev", "/dev"]);
        sdk.programs();
        sdk.configuration();
        // Portage from a wheel looks for its own files here, where it is told of no EPREFIX.
        sdk.bind(&portage, "/portage");
        sdk.bind(&portage.join("share/portage"), "/share/portage");
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
        sdk.add(["--chdir", "/mnt/host/source/src/scripts", "--"]);
        sdk
    }

    fn add<const N: usize>(&mut self, words: [impl AsRef<std::ffi::OsStr>; N]) {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
    }

    fn bind(&mut self, from: &Path, to: &str) {
        self.add(["--bind".as_ref(), from.as_os_str(), to.as_ref()]);
    }

    /// Replaces the directory `dir` of the machine by one of links to all that is in it; returns
    /// where more can be put.
    fn replace(&mut self, dir: &str) -> PathBuf {
        let original = format!("{MACHINE}{dir}");
        let links = self.world.path(format!("sdk/links{dir}"));
        fs_err::create_dir_all(&links).unwrap();
        for entry in fs_err::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name();
            let target = Path::new(&original).join(&name);
            fs_err::os::unix::fs::symlink(target, links.join(&name)).unwrap();
        }
        // All around it too: gcc finds its libraries relative to itself.
        let top = Path::new(dir).iter().take(2).collect::<PathBuf>();
        self.bind(&top, &format!("{MACHINE}{}", top.display()));
        self.bind(&links, dir);
        links
    }

    /// The SDK's own programs: Portage, compilers by CHOST, sudo.
    fn programs(&mut self) {
        let bin = self.replace("/usr/bin");
        for tool in ["emerge", "portageq", "ebuild"] {
            let text = format!(
                "#!/bin/sh\nPORTAGE_OVERRIDE_EPREFIX= exec /portage/bin/python /portage/bin/{tool} \
                 \"$@\"\n"
            );
            fs_err::remove_file(bin.join(tool)).ok();
            write_script(&bin.join(tool), &text);
        }
        for tool in ["gcc", "g++"] {
            let target = format!("{MACHINE}/usr/bin/{tool}");
            fs_err::os::unix::fs::symlink(target, bin.join(format!("{CHOST}-{tool}"))).unwrap();
        }
        // sudo makes writable what its user may not write, and says what it was asked to do.
        fs_err::remove_file(bin.join("sudo")).ok();
        write_script(
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
    fn configuration(&mut self) {
        let etc = self.replace("/etc");
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let portage = etc.join("portage");
        fs_err::remove_file(&portage).ok();
        fs_err::create_dir_all(portage.join("profile")).unwrap();
        let profile = format!(
            "/mnt/host/source/src/third_party/portage-stable/profiles/default/linux/{arch}"
        );
        fs_err::os::unix::fs::symlink(profile, portage.join("make.profile")).unwrap();
        let repos = ["portage-stable", "coreos-overlay"]
            .map(|name| format!("[{name}]\nlocation = /mnt/host/source/src/third_party/{name}\n"));
        let repos = format!("[DEFAULT]\nmain-repo = portage-stable\n{}", repos.concat());
        self.world.write(portage.join("repos.conf"), repos);
        self.world.write(portage.join("profile/package.provided"), "app-misc/tool-1\n");
        self.world.write(portage.join("profile/eapi"), "6\n");
        let var = self.replace("/var");
        fs_err::remove_file(var.join("db")).ok();
        fs_err::create_dir_all(var.join("db/pkg")).unwrap();
    }

    fn run(&self, program: &str, args: &[&str]) -> Run<'_> {
        self.world
            .run(program)
            .args(args)
            .through(&self.words)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("USER", "sdk")
    }

    fn fprefix(&self, args: &[&str]) -> Run<'_> {
        self.world
            .fprefix(args)
            .through(&self.words)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("USER", "sdk")
    }
}

#[test]
fn the_quick_start_of_the_manual() {
    let world = World::new();
    lend_portage(&world);
    checkout(&world);
    ebuild(&world, "portage-stable", "app-misc/where", "1", "BDEPEND=\"app-misc/tool\"");
    let sdk = Sdk::new(&world);
    let board = if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" };
    sdk.fprefix(&["doctor", "--for", "setup"]).said().prints("machine         Flatcar SDK");
    // ./setup_prefix my-prefix /usr/local/my-stuff
    let said = sdk
        .fprefix(&["setup", "--cross_boss_root", "cross-boss", "my-prefix", "/usr/local/my-stuff"])
        .said()
        .succeeds();
    said.tells("cross-boss is not needed");
    let staging = world.path(format!("sdk/build/prefix-{board}/my-prefix"));
    let r#final = world.path(format!("sdk/scripts/__prefix__/{board}/my-prefix"));
    assert!(staging.join("root/usr/local/my-stuff/usr/lib64/libc.so.6").exists());
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
    let mut asked: Vec<&str> = asked.lines().collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, ["install", "rm"]);
}
