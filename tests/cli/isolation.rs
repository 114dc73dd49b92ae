//! Rewriting, checking and proving, on a root with the machine's own C library and programs that
//! are compiled for the test: what `setup` and `emerge` leave, without their time.

use std::path::{Path, PathBuf};
use std::process::Output;

use super::small_root::{SmallRoot, fprefix, run, succeeded};

const EPREFIX: &str = "/usr/local/iso";

/// A root with libc, the loader, a library and a program that needs it, none of them rewritten.
fn root() -> SmallRoot {
    let root = SmallRoot::empty(EPREFIX);
    for name in ["libc.so.6", loader_name()] {
        root.copy(machine_file(name), &format!("usr/lib64/{name}"), 0o755);
    }
    let gconv = PathBuf::from(machine_file("libc.so.6")).with_file_name("gconv");
    for name in ["gconv-modules", "ISO8859-15.so"] {
        root.copy(gconv.join(name), &format!("usr/lib64/gconv/{name}"), 0o644);
    }
    root.link("usr/lib64/gconv", "gconv");
    root.link("usr/lib64", "lib64");
    compile(
        &root,
        "thing.c",
        "int thing(void) { return 42; }\n",
        "usr/lib64/libthing.so.1",
        &["-shared", "-fPIC", "-Wl,-soname,libthing.so.1"],
    );
    let library = root.inside("usr/lib64/libthing.so.1");
    compile(
        &root,
        "program.c",
        "int thing(void);\nint main(void) { return thing() == 42 ? 0 : 1; }\n",
        "usr/bin/program",
        &[library.to_str().unwrap()],
    );
    root
}

fn loader_name() -> &'static str {
    if cfg!(target_arch = "aarch64") { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" }
}

fn machine_file(name: &str) -> String {
    let path = run("gcc", &[&format!("-print-file-name={name}")]);
    fs_err::canonicalize(path.trim()).unwrap().display().to_string()
}

fn compile(root: &SmallRoot, name: &str, code: &str, to: &str, options: &[&str]) {
    let source = root.beside(name);
    fs_err::write(&source, code).unwrap();
    let made = root.inside(to);
    fs_err::create_dir_all(made.parent().unwrap()).unwrap();
    run("gcc", &[&["-o", made.to_str().unwrap(), source.to_str().unwrap()], options].concat());
}

fn on(root: &SmallRoot, words: &[&str]) -> Output {
    let (command, rest) = words.split_first().unwrap();
    fprefix()
        .arg(command)
        .arg("--root")
        .arg(root.root())
        .args(["--eprefix", EPREFIX])
        .args(rest)
        .output()
        .unwrap()
}

/// What the check finds: the lines of its answer, as JSON, an error each.
fn errors(root: &SmallRoot) -> Vec<(String, String, String)> {
    let output = on(root, &["check", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["level"] == "error")
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            (text("rule"), text("path"), text("detail"))
        })
        .collect();
    assert_eq!(output.status.code(), Some(if found.is_empty() { 0 } else { 3 }));
    found
}

fn rules(root: &SmallRoot) -> Vec<String> {
    let mut rules: Vec<String> = errors(root).into_iter().map(|(rule, ..)| rule).collect();
    rules.dedup();
    rules.sort();
    rules.dedup();
    rules
}

#[test]
fn a_root_is_made_to_pass_and_runs_in_an_empty_root() {
    let root = root();
    assert_eq!(
        rules(&root),
        ["character-sets", "interpreter", "loader", "name-services", "needed"]
    );
    succeeded(on(&root, &["rewrite"]));
    assert_eq!(errors(&root), []);

    let proof = succeeded(on(&root, &["check", "--run", "program"]));
    for file in ["usr/bin/program", "usr/lib64/libthing.so.1", "usr/lib64/libc.so.6"] {
        assert!(proof.contains(&format!("inside   {EPREFIX}/{file}\n")), "{proof}");
    }
    assert!(proof.contains(&format!("inside   {EPREFIX}/usr/lib64/{}\n", loader_name())));
    assert!(proof.contains("ended with status 0"), "{proof}");
    assert!(!proof.contains("OUTSIDE"), "{proof}");
}

#[test]
fn a_dry_run_changes_nothing_and_a_second_run_has_nothing_to_do() {
    let root = root();
    let before = digests(&root.root());
    let said = succeeded(on(&root, &["rewrite", "--dry-run"]));
    assert!(said.contains(&format!("{EPREFIX}/usr/bin/program: interpreter {EPREFIX}/usr/lib64")));
    assert_eq!(before, digests(&root.root()));
    succeeded(on(&root, &["rewrite"]));
    let after = digests(&root.root());
    assert_ne!(before, after);
    let said = succeeded(on(&root, &["rewrite"]));
    assert!(said.ends_with("0 changed\n"), "{said}");
    assert_eq!(after, digests(&root.root()));
}

fn digests(dir: &Path) -> Vec<String> {
    let find = "find \"$1\" -type f -exec sha256sum {} + | sort";
    run("sh", &["-c", find, "sh", dir.to_str().unwrap()]).lines().map(str::to_owned).collect()
}

