//! What was written is read back, without a copy of it on disk, and has to be what was planned.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Output;

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{find_in_system, search_path_after, stdout_of, write_program};
use crate::harness::wait::wait_for_a_tick_since_changes;

/// A root with files of every form that filesystems have for them.
fn root() -> SmallRoot {
    let small = SmallRoot::full();
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let random: Vec<u8> = (0..300_000).map(|_| next()).collect();
    let words: Vec<u8> =
        (0..400_000).map(|at| if at % 7 == 0 { next() & 7 } else { b'w' }).collect();
    for (name, bytes) in [
        ("empty", &[][..]),
        ("one block", &words[..4096]),
        ("a block and one", &words[..4097]),
        ("words", &words[..]),
        ("random", &random[..]),
        ("nothing but zeros", &vec![0; 3_000_000][..]),
        ("both", &[&words[..100_000], &random[..50_001], &words[..33]].concat()[..]),
    ] {
        fs_err::write(small.inside(&format!("usr/share/thing/{name}")), bytes).unwrap();
    }
    for number in 0..40 {
        let length = number * 331;
        fs_err::write(small.inside(&format!("usr/share/thing/{number}")), &words[..length])
            .unwrap();
    }
    small
}

/// Packs with `script` in front of the tool that it is named after.
fn pack_with(small: &SmallRoot, name: &str, script: &str, format: &str) -> Output {
    let tools = small.beside("tools");
    let tool = tools.join(name);
    write_program(&tool, format!("#!/bin/sh\n{script}\n"));
    let path = search_path_after(&[&tools]);
    let arguments = small.arguments("out", &["--format", format, "--no-reports"]);
    let output = fprefix().env("PATH", path).args(arguments).output().unwrap();
    fs_err::remove_file(tool).unwrap();
    output
}

#[test]
fn erofs_needs_no_unpacking() {
    let small = root();
    for format in ["erofs", "erofs:lz4", "erofs:lz4hc:12", "erofs:none", "erofs-tight"] {
        let output = pack_with(&small, "fsck.erofs", "echo was asked; exit 1", format);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{format}: {error}");
    }
}

#[test]
fn a_changed_byte_is_found() {
    let small = root();
    for (format, tool) in
        [("squashfs", "mksquashfs"), ("erofs", "mkfs.erofs"), ("erofs:none", "mkfs.erofs")]
    {
        // The image is the one argument that is a file; a byte in the middle changes.
        let script = format!(
            "{} \"$@\" || exit\nfor image; do test -f \"$image\" && break; done\n\
             at=$(($(stat -c %s \"$image\") / 2))\n\
             byte=$(dd if=\"$image\" bs=1 count=1 skip=$at 2>/dev/null | od -An -tu1)\n\
             printf \"\\\\$(printf %o $(((byte + 1) % 256)))\" |\n\
                 dd of=\"$image\" bs=1 seek=$at conv=notrunc 2>/dev/null",
            find_in_system(tool).display()
        );
        let output = pack_with(&small, tool, &script, format);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{format}: {error}");
        assert!(error.contains("was not written"), "{format}: {error}");
        assert!(!Path::new(&small.beside("out/small.raw")).exists(), "{format}");
    }
}

#[test]
fn what_has_not_changed_is_not_packed_again() {
    let small = SmallRoot::full();
    // What changed just now may change again without a sign.
    let wait = || wait_for_a_tick_since_changes(&small.root());
    let image = small.beside("out/small.raw");
    let identity = || {
        let meta = fs_err::metadata(&image).unwrap();
        (meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    wait();
    let first = small.pack("out", &["--json"]);
    let made = identity();
    assert_eq!(small.pack("out", &["--json"]), first, "the answer is the same");
    assert_eq!(identity(), made);
    for option in ["--force", "--no-reports", "--keep=doc", "--no-strip", "--name=small"] {
        small.pack("out", &[option]);
    }
    assert_ne!(identity(), made, "other options give another image");

    let is_made_again = |act: &dyn Fn()| {
        wait();
        small.pack("out", &[]);
        let before = identity();
        small.pack("out", &[]);
        assert_eq!(identity(), before);
        act();
        wait();
        small.pack("out", &[]);
        identity() != before
    };
    // As long, and with the same time: only the kernel knows.
    assert!(is_made_again(&|| {
        let path = small.inside("usr/share/thing/data");
        let time = fs_err::metadata(&path).unwrap().modified().unwrap();
        fs_err::write(&path, "atad\n").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }));
    assert!(is_made_again(&|| small.mode("usr/share/thing/data", 0o600)));
    assert!(is_made_again(&|| small.file("usr/share/thing/new", "")));
    assert!(is_made_again(&|| fs_err::write(&image, "damaged").unwrap()));
    assert!(is_made_again(&|| fs_err::remove_file(small.beside("out/SHA256SUMS")).unwrap()));
    assert!(!is_made_again(&|| {
        small.pack("out", &["--name", "other"]);
    }));
}

#[test]
fn ext4_holds_the_same() {
    let small = root();
    small.pack("out", &["--format", "ext4", "--no-reports"]);
    let image = small.beside("out/small.raw").display().to_string();
    stdout_of("e2fsck", ["-f", "-n", &image]);
    let ask = |question: &str| stdout_of("debugfs", ["-R", question, &image]);
    let at = "/usr/local/small/usr/share/thing";
    assert!(ask("ls -p /").lines().all(|line| !line.contains("lost+found")));
    let setuid = ask("stat /usr/local/small/usr/bin/setuid");
    assert!(setuid.contains("Mode:  04755") && setuid.contains("User:     0"), "{setuid}");
    let old = ask(&format!("stat \"{at}/na me 'é' \"\"x\"\"\""));
    assert!(old.contains("mtime: 0x3b9aca00"), "{old}");
    let both = ask(&format!("stat \"{at}/same data\""));
    assert!(both.contains("Links: 2"), "{both}");
    let out = small.beside("both");
    ask(&format!("dump {at}/both {}", out.display()));
    let planned = fs_err::read(small.inside("usr/share/thing/both")).unwrap();
    assert!(fs_err::read(out).unwrap() == planned);
}

#[test]
fn a_btrfs_is_reproducible_or_refused() {
    let small = SmallRoot::full();
    let version = stdout_of("mkfs.btrfs", ["--version"]);
    let number = version.lines().next().unwrap().rsplit_once(" v").expect(&version).1;
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let is_new = (parts.next().unwrap(), parts.next().unwrap_or(0)) >= (7, 3);
    let options = ["--format", "btrfs", "--no-reports"];
    if is_new {
        small.pack("out", &options);
        small.pack("again", &options);
        let bytes = |output: &str| fs_err::read(small.beside(output).join("small.raw")).unwrap();
        assert!(bytes("out") == bytes("again"), "not reproducible");
    } else {
        let error = small.refuse("out", &options);
        let old = format!("it is version {}, and 7.3 or newer is needed", number.trim());
        assert!(error.contains(&old), "{error}");
        assert!(error.contains("hint: install btrfs-progs 7.3 or newer\n"), "{error}");
        assert!(error.contains("hint: or pack as squashfs or erofs (--format)"), "{error}");
        assert!(!small.beside("out").exists(), "something was written");
    }
    let refused = small.try_pack("out", &["--format", "btrfs:zstd:16"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn two_images_of_one_name_are_refused() {
    let small = SmallRoot::full();
    let error = small.refuse("out", &["--format", "erofs", "--format", "erofs:none"]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    error: erofs:lz4hc and erofs:none would both be small.erofs.raw: pack one at a time
    ");
    assert!(!small.beside("out").exists(), "something was written");
}
