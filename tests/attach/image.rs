//! Image builds that need root: an overlay of /etc, and filesystems that cannot be written.

use std::path::Path;
use std::process::Output;

use super::root;
use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{command, stdout_of, stdout_of_success};

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

/// Makes the extension NAME.raw with the files of `list`: pairs of a path and its content.
fn extension(small: &SmallRoot, name: &str, list: &[(&str, &str)]) {
    let tree = small.beside(name);
    let release = format!("usr/lib/extension-release.d/extension-release.{name}");
    for (path, text) in list.iter().chain([&(&*release, "ID=_any\n")]) {
        super::debian::write(&tree.join(path), text);
    }
    let (tree, image) = (tree.display().to_string(), format!("{}.raw", tree.display()));
    stdout_of("mksquashfs", [&*tree, &image, "-quiet", "-no-progress", "-all-root"]);
}

/// Adds an extension to the OS image; returns the exit code.
fn add(small: &SmallRoot, name: &str, more: &[&str]) -> Option<i32> {
    let (rootfs, image) = (small.beside("rootfs"), small.beside(&format!("{name}.raw")));
    let words = ["image", "add", "--rootfs", rootfs.to_str().unwrap(), image.to_str().unwrap()];
    fprefix().args(words).args(more).output().unwrap().status.code()
}

/// The order of extensions, and one that stops all, are to systemd what `image add` says.
#[test]
fn systemd_agrees_with_what_is_said_when_extensions_are_added() {
    let small = root("/usr/local/small");
    let rootfs = small.beside("rootfs");
    super::debian::write(&rootfs.join("usr/lib/os-release"), "ID=demo\n");
    fs_err::create_dir_all(rootfs.join("etc")).unwrap();
    fs_err::os::unix::fs::symlink("../usr/lib/os-release", rootfs.join("etc/os-release")).unwrap();
    for (name, text) in [("a10", "ten"), ("a9", "nine")] {
        extension(&small, name, &[("usr/share/shared", text)]);
        assert_eq!(add(&small, name, &[]), Some(0));
    }
    // Links of another root are not followed by systemd 252.
    let script = "mount --make-rshared /
        mount -t tmpfs tmpfs /run
        mkdir -p rootfs/var/lib/extensions
        cp rootfs/opt/extensions/*/*.raw rootfs/var/lib/extensions
        systemd-sysext --root=$PWD/rootfs merge > log 2>&1 || true
        cat rootfs/usr/share/shared || echo nothing is attached
        systemd-sysext --root=$PWD/rootfs unmerge >> log 2>&1 || true
        ! mountpoint -q rootfs/usr || umount rootfs/usr";
    assert_eq!(stdout_of_success(apart(&small.beside(""), script)), "ten");
    extension(&small, "whole", &[("usr/lib/os-release", "ID=demo\n")]);
    assert_eq!(add(&small, "whole", &[]), Some(3));
    assert_eq!(add(&small, "whole", &["--waive", "release-match,shadowed-file"]), Some(0));
    let said = stdout_of_success(apart(&small.beside(""), script));
    assert_eq!(said, "nothing is attached\n");
}