#[test]
fn all_that_a_file_has_besides_stays() {
    use std::os::unix::fs::MetadataExt;
    let root = root();
    let (one, two) = (root.inside("usr/bin/program"), root.inside("usr/bin/same"));
    fs_err::hard_link(&one, &two).unwrap();
    root.mode("usr/bin/program", 0o4751);
    root.age("usr/bin/program", 1_000_000_000);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&one, "user.note", b"kept", flags).unwrap();
    succeeded(on(&root, &["rewrite"]));
    let (one_now, two_now) = (fs_err::metadata(&one).unwrap(), fs_err::metadata(&two).unwrap());
    assert_eq!(one_now.ino(), two_now.ino());
    assert_eq!(one_now.mode() & 0o7777, 0o4751);
    assert_eq!(one_now.mtime(), 1_000_000_000);
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(&two, "user.note", &mut note).unwrap();
    assert_eq!(&note[..length], b"kept");
}

#[test]
fn scripts_are_run_by_programs_of_the_prefix() {
    let root = root();
    root.copy(root.inside("usr/bin/program"), "usr/bin/perl", 0o755);
    for (name, line) in [
        ("env", "#!/usr/bin/env perl"),
        ("direct", "#! /usr/bin/perl -w"),
        ("absent", "#!/usr/bin/python3"),
        ("sh", "#!/bin/sh"),
    ] {
        root.file(&format!("usr/bin/{name}"), &format!("{line}\nrest\n"));
        root.mode(&format!("usr/bin/{name}"), 0o755);
    }
    succeeded(on(&root, &["rewrite"]));
    let text =
        |name: &str| fs_err::read_to_string(root.inside(&format!("usr/bin/{name}"))).unwrap();
    assert_eq!(text("env"), format!("#!{EPREFIX}/usr/bin/perl\nrest\n"));
    assert_eq!(text("direct"), format!("#!{EPREFIX}/usr/bin/perl -w\nrest\n"));
    assert_eq!(text("absent"), "#!/usr/bin/python3\nrest\n");
    let found = errors(&root);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].0.as_str(), found[0].1.as_str()),
        ("shebang", "/usr/local/iso/usr/bin/absent")
    );
}

/// One defect at a time, and the rule that has to see it.
#[test]
fn every_rule_finds_its_defect() {
    let root = root();
    succeeded(on(&root, &["rewrite"]));
    let program = root.inside("usr/bin/program");
    let elf_set = |words: &[&str]| {
        succeeded(fprefix().args(["elf", "set"]).args(words).arg(&program).output().unwrap());
    };
    let clean = root.beside("clean");
    fs_err::copy(&program, &clean).unwrap();
    let expect = |rule: &str, what: &str| {
        let found = errors(&root);
        assert_eq!(found.len(), 1, "{rule}: {found:?}");
        assert_eq!(found[0].0, rule, "{found:?}");
        assert!(found[0].2.contains(what), "{found:?}");
        fs_err::copy(&clean, &program).unwrap();
    };
    elf_set(&["--interpreter", "/lib64/ld-linux-x86-64.so.2"]);
    expect("interpreter", "outside of the prefix");
    elf_set(&["--interpreter", &format!("{EPREFIX}/usr/lib64/none.so")]);
    expect("interpreter", "is not there");
    elf_set(&["--add-needed", "libnone.so.9"]);
    expect("needed", "not in the prefix");
    elf_set(&["--rpath", &format!("/usr/lib:{EPREFIX}/usr/lib64")]);
    expect("search-path", "/usr/lib, outside of the prefix");
    elf_set(&["--rpath", &format!("{EPREFIX}/usr/lib64:")]);
    expect("search-path", "empty entry");
    elf_set(&["--rpath", &format!("lib:{EPREFIX}/usr/lib64")]);
    expect("search-path", "relative");
    root.link("/usr/lib/os-release", "usr/share/os-release");
    expect("link", "outside of the prefix");
    fs_err::remove_file(root.inside("usr/share/os-release")).unwrap();
    root.link("nowhere", "usr/share/dangling");
    expect("link", "not there");
    fs_err::remove_file(root.inside("usr/share/dangling")).unwrap();
    root.file("usr/share/x.pc", "prefix=/fprefix/staging/tmp/portage/x\n");
    expect("staging", "/fprefix/staging/tmp/portage/x");
    fs_err::remove_file(root.inside("usr/share/x.pc")).unwrap();
    root.file(
        "usr/lib/systemd/system/x.service",
        "[Service]\nExecStart=/usr/local/iso/usr/bin/no\n",
    );
    expect("unit", "not there");
    fs_err::remove_file(root.inside("usr/lib/systemd/system/x.service")).unwrap();
    root.mode("usr/share", 0o777);
    expect("mode", "everybody");
    root.mode("usr/share", 0o755);
    fs_err::create_dir(root.root().join("srv")).unwrap();
    expect("place", "neither below /usr nor below /opt");
    fs_err::remove_dir(root.root().join("srv")).unwrap();
    run("mkfifo", &[root.inside("usr/share/pipe").to_str().unwrap()]);
    expect("special", "pipe");
    fs_err::remove_file(root.inside("usr/share/pipe")).unwrap();
    root.file("usr/share/new\nline", "");
    expect("name", "control character");
    fs_err::remove_file(root.inside("usr/share/new\nline")).unwrap();
    compile(
        &root,
        "other.c",
        "int other(void) { return 1; }\n",
        "usr/lib64/libthing.so.1",
        &["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libthing.so.1"],
    );
    expect("symbol", "thing");
}

