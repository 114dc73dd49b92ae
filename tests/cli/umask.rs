//! The caller's umask decides who may read what fprefix writes for the caller, and nothing of what
//! ships.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::small_root::{FPREFIX, SmallRoot};
use crate::harness::tools::{command, stdout_of_success};

const UMASKS: &[&str] = &["022", "077", "000", "027"];

/// Runs fprefix with this umask.
fn run(umask: &str, args: &[String]) {
    let mut shell = command("sh");
    shell.args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask, FPREFIX]).args(args);
    stdout_of_success(shell.output().unwrap());
}

fn mode(path: &Path) -> u32 {
    fs_err::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Everything below `dir` with its modes and contents.
fn tree(dir: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    entries
        .map(|entry| {
            let below = entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let is_file = entry.file_type().is_file();
            let bytes = if is_file { fs_err::read(entry.path()).unwrap() } else { Vec::new() };
            (below, mode(entry.path()), bytes)
        })
        .collect()
}

#[test]
fn images_are_the_same_with_every_umask() {
    let small = SmallRoot::full();
    let of_umask = |umask: &&str| {
        let mut written = Vec::new();
        for format in ["erofs", "squashfs", "ext4", "tar", "directory"] {
            // Reports name their directory nowhere, images neither.
            let output = format!("out-{umask}-{format}");
            run(umask, &small.arguments(&output, &["--format", format]));
            let files = tree(&small.beside(&output)).into_iter();
            let is_record = |name: &str| name.ends_with(".packed");
            written.extend(files.filter(|(name, ..)| !is_record(name)).map(
                // Of a file that is no part of a tree, the mode is the caller's choice.
                |(name, mode, bytes)| {
                    let is_output = !name.contains('/') && !["", "small"].contains(&&*name);
                    (format, name, if is_output { 0 } else { mode }, bytes)
                },
            ));
        }
        written
    };
    let written: Vec<_> = UMASKS.iter().map(of_umask).collect();
    for (umask, other) in UMASKS.iter().zip(&written) {
        assert_eq!(other.len(), written[0].len(), "{umask}");
        for (one, other) in written[0].iter().zip(other) {
            let facts = |(format, name, mode, _): &(&'static str, String, u32, Vec<u8>)| {
                format!("{format}: {name} {mode:o}")
            };
            assert_eq!(facts(one), facts(other), "{umask}");
            assert!(one.3 == other.3, "{umask}: {}", facts(one));
        }
    }
}

#[test]
fn outputs_are_for_those_whom_the_umask_lets() {
    let small = SmallRoot::full();
    for (umask, expected) in [("022", 0o644), ("077", 0o600), ("000", 0o644), ("027", 0o640)] {
        let output = format!("out-{umask}");
        run(umask, &small.arguments(&output, &["--format", "erofs"]));
        for name in ["small.raw", "small_manifest.json", "small_contents.txt", "SHA256SUMS"] {
            let path = small.beside(&output).join(name);
            assert_eq!(mode(&path), expected, "{umask}: {name}");
        }
    }
}

#[test]
fn an_os_image_gets_the_same_modes_with_every_umask() {
    let small = SmallRoot::full();
    small.pack("out", &["--format", "squashfs:none"]);
    let trees: Vec<_> = UMASKS
        .iter()
        .map(|umask| {
            let os = small.beside(&format!("os-{umask}"));
            fs_err::create_dir_all(os.join("usr")).unwrap();
            let image = small.beside("out/small.raw");
            for words in [&["add"][..], &["etc-whiteouts"]] {
                let image = (words == ["add"]).then(|| image.to_str().unwrap().to_owned());
                let words = ["image"].iter().chain(words).map(ToString::to_string);
                let root = ["--rootfs".to_owned(), os.to_str().unwrap().to_owned()];
                let args: Vec<String> = words.chain(root).chain(image).collect();
                run(umask, &args);
            }
            tree(&os)
        })
        .collect();
    for (umask, tree) in UMASKS.iter().zip(&trees) {
        for (path, mode, _) in tree.iter().filter(|(path, ..)| !path.is_empty()) {
            assert!([0o755, 0o644, 0o777].contains(mode), "{umask}: {path} {mode:o}");
        }
        assert!(*tree == trees[0], "{umask}");
    }
}
