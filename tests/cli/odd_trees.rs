//! Trees of odd names, sizes, links, times and attributes, which every format holds or refuses.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{both_streams, stdout_of};

const SHARE: &str = "usr/share/odd";
const FORMATS: &[&str] = &["squashfs", "erofs", "ext4", "tar", "directory"];

/// Packs in each of `formats`, and checks the file system of ext4.
fn pack_in(small: &SmallRoot, formats: &[&str]) {
    for format in formats {
        small.pack(format, &["--format", format, "--no-reports", "--waive", "name,link"]);
        if *format == "ext4" {
            let image = small.beside("ext4/small.raw").display().to_string();
            stdout_of("e2fsck", ["-f", "-n", &image]);
        }
    }
}

fn odd_root() -> SmallRoot {
    let small = SmallRoot::full();
    fs_err::create_dir_all(small.inside(SHARE)).unwrap();
    small
}

#[test]
fn names() {
    let small = odd_root();
    let share = small.inside(SHARE);
    let long = "n".repeat(254);
    for name in [
        "two\nlines",
        "\"quo\"te'",
        "back\\slash",
        "-dash",
        " blank ",
        "\t\x7f*?[",
        "#",
        "$a",
        &long,
    ] {
        fs_err::write(share.join(name), name).unwrap();
    }
    fs_err::write(share.join(OsStr::from_bytes(b"\xff\xfe")), "no UTF-8").unwrap();
    // 3,800 bytes of path.
    let mut deep = share;
    for _ in 0..14 {
        deep.push("d".repeat(254));
    }
    fs_err::create_dir_all(&deep).unwrap();
    fs_err::write(deep.join("file"), "").unwrap();
    pack_in(&small, FORMATS);
}

#[test]
fn link_targets_and_hard_links() {
    let small = odd_root();
    let share = small.inside(SHARE);
    let component = format!("{}/", "t".repeat(200));
    for length in [1, 59, 60, 61, 100, 255, 4000, 4094, 4095] {
        let target = &component.repeat(21)[..length];
        fs_err::os::unix::fs::symlink(target, share.join(length.to_string())).unwrap();
    }
    let odd = OsStr::from_bytes(b"two\nlines \"\\ \xff");
    fs_err::os::unix::fs::symlink(odd, share.join("odd")).unwrap();
    fs_err::create_dir(share.join("below")).unwrap();
    fs_err::write(share.join("m"), "shared").unwrap();
    for name in ["a", "z", "below/b"] {
        fs_err::hard_link(share.join("m"), share.join(name)).unwrap();
    }
    pack_in(&small, FORMATS);
}

#[test]
fn sizes_and_holes() {
    let small = odd_root();
    let share = small.inside(SHARE);
    let file = |name: &str| fs_err::File::create(share.join(name)).unwrap().into_file();
    for size in [0, 1, 4095, 4096, 4097, 65536, 65537] {
        file(&size.to_string()).write_all_at(&vec![b's'; size], 0).unwrap();
    }
    file("hole").set_len(200_000).unwrap();
    let late = file("late");
    late.set_len(9 << 20).unwrap();
    late.write_all_at(b"late", 8 << 20).unwrap();
    // More extents than an inode and a block hold.
    let many = file("many");
    for piece in 0..400 {
        many.write_all_at(b"piece", piece * 160 * 1024).unwrap();
    }
    pack_in(&small, FORMATS);
}

#[test]
fn a_directory_of_many() {
    let small = odd_root();
    for number in 0..5_000 {
        let path = small.inside(SHARE).join(format!("file {number}"));
        fs_err::write(path, format!("{number}\n").repeat(number % 7)).unwrap();
    }
    pack_in(&small, &["ext4", "squashfs"]);
    let image = small.beside("ext4/small.raw").display().to_string();
    let found = stdout_of("debugfs", ["-R", "ls -p /usr/local/small/usr/share/odd", &image]);
    assert_eq!(found.lines().filter(|line| line.contains("/file ")).count(), 5_000);
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn attributes() {
    let small = odd_root();
    let path = small.inside(SHARE).join("file");
    fs_err::write(&path, "x").unwrap();
    set_xattr(&path, "user.bytes", b"\0\n\"\xff");
    set_xattr(&path, "user.empty", b"");
    set_xattr(&path, "user.long", &[b'l'; 2000]);
    set_xattr(&small.inside(SHARE), "user.of-directory", b"1");
    pack_in(&small, FORMATS);
    let image = small.beside("ext4/small.raw").display().to_string();
    let question = "ea_list /usr/local/small/usr/share/odd/file";
    let listed = stdout_of("debugfs", ["-R", question, &image]);
    assert!(listed.contains("user.bytes (4) = 00 0a 22 ff"), "{listed}");
    assert!(listed.contains("user.long (2000)"), "{listed}");
}

/// mke2fs and debugfs take the time 0 for the current one.
#[test]
fn the_first_second() {
    let small = odd_root();
    fs_err::write(small.inside(SHARE).join("file"), "x").unwrap();
    for format in FORMATS {
        let arguments = small.arguments(format, &["--format", format, "--no-reports"]);
        let output = fprefix().env("SOURCE_DATE_EPOCH", "0").args(arguments).output().unwrap();
        assert!(output.status.success(), "{format}: {}", both_streams(&output));
    }
    let image = small.beside("ext4/small.raw").display().to_string();
    let told = stdout_of("debugfs", ["-R", "stat /usr/local/small/usr/share/odd/file", &image]);
    for time in ["ctime", "atime", "mtime", "crtime"] {
        assert!(told.contains(&format!("{time}: 0x00000000:00000000 -- ")), "{told}");
    }
    stdout_of("e2fsck", ["-f", "-n", &image]);
    // s_wtime, s_lastcheck, s_mkfs_time.
    let bytes = fs_err::read(image).unwrap();
    for offset in [0x30, 0x40, 0x108] {
        assert_eq!(bytes[1024 + offset..][..4], [0; 4], "{offset:#x}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_named() {
    let refused =
        |small: &SmallRoot, format: &str, environment: &[(&str, &str)], parts: &[&str]| {
            let arguments = small.arguments("out", &["--format", format, "--no-reports"]);
            let environment = environment.iter().copied();
            let output = fprefix().envs(environment).args(arguments).output().unwrap();
            let error = both_streams(&output);
            assert_eq!(output.status.code(), Some(1), "{format}: {error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{format}: {error}");
            assert!(!small.beside("out/small.raw").exists(), "{format}");
        };
    let small = odd_root();
    let path = small.inside(SHARE).join("file");
    fs_err::write(&path, "x").unwrap();
    refused(&small, "squashfs", &[("SOURCE_DATE_EPOCH", "4000000000")], &["the time 4000000000"]);
    set_xattr(&path, "user.a=b", b"1");
    refused(&small, "squashfs", &[], &["/usr/share/odd/file", "user.a=b", "tar cannot hold"]);
    pack_in(&small, &["ext4"]);
}

/// mkfs.erofs 1.5 cannot hold names of 255 bytes.
#[test]
fn longest_names() {
    let small = odd_root();
    let name = "n".repeat(255);
    fs_err::write(small.inside(SHARE).join(&name), "x").unwrap();
    pack_in(&small, &["squashfs", "ext4", "tar", "directory"]);
    let output = small.try_pack("erofs", &["--format", "erofs", "--no-reports"]);
    let error = both_streams(&output);
    let is_held = output.status.success();
    assert!(is_held || error.contains("no room for a name of 255 bytes"), "{error}");
    assert!(is_held || error.contains(&name), "{error}");
}
