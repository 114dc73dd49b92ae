//! What `pack` leaves out because nothing in the extension needs it: libraries and programs of the
//! toolchain, and modules for character sets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::libc_root::{self, compile, machine_file, on};
use crate::harness::small_programs::program;
use crate::harness::small_root::{FPREFIX, SmallRoot};
use crate::harness::tools::{stdout_of, stdout_of_success};

const EPREFIX: &str = "/usr/local/small";

/// Says in Portage's database of `small` that `package` has these files.
fn own(small: &SmallRoot, package: &str, paths: &[String]) {
    let line = |path: &String| format!("obj {}/{path} 0123 1700000000\n", small.eprefix());
    let contents: String = paths.iter().map(line).collect();
    small.file(&format!("var/db/pkg/{package}/CONTENTS"), &contents);
    small.file(&format!("var/db/pkg/{package}/repository"), "fprefix\n");
}

/// Makes a library of this name that needs the library `needed`.
fn library(small: &SmallRoot, name: &str, needed: Option<&str>) -> String {
    let path = format!("usr/lib64/{name}");
    let soname = format!("-Wl,-soname,{name}");
    let mut options = vec!["-nostdlib", "-s", "-shared", "-fPIC", &soname];
    let rpath = format!("-Wl,-rpath,{EPREFIX}/usr/lib64");
    let needed = needed.map(|needed| small.inside(&format!("usr/lib64/{needed}")));
    if let Some(needed) = &needed {
        options.extend(["-Wl,--no-as-needed", &rpath, needed.to_str().unwrap()]);
    }
    compile(small, "library.c", "int thing(void) { return 1; }\n", &path, &options);
    path
}

/// A note about dlopen(3), by <https://uapi-group.org/specifications/specs/elf_dlopen_metadata/>.
const NOTE: &str = r#"
__asm__(".pushsection .note.dlopen, \"a\"\n .balign 4\n .long 4, 2f - 1f, 0x407c0c0a\n"
        " .asciz \"FDO\"\n1: .asciz \"[{\\\"soname\\\":[\\\"libnoted.so.1\\\"]}]\"\n2: .balign 4\n .popsection");
int plugin(void) { return 1; }
"#;

/// A root in which the compiler's runtime has a library for each way to be loaded, and two that nothing
/// loads.
fn root() -> SmallRoot {
    let small = SmallRoot::empty(EPREFIX);
    small.copy(program(), "usr/bin/program", 0o755);
    let mut bytes = fs_err::read(program()).unwrap();
    bytes.extend(b"\0libopened.so.1\0libnss_%s.so.2\0");
    fs_err::write(small.inside("usr/bin/program"), bytes).unwrap();
    let names = ["chained", "noted", "opened", "named", "linked", "nss_db", "unused", "unused10"];
    let mut runtime: Vec<String> =
        names.iter().map(|name| library(&small, &format!("lib{name}.so.1"), None)).collect();
    runtime.push(library(&small, "libneeded.so.1", Some("libchained.so.1")));
    runtime.push(library(&small, "libloop.so.1", Some("libunused.so.1")));
    small.link("libunused.so.1", "usr/lib64/libunused.so");
    own(&small, "sys-libs/gcc-runtime-12", &runtime);
    let others = ["libother.so.1", "libasked.so.1"].map(|name| library(&small, name, None));
    own(&small, "dev-libs/other-1", &others[..1]);
    own(&small, "dev-libs/asked-1", &others[1..]);
    small.file("var/lib/portage/world", "dev-libs/asked\n");
    let needed = small.inside("usr/lib64/libneeded.so.1");
    let rpath = format!("-Wl,-rpath,{EPREFIX}/usr/lib64");
    let options = ["-nostdlib", "-shared", "-fPIC", "-Wl,--no-as-needed", &rpath];
    let options = [&options[..], &[needed.to_str().unwrap()]].concat();
    compile(&small, "plugin.c", NOTE, "usr/lib64/plugins/plugin.so", &options);
    small.file("etc/thing.conf", "module libnamed.so.1\n");
    small.link("../../lib64/liblinked.so.1", "usr/share/thing/preload.so");
    small
}

/// The files in usr/lib64 of what is packed with these options.
fn libraries(small: &SmallRoot, options: &[&str]) -> BTreeSet<String> {
    let plan = plan(small, options);
    let start = format!("{EPREFIX}/usr/lib64/");
    let entries = plan["entries"].as_array().unwrap().iter();
    let names = entries.filter_map(|entry| entry["path"].as_str()?.strip_prefix(&start));
    names.filter(|name| name.starts_with("lib")).map(str::to_owned).collect()
}

fn plan(small: &SmallRoot, options: &[&str]) -> Value {
    let options = [&["--dry-run", "--json"], options].concat();
    serde_json::from_str(&small.pack("out", &options)).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("lib{name}.so.1")).collect()
}

