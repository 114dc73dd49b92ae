//! A signed disk image in a machine that was really booted: only there the kernel checks blocks.
//! qemu emulates it, so nothing is asked of the machine that tests run on.

use std::path::PathBuf;

use super::debian::{Debian, write};
use super::root;
use crate::harness::tools::stdout_of;
use crate::harness::wait::LIMIT;

/// What the target needs to check hashes and signatures, and a kernel.
const PACKAGES: &str = "udev,kmod,liblzma5,libcryptsetup12,libssl3t64,linux-image-cloud-amd64";

/// Attaches each image with the certificate that is given for it. Only signed ones will do. The one
/// that is attached comes last: systemd takes a device for checked that has the same hashes and is
/// still there.
const SCRIPT: &str = r"exec > /dev/ttyS0 2>&1
set -u
modprobe -a loop dm-verity squashfs overlay
mkdir -p /etc/verity.d /var/lib/extensions
try() {
	cp /report/$2.raw /var/lib/extensions/small.raw
	cp /report/$3.crt /etc/verity.d/small.crt
	systemd-sysext --image-policy='root=signed+absent:usr=signed+absent' merge
	echo merge $?
	/usr/local/small/usr/bin/program
	echo case $1 status $?
	systemd-sysext unmerge
	rm /var/lib/extensions/small.raw
}
try wrong good bad
try changed changed good
try unsigned unsigned good
try right good good
echo all cases
systemctl poweroff --force --force
";

const UNIT: &str = "DefaultDependencies=no
Wants=systemd-udevd.service systemd-udev-trigger.service
Requires=systemd-remount-fs.service
After=systemd-udevd.service systemd-remount-fs.service systemd-udev-trigger.service
FailureAction=poweroff-force";

/// A key and its certificate.
fn key(debian: &Debian, name: &str) -> [String; 2] {
    let [key, certificate] =
        ["key", "crt"].map(|end| debian.beside(&format!("{name}.{end}")).display().to_string());
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout"];
    stdout_of("openssl", [&request[..], &[&key, "-out", &certificate]].concat());
    debian.write(&format!("report/{name}.crt"), fs_err::read(&certificate).unwrap());
    [key, certificate]
}

/// The kernel of the root, of which the modules get their index.
fn kernel(debian: &Debian) -> PathBuf {
    let modules = fs_err::read_dir(debian.root().join("usr/lib/modules")).unwrap().next();
    let version = modules.unwrap().unwrap().file_name().into_string().unwrap();
    stdout_of("chroot", [debian.root().to_str().unwrap(), "depmod", "-a", &version]);
    let kernel = debian.beside("kernel");
    fs_err::copy(debian.root().join(format!("boot/vmlinuz-{version}")), &kernel).unwrap();
    fs_err::remove_dir_all(debian.root().join("boot")).unwrap();
    kernel
}

/// Boots the root as a disk; returns what was written to the serial line.
fn boot(debian: &Debian) -> String {
    let kernel = kernel(debian).display().to_string();
    let [disk, serial] = ["disk", "serial"].map(|name| debian.beside(name).display().to_string());
    write(&debian.beside("disk"), "");
    let size = fs_err::File::options().write(true).open(&disk).unwrap();
    size.set_len(320 << 20).unwrap();
    stdout_of("mke2fs", ["-q", "-t", "ext4", "-d", debian.root().to_str().unwrap(), &disk]);
    // On a machine that is busy, timer interrupts come late, which the kernel takes for broken
    // hardware (no_timer_check, kernel-parameters.txt).
    let line = "root=/dev/nvme0n1 rw console=ttyS0 quiet panic=-1 no_timer_check \
                systemd.unit=report.target";
    stdout_of(
        "timeout",
        [
            "--signal=KILL",
            &LIMIT.as_secs().to_string(),
            "qemu-system-x86_64",
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-m",
            "1024",
            "-display",
            "none",
            "-no-reboot",
            "-net",
            "none",
            "-serial",
            &format!("file:{serial}"),
            "-kernel",
            &kernel,
            "-append",
            line,
            "-drive",
            &format!("file={disk},format=raw,if=none,id=disk"),
            "-device",
            "nvme,serial=1,drive=disk",
        ],
    );
    String::from_utf8_lossy(&fs_err::read(serial).unwrap()).into_owned()
}

#[test]
fn a_signed_image_is_attached_with_the_right_certificate_and_whole() {
    let small = root("/usr/local/small");
    let debian = Debian::new("trixie", PACKAGES);
    let [key_file, certificate] = key(&debian, "good");
    key(&debian, "bad");
    let options = ["--format", "ddi:none", "--no-reports", "--architecture", "x86-64"];
    let signing = ["--private-key", key_file.as_str(), "--certificate", certificate.as_str()];
    small.pack("signed", &[&options[..], &signing].concat());
    small.pack("unsigned", &options);
    let image = fs_err::read(small.beside("signed/small.raw")).unwrap();
    debian.write("report/good.raw", &image);
    let mut changed = image;
    // Padding of an ELF header, which nobody but verity looks at.
    let program = changed.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap();
    changed[program + 12] ^= 1;
    debian.write("report/changed.raw", changed);
    debian.write("report/unsigned.raw", fs_err::read(small.beside("unsigned/small.raw")).unwrap());
    debian.reports(SCRIPT, UNIT, "");
    let said = boot(&debian);
    assert!(said.contains("all cases"), "{said}");
    assert!(said.contains("case right status 42"), "{said}");
    for refused in ["wrong", "changed", "unsigned"] {
        assert!(said.contains(&format!("case {refused} status 127")), "{said}");
    }
    assert!(said.contains("is corrupted"), "the kernel did not find the change: {said}");
}
