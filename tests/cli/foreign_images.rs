//! Images that somebody else made, read by programs that such an image has taken over.

use std::path::Path;
use std::process::Output;

use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{both_streams, command, search_path_after, write_program};

/// Runs `fprefix diff` on an image and itself, with a script of a shell as unsquashfs.
fn diff_with_taken_over(small: &SmallRoot, script: &str) -> Output {
    let programs = small.beside("programs");
    write_program(&programs.join("unsquashfs"), format!("#!/bin/sh\n{script}\n"));
    let image = small.beside("out/small.raw");
    let mut diff = fprefix();
    diff.env("PATH", search_path_after(&[Path::new(&programs)]));
    diff.arg("diff").args([&image, &image]).output().unwrap()
}

#[test]
fn a_program_that_was_taken_over_does_no_harm() {
    let small = SmallRoot::full();
    small.pack("out", &[]);
    let victim = small.beside("victim");
    fs_err::write(&victim, "precious\n").unwrap();
    for (script, refused) in [
        (format!("echo gone > '{}'", victim.display()), "Read-only file system"),
        (format!("exec cat '{}'", victim.display()), "No such file"),
        ("exec rm /dev/stdout".to_owned(), "Read-only file system"),
        ("exec ls /root".to_owned(), "No such file"),
        ("exec python3 -c 'import socket; socket.socket()'".to_owned(), "not permitted"),
        ("(exec true)".to_owned(), "annot fork"),
        ("exec truncate --size 1 /etc/passwd".to_owned(), "cannot open"),
    ] {
        let output = diff_with_taken_over(&small, &script);
        let said = both_streams(&output);
        assert_eq!(output.status.code(), Some(1), "{script}: {said}");
        assert!(said.contains(refused), "{script}: {said}");
    }
    assert_eq!(fs_err::read_to_string(victim).unwrap(), "precious\n");
    assert!(Path::new("/dev/stdout").symlink_metadata().is_ok());
}

/// unsquashfs removes the file that it cannot write to its end. The test has a /dev of its own.
#[test]
fn damaged_images_leave_dev_stdout_alone() {
    let small = SmallRoot::full();
    small.pack("out", &["--format", "squashfs:none"]);
    let image = small.beside("out/small.raw");
    let whole = fs_err::read(&image).unwrap();
    // bytes_used and inode_table_start of the superblock (squashfs_fs.h of Linux).
    let number = |at: usize| {
        let number = u64::from_le_bytes(whole[at..at + 8].try_into().unwrap());
        usize::try_from(number).unwrap()
    };
    let (end, inodes) = (number(40), number(64));
    let mut failed = 0;
    for number in 0..16 {
        let mut bytes = whole.clone();
        let at = inodes + number * (end - inodes) / 16;
        for byte in &mut bytes[at..at + 8] {
            *byte = !*byte;
        }
        let damaged = small.beside("damaged.raw");
        fs_err::write(&damaged, bytes).unwrap();
        let mut bwrap = command("bwrap");
        bwrap.args(["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "CAP_SETFCAP"]);
        bwrap.args(["--dev-bind", "/", "/", "--dev", "/dev", "--", "sh", "-c"]);
        bwrap.arg("\"$@\"; status=$?; test -L /dev/stdout || exit 99; exit $status");
        bwrap.args(["sh", FPREFIX, "diff"]).args([&image, &damaged]);
        let output = bwrap.output().unwrap();
        let status = output.status.code().unwrap();
        assert!([0, 1, 3].contains(&status), "{number}: {status}: {}", both_streams(&output));
        failed += u32::from(status == 1);
    }
    assert!(failed > 2, "hardly an image was damaged: {failed}");
}