const USED: &[&str] = &["chained", "linked", "named", "needed", "noted", "nss_db", "opened"];

#[test]
fn libraries_that_nothing_loads_are_left_out() {
    let small = root();
    let asked = set(&[USED, &["asked", "other"]].concat());
    assert_eq!(libraries(&small, &[]), asked);
    let left_out = &plan(&small, &[])["left_out"];
    let rule = left_out.as_array().unwrap().iter().find(|one| one["rule"] == "unused-libraries");
    let path = |name: &str| format!("{EPREFIX}/usr/lib64/lib{name}.so.1");
    let gone = serde_json::json!([path("loop"), path("unused"), path("unused10")]);
    assert_eq!(rule.unwrap()["paths"], gone);
    let text = small.pack("out", &["--dry-run"]);
    assert!(text.contains(&format!("left out by unused-libraries: {}\n", path("loop"))), "{text}");
    assert_eq!(
        libraries(&small, &["--unused-libraries", "all"]),
        set(&[USED, &["asked"]].concat())
    );
}

#[test]
fn libraries_are_kept_for_those_who_ask() {
    let small = root();
    let all = set(&[USED, &["asked", "other", "loop", "unused", "unused10"]].concat());
    for options in [&["--keep", "unused-libraries"][..], &["--pkginfo"], &["--keep", "portage"]] {
        assert_eq!(libraries(&small, options), all, "{options:?}");
    }
    // A set may have any package.
    small.file("var/lib/portage/world_sets", "@mine\n");
    for options in [&[][..], &["--unused-libraries", "all"]] {
        assert_eq!(libraries(&small, options), all, "{options:?}");
    }
    small.file("var/lib/portage/world_sets", "\n");
    assert_ne!(libraries(&small, &[]), all);
    small.file("var/lib/portage/world", "sys-libs/gcc-runtime\n");
    assert_eq!(libraries(&small, &[]), all);
    let error = small.refuse_usage("out", &["--unused-libraries", "some"]);
    assert!(error.contains("\"some\" has to be toolchain or all"), "{error}");
}

/// glvnd's libraries put the names of vendors together.
#[test]
fn libraries_of_vendors_are_kept() {
    let small = SmallRoot::empty(EPREFIX);
    let mut bytes = fs_err::read(program()).unwrap();
    bytes.extend(b"\0libGLX_%s.so.0\0/usr/share/glvnd/egl_vendor.d\0");
    small.file("usr/bin/program", "");
    fs_err::write(small.inside("usr/bin/program"), bytes).unwrap();
    small.mode("usr/bin/program", 0o755);
    let names = ["libGLX_mesa.so.0", "libEGL_mesa.so.0", "libmesa.so.0"];
    own(&small, "media-libs/mesa-1", &names.map(|name| library(&small, name, None)));
    let left = libraries(&small, &["--unused-libraries", "all"]);
    assert_eq!(left, ["libEGL_mesa.so.0", "libGLX_mesa.so.0"].map(str::to_owned).into());
}

