//! A prefix that moves: programs that were built at one path run at others.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{stdout_of, stdout_of_success};
use crate::harness::{Said, World};
use crate::libc_root::{self, compile, on};

const FROM: &str = "/usr/local/a-prefix-of-some-length";

/// A program that has its prefix in two encodings, and in a macro of a known length.
const NAMES: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#define DATA PREFIX "/usr/share/names/data"
static const char path[] = DATA;
static const unsigned short wide[] = u"" PREFIX "/x";
int main(void) {
    struct stat found;
    volatile unsigned short first = wide[1];
    char copy[sizeof path];
    memcpy(copy, path, sizeof DATA);
    return stat(copy, &found) != 0 || strlen(copy) != sizeof path - 1 || first == 0;
}
"#;

/// A root that was made for [`FROM`] and holds everything that names its prefix in a way of its own.
fn root() -> SmallRoot {
    let root = libc_root::root(FROM);
    root.file("usr/share/names/data", "data\n");
    let prefix = format!("-DPREFIX=\"{FROM}\"");
    compile(&root, "names.c", NAMES, "usr/bin/names", &[&prefix]);
    root.file("usr/bin/script", &format!("#!{FROM}/usr/bin/names\nexec {FROM}/usr/bin/names\n"));
    root.mode("usr/bin/script", 0o4755);
    fs_err::hard_link(root.inside("usr/bin/script"), root.inside("usr/bin/twin")).unwrap();
    root.file("usr/share/other", &format!("{FROM}-other /mnt{FROM}/x {FROM}.old\n"));
    root.link(&format!("{FROM}/usr/share/names"), "usr/share/link");
    root.file("usr/lib/python3/place.py", &format!("PLACE = '{FROM}/usr'\nPREFIX = '{FROM}'\n"));
    root.file("usr/lib/python3/plain.py", "PLAIN = 1\n");
    let compile = "import compileall, sys; compileall.compile_dir(sys.argv[1], quiet=2)";
    let library = root.inside("usr/lib/python3");
    stdout_of("python3", ["-c", compile, library.to_str().unwrap()]);
    root.file("usr/share/man/man1/names.1", &format!("See {FROM}/etc.\n"));
    stdout_of("gzip", ["-9n", root.inside("usr/share/man/man1/names.1").to_str().unwrap()]);
    stdout_of_success(on(&root, &["rewrite"]));
    root
}

fn relocate(root: &SmallRoot, from: &str, to: &str, more: &[&str]) -> Said {
    let world = World::new();
    let root = root.root();
    let args = ["relocate", "--root", root.to_str().unwrap(), "--from", from, "--to", to];
    world.fprefix(args).args(more).said()
}

/// Paths below the tree, each with what tells one file from another.
fn tree(dir: &Path) -> Vec<(PathBuf, u32, u64, i64, Vec<u8>)> {
    let walk = walkdir::WalkDir::new(dir).sort_by_file_name();
    let entries = walk.into_iter().map(Result::unwrap);
    entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            let content = match entry.file_type() {
                kind if kind.is_file() => fs_err::read(entry.path()).unwrap(),
                kind if kind.is_symlink() => {
                    fs_err::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
                }
                _ => Vec::new(),
            };
            let time = if entry.file_type().is_file() { meta.mtime() } else { 0 };
            let path = entry.path().strip_prefix(dir).unwrap().to_owned();
            (path, meta.permissions().mode(), meta.nlink(), time, content)
        })
        .collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// Each path is one that the last one has room for, down to the shortest that there is.