#[test]
fn rules_are_waived_chosen_and_explained() {
    let root = root();
    let waived = ["check", "--waive", "character-sets,interpreter,loader,name-services,needed"];
    succeeded(on(&root, &waived));
    succeeded(on(&root, &["check", "--rule", "link"]));
    assert_eq!(on(&root, &["check", "--rule", "loader"]).status.code(), Some(3));
    let unknown = on(&root, &["check", "--rule", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("the rules are interpreter, needed"));
    let page = succeeded(fprefix().args(["check", "--explain", "loader"]).output().unwrap());
    assert!(page.contains("Remedy: "), "{page}");
}

/// On a target with wrong libraries on every path that a loader knows, a poisoned preload list,
/// and `LD_LIBRARY_PATH`, a program of the prefix maps nothing of it.
#[test]
fn a_hostile_target_is_not_listened_to() {
    let root = root();
    compile(
        &root,
        "names.c",
        "#include <iconv.h>\n#include <netdb.h>\n#include <pwd.h>\n#include <dlfcn.h>\n\
         #include <stdio.h>\n\
         int main(void) {\n\
           getpwnam(\"nobody\"); gethostbyname(\"nowhere.invalid\");\n\
           iconv_t c = iconv_open(\"UTF-8\", \"ISO-8859-15\");\n\
           void *h = dlopen(\"libthing.so.1\", RTLD_NOW);\n\
           printf(\"%d %d\\n\", c != (iconv_t)-1, h != 0);\n\
           return 0;\n\
         }\n",
        "usr/bin/names",
        &[],
    );
    succeeded(on(&root, &["rewrite"]));
    let target = root.beside("target");
    for dir in [
        "lib",
        "lib64",
        "usr/lib",
        "usr/lib64",
        "etc",
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib/aarch64-linux-gnu",
        "evil",
    ] {
        fs_err::create_dir_all(target.join(dir)).unwrap();
    }
    let evil = root.beside("evil.c");
    fs_err::write(
        &evil,
        "__attribute__((constructor)) static void e(void) { __builtin_trap(); }\n",
    )
    .unwrap();
    let library = root.beside("evil.so");
    run(
        "gcc",
        &["-shared", "-fPIC", "-nostdlib", "-o", library.to_str().unwrap(), evil.to_str().unwrap()],
    );
    for dir in [
        "lib",
        "lib64",
        "usr/lib",
        "usr/lib64",
        "lib/x86_64-linux-gnu",
        "usr/lib/x86_64-linux-gnu",
        "lib/aarch64-linux-gnu",
        "evil",
    ] {
        for name in
            ["libc.so.6", "libthing.so.1", "libnss_evil.so.2", "libevil.so", "libnss_files.so.2"]
        {
            fs_err::copy(&library, target.join(dir).join(name)).unwrap();
        }
    }
    fs_err::write(target.join("etc/ld.so.preload"), "/evil/libevil.so\n").unwrap();
    fs_err::write(target.join("etc/ld.so.conf"), "/evil\n").unwrap();
    fs_err::write(target.join("etc/nsswitch.conf"), "passwd: evil files\nhosts: evil files\n")
        .unwrap();
    run("ldconfig", &["-r", target.to_str().unwrap()]);
    let prefix = target.join(EPREFIX.trim_start_matches('/'));
    fs_err::create_dir_all(&prefix).unwrap();

    let user: &[&str] =
        if rustix::process::geteuid().is_root() { &[] } else { &["--unshare-user"] };
    let trace = root.beside("trace");
    let mut words =
        vec!["-f", "-y", "-e", "trace=execve,openat,mmap", "-o", trace.to_str().unwrap(), "bwrap"];
    words.extend(user);
    words.extend(["--ro-bind", target.to_str().unwrap(), "/"]);
    let (eroot, program) = (root.eroot(), format!("{EPREFIX}/usr/bin/names"));
    words.extend(["--ro-bind", eroot.to_str().unwrap(), EPREFIX]);
    words.extend(["--clearenv", "--setenv", "LD_LIBRARY_PATH", "/evil:/lib", "--", &program]);
    let said = run("strace", &words);
    assert_eq!(said, "1 1\n");
    let trace = fs_err::read_to_string(trace).unwrap();
    let started = trace.lines().skip_while(|line| !line.contains(&format!("execve(\"{program}\"")));
    let mapped: Vec<&str> = started
        .filter(|line| line.contains("PROT_EXEC") && line.contains('<'))
        .filter(|line| !line.contains(&format!("<{EPREFIX}/")))
        .collect();
    assert!(mapped.is_empty(), "{mapped:#?}");
}