/// What is laid over the content may need what the rest does not.
#[test]
fn mangled_content_counts() {
    let small = root();
    let over = small.beside("over");
    let script = over.join("usr/local/small/usr/share/thing/start");
    fs_err::create_dir_all(script.parent().unwrap()).unwrap();
    fs_err::write(&script, "LD_PRELOAD=libunused10.so.1 exec program\n").unwrap();
    small.pack("out", &["--format", "directory", "--mangle", over.to_str().unwrap()]);
    let at = |name: &str| small.beside("out/small/usr/local/small/usr/lib64").join(name);
    assert!(at("libunused10.so.1").exists() && !at("libunused.so.1").exists());
    let manifest = fs_err::read_to_string(small.beside("out/small_manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let rules = manifest["left_out"].as_array().unwrap().iter();
    let paths = rules.filter(|one| one["rule"] == "unused-libraries").map(|one| &one["paths"]);
    let gone = ["loop", "unused"].map(|name| format!("{EPREFIX}/usr/lib64/lib{name}.so.1"));
    assert_eq!(paths.collect::<Vec<_>>(), [&serde_json::json!(gone)]);
}

#[test]
fn programs_of_libc_stay_where_something_calls_them() {
    let small = SmallRoot::full();
    let tools = ["getconf", "getent", "iconv", "locale", "localedef"];
    let paths = tools.map(|tool| format!("usr/bin/{tool}"));
    for path in &paths {
        small.copy(program(), path, 0o755);
    }
    own(&small, "sys-libs/glibc-2.36", &paths);
    small.file("usr/bin/who", "#!/bin/sh\n# not iconv\nexec getent passwd\n");
    small.file("usr/share/thing/run.py", "import locale\nrun(['getconf', 'PATH'])\n");
    let left = |options: &[&str]| {
        let plan = plan(&small, options);
        let paths: BTreeSet<&str> = plan["entries"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["path"].as_str())
            .collect();
        let is_left = |tool: &&str| paths.contains(&*format!("{EPREFIX}/usr/bin/{tool}"));
        tools.iter().filter(|tool| is_left(tool)).map(|tool| (*tool).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(left(&[]), ["getconf", "getent"]);
    assert_eq!(left(&["--expose", "program,locale"]), ["getconf", "getent", "locale"]);
    assert_eq!(left(&["--expose", "all"]), ["getconf", "getent"]);
    assert_eq!(left(&["--keep", "libc-tools"]), tools);
    small.file("var/lib/portage/world", "sys-libs/glibc\n");
    assert_eq!(left(&[]), tools);
}

/// Converts a byte from each character set that its arguments name, and prints what comes of it.
const CONVERT: &str = r#"
#include <iconv.h>
#include <stdio.h>
int main(int count, char **names) {
    for (int at = 1; at < count; at++) {
        char in[] = "\xa4\xa4", out[32] = "", *from = in, *to = out;
        size_t left = 2, room = 31;
        iconv_t convert = iconv_open("UTF-8", names[at]);
        if (convert == (iconv_t)-1) { printf("%s: none\n", names[at]); continue; }
        iconv(convert, &from, &left, &to, &room);
        printf("%s: %s\n", names[at], out);
    }
    return 0;
}
"#;

/// A root with the machine's C library and some of its modules, which the package of the C library has.
fn with_charsets() -> SmallRoot {
    let small = libc_root::root(EPREFIX);
    let gconv = PathBuf::from(machine_file("libc.so.6")).with_file_name("gconv");
    let further = "gconv-modules.d/gconv-modules-extra.conf";
    if gconv.join(further).exists() {
        small.copy(gconv.join(further), &format!("usr/lib64/gconv/{further}"), 0o644);
    }
    let modules =
        ["ISO8859-15.so", "ISO8859-2.so", "EUC-JP.so", "libJIS.so", "UTF-16.so", "KOI8-R.so"];
    for name in modules {
        small.copy(gconv.join(name), &format!("usr/lib64/gconv/{name}"), 0o644);
    }
    own(&small, "sys-libs/glibc-2.36", &modules.map(|name| format!("usr/lib64/gconv/{name}")));
    stdout_of_success(on(&small, &["rewrite"]));
    small
}

fn modules_in(tree: &Path) -> BTreeSet<String> {
    let names = fs_err::read_dir(tree.join("usr/local/small/usr/lib64/gconv")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".so")).collect()
}

#[test]
fn modules_for_character_sets_that_nothing_needs_are_left_out() {
    let small = with_charsets();
    let pack = |output: &str, options: &[&str]| {
        let options = [&["--format", "directory", "--no-reports"], options].concat();
        small.pack(output, &options);
        small.beside(output).join("small")
    };
    let text = |names: &[&str]| names.iter().map(|name| format!("{name}.so")).collect();
    let none: BTreeSet<String> = BTreeSet::new();
    assert_eq!(modules_in(&pack("none", &[])), none, "C.UTF-8 needs none");
    let japanese = pack("japanese", &["--charsets", "ujis,LATIN-9"]);
    assert_eq!(modules_in(&japanese), text(&["EUC-JP", "ISO8859-15", "libJIS"]));
    assert_eq!(modules_in(&pack("all", &["--charsets", "all"])).len(), 6);
    assert_eq!(modules_in(&pack("kept", &["--keep", "charsets"])).len(), 6);
    for tree in ["none", "japanese"] {
        let tree = small.beside(tree).join("small");
        stdout_of(FPREFIX, ["check", "--root", tree.to_str().unwrap(), "--eprefix", EPREFIX]);
    }
    let error = small.refuse("out", &["--charsets", "EUC-XX"]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    error: /usr/local/small/usr/lib64/gconv has no character set EUC-XX
    hint: `iconv --list` shows those that the C library has
    ");

    compile(&small, "convert.c", CONVERT, "usr/bin/convert", &[]);
    stdout_of_success(on(&small, &["rewrite"]));
    let usual = pack("usual", &[]);
    assert_eq!(modules_in(&usual), text(&["ISO8859-15", "UTF-16"]));
    let few = pack("few", &["--charsets", "EUC-JP,KOI8-R"]);
    // The C library of the prefix reads the list that was cut.
    let converted = |tree: &Path| {
        let words = "convert LATIN-9 latin2 ujis koi8-r UCS-2";
        let tree = tree.to_str().unwrap();
        let args = ["check", "--root", tree, "--eprefix", EPREFIX, "--run", words];
        let proof = stdout_of(FPREFIX, args);
        proof.lines().take(5).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(converted(&usual), @"
    LATIN-9: €€
    latin2: none
    ujis: none
    koi8-r: none
    UCS-2: ꒤
    ");
    insta::assert_snapshot!(converted(&few), @"
    LATIN-9: €€
    latin2: none
    ujis: い
    koi8-r: ╓╓
    UCS-2: ꒤
    ");
}