#[test]
fn programs_run_at_every_path_that_is_not_longer() {
    let root = root();
    let sizes = |eroot: &Path| {
        let entries = tree(eroot).into_iter();
        // Texts and what is compressed get shorter.
        let of_data = entries.filter(|(path, ..)| path.starts_with("usr/lib64"));
        of_data
            .map(|(path, mode, links, time, bytes)| (path, mode, links, time, bytes.len()))
            .collect::<Vec<_>>()
    };
    let before = sizes(&root.eroot());
    let mut from = FROM;
    for to in ["/usr/local/b-prefix-of-some-length", "/opt/a+b_c.d-e", "/usr/my", "/opt", "/o"] {
        if to == "/opt" {
            relocate(&root, from, to, &[]).ends_with(2);
            continue;
        }
        relocate(&root, from, to, &[]).succeeds();
        let eroot = root.root().join(&to[1..]);
        assert_eq!(sizes(&eroot), before, "{to}");
        for (path, .., bytes) in tree(&root.root()) {
            assert!(path.ends_with("usr/share/other") || !has(&bytes, from), "{to}: {path:?}");
        }
        let run = |program: &str| {
            let mut command = fprefix();
            command.arg("check").arg("--root").arg(root.root()).args(["--eprefix", to]);
            stdout_of_success(command.args(["--run", program]).output().unwrap());
        };
        run("names");
        run("program");
        let script = fs_err::read_to_string(eroot.join("usr/bin/twin")).unwrap();
        assert_eq!(script, format!("#!{to}/usr/bin/names\nexec {to}/usr/bin/names\n"));
        let meta = fs_err::metadata(eroot.join("usr/bin/script")).unwrap();
        assert_eq!((meta.nlink(), meta.mode() & 0o7777), (2, 0o4755));
        let target = fs_err::read_link(eroot.join("usr/share/link")).unwrap();
        assert_eq!(target, Path::new(to).join("usr/share/names"));
        // Python takes the compiled copies as they are: their headers fit, and so does their code.
        let place = "import sys, importlib.util as u\n\
                     sys.dont_write_bytecode = True\n\
                     sys.path.insert(0, sys.argv[1])\n\
                     import place, plain\n\
                     copy = open(place.__cached__, 'rb').read()\n\
                     size = int.from_bytes(copy[12:16], 'little')\n\
                     assert size == len(open(place.__file__, 'rb').read()), size\n\
                     print(place.PLACE, place.PREFIX, place.PREFIX.rstrip('/'))";
        let library = eroot.join("usr/lib/python3");
        let said = stdout_of("python3", ["-c", place, library.to_str().unwrap()]);
        assert!(said.trim_end().ends_with(&format!(" {to}")), "{said}");
        let page = eroot.join("usr/share/man/man1/names.1.gz");
        assert_eq!(stdout_of("gzip", ["-dc", page.to_str().unwrap()]), format!("See {to}/etc.\n"));
        // A second run has nothing to do.
        let before = tree(&root.root());
        relocate(&root, from, to, &[]).succeeds();
        assert!(before == tree(&root.root()), "{to}: twice is not once");
        from = to;
    }
    assert!(!root.root().join("usr").exists(), "empty directories go");
}

#[test]
fn what_cannot_be_is_told_before_anything_changes() {
    let root = root();
    let before = tree(&root.root());
    let longer = format!("{FROM}-x");
    relocate(&root, FROM, &longer, &[]).ends_with(1).tells("is shorter by 2 bytes");
    fs_err::create_dir_all(root.root().join("opt/there")).unwrap();
    relocate(&root, FROM, "/opt/there", &[]).ends_with(1).tells("is there already");
    fs_err::remove_dir_all(root.root().join("opt")).unwrap();
    relocate(&root, "/opt/none", "/o", &[]).ends_with(1).tells("there is no prefix at");
    relocate(&root, FROM, "/o", &["--dry-run"]).succeeds();
    assert!(before == tree(&root.root()), "nothing changed");
}

#[test]
fn what_is_not_changed_is_told_and_found() {
    let root = root();
    let text = format!("{FROM}/usr\n");
    root.file("usr/share/a", &text);
    stdout_of(
        "tar",
        [
            "-C",
            root.inside("usr/share").to_str().unwrap(),
            "-cf",
            root.inside("usr/share/a.tar").to_str().unwrap(),
            "a",
        ],
    );
    root.file("usr/share/a.asc", "a signature\n");
    root.file("usr/share/b", &text);
    stdout_of("xz", [root.inside("usr/share/b").to_str().unwrap()]);
    root.file("usr/share/c", &text);
    stdout_of("bzip2", [root.inside("usr/share/c").to_str().unwrap()]);
    let said = relocate(&root, FROM, "/o", &[]).ends_with(3);
    for told in [
        "a.tar: left as it is: it is a tar archive",
        "a.asc: left as it is: it is of",
        "b.xz: left as it is: it is compressed with xz",
    ] {
        assert!(said.stdout.contains(told), "{said}");
    }
    let world = World::new();
    let dir = root.root();
    let args = ["check", "--root", dir.to_str().unwrap(), "--eprefix", "/o"];
    let run = world.fprefix(args).args(["--relocated-from", FROM, "--rule", "relocated"]);
    let said = run.said().ends_with(3);
    // The last is the end of another path, which people have to look at.
    for path in
        ["/o/usr/share/a.tar", "/o/usr/share/b.xz", "/o/usr/share/c.bz2", "/o/usr/share/other"]
    {
        let told = format!("error[relocated]: {path}: names {FROM}");
        assert!(said.stdout.contains(&told), "{said}");
    }
    assert_eq!(said.stdout.matches("error[").count(), 4, "{said}");
}
