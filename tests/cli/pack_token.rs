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

    /// Opens a build file that signs with the key `uri`. Returns what was said, in which no PIN is,
    /// and the programs that were started.
    fn build(&self, uri: &str) -> (String, String) {
        let text = format!(
            "[prefix]\nname = \"x\"\neprefix = \"/usr/local/x\"\nwrapper-dir = \"bin\"\n\
             [emerge]\npackages = [\"a/b\"]\n[pack]\nformat = [\"ddi\"]\n\
             private-key = \"{uri}\"\ncertificate = \"{}\"\n",
            self.certificate
        );
        let (file, trace) = (self.small.beside("fprefix.toml"), self.small.beside("trace"));
        fs_err::write(&file, text).unwrap();
        let mut command = command("strace");
        command.args(["-f", "-qq", "-s", "4096", "-e", "trace=execve", "-e", "signal=none", "-o"]);
        command.arg(&trace).arg(fprefix().get_program()).args(["build", "--dry-run"]).arg(&file);
        command.env("FPREFIX_HOME", self.small.beside("home")).env("NO_COLOR", "1");
        let error = self.small.plain(&self.with(command).stderr);
        assert!(!error.contains(PIN) && !error.contains("161803"), "{error}");
        (error, fs_err::read_to_string(trace).unwrap())
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
    let by_file = format!("pkcs11:token=token;object=own?pin-source=file:{}", pin.display());
    stdout_of_success(world.pack("source", &["--private-key", &by_file]));
    // Signatures by RSA (PKCS #1, version 1.5) are the same each time, and so are images.
    let bytes = |output: &str| fs_err::read(world.small.beside(output).join("small.raw")).unwrap();
    assert!(bytes("source") == bytes("file"), "another signature");
}

#[test]
fn a_pin_is_no_argument_of_any_program() {
    let world = World::new();
    let own = "pkcs11:token=token;object=own";
    for uri in [format!("{own}?pin-value={PIN}"), format!("{own};pin-value={PIN}")] {
        let error = world.refused(&uri, &[]);
        assert!(error.starts_with("error: --private-key: the URI has a PIN in it"), "{error}");
        assert!(error.contains("\nhint: ") && error.contains("pin-source=file:/PATH"), "{error}");
    }
    let both = ["--private-key", &world.file, "--certificate"];
    let uri = format!("{own}?pin-value={PIN}");
    let mut command = command(fprefix().get_program());
    command.args(
        world.small.arguments("refused", &[&["--format", "ddi"], &both[..], &[&uri]].concat()),
    );
    let error = String::from_utf8(world.with(command).stderr).unwrap();
    assert!(error.starts_with("error: --certificate: the URI has a PIN in it"), "{error}");
    assert!(!error.contains(PIN), "{error}");

    // In a build file it may stand, which only its owner need be able to read.
    let (_, trace) = world.build(&format!("{own}?pin-value={PIN}"));
    let openssl = trace.lines().find(|line| line.contains("\"pkey\""));
    assert!(openssl.unwrap().contains("pin-source=file:/proc/self/fd/"), "{trace}");
    assert!(!trace.contains(PIN), "{trace}");
    assert!(trace.contains("\"pkey\"") && trace.contains("= 0"), "{trace}");
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let world = World::new();
    let own = "pkcs11:token=token;object=own";
    let (error, _) = world.build(&format!("{own}?pin-value=161803"));
    assert!(error.contains("the PIN is wrong"), "{error}");
    let (error, _) = world.build(&format!("pkcs11:token=no;object=own?pin-value={PIN}"));
    assert!(error.contains("no such token is there"), "{error}");
    let (error, _) = world.build(&format!("pkcs11:token=token;object=no?pin-value={PIN}"));
    assert!(error.contains("the token has no such object"), "{error}");
    let (error, _) = world.build(&format!("{own}?pin-value={PIN}&pin-source=file:/x"));
    assert!(error.contains("the URI has a PIN and the place of one"), "{error}");
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
    let pin = world.small.beside("pin");
    fs_err::write(&pin, PIN).unwrap();
    let error = world.refused(&format!("{own}?pin-source=file:{}", pin.display()), &[]);
    assert!(error.contains("does not belong to the certificate"), "{error}");
}
