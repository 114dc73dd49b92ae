//! Symbols: out of images, where nothing speaks for them, and never out of the root.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::small_root::SmallRoot;
use crate::harness::tools::{stdout_of, stdout_of_success};
use crate::harness::wait::wait_for_a_tick_since_changes;

const CODE: &str = if cfg!(target_arch = "aarch64") {
    "static int status = 42;\nvoid _start(void) { __asm__ volatile (\"mov x8, #93\\n mov x0, %0\\n \
     svc #0\" : : \"r\" ((long) status)); }\n"
} else {
    "static int status = 42;\nvoid _start(void) { __asm__ volatile (\"syscall\" : : \"a\" (60), \
     \"D\" (status)); }\n"
};

const ID: &str = "-Wl,--build-id=sha1";
const NO_ID: &str = "-Wl,--build-id=none";

/// Compiles `code` with debugging information to `path` of the prefix.
fn compile(small: &SmallRoot, compiler: &str, code: &str, path: &str, options: &[&str]) {
    let source = small.beside("source.c");
    fs_err::write(&source, code).unwrap();
    small.file(path, "");
    let made = small.inside(path);
    let files = ["-o", made.to_str().unwrap(), "source.c"];
    let arguments = [&["-nostdlib", "-g"], options, &files[..]].concat();
    let output =
        Command::new(compiler).args(arguments).current_dir(small.beside(".")).output().unwrap();
    stdout_of_success(output);
}

/// A root with a program and a library that have symbols.
fn with_symbols() -> SmallRoot {
    let small = SmallRoot::full();
    compile(&small, "gcc", CODE, "usr/bin/tool", &["-static", ID]);
    let library = ["-shared", "-fPIC", "-Wl,-soname,libown.so.1", NO_ID];
    // Many names, so that images without them are smaller by more than the block that they fill.
    let functions =
        (0..2000).map(|number| format!("static int f{number}(void) {{ return {number}; }}\n"));
    let code = functions.collect::<String>() + "int own(void) { return f0() + f1999(); }\n";
    compile(&small, "gcc", &code, "usr/lib64/libown.so.1", &library);
    small
}

/// What is in the image `name`.
fn unpack(small: &SmallRoot, output: &str, name: &str) -> PathBuf {
    let dir = small.beside(&format!("{output}-{name}.tree"));
    let image = small.beside(output).join(name);
    stdout_of("unsquashfs", ["-f", "-d", dir.to_str().unwrap(), image.to_str().unwrap()]);
    dir
}

fn sections(file: &Path) -> String {
    stdout_of("readelf", ["--wide", "--section-headers", file.to_str().unwrap()])
}

fn has_symbols(file: &Path) -> bool {
    let sections = sections(file);
    sections.contains(" .symtab ") || sections.contains(" .debug_info ")
}

fn build_id(file: &Path) -> String {
    let notes = stdout_of("readelf", ["--wide", "--notes", file.to_str().unwrap()]);
    let line = notes.lines().find(|line| line.contains("Build ID: ")).expect(&notes);
    line.rsplit(' ').next().unwrap().to_owned()
}

