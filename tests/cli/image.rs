//! Extensions in the root directory of an OS image.

use std::path::{Path, PathBuf};

use super::small_root::{SmallRoot, fprefix, succeeded};

struct Os {
    small: SmallRoot,
    rootfs: PathBuf,
}

impl Os {
    fn new() -> Self {
        let small = SmallRoot::full();
        let rootfs = small.beside("rootfs");
        fs_err::create_dir_all(rootfs.join("usr")).unwrap();
        Self { small, rootfs }
    }

    fn try_image(&self, words: &[&str]) -> std::process::Output {
        let (command, rest) = words.split_first().unwrap();
        fprefix()
            .current_dir(self.small.beside("out"))
            .args(["image", command, "--rootfs"])
            .arg(&self.rootfs)
            .args(rest)
            .output()
            .unwrap()
    }

    fn image(&self, words: &[&str]) -> String {
        succeeded(self.try_image(words))
    }

    fn refuse(&self, words: &[&str]) -> String {
        let output = self.try_image(words);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
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
    os.small.pack("out", &[&oem[..], &["--format", "erofs"]].concat());
    let ddi = ["--name", "other", "--format", "ddi", "--architecture", "arm64"];
    os.small.pack("out", &ddi);
    fs_err::write(os.small.beside("out/key.crt"), "certificate").unwrap();
    os.image(&["add", "small.raw"]);
    assert_eq!(
        os.link("etc/extensions/small.raw"),
        Path::new("/opt/extensions/small/small-1.0-arm64.raw")
    );
    os.image(&["add", "--method", "oem", "oem-small.raw"]);
    assert_eq!(os.link("etc/extensions/oem-small.raw"), Path::new("/oem/sysext/oem-small-2.0.raw"));
    os.image(&["add", "--method", "built-in", "--certificate", "key.crt", "other.raw"]);
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
    assert!(os.refuse(&["remove", "small"]).contains("the image has no extension \"small\""));
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
}

#[test]
fn only_what_will_be_attached_is_taken() {
    let os = Os::new();
    os.small.pack("out", &[]);
    let out = os.small.beside("out");
    fs_err::copy(out.join("small.raw"), out.join("renamed.raw")).unwrap();
    let error = os.refuse(&["add", "renamed.raw"]);
    assert!(error.contains("renamed.raw holds the extension \"small\""), "{error}");
    let error = os.refuse(&["add", "--method", "oem", "small.raw"]);
    assert!(error.contains("pack it with --name oem-small"), "{error}");
    fs_err::write(out.join("text.raw"), "text").unwrap();
    assert!(os.refuse(&["add", "text.raw"]).contains("neither squashfs nor erofs"));
    let plan = os.image(&["add", "--dry-run", "small.raw"]);
    assert_eq!(
        plan,
        "copy small.raw to /opt/extensions/small/small.raw\n\
         link /etc/extensions/small.raw to /opt/extensions/small/small.raw\n"
    );
    assert!(!os.rootfs.join("opt").exists() && !os.rootfs.join("etc").exists());
}
