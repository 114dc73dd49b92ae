//! One defect after the other, each in a copy of a root that passes; the rule that has to see it,
//! and that it can be waived.

use std::collections::BTreeSet;
use std::path::Path;

use super::libc_root::{self, compile, loader_name, machine_file, on};
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{stdout_of, stdout_of_success};

const EPREFIX: &str = "/usr/local/iso";

/// What the rule `rule` says of a root after `make` broke it.
struct Defect {
    rule: &'static str,
    says: &'static str,
    make: fn(&SmallRoot),
}

const fn defect(rule: &'static str, says: &'static str, make: fn(&SmallRoot)) -> Defect {
    Defect { rule, says, make }
}

fn set(root: &SmallRoot, words: &[&str]) {
    let program = root.inside("usr/bin/program");
    stdout_of_success(fprefix().args(["elf", "set"]).args(words).arg(program).output().unwrap());
}

fn executable(root: &SmallRoot, text: &str) {
    root.file("usr/bin/script", text);
    root.mode("usr/bin/script", 0o755);
}

/// A library of which the program needs a version, and then one that has it no more.
fn lose_version(root: &SmallRoot) {
    let library = |version: &str| {
        let script = root.beside("versions");
        fs_err::write(&script, format!("{version} {{ global: old; }};\n")).unwrap();
        let script = format!("-Wl,--version-script={}", script.display());
        let options = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libold.so.1", &script];
        compile(root, "old.c", "int old(void) { return 1; }\n", "usr/lib64/libold.so.1", &options);
    };
    library("OLD_1");
    let needed = root.inside("usr/lib64/libold.so.1");
    let code = "int old(void);\nint main(void) { return old(); }\n";
    compile(root, "needs.c", code, "usr/bin/needs", &[needed.to_str().unwrap()]);
    stdout_of_success(on(root, &["rewrite"]));
    library("OLD_2");
}

/// A library for a machine that there is none of.
fn of_another_machine(root: &SmallRoot) {
    let path = root.inside("usr/lib64/libthing.so.1");
    let mut bytes = fs_err::read(&path).unwrap();
    // e_machine.
    bytes[18..20].copy_from_slice(&[0xf3, 0x0f]);
    fs_err::write(root.inside("usr/lib64/libforeign.so"), bytes).unwrap();
}

/// A library whose data names this path.
fn names(root: &SmallRoot, path: &str) {
    let code = format!("const char *name(void) {{ return \"{path}\"; }}\n");
    let options = ["-shared", "-fPIC", "-nostdlib"];
    compile(root, "names.c", &code, "usr/lib64/libnames.so", &options);
}

/// A library that opens another one, which is nowhere.
fn opens(root: &SmallRoot, priority: &str) {
    let note = r#"[{"soname":["libnone.so.1"],"feature":"colours","priority":"PRIORITY"}]"#;
    let bytes: Vec<String> =
        note.replace("PRIORITY", priority).bytes().map(|byte| byte.to_string()).collect();
    let code = format!(
        "__asm__(\".pushsection .note.dlopen, \\\"a\\\"\\n.balign 4\\n\"\n\
         \".long 4, 2f - 1f, 0x407c0c0a\\n.asciz \\\"FDO\\\"\\n\"\n\
         \"1: .byte {}, 0\\n2: .balign 4\\n.popsection\\n\");\n",
        bytes.join(", ")
    );
    compile(root, "opens.c", &code, "usr/lib64/libopens.so", &["-shared", "-fPIC", "-nostdlib"]);
}

fn with_attribute(root: &SmallRoot) {
    let dir = root.inside("usr/share/opaque");
    fs_err::create_dir_all(&dir).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&dir, "user.overlay.opaque", b"y", flags).unwrap();
}

