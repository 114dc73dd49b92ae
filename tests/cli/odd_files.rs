//! Files that are none, or no small ones, in the places of what commands read: pipes without a
//! writer, devices without end, holes of terabytes, texts without a bottom.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{both_streams, finish, stdout_of_success};

const HOLE: u64 = 8 << 40;

fn pipe(path: &Path) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

/// Makes a file that begins with `start` and ends with `end`, and has nothing between them.
fn hole(path: &Path, start: &[u8], end: &[u8]) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs_err::File::create(path).unwrap();
    file.set_len(HOLE).unwrap();
    file.file().write_all_at(start, 0).unwrap();
    file.file().write_all_at(end, HOLE - end.len() as u64).unwrap();
}

struct Odd {
    small: SmallRoot,
}

impl Odd {
    fn new() -> Self {
        Self { small: SmallRoot::full() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.small.beside(name)
    }

    /// Runs a command that has to end in this way; returns what it printed.
    #[track_caller]
    fn ends(&self, status: i32, words: &[&str]) -> String {
        let mut command = fprefix();
        command.current_dir(self.path("")).env("FPREFIX_HOME", self.path("home")).args(words);
        let output = finish(&format!("{words:?}"), command, &self.path(""));
        let said = both_streams(&output);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        said
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], reason: &str) {
        let said = self.ends(1, words);
        assert!(said.contains("error: ") && said.contains(reason), "{words:?}: {said}");
    }

    /// Runs a command on the tree.
    #[track_caller]
    fn ends_on_tree(&self, status: i32, command: &str) -> String {
        self.ends(status, &[command, "--root", "root", "--eprefix", self.small.eprefix])
    }
}

#[test]
fn pipes_and_devices_are_named_and_not_waited_for() {
    let odd = Odd::new();
    fs_err::create_dir_all(odd.path("tree/usr")).unwrap();
    fs_err::create_dir_all(odd.path("os/usr")).unwrap();
    let pipes = ["pipe.raw", "pipe.json", "fprefix.toml", "target/usr/lib/os-release"];
    for name in pipes {
        pipe(&odd.path(name));
    }
    for (link, target) in [("zero.raw", "/dev/zero"), ("zero.json", "/dev/zero"), ("l", "pipe.raw")]
    {
        fs_err::os::unix::fs::symlink(target, odd.path(link)).unwrap();
    }
    for (words, reason) in [
        (&["diff", "pipe.raw", "tree"][..], "pipe.raw: it is a pipe, and no regular file"),
        (&["diff", "tree", "zero.raw"], "/dev/zero: it is a device, and no regular file"),
        (&["diff", "pipe.json", "tree"], "could not read pipe.json: it is a pipe, and no regular"),
        (
            &["diff", "zero.json", "tree"],
            "could not read zero.json: it is a device, and no regular",
        ),
        (&["elf", "show", "l"], "could not read l: it is a pipe, and no regular file"),
        (&["elf", "set", "--soname", "x", "zero.raw"], "it is a device, and no regular file"),
        (&["image", "add", "--rootfs", "os", "l"], "it is a pipe, and no regular file"),
        (&["image", "add", "--rootfs", "os", "zero.raw"], "it is a device, and no regular file"),
        (&["build"], "fprefix.toml: it is a pipe, and no regular file"),
        (&["lock"], "fprefix.toml: it is a pipe, and no regular file"),
    ] {
        odd.refuses(words, reason);
    }
    let words = odd.small.arguments("out", &["--dry-run", "--target-root"]);
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["target"]).collect();
    odd.refuses(&words, "/usr/lib/os-release in ");
    let fact = odd.small.inside("var/db/pkg/app-misc/thing-1.2-r1/DESCRIPTION");
    fs_err::remove_file(&fact).unwrap();
    fs_err::os::unix::fs::symlink("/dev/zero", &fact).unwrap();
    odd.ends_on_tree(0, "check");
}

