//! Binary packages that prefixes share, and their signatures.

use std::path::{Path, PathBuf};

use crate::binhost_uri::{by_uri, by_uri_signed};
use crate::harness::World;
use crate::prefix::{contents_at, lend_portage, overlay};

pub(crate) const EPREFIX: &str = "/usr/local/fprefix-share";

/// Another path, to which packages are relocated.
const SHORT_EPREFIX: &str = "/opt/s";

/// Sets the prefix `name` up in `world` at `eprefix`, with the binary packages in its directory
/// `binpkgs`.
fn setup(world: &World, name: &str, eprefix: &str) {
    let args = ["setup", name, eprefix, "--relocatable", "--wrapper-dir", "wrappers"];
    let more = ["--overlay", "overlay", "--binhost", "binpkgs"];
    world.fprefix(args).args(more).said().succeeds();
}

/// The directory of an environment.
pub(crate) fn dir(world: &World, prefix: &str, environment: &str) -> PathBuf {
    let board = if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" };
    world.home().join("prefixes").join(format!("{prefix}-{board}")).join(environment)
}

/// The logs of what was done in an environment.
pub(crate) fn logs(world: &World, prefix: &str, environment: &str) -> String {
    let logs = fs_err::read_dir(dir(world, prefix, environment).join("logs")).unwrap();
    let logs = logs.map(|entry| entry.unwrap().path()).filter(|log| log.is_file());
    logs.map(|log| fs_err::read_to_string(log).unwrap()).collect()
}

pub(crate) const COMPILED: &str = ">>> Compiling source in";

#[test]
fn a_second_prefix_builds_nothing_and_trusts_nobody() {
    let world = World::new();
    lend_portage(&world);
    overlay(&world);
    fs_err::create_dir(world.path("binpkgs")).unwrap();
    setup(&world, "first", EPREFIX);
    world.fprefix(["-P", "first", "emerge", "test-cases/small"]).said().succeeds();
    assert!(logs(&world, "first", "staging").contains(COMPILED));

    setup(&world, "second", SHORT_EPREFIX);
    let said = world.fprefix(["-P", "second", "emerge", "test-cases/small"]).said().succeeds();
    assert!(said.stdout.contains(">>> Emerging binary (1 of 1) test-cases/small-1"), "{said}");
    assert!(!logs(&world, "second", "staging").contains(COMPILED));
    world.fprefix(["-P", "second", "check"]).said().succeeds();
    for (name, eprefix) in [("first", EPREFIX), ("second", SHORT_EPREFIX)] {
        let run = ["check", "--expect-status", "42", "--run", &format!("{eprefix}/usr/bin/small")];
        world.fprefix(["-P", name]).args(run).said().succeeds();
        let r#final = dir(&world, name, "final").join("root");
        assert!(contents_at(&world, &dir(&world, name, "final"), eprefix) > 300);
        assert!(r#final.join(&eprefix[1..]).join("usr/bin/small").is_file());
        for entry in walkdir::WalkDir::new(&r#final) {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let bytes = fs_err::read(entry.path()).unwrap();
                let found = memchr::memmem::find(&bytes, b"fprefix-relocatable");
                assert_eq!(found, None, "{entry:?}");
            }
        }
    }
    by_uri(&world);
    signatures(&world);

    // Without the shared packages there is nothing to work with, and nobody builds in silence.
    fs_err::rename(world.path("binpkgs"), world.path("elsewhere")).unwrap();
    let said = world.fprefix(["-P", "second", "emerge", "test-cases/flagged"]).said().ends_with(1);
    said.tells("the shared binary packages are not at");
}

/// Packages that were signed are installed, and nothing else is.
fn signatures(world: &World) {
    let (staging, r#final) = (dir(world, "first", "staging"), dir(world, "first", "final"));
    let keys = staging.join("etc/portage/gnupg");
    let key = make_key(world, &keys);
    let settings = format!(
        "FEATURES=\"${{FEATURES}} binpkg-signing binpkg-request-signature\"\n\
         BINPKG_GPG_SIGNING_KEY=\"{key}\"\n"
    );
    for environment in [&staging, &r#final] {
        world.write(environment.join("etc/portage/make.conf.user"), &settings);
    }
    let flagged = r#final.join("root/usr/local/fprefix-share/usr/share/flagged/always");
    let args = ["-P", "first", "emerge", "--oneshot", "test-cases/flagged"];
    world.fprefix(args).said().succeeds();
    assert!(flagged.exists());

    // Another's signature, as far as this keyring knows.
    world.fprefix(["-P", "first", "emerge", "--unmerge", "test-cases/flagged"]).said().succeeds();
    assert!(!flagged.exists());
    fs_err::rename(&keys, world.path("old-keys")).unwrap();
    make_key(world, &keys);
    let args = ["-P", "first", "emerge", "--install", "--oneshot", "test-cases/flagged"];
    let said = world.fprefix(args).said();
    assert!(!said.status.success(), "{said}");
    said.tells(
        "the binary package of test-cases/flagged-1 was refused: no key in etc/portage/gnupg",
    );
    assert!(!flagged.exists());
    by_uri_signed(world, &world.path("old-keys"));
}

/// A key of its own in a new keyring at `dir`; returns its name.
pub(crate) fn make_key(world: &World, dir: &Path) -> String {
    // gpg's agent has a socket in the keyring's directory, and sockets have short paths only
    // (unix(7)). In the sandbox the keyring has one.
    let short = tempfile::tempdir().unwrap();
    let home = [std::ffi::OsStr::new("--homedir"), short.path().as_os_str()];
    let make = ["--batch", "--passphrase", "", "--quick-gen-key", "test@example.org", "ed25519"];
    world.run("gpg").args(home).args(make).said().succeeds();
    let said = world.run("gpg").args(home).args(["--list-keys", "--with-colons"]).said().succeeds();
    world.run("gpgconf").args(home).args(["--kill", "all"]).said().succeeds();
    world.run("cp").args(["-a", "-T"]).args([short.path(), dir]).said().succeeds();
    let line = said.stdout.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap();
    line.trim_matches(':').to_owned()
}
