//! Binary packages that prefixes share, and their signatures.

use std::path::{Path, PathBuf};

use crate::binhost_uri::{Server, by_uri, by_uri_signed};
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
    published(world);

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

/// Packages are put into a directory for web servers: once, whole, with the keys of who signed.
fn published(world: &World) {
    let publish = |more: &[&str]| {
        let args = ["-P", "first", "binhost", "publish", "pub", "--json"];
        world.fprefix(args).args(more).said().succeeds()
    };
    let said = publish(&[]).stdout;
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    // The answer has names escaped.
    let mut found = walkdir::WalkDir::new(world.path("pub")).into_iter().map(Result::unwrap);
    let list = found.find(|entry| entry.file_name() == "Packages").unwrap();
    let directory = list.path().parent().unwrap().to_owned();
    let small = "test-cases/small/small-1-1.gpkg.tar";
    let own = world.path("binpkgs").join(directory.strip_prefix(world.path("pub")).unwrap());
    let file = |dir: &Path| fs_err::metadata(dir.join(small)).unwrap();
    assert!(said.contains(small) && said.contains("flagged-1-1.gpkg.tar"), "{said}");
    assert!(same_file(&file(&own), &file(&directory)));
    let list = fs_err::read_to_string(directory.join("Packages")).unwrap();
    let count = format!("PACKAGES: {}\n", answer["packages"]);
    assert!(list.contains(&count) && list.contains(&format!("PATH: {small}\n")), "{list}");
    let keys = fs_err::read_to_string(world.path("pub/signing-keys.asc")).unwrap();
    assert!(keys.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"), "{keys}");

    // Again: nothing is new, and nothing changes.
    let answer: serde_json::Value = serde_json::from_str(&publish(&[]).stdout).unwrap();
    assert_eq!(answer["new"], serde_json::json!([]));
    assert_eq!(fs_err::read_to_string(directory.join("Packages")).unwrap(), list);

    // One that is not whole any more does not replace the one that is there.
    let whole = fs_err::read(own.join(small)).unwrap();
    let mut damaged = whole.clone();
    // A package is a tar archive: contents follow a header of 512 bytes, and padding follows contents.
    let name = memchr::memmem::find(&damaged, b"small-1-1/image.tar").unwrap();
    damaged[name / 512 * 512 + 512 + 8] ^= 1;
    fs_err::remove_file(own.join(small)).unwrap();
    world.write(own.join(small), &damaged);
    let said = publish(&["--prune"]).tells("small-1-1.gpkg.tar is not whole: ");
    let answer: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(answer["damaged"], serde_json::json!([small]), "{said}");
    assert_eq!(fs_err::read(directory.join(small)).unwrap(), whole);
    fs_err::remove_file(own.join(small)).unwrap();
    fs_err::hard_link(directory.join(small), own.join(small)).unwrap();
    let said = world.fprefix(["-P", "first", "binhost", "publish", "binpkgs"]).said().ends_with(1);
    said.tells("it is its binhost");
    fast(world);
}

/// A build takes all of final from the published directory, by URI, and staging stays empty. What the
/// binhost lacks is built.
fn fast(world: &World) {
    let server = Server::of(world, &world.path("pub"), "0");
    let file = |packages: &str| {
        format!(
            "[prefix]\nname = \"fast\"\neprefix = \"{SHORT_EPREFIX}\"\nrelocatable = true\n\
             binhost = \"{}\"\nwrapper-dir = \"wrappers\"\n\
             [trees]\noverlays = [\"overlay\"]\n[emerge]\npackages = [{packages}]\n\
             [pack]\noutput = \"images\"\n",
            server.uri
        )
    };
    world.write("fprefix.toml", file("\"test-cases/small\""));
    let said = world.fprefix(["build"]).said().succeeds();
    assert!(
        said.stderr.contains("from the binhost")
            && !said.stderr.contains("importing the toolchain"),
        "{said}"
    );
    let staging = dir(world, "fast", "staging");
    assert!(!staging.join("logs/setup.log").exists());
    assert!(world.path("images/fast.raw").is_file());
    let world_file = dir(world, "fast", "final").join("root/opt/s/var/lib/portage/world");
    assert_eq!(fs_err::read_to_string(world_file).unwrap(), "test-cases/small\n");
    for command in [&["emerge", "test-cases/small"][..], &["run", "portageq"], &["enter"]] {
        let said = world.fprefix(["-P", "fast"]).args(command).said().ends_with(1);
        said.tells("staging of fast-").tells("hint: fill it with `fprefix setup ");
    }

    // Nothing to do, then a package that nobody has built.
    world.fprefix(["build"]).said().succeeds().tells("from the binhost");
    world.write("fprefix.toml", file("\"test-cases/small\", \"test-cases/dated\""));
    let said = world.fprefix(["build"]).said().succeeds();
    said.tells("the binhost lacks test-cases/dated-1");
    assert!(staging.join("logs/setup.log").exists());
}

fn same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
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