const ERRORS: &[Defect] = &[
    defect("interpreter", "outside of the prefix", |root| {
        set(root, &["--interpreter", "/lib64/ld-linux-x86-64.so.2"]);
    }),
    defect("interpreter", "is not there", |root| {
        set(root, &["--interpreter", "/usr/local/iso/usr/lib64/none.so"]);
    }),
    defect("needed", "not in the prefix", |root| set(root, &["--add-needed", "libnone.so.9"])),
    defect("needed", "found by chance", |root| {
        set(root, &["--rpath", "/usr/local/iso/usr/lib"]);
    }),
    defect("start", "libthing.so.1 needs libnone.so.9", |root| {
        let library = root.inside("usr/lib64/libthing.so.1");
        let words = ["elf", "set", "--add-needed", "libnone.so.9"];
        stdout_of_success(fprefix().args(words).arg(library).output().unwrap());
    }),
    defect("search-path", "/usr/lib, outside of the prefix", |root| {
        set(root, &["--rpath", "/usr/local/iso/usr/lib64:/usr/lib"]);
    }),
    defect("search-path", "/home/me/build, outside of the prefix", |root| {
        set(root, &["--runpath", "/usr/local/iso/usr/lib64:/home/me/build"]);
    }),
    defect("search-path", "empty entry", |root| {
        set(root, &["--rpath", "/usr/local/iso/usr/lib64:"]);
    }),
    defect("search-path", "relative", |root| {
        set(root, &["--rpath", "lib:/usr/local/iso/usr/lib64"]);
    }),
    defect("symbol-version", "needs the version OLD_1 of libold.so.1", lose_version),
    defect("symbol", "needs the symbol thing", |root| {
        let options = ["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libthing.so.1"];
        compile(
            root,
            "other.c",
            "int other(void) { return 1; }\n",
            "usr/lib64/libthing.so.1",
            &options,
        );
    }),
    defect("loader", "ld.so.preload", |root| {
        root.copy(machine_file(loader_name()), &format!("usr/lib64/{}", loader_name()), 0o755);
    }),
    defect("character-sets", "gconv-modules.cache", original_libc),
    defect("locale", "/usr/lib/locale/locale-archive", original_libc),
    defect("name-services", "nsswitch.conf", original_libc),
    defect("opened", "opens libnone.so.1 for colours", |root| opens(root, "required")),
    defect("modules", "lists /usr/lib/gdk-pixbuf-2.0/png.so", |root| {
        root.file(
            "usr/lib64/loaders.cache",
            "# made by hand\n\"/usr/lib/gdk-pixbuf-2.0/png.so\"\n",
        );
    }),
    defect("modules", "lists /usr/lib/python3/dist-packages", |root| {
        root.file("usr/lib/python3/site-packages/x.pth", "/usr/lib/python3/dist-packages\n");
    }),
    defect("modules", "lists /opt/driver/icd.so", |root| {
        root.file("usr/share/vulkan/icd.d/x.json", "{\"library_path\": \"/opt/driver/icd.so\"}\n");
    }),
    defect("machine", "and the prefix has a loader for 64-bit", of_another_machine),
    defect("shebang", "outside of the prefix", |root| executable(root, "#!/usr/bin/perl\n")),
    defect("shebang", "which is not there", |root| {
        executable(root, "#!/usr/local/iso/usr/bin/no\n");
    }),
    defect("shebang", "the kernel reads 255", |root| {
        executable(root, &format!("#!/usr/local/iso/usr/bin/{}\n", "x".repeat(250)));
    }),
    defect("bytecode", "Python runs it without a look", |root| {
        root.file("usr/lib/python3/module.py", "x = 1\n");
        let module = root.inside("usr/lib/python3/module.py");
        let code = "import py_compile as p, sys; \
                    p.compile(sys.argv[1], invalidation_mode=p.PycInvalidationMode.UNCHECKED_HASH)";
        stdout_of("python3", ["-c", code, module.to_str().unwrap()]);
        root.file("usr/lib/python3/module.py", "x = 2\n");
    }),
    defect("unit", "not there", |root| {
        let text = "[Service]\nExecStart=/usr/local/iso/usr/bin/no\n";
        root.file("usr/lib/systemd/system/x.service", text);
    }),
    defect("link", "outside of the prefix", |root| {
        root.link("/usr/lib/os-release", "usr/share/os-release");
    }),
    defect("link", "not there", |root| root.link("nowhere", "usr/share/dangling")),
    defect("link", "round in a circle", |root| root.link("round", "usr/share/round")),
    defect("staging", "/fprefix/staging/tmp/portage/x", |root| {
        root.file("usr/share/x.pc", "prefix=/fprefix/staging/tmp/portage/x\n");
    }),
    defect("place", "neither below /usr nor below /opt", |root| {
        fs_err::create_dir(root.root().join("srv")).unwrap();
    }),
    defect("special", "pipe", |root| {
        stdout_of("mkfifo", [root.inside("usr/bin/pipe").to_str().unwrap()]);
    }),
    defect("special", "hides the target's", with_attribute),
    defect("name", "control character", |root| root.file("usr/share/new\nline", "")),
    defect("access", "entered by others", |root| root.mode("usr/lib64", 0o700)),
    defect("access", "its mode is 0750", |root| root.mode("usr", 0o750)),
    defect("mode", "everybody", |root| {
        root.file("usr/share/open", "");
        root.mode("usr/share/open", 0o666);
    }),
    defect("unfinished", "was left by a run that was killed", |root| {
        root.file("usr/bin/.fprefix-new-7-0", "half");
    }),
];

