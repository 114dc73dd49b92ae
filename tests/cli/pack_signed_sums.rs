//! SHA256SUMS with the signature by which systemd-sysupdate trusts it.

use std::process::Output;

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{command, stdout_of, stdout_of_success};
use crate::harness::wait::wait_for_a_tick_since_changes;

/// gpg's agent listens on a socket there, whose path may not be long.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        let keys = Self(dir);
        let make = ["--batch", "--pinentry-mode", "loopback", "--passphrase", ""];
        let what = ["--quick-generate-key", "images@example.org", "ed25519", "sign", "never"];
        keys.gpg(&[&make[..], &what].concat());
        let ring = keys.ring();
        keys.gpg(&["--batch", "--output", &ring, "--export", "images@example.org"]);
        keys
    }

    fn home(&self) -> String {
        self.0.path().display().to_string()
    }

    /// What targets have as /etc/systemd/import-pubring.gpg.
    fn ring(&self) -> String {
        self.0.path().join("import-pubring.gpg").display().to_string()
    }

    fn gpg(&self, arguments: &[&str]) {
        let mut gpg = command("gpg");
        stdout_of_success(gpg.args(arguments).env("GNUPGHOME", self.0.path()).output().unwrap());
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = command("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.0.path()).output();
    }
}

/// Returns whether a target with the ring accepts the list of `output`.
fn is_trusted(small: &SmallRoot, keys: &Keys, output: &str) -> bool {
    let file = |name: &str| small.beside(output).join(name).display().to_string();
    let (ring, signature) = (keys.ring(), file("SHA256SUMS.gpg"));
    let arguments = ["--keyring", &ring, &signature, &file("SHA256SUMS")];
    command("gpgv").args(arguments).output().unwrap().status.success()
}

#[test]
fn targets_with_the_key_trust_the_list() {
    let (small, keys) = (SmallRoot::full(), Keys::new());
    let pack = |name: &str, more: &[&str]| -> Output {
        let options = ["--name", name, "--sign-sums", "images@example.org"];
        let mut command = fprefix();
        command.env("GNUPGHOME", keys.home());
        let arguments = small.arguments("out", &[&options[..], more].concat());
        command.args(arguments).output().unwrap()
    };
    let answer = stdout_of_success(pack("small", &[]));
    assert!(answer.contains("SHA256SUMS.gpg\n"), "{answer}");
    assert!(is_trusted(&small, &keys, "out"));
    // Another extension beside it, with the place of keys by option.
    let home = keys.home();
    let options = ["--name", "other", "--sign-sums", "images@example.org", "--gnupg-home", &home];
    small.pack("out", &options);
    let sums = fs_err::read_to_string(small.beside("out/SHA256SUMS")).unwrap();
    assert!(sums.contains("  small.raw\n") && sums.contains("  other.raw\n"), "{sums}");
    assert!(is_trusted(&small, &keys, "out"), "the list that both are in is not signed anew");
    stdout_of(
        "sh",
        ["-c", "cd $0 && sha256sum -c SHA256SUMS", small.beside("out").to_str().unwrap()],
    );

    // Without a key the list changes, and what was signed is said to be old.
    let unsigned = small.try_pack("out", &["--name", "third"]);
    let said = String::from_utf8_lossy(&unsigned.stderr).into_owned();
    assert!(said.contains("SHA256SUMS.gpg is the signature of an older list"), "{said}");
    assert!(!is_trusted(&small, &keys, "out"));
    wait_for_a_tick_since_changes(&small.root());
    stdout_of_success(pack("small", &[]));
    assert!(is_trusted(&small, &keys, "out"));
    stdout_of_success(pack("small", &[]));
    small.pack("out", &["--name", "third"]);
    stdout_of_success(pack("small", &[]));
    assert!(is_trusted(&small, &keys, "out"), "what has not changed is left with an old signature");
}

#[test]
fn keys_that_are_not_there_are_refused_first() {
    let (small, keys) = (SmallRoot::full(), Keys::new());
    let home = keys.home();
    let signing = ["--sign-sums", "nobody@example.org", "--gnupg-home", &home];
    let error = small.refuse("out", &signing);
    assert!(error.contains("gpg has no secret key \"nobody@example.org\""), "{error}");
    let error = small.refuse("out", &["--sign-sums", "a", "--gnupg-home", "/nowhere"]);
    insta::assert_snapshot!(error, @"error: --sign-sums: there is no directory /nowhere with keys of gpg");
    assert!(!small.beside("out").exists(), "something was written");
    let refused = small.try_pack("out", &["--sign-sums", "a", "--no-reports"]);
    assert_eq!(refused.status.code(), Some(2));
}