fn manifest(small: &SmallRoot, output: &str) -> Value {
    let text = fs_err::read(small.beside(output).join("small_manifest.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn symbols_stay_out_of_the_image_and_in_the_root() {
    let small = with_symbols();
    fs_err::hard_link(small.inside("usr/bin/tool"), small.inside("usr/bin/tool-1")).unwrap();
    small.mode("usr/bin/tool", 0o555);
    compile(&small, "gcc", CODE, "usr/share/thing/object", &["-c"]);
    let files = ["usr/bin/tool", "usr/lib64/libown.so.1", "usr/share/thing/object"];
    let read = |path: &Path| fs_err::read(path).unwrap();
    let before = files.map(|file| read(&small.inside(file)));
    small.pack("out", &[]);
    small.pack("whole", &["--no-strip"]);
    for (file, before) in files.iter().zip(&before) {
        assert!(read(&small.inside(file)) == *before, "{file} of the root was changed");
    }
    let (out, whole) = (unpack(&small, "out", "small.raw"), unpack(&small, "whole", "small.raw"));
    let inside = |tree: &Path, file: &str| tree.join("usr/local/small").join(file);
    for file in ["usr/bin/tool", "usr/bin/tool-1", "usr/lib64/libown.so.1"] {
        assert!(!has_symbols(&inside(&out, file)), "{file} has symbols");
        assert!(has_symbols(&inside(&whole, file)), "{file} has none with --no-strip");
    }
    assert!(read(&inside(&out, "usr/share/thing/object")) == before[2], "an object file");
    let tool = inside(&out, "usr/bin/tool");
    assert_eq!(build_id(&tool), build_id(&small.inside("usr/bin/tool")));
    assert_eq!(Command::new(&tool).status().unwrap().code(), Some(42));
    let size = |output: &str| fs_err::metadata(small.beside(output).join("small.raw")).unwrap();
    assert!(size("out").len() < size("whole").len());
    let stripped = &manifest(&small, "out")["stripped"];
    assert_eq!(stripped["files"], 2, "{stripped:#}");
    let sizes = |tree: &Path| -> u64 {
        files.iter().map(|file| fs_err::metadata(inside(tree, file)).unwrap().len()).sum()
    };
    assert_eq!(stripped["bytes"], sizes(&whole) - sizes(&out));
    small.pack("again", &["--strip"]);
    let bytes = |output: &str| read(&small.beside(output).join("small.raw"));
    assert!(bytes("out") == bytes("again"), "not reproducible");
}

#[test]
fn what_speaks_for_symbols_keeps_them() {
    let small = with_symbols();
    let names = ["restricted", "built-so", "named", "by-path", "appended"];
    for name in names {
        small.copy(small.inside("usr/bin/tool"), &format!("usr/bin/{name}"), 0o755);
    }
    for (package, name) in [("restricted-1", 0), ("built-so-2-r1", 1), ("named-3", 2)] {
        let contents = format!("obj /usr/local/small/usr/bin/{} 0123 17\n", names[name]);
        small.file(&format!("var/db/pkg/app-misc/{package}/CONTENTS"), &contents);
    }
    small.file("var/db/pkg/app-misc/restricted-1/RESTRICT", "mirror strip\n");
    small.file("var/db/pkg/app-misc/built-so-2-r1/FEATURES", "buildpkg nostrip sandbox\n");
    let append = |name: &str, more: &[u8]| {
        let path = small.inside(&format!("usr/bin/{name}"));
        let mut bytes = fs_err::read(&path).unwrap();
        bytes.extend(more);
        fs_err::write(path, bytes).unwrap();
    };
    append("appended", b"an archive that the program reads");
    // Sections that lie behind the end of the file, and half a header.
    let whole = fs_err::read(small.inside("usr/bin/tool")).unwrap();
    fs_err::write(small.inside("usr/share/thing/cut"), &whole[..40]).unwrap();
    let mut broken = whole.clone();
    broken[0x28..0x30].copy_from_slice(&u64::MAX.to_le_bytes());
    fs_err::write(small.inside("usr/share/thing/broken"), broken).unwrap();

    let keep = "app-misc/named,/usr/local/small/usr/bin/by-*";
    let options = ["--keep-symbols", keep, "--waive", "elf"];
    small.pack("out", &options);
    let tree = unpack(&small, "out", "small.raw").join("usr/local/small");
    let bin = names.map(|name| format!("usr/bin/{name}"));
    let odd = ["usr/share/thing/cut", "usr/share/thing/broken"].map(str::to_owned);
    for path in bin.iter().chain(&odd) {
        let (one, other) = (fs_err::read(tree.join(path)), fs_err::read(small.inside(path)));
        assert!(one.unwrap() == other.unwrap(), "{path} was changed");
    }
    assert!(!has_symbols(&tree.join("usr/bin/tool")));
    let stripped = &manifest(&small, "out")["stripped"];
    let kept = stripped["kept"].as_array().unwrap();
    let why = |name: &str| {
        let path = format!("/usr/local/small/usr/bin/{name}");
        let found = kept.iter().find(|kept| kept["path"] == path.as_str());
        found.unwrap_or_else(|| panic!("{name} is not in {kept:#?}"))["why"].as_str().unwrap()
    };
    assert_eq!(why("restricted"), "app-misc/restricted-1 has RESTRICT=strip");
    assert_eq!(why("built-so"), "app-misc/built-so-2-r1 was built with FEATURES=nostrip");
    assert_eq!(why("named"), "app-misc/named-3 was named");
    assert_eq!(why("by-path"), "/usr/local/small/usr/bin/by-* was named");
    assert_eq!(why("appended"), "something is appended to it");
    let dry = small.pack("dry", &[&options[..], &["--dry-run"]].concat());
    assert!(dry.contains("to be stripped: 2 files\n"), "{dry}");
    assert!(dry.contains("usr/bin/named: app-misc/named-3 was named\n"), "{dry}");

    let error = small.refuse("out", &["--keep-symbols", "app-misc/nothing"]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    error: app-misc/nothing is to keep its symbols, and is not installed in the prefix
    ");
    let refused = small.try_pack("out", &["--keep-symbols", "tool"]);
    assert_eq!(refused.status.code(), Some(2));
}

/// CRC-32 as `.gnu_debuglink` has it (gdb's manual, "Separate Debug Files").
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut crc: u32, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
        crc
    })
}