const NOTES: &[Defect] = &[
    defect("bytecode", "compiles it again at each start", |root| {
        root.file("usr/lib/python3/module.py", "x = 1\n");
        let module = root.inside("usr/lib/python3/module.py");
        stdout_of("python3", ["-m", "py_compile", module.to_str().unwrap()]);
        root.file("usr/lib/python3/module.py", "x = 1 + 1\n");
    }),
    defect("hardening", "executable stack", |root| {
        let options = ["-shared", "-fPIC", "-nostdlib", "-Wl,-z,execstack"];
        compile(
            root,
            "stack.c",
            "int stack(void) { return 1; }\n",
            "usr/lib64/libstack.so",
            &options,
        );
    }),
    defect("opened", "opens libnone.so.1 for colours", |root| opens(root, "suggested")),
    defect("modules", "names /usr/lib/libother.so.3, which it may load", |root| {
        names(root, "/usr/lib/libother.so.3");
    }),
    defect("modules", "GIO look for modules in /usr/lib64/gio/modules; GIO_MODULE_DIR", |root| {
        names(root, "/usr/lib64/gio/modules");
    }),
    defect("modules", "Lua look for modules in /usr/lib/lua/5.4/?.lua", |root| {
        names(root, "/usr/lib/lua/5.4/?.lua;./?.lua");
    }),
    defect("effect", "cron reads /etc of the target; give the package a timer", |root| {
        root.file("etc/cron.d/x", "* * * * * root x\n");
    }),
    defect("effect", "a rule of tmpfiles.d for /usr/local/iso/var/x, read-only", |root| {
        root.file("usr/lib/tmpfiles.d/x.conf", "d /run/x\nd /usr/local/iso/var/x\n");
    }),
    defect("unowned", "usr/share/made: was installed by no package", |root| {
        root.file("var/db/pkg/a/b-1/CONTENTS", "obj /usr/local/iso/usr/share/owned 0 1\n");
        root.file("usr/share/made", "");
    }),
    defect("preserved", "is kept by Portage for programs that were built with it", |root| {
        let registry = r#"{"a/b:0": ["a/b-2", "1", ["/usr/local/iso/usr/share/kept"]]}"#;
        root.file("var/lib/portage/preserved_libs_registry", registry);
        root.file("usr/share/kept", "");
    }),
    defect("elf", "usr/share/broken", |root| {
        root.file("usr/share/broken", "\u{7f}ELF and no more");
    }),
    defect("access", "its mode is 0700", |root| {
        fs_err::create_dir_all(root.inside("var/lib/private")).unwrap();
        root.mode("var/lib/private", 0o700);
    }),
    defect("mode", "is setuid", |root| root.mode("usr/bin/program", 0o4755)),
    defect("shebang", "/bin/sh of the target", |root| executable(root, "#!/bin/sh\n")),
    defect("special", "whiteout of a container", |root| root.file("usr/share/.wh.gone", "")),
];

fn original_libc(root: &SmallRoot) {
    root.copy(machine_file("libc.so.6"), "usr/lib64/libc.so.6", 0o755);
}

/// A root that passes, of which [`broken`] makes copies.
fn sound() -> SmallRoot {
    let root = libc_root::root(EPREFIX);
    stdout_of_success(on(&root, &["rewrite"]));
    root
}

fn broken(sound: &Path, make: fn(&SmallRoot)) -> SmallRoot {
    let root = SmallRoot::empty(EPREFIX);
    let (from, to) = (sound.join("."), root.root());
    stdout_of("cp", ["-a", from.to_str().unwrap(), to.to_str().unwrap()]);
    make(&root);
    root
}

#[test]
fn every_rule_finds_its_defect_and_can_be_waived() {
    let sound = sound();
    for Defect { rule, says, make } in ERRORS {
        let root = broken(&sound.root(), *make);
        let found = on(&root, &["check", "--rule", rule]);
        let text = String::from_utf8(found.stdout).unwrap();
        assert_eq!(found.status.code(), Some(3), "{rule}: {text}");
        assert!(text.contains(says), "{rule}: {text}");
        assert!(text.contains(&format!("error[{rule}]: /")), "{rule}: {text}");
        assert!(text.contains("\nhelp: "), "{rule}: {text}");
        let waived = stdout_of_success(on(&root, &["check", "--rule", rule, "--waive", rule]));
        assert!(waived.contains("(waived)") && waived.contains("nothing reaches"), "{waived}");
    }
}

#[test]
fn what_is_worth_knowing_is_noted() {
    let sound = sound();
    for Defect { rule, says, make } in NOTES {
        let root = broken(&sound.root(), *make);
        let text = stdout_of_success(on(&root, &["check", "--rule", rule, "-v"]));
        assert!(text.contains(says), "{rule}: {text}");
    }
}

#[test]
fn every_rule_is_tried_and_explained() {
    let pages = stdout_of_success(fprefix().args(["check", "--explain", "all"]).output().unwrap());
    let known: BTreeSet<&str> =
        pages.lines().filter(|line| !line.is_empty() && !line.starts_with(' ')).collect();
    // Owners are tried beside the rule: only root could make such files. relocate.rs tries the other.
    let elsewhere = ["owner", "relocated"];
    let tried = ERRORS.iter().chain(NOTES).map(|defect| defect.rule).chain(elsewhere);
    assert_eq!(known, tried.collect());
    assert_eq!(pages.matches("  Why:    ").count(), known.len());
    assert_eq!(pages.matches("  Remedy: ").count(), known.len());
}

/// What mends a finding depends on who knows the file.
#[test]
fn a_tree_is_rewritten_where_it_is() {
    let root = libc_root::root(EPREFIX);
    let text = String::from_utf8(on(&root, &["check"]).stdout).unwrap();
    let command = format!("fprefix rewrite --root {} --eprefix {EPREFIX}\n", root.root().display());
    assert!(text.contains(&command), "{text}");
    let output = on(&root, &["check", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(report["commands"]["loader"].as_str().unwrap(), command.trim_end());
}