#[test]
fn holes_of_terabytes_are_neither_read_nor_filled() {
    let odd = Odd::new();
    let late = odd.small.inside("usr/share/late");
    hole(&odd.small.inside("usr/lib64/libhole.so"), b"", b"");
    hole(&odd.small.inside("usr/lib64/libelf-hole.so"), b"\x7fELF\x02\x01\x01", b"");
    hole(&odd.small.inside("usr/bin/hole-config"), b"#!/bin/sh\n", b"\n");
    hole(&late, b"#!/opt/none\n", b" /fprefix/staging/x ");
    let said = odd.ends_on_tree(3, "check");
    for part in ["it has more than 64 GiB", "/usr/share/late", "/fprefix/staging/x"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    odd.ends_on_tree(0, "rewrite");
    assert!(fs_err::metadata(&late).unwrap().blocks() < 1000);
    let words = odd.small.arguments("out", &["--waive", "elf"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    odd.refuses(&words, "the limit for a tree or an image of this size");
    odd.refuses(
        &["diff", "root", "root"],
        "bytes of /usr/local/small/usr/bin/hole-config, its files",
    );
    odd.refuses(&["elf", "show", late.to_str().unwrap()], "not an ELF file");
}

/// Units, loaders and C libraries are searched as a whole, which has a limit of its own.
#[test]
fn units_and_libraries_that_end_in_holes() {
    let odd = Odd::new();
    hole(
        &odd.small.inside("usr/lib/systemd/system/hole.service"),
        b"[Service]\nExecStart=/x\n",
        b"",
    );
    for (name, soname) in
        [("libc.so.6", "libc.so.6"), ("ld-linux-x86-64.so.2", "ld-linux-x86-64.so.2")]
    {
        let path = odd.small.inside(&format!("usr/lib64/{name}"));
        fs_err::copy(odd.small.inside("usr/lib64/libthing.so.1.2"), &path).unwrap();
        odd.ends(0, &["elf", "set", "--soname", soname, path.to_str().unwrap()]);
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(60 << 30).unwrap();
    }
    let said = odd.ends_on_tree(3, "check");
    for part in ["it is a C library of more than 256 MiB", "hole.service: is a unit, and not text"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    odd.ends_on_tree(0, "rewrite");
}

#[test]
fn scripts_with_holes_are_rewritten_and_keep_them() {
    let odd = Odd::new();
    odd.small.copy("/bin/true", "usr/bin/sh", 0o755);
    let script = odd.small.inside("usr/bin/script");
    // Data follow the text, so nothing in the file may move.
    let blanks = " ".repeat(40);
    hole(&script, format!("#!/bin/sh{blanks}\nexit 7\n").as_bytes(), b"last");
    odd.small.mode("usr/bin/script", 0o755);
    odd.ends_on_tree(0, "rewrite");
    let (file, line) = (
        fs_err::File::open(&script).unwrap(),
        format!("{:49}\nexit", "#!/usr/local/small/usr/bin/sh"),
    );
    let mut start = vec![0; line.len()];
    file.file().read_exact_at(&mut start, 0).unwrap();
    assert_eq!(String::from_utf8(start).unwrap(), line);
    let meta = file.metadata().unwrap();
    let mut end = [0; 4];
    file.file().read_exact_at(&mut end, meta.len() - 4).unwrap();
    assert_eq!((&end, meta.len() >= HOLE, meta.blocks() < 1000), (b"last", true, true));
}

#[test]
fn images_with_holes_are_read_and_copied() {
    let odd = Odd::new();
    fs_err::create_dir_all(odd.path("os/usr/lib")).unwrap();
    fs_err::write(odd.path("os/usr/lib/os-release"), "ID=any\n").unwrap();
    for format in ["squashfs:none", "erofs:none", "ddi:none", "ext4"] {
        odd.small.pack("out", &["--format", format, "--architecture", "x86-64", "--no-reports"]);
        let image = odd.path("out/small.raw");
        fs_err::copy(&image, odd.path("whole.raw")).unwrap();
        fs_err::OpenOptions::new().write(true).open(&image).unwrap().set_len(HOLE).unwrap();
        odd.ends(0, &["diff", "whole.raw", "out/small.raw"]);
        odd.ends(0, &["image", "add", "--rootfs", "os", "out/small.raw"]);
        let list = odd.ends(0, &["image", "list", "--rootfs", "os", "--json"]);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let path = list[0]["path"].as_str().unwrap().trim_start_matches('/');
        let meta = fs_err::metadata(odd.path("os").join(path)).unwrap();
        assert!(meta.len() == HOLE && meta.blocks() < 100_000, "{format}: {meta:?}");
        fs_err::remove_file(image).unwrap();
    }
}

#[test]
fn texts_have_a_bottom_and_an_end() {
    let odd = Odd::new();
    let deep = |open: &str, close: &str| [open.repeat(200_000), close.repeat(200_000)].concat();
    let json = format!("{{\"manifest\":1,\"entries\":{}}}", deep("[", "]"));
    fs_err::write(odd.path("deep.json"), json).unwrap();
    odd.refuses(&["diff", "deep.json", "root"], "recursion limit exceeded");
    hole(&odd.path("hole.json"), b"{\"manifest\":1,\"entries\":[", b"]}");
    odd.refuses(&["diff", "root", "hole.json"], "more than 512 MiB, the limit of a list");
    for text in [deep("[", "]"), deep("{a=", "}"), format!("{}.b = 1", "a.".repeat(200_000) + "a")]
    {
        fs_err::write(odd.path("fprefix.toml"), format!("[prefix]\nname = {text}\n")).unwrap();
        odd.ends(1, &["build"]);
        fs_err::write(odd.path("fprefix.toml"), format!("{text}\n[[{text}]]\n")).unwrap();
        odd.ends(1, &["build"]);
    }
    hole(&odd.path("fprefix.toml"), b"[prefix]\n", b"");
    odd.refuses(&["build"], "fprefix.toml: it has more than 16 MiB, the limit of a text");
    // An entry of the manifest may be anything.
    let odd_entries =
        "{\"manifest\":1,\"entries\":[7,{\"path\":\"/a\",\"size\":-1},{\"path\":\"/b\"}]}";
    fs_err::write(odd.path("odd.json"), odd_entries).unwrap();
    let mut diff = fprefix();
    diff.current_dir(odd.path("")).args(["diff", "odd.json", "odd.json"]);
    stdout_of_success(diff.output().unwrap());
}

#[test]
fn the_group_has_its_own_rights_where_a_list_had_others() {
    let small = SmallRoot::full();
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let (owner, user, group, mask, others) = (1, 2, 4, 0x10, 0x20);
    let none = u32::MAX;
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(owner, 7, none),
        entry(user, 7, 1),
        entry(group, 5, none),
        entry(mask, 7, none),
        entry(others, 4, none),
    ];
    let path = small.inside("usr/share/thing/data");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "system.posix_acl_access", &list.concat(), flags).unwrap();
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o774, "the file system keeps lists");
    let output = small.try_pack("out", &["--format", "directory", "--format", "ext4"]);
    let said = both_streams(&output);
    assert!(output.status.success(), "{said}");
    let warning = "2 entries have one, /usr/local/small/usr/share/thing/data first";
    assert!(said.contains(warning), "{said}");
    let packed = small.beside("out/small/usr/local/small/usr/share/thing/data");
    assert_eq!(mode(&packed), 0o754);
    let left = rustix::fs::getxattr(&packed, "system.posix_acl_access", &mut [0_u8; 0]);
    assert!(left.is_err(), "{left:?}");
}
