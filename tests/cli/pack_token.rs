//! Disk images that are signed with a key which stays in a token: one of `SoftHSM`, in a directory.

use std::process::{Command, Output};

use super::pack_ddi::key;
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{command, stdout_of, stdout_of_success};

const PIN: &str = "271828";

/// A root, and a token with the key `own` in it.
struct World {
    small: SmallRoot,
    certificate: String,
    file: String,
}

impl World {
    fn new() -> Self {
        let small = SmallRoot::full();
        let [file, certificate] = key(&small, "own");
        let tokens = small.beside("tokens");
        fs_err::create_dir(&tokens).unwrap();
        let configuration = format!("directories.tokendir = {}\n", tokens.display());
        fs_err::write(small.beside("softhsm2.conf"), configuration).unwrap();
        let world = Self { small, certificate, file };
        let pins = ["--pin", PIN, "--so-pin", "3141"];
        world.softhsm(&[&["--init-token", "--free", "--label", "token"], &pins[..]].concat());
        let pkcs8 = world.small.beside("pkcs8").display().to_string();
        stdout_of("openssl", ["pkcs8", "-topk8", "-nocrypt", "-in", &world.file, "-out", &pkcs8]);
        let import = ["--import", &pkcs8, "--token", "token", "--label", "own", "--id", "01"];
        world.softhsm(&[&import[..], &["--pin", PIN]].concat());
        world
    }

    fn with(&self, mut command: Command) -> Output {
        command.env("SOFTHSM2_CONF", self.small.beside("softhsm2.conf")).output().unwrap()
    }

    fn softhsm(&self, arguments: &[&str]) {
        let mut command = command("softhsm2-util");
        command.args(arguments);
        stdout_of_success(self.with(command));
    }

    fn pack(&self, output: &str, more: &[&str]) -> Output {
        let options = ["--format", "ddi", "--architecture", "x86-64", "--no-reports"];
        let certificate = ["--certificate", self.certificate.as_str()];
        // Without a terminal nobody is asked for a PIN.
        let mut command = command("setsid");
        let arguments = self.small.arguments(output, &[&options[..], &certificate, more].concat());
        command.arg("--wait").arg(fprefix().get_program()).args(arguments);
        command.env_remove("SOURCE_DATE_EPOCH").env("NO_COLOR", "1");
        self.with(command)
    }

    /// The error, in which no PIN is.
    fn refused(&self, uri: &str, more: &[&str]) -> String {
        let output = self.pack("refused", &[&["--private-key", uri], more].concat());
        let error = self.small.plain(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(!error.contains(PIN) && !error.contains("161803"), "{error}");
        assert!(!self.small.beside("refused/small.raw").exists());
        error
    }
}

#[test]
fn a_key_in_a_token_signs_like_one_in_a_file() {
    let world = World::new();
    stdout_of_success(world.pack("file", &["--private-key", &world.file]));
    let pin = world.small.beside("pin");
    fs_err::write(&pin, PIN).unwrap();
    let by_value = format!("pkcs11:token=token;object=own?pin-value={PIN}");
    let by_file = format!("pkcs11:token=token;object=own?pin-source=file:{}", pin.display());
    for (output, uri) in [("value", by_value), ("source", by_file)] {
        stdout_of_success(world.pack(output, &["--private-key", &uri]));
        // Signatures by RSA (PKCS #1, version 1.5) are the same each time, and so are images.
        let bytes =
            |output: &str| fs_err::read(world.small.beside(output).join("small.raw")).unwrap();
        assert!(bytes(output) == bytes("file"), "{output}: another signature");
    }
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let world = World::new();
    let own = "pkcs11:token=token;object=own";
    let error = world.refused(&format!("{own}?pin-value=161803"), &[]);
    assert!(error.contains("the PIN is wrong"), "{error}");
    let error = world.refused(&format!("pkcs11:token=no;object=own?pin-value={PIN}"), &[]);
    assert!(error.contains("no such token is there"), "{error}");
    let error = world.refused(&format!("pkcs11:token=token;object=no?pin-value={PIN}"), &[]);
    assert!(error.contains("the token has no such object"), "{error}");
    let error = world.refused(own, &[]);
    assert!(error.contains("there is no terminal to ask for it"), "{error}");
    let error = world.refused(own, &["--private-key-source", "engine:none"]);
    insta::assert_snapshot!(error, @"error: --private-key: openssl has no engine:none, which was named to read keys of tokens: install pkcs11-provider or libp11's engine (Debian: pkcs11-provider, libengine-pkcs11-openssl)");
    let error = world.refused(&world.file, &["--private-key-source", "engine:pkcs11"]);
    insta::assert_snapshot!(error, @"error: --private-key: [DIR]/own.key is a file, and no key of a token (pkcs11:...)");
    let bad = world.pack("refused", &["--private-key", own, "--private-key-source", "tpm2"]);
    assert_eq!(bad.status.code(), Some(2));
    // A token of which the key is another's.
    let [_, other] = key(&world.small, "other");
    let world = World { certificate: other, ..world };
    let error = world.refused(&format!("{own}?pin-value={PIN}"), &[]);
    assert!(error.contains("does not belong to the certificate"), "{error}");
}
