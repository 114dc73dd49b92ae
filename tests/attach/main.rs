//! Extensions, attached by systemd-sysext to a root that has nothing else. These tests need root, and
//! fail without; `./test` runs them through sudo. All mounts are in namespaces of their own.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and runs programs as a user does"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod booted;
mod btrfs;
mod debian;
mod image;
mod machine;

use std::path::Path;

use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{command, stdout_of, stdout_of_success};

/// The formats that a container or an empty root can attach. A disk image with hashes wants a kernel
/// with device-mapper: see `machine`.
const FORMATS: &[&str] =
    &["squashfs", "squashfs:xz", "erofs", "erofs:none", "erofs-tight", "ext4", "directory"];

/// A root with a program at `eprefix`.
fn root(eprefix: &'static str) -> SmallRoot {
    assert!(rustix::process::geteuid().is_root(), "attaching needs root: run ./test, or use sudo");
    let small = SmallRoot::empty(eprefix);
    small.copy(harness::small_programs::program(), "usr/bin/program", 0o755);
    small
}

/// Attaches `image` and runs the program in it, which has to end with its own status, having
/// used nothing but itself.
fn runs_from(small: &SmallRoot, image: &Path) {
    let output = fprefix()
        .args(["check", "--json", "--run", "program", "--eprefix", small.eprefix, "--image"])
        .arg(image)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let proof: serde_json::Value =
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}{error}"));
    assert_eq!(proof["status"], 42, "{answer}{error}");
    assert_eq!(proof["outside"], serde_json::json!([]), "{answer}{error}");
}

fn every_format(eprefix: &'static str) {
    let small = root(eprefix);
    for format in FORMATS {
        let output = small.beside(&format.replace(':', "-"));
        let answer = small.pack(output.to_str().unwrap(), &["--format", format]);
        let name = if *format == "directory" { "small" } else { "small.raw" };
        assert!(answer.starts_with(output.join(name).to_str().unwrap()), "{answer}");
        runs_from(&small, &output.join(name));
    }
}

#[test]
fn every_format_attaches_below_usr() {
    every_format("/usr/local/small");
}

#[test]
fn every_format_attaches_below_opt() {
    every_format("/opt/small");
}

#[test]
fn a_versioned_image_attaches_by_its_link() {
    let small = root("/usr/local/small");
    small.pack("out", &["--version", "1.0"]);
    // What the link is called is the name of the extension; the version is not part of it.
    let link = small.beside("out/small.raw");
    let target = small.beside("target");
    fs_err::create_dir(&target).unwrap();
    fs_err::copy(&link, target.join("small.raw")).unwrap();
    runs_from(&small, &target.join("small.raw"));
}

#[test]
fn whoever_packs_it_the_image_is_the_same() {
    let small = root("/usr/local/small");
    small.pack("root", &[]);
    let copy = tempfile::tempdir().unwrap();
    let (from, to) = (small.root().display().to_string(), copy.path().display().to_string());
    stdout_of("cp", ["-a", &from, &to]);
    let binary = copy.path().join("fprefix");
    fs_err::copy(FPREFIX, &binary).unwrap();
    stdout_of("chown", ["-R", "nobody", &to]);
    let output = command("runuser")
        .args(["-u", "nobody", "--"])
        .arg(binary)
        .args(["pack", "--eprefix", small.eprefix, "--root"])
        .arg(copy.path().join("root"))
        .args(["--format", "squashfs", "--format", "erofs", "--output"])
        .arg(copy.path().join("out"))
        .current_dir("/")
        .env_remove("SOURCE_DATE_EPOCH")
        .output()
        .unwrap();
    stdout_of_success(output);
    small.pack("out", &["--format", "squashfs", "--format", "erofs"]);
    for name in ["small.squashfs.raw", "small.erofs.raw"] {
        let by_root = fs_err::read(small.beside("out").join(name)).unwrap();
        assert!(by_root == fs_err::read(copy.path().join("out").join(name)).unwrap(), "{name}");
    }
}
