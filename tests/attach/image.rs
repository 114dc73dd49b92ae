//! Image builds that need root: an overlay of /etc, and filesystems that cannot be written.

use std::path::Path;
use std::process::Output;

use super::root;
use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{command, stdout_of_success};

/// Runs `script` in a mount namespace of its own.
fn apart(dir: &Path, script: &str) -> Output {
    command("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script])
        .current_dir(dir)
        .env("FPREFIX", FPREFIX)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

#[test]
fn what_was_removed_from_an_overlay_of_etc_comes_through_again() {
    let small = root("/usr/local/small");
    let rootfs = small.beside("rootfs");
    super::debian::write(&rootfs.join("usr/share/flatcar/etc/ssl/one"), "one");
    super::debian::write(&rootfs.join("usr/share/flatcar/etc/two"), "two");
    super::debian::write(&rootfs.join("usr/share/flatcar/etc/three"), "three");
    let rules = "f /etc/ssl/one\nf /etc/two\n";
    super::debian::write(&rootfs.join("usr/lib/tmpfiles.d/a.conf"), rules);
    let arguments = ["image", "etc-whiteouts", "--rootfs", rootfs.to_str().unwrap()];
    stdout_of_success(fprefix().args(arguments).output().unwrap());
    let script = "mount -t tmpfs tmpfs /mnt
        mkdir /mnt/upper /mnt/work /mnt/etc
        layers=lowerdir=$PWD/rootfs/usr/share/flatcar/etc,upperdir=/mnt/upper,workdir=/mnt/work
        mount -t overlay overlay -o $layers /mnt/etc
        rm -r /mnt/etc/ssl /mnt/etc/two /mnt/etc/three
        ls /mnt/etc
        umount /mnt/etc
        list=rootfs/usr/share/flatcar/etc-no-whiteouts
        sh rootfs/usr/libexec/etc-whiteouts $list /mnt/upper
        mount -t overlay overlay -o $layers /mnt/etc
        cat /mnt/etc/ssl/one /mnt/etc/two
        test ! -e /mnt/etc/three";
    assert_eq!(stdout_of_success(apart(&small.beside(""), script)), "onetwo");
}

/// Adds an image to a root on a filesystem that was mounted with `options`; returns the error.
fn refused(small: &SmallRoot, options: &str, after: &str) -> String {
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs /mnt
         mkdir -p /mnt/rootfs/usr
         {after}
         \"$FPREFIX\" image add --rootfs /mnt/rootfs out/small.raw"
    );
    let output = apart(&small.beside(""), &script);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    error
}

#[test]
fn errors_of_a_filesystem_say_how_it_is() {
    let small = root("/usr/local/small");
    small.pack("out", &["--format", "squashfs:none"]);
    let error = refused(&small, "size=4k", "");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(
        error.contains("/mnt/rootfs is on /mnt: tmpfs (tmpfs, writable): 4.00 KiB, "),
        "{error}"
    );
    assert!(error.contains("the kernel said"), "{error}");
    let error = refused(&small, "size=1M", "mount -o remount,ro /mnt");
    assert!(error.contains("Read-only file system"), "{error}");
    assert!(
        error.contains("/mnt/rootfs is on /mnt: tmpfs (tmpfs, read-only): 1.00 MiB, "),
        "{error}"
    );
}
