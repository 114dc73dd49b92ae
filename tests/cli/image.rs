//! Extensions in the root directory of an OS image.

use std::path::{Path, PathBuf};

use super::pack_ddi::key;
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{stdout_of, stdout_of_success};

/// The root directory of an OS image, and a small root to pack extensions from.
pub(crate) struct Os {
    pub small: SmallRoot,
    pub rootfs: PathBuf,
}

impl Os {
    pub(crate) fn new() -> Self {
        let small = SmallRoot::full();
        let rootfs = small.beside("rootfs");
        fs_err::create_dir_all(rootfs.join("usr")).unwrap();
        fs_err::create_dir_all(small.beside("out")).unwrap();
        Self { small, rootfs }
    }

    pub(crate) fn try_image(&self, words: &[&str]) -> std::process::Output {
        let (command, rest) = words.split_first().unwrap();
        fprefix()
            .current_dir(self.small.beside("out"))
            .env("FPREFIX_HOME", self.small.beside("home"))
            .args(["image", command, "--rootfs"])
            .arg(&self.rootfs)
            .args(rest)
            .output()
            .unwrap()
    }

    pub(crate) fn image(&self, words: &[&str]) -> String {
        stdout_of_success(self.try_image(words))
    }

    fn refuse(&self, words: &[&str]) -> String {
        let output = self.try_image(words);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        self.small.plain(&output.stderr)
    }

    fn text(&self, path: &str) -> String {
        fs_err::read_to_string(self.rootfs.join(path)).unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.rootfs.join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, text).unwrap();
    }

    fn is_flatcar(&self, version: &str) {
        self.write("usr/lib/os-release", &format!("ID=flatcar\nVERSION={version}\n"));
    }

    fn link(&self, path: &str) -> PathBuf {
        fs_err::read_link(self.rootfs.join(path)).unwrap()
    }
}

#[test]
fn each_method_has_its_place() {
    let os = Os::new();
    os.small.pack("out", &["--version", "1.0", "--architecture", "arm64"]);
    let oem = ["--name", "oem-small", "--version", "2.0", "--architecture", "arm64"];
    os.small.pack("out", &[&oem[..], &["--format", "erofs:none"]].concat());
    let [key, certificate] = key(&os.small, "key");
    let ddi = ["--name", "other", "--format", "ddi:none", "--architecture", "arm64"];
    let signing = ["--private-key", key.as_str(), "--certificate", certificate.as_str()];
    os.small.pack("out", &[&ddi[..], &signing].concat());
    os.image(&["add", "small.raw"]);
    assert_eq!(
        os.link("etc/extensions/small.raw"),
        Path::new("/opt/extensions/small/small-1.0-arm64.raw")
    );
    os.image(&["add", "--method", "oem", "oem-small.raw"]);
    assert!(os.rootfs.join("oem/sysext/active-oem-small").is_file());
    assert_eq!(os.text("oem/oem-release"), "ID=small\n");
    assert_eq!(os.link("etc/extensions/oem-small.raw"), Path::new("/oem/sysext/oem-small-2.0.raw"));
    os.image(&["add", "--method", "built-in", "--certificate", &certificate, "other.raw"]);
    assert_eq!(
        os.link("etc/extensions/other.raw"),
        Path::new("/usr/share/flatcar/sysext/other.raw")
    );
    assert!(os.rootfs.join("usr/lib/verity.d/other.crt").is_file());
    let listed: serde_json::Value = serde_json::from_str(&os.image(&["list", "--json"])).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["oem-small", "other", "small"]);
    let copied = fs_err::read(os.rootfs.join("opt/extensions/small/small-1.0-arm64.raw")).unwrap();
    assert!(copied == fs_err::read(os.small.beside("out/small.raw")).unwrap());

    for name in ["small", "oem-small", "other"] {
        os.image(&["remove", name]);
    }
    assert_eq!(os.image(&["list"]), "");
    assert!(!os.rootfs.join("opt/extensions/small").exists());
    assert!(!os.rootfs.join("usr/lib/verity.d/other.crt").exists());
    insta::assert_snapshot!(os.refuse(&["remove", "small"]), @r#"error: the image has no extension "small"; it has none"#);
}

