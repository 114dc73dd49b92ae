//! A prefix that moves: programs that were built at one path run at others.

use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
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
    for (from, to) in [(FROM, format!("{FROM}/x").as_str()), ("/opt/a/b", "/opt/a")] {
        let said = relocate(&root, from, to, &[]).ends_with(1);
        said.tells("is inside of the other").tells("hint: take a path that is neither above");
    }
    fs_err::create_dir_all(root.root().join("opt/there")).unwrap();
    relocate(&root, FROM, "/opt/there", &[]).ends_with(1).tells("is there already");
    fs_err::remove_dir_all(root.root().join("opt")).unwrap();
    relocate(&root, "/opt/none", "/o", &[]).ends_with(1).tells("there is no prefix at");
    let said = relocate(&root, FROM, "/o", &["--dry-run"]).succeeds();
    assert!(said.stdout.ends_with(&format!("would move {FROM} to /o\n")), "{said}");
    assert!(before == tree(&root.root()), "nothing changed");
}

/// Runs the Python `program` with `args`.
fn python(program: &str, args: &[&str]) -> String {
    stdout_of("python3", ["-c", program].iter().chain(args))
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_not_changed_is_told_and_found() {
    let root = root();
    let text = format!("{FROM}/usr\n");
    root.file("usr/share/a", &text);
    root.file("usr/share/a.asc", "a signature\n");
    root.file("usr/share/SHA256SUMS", "0123  a\n");
    root.file("usr/lib64/libx.so.1", &format!("\0{FROM}/lib\0"));
    root.file("usr/lib64/.libx.so.1.hmac", "0123\n");
    root.file("usr/share/b", &text);
    stdout_of("xz", [text_of(&root.inside("usr/share/b"))]);
    root.file(&format!("usr/lib/debug{FROM}/usr/bin/x"), "debug\n");
    root.file(&format!("var/cache/{}", FROM.replace('/', "%2F")), "cached\n");
    root.file(&format!("var/db/pkg/a/b-1{FROM}"), "Portage's\n");
    root.file("usr/share/doubt", &format!("\0{FROM}foo\0"));
    root.file("usr/share/module.ko", &format!("\0{FROM}\0~Module signature appended~\n"));
    root.link("etc/../../../srv/x", "usr/up");
    root.link("/elsewhere", "usr/etc");
    let said = relocate(&root, FROM, "/o", &[]).ends_with(3);
    for told in [
        "/o/usr/share/a.asc: left as it is: it is of",
        "/o/usr/share/SHA256SUMS: left as it is: it is of",
        "/o/usr/lib64/.libx.so.1.hmac: left as it is: it is of",
        "/o/usr/share/b.xz: left as it is: it is compressed with xz",
        "/o/usr/share/module.ko: left as it is: it has the path, and is a kernel module",
        "/o/usr/lib/debug/usr/local/a-prefix-of-some-length: left as it is: its name has the path",
        "%2Fa-prefix-of-some-length: left as it is: its name has the path",
        "/o/usr/up: left as it is: it is a link to etc/../../../srv/x, which goes up again",
        "\nhint: install the contents unpacked",
        "\nhint: sign the files anew",
        "/o/usr/share/other: note: it names /mnt/usr/local/a-prefix-of-some-length/x, which may be",
        "/o/usr/share/doubt: note: it names /usr/local/a-prefix-of-some-lengthfoo, which may be",
    ] {
        assert!(said.stdout.contains(told), "{told}\n{said}");
    }
    assert!(said.stdout.ends_with(&format!("moved {FROM} to /o\n")), "{said}");
    let world = World::new();
    let dir = root.root();
    let args = ["check", "--root", text_of(&dir), "--eprefix", "/o", "--verbose"];
    let run = world.fprefix(args).args(["--relocated-from", FROM, "--rule", "relocated"]);
    let said = run.said().ends_with(3);
    for told in [
        format!("error[relocated]: /o/usr/share/module.ko: names {FROM}"),
        format!("error[relocated]: /o/usr/share/b.xz: names {FROM}"),
        format!("error[relocated]: /o/usr/lib/debug{FROM}: has the path in its own name"),
        "a-prefix-of-some-length: has the path in its own name".to_owned(),
        format!("note[relocated]: /o/usr/share/other: names /mnt{FROM}/x, which may be another"),
        format!("note[relocated]: /o/usr/share/doubt: names {FROM}foo, which may be another"),
    ] {
        assert!(said.stdout.contains(&told), "{told}\n{said}");
    }
    // Portage's own records are not shipped.
    assert!(!said.stdout.contains("/o/var/db"), "{said}");
    assert_eq!(said.stdout.matches("error[").count(), 4, "{said}");
}

/// Contents of archives within archives change, and the tools that made them read them.
#[test]
fn packed_files_change() {
    let root = root();
    let pack = "import bz2, gzip, io, sys, tarfile, zipapp, zipfile, os\n\
        dir, old = sys.argv[1:]\n\
        text = f'see {old}/usr/share\\n'.encode()\n\
        def tar(mode, inner):\n\
        \x20   file = io.BytesIO()\n\
        \x20   with tarfile.open(fileobj=file, mode=mode) as tar:\n\
        \x20       info = tarfile.TarInfo('inner'); info.size = len(inner)\n\
        \x20       tar.addfile(info, io.BytesIO(inner))\n\
        \x20       info = tarfile.TarInfo('link'); info.type = tarfile.SYMTYPE\n\
        \x20       info.linkname = old + '/etc'; tar.addfile(info)\n\
        \x20       info = tarfile.TarInfo('\u{fc}/' + 'd/' * 80); info.size = 4\n\
        \x20       tar.addfile(info, io.BytesIO(b'last'))\n\
        \x20   return file.getvalue()\n\
        write = lambda name, data: open(f'{dir}/{name}', 'wb').write(data)\n\
        write('plain.tar', tar('w', text))\n\
        write('two.tar.gz', tar('w:gz', gzip.compress(text)))\n\
        write('notes.bz2', bz2.compress(text))\n\
        file = io.BytesIO()\n\
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as zip:\n\
        \x20   zip.writestr('a.tar.gz', tar('w:gz', text))\n\
        write('three.zip', file.getvalue())\n\
        write('four.gz', gzip.compress(file.getvalue()))\n\
        os.mkdir(dir + '/app')\n\
        open(dir + '/app/__main__.py', 'w').write(f'import sys\\nprint(\"{old}/app\", sys.argv[0])\\n')\n\
        zipapp.create_archive(dir + '/app', dir + '/app.pyz', interpreter=old + '/usr/bin/python3')";
    let dir = root.inside("usr/share/packed");
    fs_err::create_dir_all(&dir).unwrap();
    python(pack, &[text_of(&dir), FROM]);
    let said = relocate(&root, FROM, "/o", &[]).ends_with(3);
    let told = "/o/usr/share/packed/four.gz: left as it is: it holds archives in archives";
    assert!(said.stdout.contains(told), "{said}");
    assert_eq!(said.stdout.matches("left as it is").count(), 1, "{said}");
    let read = "import bz2, gzip, io, sys, tarfile, zipfile\n\
        dir = sys.argv[1]\n\
        def inner(tar):\n\
        \x20   assert tar.getmember('link').linkname == '/o/etc'\n\
        \x20   assert tar.extractfile(tar.getmembers()[2]).read() == b'last'\n\
        \x20   return tar.extractfile('inner').read()\n\
        print(inner(tarfile.open(dir + '/plain.tar')))\n\
        print(gzip.decompress(inner(tarfile.open(dir + '/two.tar.gz'))))\n\
        print(bz2.open(dir + '/notes.bz2').read())\n\
        zip = zipfile.ZipFile(dir + '/three.zip').read('a.tar.gz')\n\
        print(inner(tarfile.open(fileobj=io.BytesIO(zip))))\n\
        print(open(dir + '/app.pyz', 'rb').readline())";
    let dir = root.root().join("o/usr/share/packed");
    let text = "b'see /o/usr/share\\n'\n";
    let line = format!("b'#!/o{}/usr/bin/python3\\n'\n", "/".repeat(FROM.len() - 2));
    assert_eq!(python(read, &[text_of(&dir)]), text.repeat(4) + &line);
    let app = dir.join("app.pyz");
    assert_eq!(stdout_of("python3", [&app]), format!("/o/app {}\n", app.display()));
    stdout_of("tar", ["-tf", text_of(&dir.join("plain.tar"))]);
}

/// Sums in files fit afterwards, and offsets do.
#[test]
fn sums_and_offsets_fit() {
    let root = root();
    let image = "import struct, sys, zlib\n\
        def chunk(kind, data):\n\
        \x20   body = kind + data\n\
        \x20   return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))\n\
        header = chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0, 0))\n\
        text = chunk(b'tEXt', b'Source\\0' + sys.argv[2].encode() + b'/x.svg')\n\
        data = chunk(b'IDAT', zlib.compress(b'\\0\\0')) + chunk(b'IEND', b'')\n\
        open(sys.argv[1], 'wb').write(b'\\x89PNG\\r\\n\\x1a\\n' + header + text + data)";
    python(image, &[text_of(&root.inside("usr/share/x.png")), FROM]);
    let info = format!(
        "This is x.info.\n\n\x1f\nFile: x.info,  Node: Top\n\nIn {FROM}/etc.\n\x1f\nFile: x.info,  \
         Node: Two\n\nText\n\x1f\nTag Table:\nNode: Top\x7f17\nNode: Two\x7f90\n\x1f\nEnd Tag Table\n"
    );
    root.file("usr/share/info/x.info", &info);
    relocate(&root, FROM, "/o", &[]).succeeds();
    let verify = "import sys, struct, zlib\n\
        data = open(sys.argv[1], 'rb').read(); at = 8\n\
        while at < len(data):\n\
        \x20   size, = struct.unpack_from('>I', data, at)\n\
        \x20   assert zlib.crc32(data[at + 4:at + 8 + size]) == struct.unpack_from('>I', data, at + 8 + size)[0]\n\
        \x20   at += 12 + size\n\
        print(data.count(b'/o//'))";
    let share = root.root().join("o/usr/share");
    assert_eq!(python(verify, &[text_of(&share.join("x.png"))]), "1\n");
    let padded = format!("/o{}/etc", "/".repeat(FROM.len() - 2));
    let new = fs_err::read_to_string(share.join("info/x.info")).unwrap();
    assert_eq!(new, info.replace(&format!("{FROM}/etc"), &padded));
}

/// A path of which nothing else is the beginning is replaced wherever it stands.
#[test]
fn strings_without_an_end() {
    let canonical = "/opt/fprefix-relocatable-a-path-that-each-merge-replaces-by-the-prefix-s-own";
    let root = SmallRoot::empty(canonical);
    root.file("usr/bin/go", &format!("\0first{canonical}second{canonical}/x{canonical}.d\0"));
    root.file("usr/share/text", &format!("/root{canonical}/x {canonical}-old\n"));
    let said = relocate(&root, canonical, "/o", &[]).succeeds();
    assert!(!said.stdout.contains("note"), "{said}");
    let slashes = "/".repeat(canonical.len() - 2);
    let read = |path: &str| fs_err::read_to_string(root.root().join("o").join(path)).unwrap();
    let expected = format!("\0first/o{slashes}second/o{slashes}/x/o{slashes}.d\0");
    assert_eq!(read("usr/bin/go"), expected);
    assert_eq!(read("usr/share/text"), "/root/o/x /o-old\n");
}

/// Links lead to the same files after the depth of the prefix has changed, and so do links to it.
#[test]
fn links_across_the_border() {
    let root = SmallRoot::empty(FROM);
    root.file("usr/bin/x", "x\n");
    root.link("../../../share/own", "usr/out");
    root.link("../lib/within", "usr/within");
    let dir = root.root();
    fs_err::create_dir_all(dir.join("usr/share")).unwrap();
    fs_err::create_dir_all(dir.join("usr/bin")).unwrap();
    fs_err::write(dir.join("usr/share/own"), "own\n").unwrap();
    let link = |target: &str, path: &str| {
        fs_err::os::unix::fs::symlink(target, dir.join(path)).unwrap();
    };
    link("../local/a-prefix-of-some-length/usr/bin/x", "usr/bin/in");
    link("../share/own", "usr/bin/own");
    relocate(&root, FROM, "/o", &[]).succeeds();
    let read = |path: &str| fs_err::read_link(dir.join(path)).unwrap();
    assert_eq!(read("o/usr/out"), Path::new("../../usr/share/own"));
    assert_eq!(read("o/usr/within"), Path::new("../lib/within"));
    assert_eq!(read("usr/bin/in"), Path::new("../../o/usr/bin/x"));
    assert_eq!(read("usr/bin/own"), Path::new("../share/own"));
    for path in ["o/usr/out", "usr/bin/in"] {
        assert!(fs_err::metadata(dir.join(path)).is_ok(), "{path} leads nowhere");
    }
    let before = tree(&dir);
    relocate(&root, FROM, "/o", &[]).succeeds();
    assert!(before == tree(&dir), "twice is not once");
}

/// `check` looks at what is shipped of var, and not into holes.
#[test]
fn check_finds_the_path_in_var_and_behind_holes() {
    let root = SmallRoot::empty("/o");
    root.file("var/lib/own/state", &format!("{FROM}/x\n"));
    root.file("var/lib/portage/world", &format!("{FROM}\n"));
    let sparse = fs_err::File::create(root.inside("var/lib/own/sparse")).unwrap();
    sparse.set_len(32 << 30).unwrap();
    sparse.file().write_all_at(format!("{FROM}/y").as_bytes(), 16 << 30).unwrap();
    let (world, dir) = (World::new(), root.root());
    let args = ["check", "--root", text_of(&dir), "--eprefix", "/o", "--relocated-from", FROM];
    let said = world.fprefix(args).args(["--rule", "relocated"]).said().ends_with(3);
    for (name, path) in [("state", "x"), ("sparse", "y")] {
        let told = format!("error[relocated]: /o/var/lib/own/{name}: names {FROM}/{path}");
        assert!(said.stdout.contains(&told), "{said}");
    }
    assert_eq!(said.stdout.matches("error[").count(), 2, "{said}");
}