#[test]
fn debuggers_find_what_was_put_apart() {
    let small = with_symbols();
    // What Portage put apart itself.
    let portage = "usr/lib/debug/usr/local/small/usr/bin/other.debug";
    small.copy(small.inside("usr/bin/tool"), portage, 0o644);
    small.link("../../usr/local/small/usr/bin/other.debug", "usr/lib/debug/.build-id/ab/cd.debug");
    let options = ["--splitdebug", "--version", "1", "--architecture", "arm64"];
    let options = [&options[..], &["--release", "ID=flatcar", "--release", "SYSEXT_ID=x"]].concat();
    small.pack("out", &options);
    let tree = unpack(&small, "out", "small.debug.raw");
    let link = fs_err::read_link(small.beside("out/small.debug.raw")).unwrap();
    assert_eq!(link, Path::new("small.debug-1-arm64.raw"));
    let release = tree.join("usr/lib/extension-release.d/extension-release.small.debug");
    assert_eq!(
        fs_err::read_to_string(release).unwrap(),
        "ID=flatcar\nARCHITECTURE=arm64\nSYSEXT_ID=small.debug\nSYSEXT_VERSION_ID=1\n"
    );

    let debug = tree.join("usr/lib/debug");
    let image = unpack(&small, "out", "small.raw").join("usr/local/small");
    let id = build_id(&image.join("usr/bin/tool"));
    let of_tool = debug.join(format!(".build-id/{}/{}.debug", &id[..2], &id[2..]));
    assert_eq!(build_id(&of_tool), id);
    let info = stdout_of("readelf", ["--debug-dump=info", of_tool.to_str().unwrap()]);
    assert!(info.contains("source.c") && info.contains("status"), "{info}");
    assert!(!sections(&image.join("usr/bin/tool")).contains(".gnu_debuglink"));

    let library = image.join("usr/lib64/libown.so.1");
    let dumped = small.beside("debuglink");
    let option = format!(".gnu_debuglink={}", dumped.display());
    let copy = small.beside("copy");
    let arguments = [library.to_str().unwrap(), copy.to_str().unwrap()];
    stdout_of("objcopy", [&["--dump-section", &option], &arguments[..]].concat());
    let of_library = debug.join("usr/local/small/usr/lib64/libown.so.1.debug");
    let dumped = fs_err::read(dumped).unwrap();
    assert!(dumped.starts_with(b"libown.so.1.debug\0"), "{dumped:?}");
    let sum = crc(&fs_err::read(&of_library).unwrap());
    assert_eq!(dumped[dumped.len() - 4..], sum.to_le_bytes());
    assert!(has_symbols(&of_library) && !has_symbols(&library));

    let other = fs_err::canonicalize(debug.join(".build-id/ab/cd.debug")).unwrap();
    assert!(other.ends_with("usr/lib/debug/usr/local/small/usr/bin/other.debug"));
    let names = &manifest_of(&small, "out/small-1-arm64_manifest.json")["debug_images"];
    assert_eq!(names[0]["name"], "small.debug-1-arm64.raw");
    let out = small.beside("out");
    stdout_of("sh", ["-c", "cd $0 && sha256sum --strict -c SHA256SUMS", out.to_str().unwrap()]);
    let sums = fs_err::read_to_string(out.join("SHA256SUMS")).unwrap();
    assert!(sums.contains("  small.debug-1-arm64.raw\n"), "{sums}");
    small.pack("again", &options);
    for name in ["small.raw", "small.debug.raw"] {
        let bytes = |output: &str| fs_err::read(small.beside(output).join(name)).unwrap();
        assert!(bytes("out") == bytes("again"), "{name} is not reproducible");
    }
}

#[test]
fn the_extension_with_symbols_is_there_or_made_again() {
    let small = with_symbols();
    wait_for_a_tick_since_changes(&small.root());
    let pack = |options: &[&str]| {
        let output = small.try_pack("out", options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        stdout_of_success(output);
        said.contains("nothing has changed")
    };
    assert!(!pack(&[]) && pack(&[]), "an unchanged root is packed again");
    assert!(!pack(&["--no-strip"]), "the option is not looked at");
    assert!(!pack(&["--keep-symbols", "/usr/local/small/usr/bin/*"]));
    assert!(!pack(&["--splitdebug"]) && pack(&["--splitdebug"]));
    fs_err::remove_file(small.beside("out/small.debug.raw")).unwrap();
    assert!(!pack(&["--splitdebug"]), "an extension that is gone is not made again");
}

fn manifest_of(small: &SmallRoot, path: &str) -> Value {
    serde_json::from_slice(&fs_err::read(small.beside(path)).unwrap()).unwrap()
}

#[test]
fn other_machines_have_their_own_strip() {
    let small = SmallRoot::empty("/usr/local/small");
    let other = if cfg!(target_arch = "aarch64") { "x86_64" } else { "aarch64" };
    let compiler = format!("{other}-linux-gnu-gcc");
    let code = "int own(void) { return 1; }\n";
    let options = ["-shared", "-fPIC", "-Wl,-soname,libown.so.1", ID];
    compile(&small, &compiler, code, "usr/lib64/libown.so.1", &options);
    small.pack("out", &["--splitdebug"]);
    let library = unpack(&small, "out", "small.raw").join("usr/local/small/usr/lib64/libown.so.1");
    assert!(!has_symbols(&library));
    let id = build_id(&library);
    let debug = unpack(&small, "out", "small.debug.raw").join("usr/lib/debug/.build-id");
    assert!(has_symbols(&debug.join(format!("{}/{}.debug", &id[..2], &id[2..]))));
}