#[test]
fn flatcar_finds_what_has_its_own_version() {
    let os = Os::new();
    os.is_flatcar("4000.1.0");
    os.small.pack("out", &["--name", "oem-x", "--version", "2.0", "--format", "squashfs:none"]);
    os.image(&["add", "--method", "oem", "oem-x.raw"]);
    assert_eq!(os.link("etc/extensions/oem-x.raw"), Path::new("/oem/sysext/oem-x-4000.1.0.raw"));
    os.small.pack("out", &["--name", "oem-y", "--format", "squashfs:none"]);
    let error = os.refuse(&["add", "--method", "oem", "oem-y.raw"]);
    insta::assert_snapshot!(error, @r#"error: /oem/oem-release of the image says that it is for "x", so that "y" would never be attached"#);
    os.image(&["remove", "oem-x"]);
    assert!(!os.rootfs.join("oem/sysext/active-oem-x").exists());

    for name in ["flatcar-a", "flatcar-b"] {
        os.small.pack("out", &["--name", name]);
    }
    os.write("etc/flatcar/enabled-sysext.conf", "# ours\n-a\nzfs # a filesystem\n");
    os.image(&["add", "--method", "extra", "flatcar-a.raw", "flatcar-b.raw"]);
    let enabled = "# ours\nzfs # a filesystem\na\nb\n";
    assert_eq!(os.text("etc/flatcar/enabled-sysext.conf"), enabled);
    let place = Path::new("/etc/flatcar/sysext/flatcar-a-4000.1.0.raw");
    assert_eq!(os.link("etc/extensions/flatcar-a.raw"), place);
    assert!(os.rootfs.join("etc/flatcar/sysext/flatcar-b-4000.1.0.raw").is_file());
    os.image(&["remove", "flatcar-a"]);
    assert_eq!(os.text("etc/flatcar/enabled-sysext.conf"), "# ours\nzfs # a filesystem\nb\n");
    assert!(!os.rootfs.join("etc/flatcar/sysext/flatcar-a-4000.1.0.raw").exists());
    let error = os.refuse(&["add", "--method", "extra", "oem-x.raw"]);
    insta::assert_snapshot!(error, @"error: an extra extension is called flatcar-ID; pack it with --name flatcar-oem-x");
}

#[test]
fn what_goes_to_a_compressed_place_is_not_compressed() {
    let os = Os::new();
    os.small.pack("out", &["--architecture", "arm64"]);
    os.image(&["add", "--method", "built-in", "small.raw"]);
    let listing = |image: &Path| stdout_of("unsquashfs", ["-lln", image.to_str().unwrap()]);
    let facts = |image: &Path| stdout_of("unsquashfs", ["-stat", image.to_str().unwrap()]);
    let (ours, theirs) =
        (os.small.beside("out/small.raw"), os.rootfs.join("usr/share/flatcar/sysext/small.raw"));
    assert!(facts(&ours).contains("Data is compressed"), "{}", facts(&ours));
    assert!(facts(&theirs).contains("Data is uncompressed"), "{}", facts(&theirs));
    assert_eq!(listing(&ours), listing(&theirs));

    os.small.pack("out", &["--format", "ddi", "--architecture", "arm64"]);
    let error = os.refuse(&["add", "--method", "built-in", "small.raw"]);
    insta::assert_snapshot!(error, @"error: small.raw is compressed, and so is where it goes: packing it anew would break its hashes and its signature; pack it with --format ddi:none");
    os.small.pack("out", &["--format", "erofs", "--architecture", "arm64"]);
    let error = os.refuse(&["add", "--method", "built-in", "small.raw"]);
    insta::assert_snapshot!(error, @"error: small.raw is compressed, and so is where it goes: pack it with --format erofs:none");
}

#[test]
fn a_signed_extension_needs_the_certificate_it_was_signed_with() {
    let os = Os::new();
    let [key_file, certificate] = key(&os.small, "own");
    let [_, other] = key(&os.small, "other");
    let signing = ["--private-key", key_file.as_str(), "--certificate", certificate.as_str()];
    let ddi = ["--format", "ddi", "--architecture", "arm64"];
    os.small.pack("out", &[&ddi[..], &signing[..]].concat());
    let error = os.refuse(&["add", "small.raw"]);
    insta::assert_snapshot!(error, @"error: could not add small.raw: it is signed, and targets accept it only if they have the certificate: name that with --certificate FILE");
    let error = os.refuse(&["add", "--certificate", &other, "small.raw"]);
    insta::assert_snapshot!(error, @"error: could not add small.raw: it is signed with another certificate than [DIR]/other.crt");
    assert!(!os.rootfs.join("opt").exists());
    os.image(&["add", "--certificate", &certificate, "small.raw"]);
    assert_eq!(
        os.text("usr/lib/verity.d/small.crt"),
        fs_err::read_to_string(&certificate).unwrap()
    );
    os.small.pack("out", &[]);
    let error = os.refuse(&["add", "--certificate", &certificate, "small.raw"]);
    insta::assert_snapshot!(error, @"error: could not add small.raw: it is not signed: leave --certificate [DIR]/own.crt out");
}

#[test]
fn whiteouts_are_those_of_rules_that_the_base_has_files_for() {
    let os = Os::new();
    os.write("usr/lib/tmpfiles.d/a.conf", "L+ /etc/resolv.conf - - - - x\nf /etc/not-there\n");
    os.write("usr/lib/tmpfiles.d/b.conf", "d /etc/ssl/certs 0755\nr /etc/removed\nf /var/x\n");
    os.write("usr/lib/tmpfiles.d/hidden.conf", "f /etc/hidden\n");
    os.write("etc/tmpfiles.d/hidden.conf", "# nothing\n");
    os.write("usr/share/flatcar/etc/hidden", "");
    os.write("usr/share/flatcar/etc/ssl/certs/one", "");
    let link = os.rootfs.join("usr/share/flatcar/etc/resolv.conf");
    fs_err::os::unix::fs::symlink("../run/nowhere", link).unwrap();
    let list = "/etc/resolv.conf\n/etc/ssl\n/etc/ssl/certs\n";
    assert_eq!(os.image(&["etc-whiteouts", "--dry-run"]), list);
    assert!(!os.rootfs.join("usr/libexec").exists());
    assert_eq!(os.image(&["etc-whiteouts"]), list);
    assert_eq!(os.text("usr/share/flatcar/etc-no-whiteouts"), list);
    let script = os.rootfs.join("usr/libexec/etc-whiteouts");
    stdout_of("shellcheck", [script.to_str().unwrap()]);
    let wanted = "usr/lib/systemd/system/initrd-root-fs.target.wants/etc-whiteouts.service";
    assert!(os.text(wanted).contains("ExecStart=/bin/sh /sysroot/usr/libexec/etc-whiteouts "));
    assert_eq!(os.image(&["etc-whiteouts", "--dry-run", "--base", "/etc"]), "");
}

#[test]
fn an_image_build_refuses_what_it_can_not_do_before_it_begins() {
    let os = Os::new();
    let build = |sysexts: &str, more: &[&str]| {
        let words = ["build", "--output", "built", "--sysexts", sysexts];
        os.try_image(&[&words[..], more].concat())
    };
    for bad in ["jq", "a|jq", "a|b/c,a|d/e", "a|--ask"] {
        assert_eq!(build(bad, &[]).status.code(), Some(2), "{bad}");
    }
    let one = build("a|b/c", &["--version", "1"]);
    let said = String::from_utf8_lossy(&one.stderr).into_owned();
    assert_eq!(one.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot be used with '--version <VERSION>'"), "{said}");
    // The name that comes last is on top, whatever builds on what.
    for (sysexts, is_warned) in [("z|b/c,a|d/e", true), ("a9|b/c,a10|d/e", false)] {
        let said = String::from_utf8_lossy(&build(sysexts, &[]).stderr).into_owned();
        assert_eq!(
            said.contains("a builds on z, and systemd attaches z over it"),
            is_warned,
            "{said}"
        );
    }
    let certificate = ["--private-key", "/nowhere", "--certificate", "/nowhere"];
    for (more, error) in [
        (&["--format", "tar"][..], "an image gets image files, and tar is none"),
        (&["--mangle", "/nowhere"], "there is no directory /nowhere with mangle scripts"),
        (&certificate, "only ddi can be signed"),
        (&[], "there is no prefix"),
    ] {
        let output = build("a|b/c", more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(error), "{said}");
    }
    assert!(!os.small.beside("out/built").exists());
}

#[test]
fn a_new_version_takes_the_link_over() {
    let os = Os::new();
    for version in ["1.0", "1.1"] {
        os.small.pack("out", &["--version", version, "--architecture", "arm64"]);
        os.image(&["add", "small.raw"]);
    }
    let files = os.rootfs.join("opt/extensions/small");
    assert_eq!(fs_err::read_dir(files).unwrap().count(), 2);
    assert!(os.link("etc/extensions/small.raw").ends_with("small-1.1-arm64.raw"));
}

#[test]
fn links_of_the_image_do_not_lead_out_of_it() {
    let os = Os::new();
    os.small.pack("out", &[]);
    let outside = os.small.beside("outside");
    fs_err::create_dir(&outside).unwrap();
    fs_err::os::unix::fs::symlink(&outside, os.rootfs.join("opt")).unwrap();
    os.image(&["add", "small.raw"]);
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0, "it was written outside");
    assert!(os.image(&["list"]).contains("MiB)") || os.image(&["list"]).contains("KiB)"));
    // Nothing is made of a part that is missing, since what follows would lead up from it.
    fs_err::remove_file(os.rootfs.join("opt")).unwrap();
    fs_err::os::unix::fs::symlink("missing/../../outside", os.rootfs.join("opt")).unwrap();
    let error = os.refuse(&["add", "small.raw"]);
    assert!(error.contains("leads up from /missing, which is no directory there"), "{error}");
    assert_eq!(fs_err::read_dir(&outside).unwrap().count(), 0, "it was written outside");
}

#[test]
fn a_name_that_pack_could_not_give_is_refused() {
    let os = Os::new();
    for name in ["a\nb", "\x1b[31mred", "a b", ".hidden", "a.raw"] {
        let tree = os.small.beside("foreign");
        let release = tree.join("usr/lib/extension-release.d");
        fs_err::create_dir_all(&release).unwrap();
        fs_err::write(release.join(format!("extension-release.{name}")), "ID=_any\n").unwrap();
        let image = os.small.beside("out/foreign.raw");
        fs_err::create_dir_all(image.parent().unwrap()).unwrap();
        let words = ["-quiet", "-no-progress", "-noappend"];
        let paths = [tree.to_str().unwrap(), image.to_str().unwrap()];
        stdout_of("mksquashfs", [&paths[..], &words].concat());
        let error = os.refuse(&["add", "foreign.raw"]);
        let told = if name.contains('\n') { "a name in it has a newline" } else { "the name " };
        assert!(error.contains(told) && error.contains("foreign.raw"), "{error}");
        assert!(!error.contains('\x1b') && error.trim().lines().count() == 1, "{error:?}");
        fs_err::remove_dir_all(&tree).unwrap();
    }
    assert!(!os.rootfs.join("opt").exists() && !os.rootfs.join("etc").exists());
}

#[test]
fn only_what_will_be_attached_is_taken() {
    let os = Os::new();
    os.small.pack("out", &[]);
    let out = os.small.beside("out");
    fs_err::copy(out.join("small.raw"), out.join("renamed.raw")).unwrap();
    let error = os.refuse(&["add", "renamed.raw"]);
    insta::assert_snapshot!(error, @r#"error: renamed.raw holds the extension "small"; call the file small-VERSION-ARCH.raw or small.raw"#);
    let error = os.refuse(&["add", "--method", "oem", "small.raw"]);
    insta::assert_snapshot!(error, @"error: an OEM extension is called oem-ID; pack it with --name oem-small");
    fs_err::write(out.join("text.raw"), "text").unwrap();
    insta::assert_snapshot!(os.refuse(&["add", "text.raw"]), @"error: could not look into text.raw: it is neither squashfs nor erofs nor ddi nor btrfs nor ext4");
    let plan = os.image(&["add", "--dry-run", "small.raw"]);
    assert_eq!(
        plan,
        "copy small.raw to /opt/extensions/small/small.raw\n\
         link /etc/extensions/small.raw to /opt/extensions/small/small.raw\n"
    );
    assert!(!os.rootfs.join("opt").exists() && !os.rootfs.join("etc").exists());
}

/// A signed extension in an image of which a test changes bytes.
struct Signed {
    os: Os,
    certificate: String,
    whole: Vec<u8>,
}

impl Signed {
    fn new() -> Self {
        let os = Os::new();
        let [key_file, certificate] = key(&os.small, "own");
        let signing = ["--private-key", key_file.as_str(), "--certificate", certificate.as_str()];
        let ddi = ["--format", "ddi:none", "--architecture", "arm64"];
        os.small.pack("out", &[&ddi[..], &signing[..]].concat());
        let whole = fs_err::read(os.small.beside("out/small.raw")).unwrap();
        Self { os, certificate, whole }
    }

    /// The offset of a partition, and its size.
    fn partition(&self, kind: &str) -> (usize, usize) {
        let image = self.os.small.beside("out/small.raw");
        let table = stdout_of(
            "partx",
            ["--noheadings", "-o", "START,SECTORS,TYPE", "-s", image.to_str().unwrap()],
        );
        let line = table.lines().find(|line| line.contains(kind)).unwrap();
        let mut words = line.split_whitespace().map(str::parse::<usize>);
        let mut number = || words.next().unwrap().unwrap() * 512;
        (number(), number())
    }

    /// The error of adding it after `change`.
    fn refuse(&self, change: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut bytes = self.whole.clone();
        change(&mut bytes);
        assert!(bytes != self.whole);
        fs_err::write(self.os.small.beside("out/small.raw"), bytes).unwrap();
        let error = self.os.refuse(&["add", "--certificate", &self.certificate, "small.raw"]);
        assert!(!self.os.rootfs.join("opt").exists() && !self.os.rootfs.join("etc").exists());
        fs_err::write(self.os.small.beside("out/small.raw"), &self.whole).unwrap();
        error
    }

    /// The error of adding it with other texts in its signature.
    fn refuse_json(&self, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let (start, size) = self.partition(SIGNATURE);
        self.refuse(|bytes| {
            let place = &mut bytes[start..start + size];
            let text = place.split(|byte| *byte == 0).next().unwrap();
            let mut json = serde_json::from_slice(text).unwrap();
            change(&mut json);
            let text = serde_json::to_vec(&json).unwrap();
            place.fill(0);
            place[..text.len()].copy_from_slice(&text);
        })
    }
}

/// Partitions of an image for arm64.
const DATA: &str = "b921b045-1df0-41c3-af44-4c6f280d3fae";
const HASHES: &str = "df3300ce-d69f-4c92-978c-9bfb0f38d820";
const SIGNATURE: &str = "6db69de6-29f4-4758-a7a5-962190f00ce3";

#[test]
fn data_and_hashes_of_a_signed_extension_are_verified() {
    let signed = Signed::new();
    let (data, size) = signed.partition(DATA);
    // In the middle of a file, where no filesystem would notice, and in the last block.
    for at in [data + size / 2, data + size - 1] {
        let error = signed.refuse(|bytes| bytes[at] ^= 1);
        assert!(error.contains("the root hash of its data is "), "{at}: {error}");
    }
    let (hashes, _) = signed.partition(HASHES);
    let error = signed.refuse(|bytes| bytes[hashes + 4096] ^= 1);
    assert!(error.contains("its hashes are not those of its data"), "{error}");
    // The algorithm, the number of blocks, the size of the salt, the salt.
    for (at, says) in [
        (32, "of another form"),
        (72, " blocks, and it has "),
        (80, "the root hash of its data is "),
        (81, "a salt of "),
        (88, "the root hash of its data is "),
    ] {
        let error = signed.refuse(|bytes| bytes[hashes + at] ^= 1);
        assert!(error.contains(says), "{at}: {error}");
    }
    let os = &signed.os;
    os.image(&["add", "--certificate", &signed.certificate, "small.raw"]);
}

#[test]
fn the_signature_of_an_extension_is_verified() {
    let signed = Signed::new();
    let signature = |json: &serde_json::Value| json["signature"].as_str().unwrap().to_owned();
    // Another signature of the same key, of the same form.
    let other = Signed::new();
    let mut foreign = String::new();
    other.refuse_json(|json| {
        foreign = signature(json);
        json["rootHash"] = "00".into();
    });
    let error = signed.refuse_json(|json| json["signature"] = foreign.into());
    assert!(error.contains("with another certificate than [DIR]/own.crt"), "{error}");
    let error = signed.refuse_json(|json| {
        let text = signature(json);
        let last = text.len() - 20;
        let digit = if &text[last..=last] == "A" { "B" } else { "A" };
        json["signature"] = format!("{}{digit}{}", &text[..last], &text[last + 1..]).into();
    });
    assert!(error.contains("with another certificate than [DIR]/own.crt"), "{error}");
    for (key, value, says) in [
        ("rootHash", "00", "its signature is of the root hash \"00\""),
        ("certificateFingerprint", "00", "with another certificate than [DIR]/own.crt"),
        ("signature", "?", "its signature is no base64"),
        ("signature", "", "with another certificate than [DIR]/own.crt"),
    ] {
        let error = signed.refuse_json(|json| json[key] = value.into());
        assert!(error.contains(says), "{key}: {error}");
    }
    // A signature carries its own certificate, which proves nothing.
    let [_, other] = key(&signed.os.small, "other");
    let own = fs_err::read(&signed.certificate).unwrap();
    fs_err::copy(other, &signed.certificate).unwrap();
    let der = signed.os.small.beside("der").display().to_string();
    stdout_of("openssl", ["x509", "-in", &signed.certificate, "-outform", "der", "-out", &der]);
    let sum = stdout_of("sha256sum", [&der]).split(' ').next().unwrap().to_owned();
    for fingerprint in [sum.into(), serde_json::Value::Null] {
        let error = signed.refuse_json(|json| json["certificateFingerprint"] = fingerprint);
        assert!(error.contains("with another certificate than [DIR]/own.crt"), "{error}");
    }
    fs_err::write(&signed.certificate, own).unwrap();
    // Without the fingerprint, which is optional, it is as good as with it.
    let mut bytes = signed.whole.clone();
    let (start, _) = signed.partition(SIGNATURE);
    let at = bytes[start..].windows(7).position(|word| word == b"certifi").unwrap() + start;
    bytes[at] = b'C';
    fs_err::write(signed.os.small.beside("out/small.raw"), bytes).unwrap();
    signed.os.image(&["add", "--certificate", &signed.certificate, "small.raw"]);
}

#[test]
fn hashes_without_a_signature_are_verified_too() {
    let os = Os::new();
    os.small.pack("out", &["--format", "ddi:none", "--architecture", "arm64"]);
    let image = os.small.beside("out/small.raw");
    let mut bytes = fs_err::read(&image).unwrap();
    os.image(&["add", "--dry-run", "small.raw"]);
    bytes[(1 << 20) + 5000] ^= 1;
    fs_err::write(image, bytes).unwrap();
    let error = os.refuse(&["add", "small.raw"]);
    assert!(error.contains("the root hash of its data is "), "{error}");
}
