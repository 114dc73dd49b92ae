//! What was written is read back, without a copy of it on disk, and has to be what was planned.

use std::path::Path;
use std::process::Output;

use super::small_root::{SmallRoot, fprefix, run};

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
    fs_err::create_dir_all(&tools).unwrap();
    let tool = tools.join(name);
    fs_err::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
    run("chmod", &["+x", tool.to_str().unwrap()]);
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
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
    let real = |name: &str| {
        run("sh", &["-c", &format!("PATH=$PATH:/usr/sbin:/sbin; command -v {name}")])
            .trim()
            .to_owned()
    };
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
            real(tool)
        );
        let output = pack_with(&small, tool, &script, format);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{format}: {error}");
        assert!(error.contains("was not written"), "{format}: {error}");
        assert!(!Path::new(&small.beside("out/small.raw")).exists(), "{format}");
    }
}
