//! Rewriting, checking and proving, on roots of `libc_root.rs`.

use std::path::Path;

use super::libc_root::{self, compile, errors, loader_name, on};
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{stdout_of, stdout_of_success};

const EPREFIX: &str = "/usr/local/iso";

fn root() -> SmallRoot {
    libc_root::root(EPREFIX)
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
        ["character-sets", "interpreter", "loader", "locale", "name-services", "needed"]
    );
    stdout_of_success(on(&root, &["rewrite"]));
    assert_eq!(errors(&root), []);

    let proof = stdout_of_success(on(&root, &["check", "--run", "program"]));
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
    let said = stdout_of_success(on(&root, &["rewrite", "--dry-run"]));
    assert!(said.contains(&format!("{EPREFIX}/usr/bin/program: interpreter {EPREFIX}/usr/lib64")));
    assert_eq!(before, digests(&root.root()));
    stdout_of_success(on(&root, &["rewrite"]));
    let after = digests(&root.root());
    assert_ne!(before, after);
    let said = stdout_of_success(on(&root, &["rewrite"]));
    assert!(said.ends_with("0 changed\n"), "{said}");
    assert_eq!(after, digests(&root.root()));
}

/// A library of a directory of its own that a program opens by name, as its note says
/// (`.note.dlopen`), found by absolute directories and by ones relative to the program.
#[test]
fn libraries_that_are_opened_are_found() {
    let root = root();
    let options = ["-shared", "-fPIC", "-Wl,-soname,libopened.so.1"];
    let library = "usr/lib64/own/libopened.so.1";
    compile(&root, "opened.c", "int opened(void) { return 7; }\n", library, &options);
    compile(&root, "opens.c", OPENS, "usr/bin/opens", &[]);
    let program = root.inside("usr/bin/opens").display().to_string();
    let shown = || stdout_of_success(fprefix().args(["elf", "show", &program]).output().unwrap());
    stdout_of_success(on(&root, &["rewrite"]));
    assert!(shown().contains(&format!(" {EPREFIX}/usr/lib64:{EPREFIX}/usr/lib64/own\n")));
    for how in ["absolute", "relative"] {
        assert_eq!(errors(&root), [], "{how}");
        let proof = stdout_of_success(on(&root, &["check", "--run", "opens"]));
        assert!(proof.contains("ended with status 0"), "{how}: {proof}");
        assert!(proof.contains(&format!("inside   {EPREFIX}/{library}\n")), "{how}: {proof}");
        stdout_of_success(on(&root, &["rewrite", "--relative"]));
        assert!(shown().contains(" $ORIGIN/../lib64:$ORIGIN/../lib64/own\n"), "{}", shown());
    }
    let said = stdout_of_success(on(&root, &["rewrite", "--relative"]));
    assert!(said.ends_with("0 changed\n"), "{said}");
}

/// A directory that leads to the prefix is no file of the target, whether it is opened as a
/// directory (`O_DIRECTORY`) or as find(1) opens its own.
#[test]
fn directories_on_the_way_to_the_prefix_are_not_outside() {
    let root = root();
    compile(&root, "looks.c", LOOKS, "usr/bin/looks", &[]);
    stdout_of_success(on(&root, &["rewrite"]));
    let proof = stdout_of_success(on(&root, &["check", "--run", "looks"]));
    assert!(proof.contains("ended with status 0"), "{proof}");
    assert!(proof.contains(", 0 from outside"), "{proof}");
}

/// Opens what leads to the prefix.
const LOOKS: &str = r#"#include <fcntl.h>
int main(void) { return open(".", O_RDONLY) < 0 || open("/usr/local", O_RDONLY) < 0; }
"#;

/// The note is as <https://uapi-group.org/specifications/specs/elf_dlopen_metadata/> has it.
const OPENS: &str = r#"#include <dlfcn.h>
#include <stddef.h>
__asm__(".pushsection .note.dlopen, \"a\"\n"
	".balign 4\n"
	".long 4, 2f - 1f, 0x407c0c0a\n"
	".asciz \"FDO\"\n"
	"1: .asciz \"[{\\\"soname\\\":[\\\"libopened.so.1\\\"]}]\"\n"
	"2: .balign 4\n"
	".popsection\n");
int main(void) { return dlopen("libopened.so.1", RTLD_NOW) == NULL; }
"#;

/// Absolute links to what only the prefix has lead there afterwards; those to the target's own
/// files stay.
#[test]
fn absolute_links_lead_into_the_prefix() {
    let root = root();
    root.link("/usr/bin/program", "usr/bin/other");
    root.link("/fprefix/staging/root/usr/local/iso/usr/bin/program", "usr/bin/staged");
    root.link("/etc/passwd", "etc/passwd");
    let said = stdout_of_success(on(&root, &["rewrite"]));
    assert!(said.contains(" changed\n"), "{said}");
    let target = |path: &str| fs_err::read_link(root.inside(path)).unwrap();
    let program = Path::new(EPREFIX).join("usr/bin/program");
    assert_eq!(target("usr/bin/other"), program);
    assert_eq!(target("usr/bin/staged"), program);
    assert_eq!(target("etc/passwd"), Path::new("/etc/passwd"));
    let said = stdout_of_success(on(&root, &["rewrite"]));
    assert!(said.ends_with("0 changed\n"), "{said}");
}

fn digests(dir: &Path) -> Vec<String> {
    let find = "find \"$1\" -type f -exec sha256sum {} + | sort";
    stdout_of("sh", ["-c", find, "sh", dir.to_str().unwrap()]).lines().map(str::to_owned).collect()
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
    stdout_of_success(on(&root, &["rewrite"]));
    let (one_now, two_now) = (fs_err::metadata(&one).unwrap(), fs_err::metadata(&two).unwrap());
    assert_eq!(one_now.ino(), two_now.ino());
    assert_eq!(one_now.mode() & 0o7777, 0o4751);
    assert_eq!(one_now.mtime(), 1_000_000_000);
    let mut note = [0; 16];
    let length = rustix::fs::getxattr(&two, "user.note", &mut note).unwrap();
    assert_eq!(&note[..length], b"kept");
}

/// A file stays one file under all its names, whichever of them was given.
#[test]
fn hard_links_stay() {
    use std::os::unix::fs::MetadataExt;
    let root = root();
    let program = root.inside("usr/bin/program");
    let (beside, elsewhere) = (root.inside("usr/bin/beside"), root.inside("usr/libexec/elsewhere"));
    fs_err::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    fs_err::hard_link(&program, &beside).unwrap();
    let inode = |path: &Path| fs_err::metadata(path).unwrap().ino();
    let set = |options: &[&str], files: &[&Path]| {
        let command = ["elf", "set", "--remove-rpath", "--no-default-lib"];
        fprefix().args(command).args(options).args(files).output().unwrap()
    };
    let before = inode(&program);
    stdout_of_success(set(&[], &[&program]));
    assert!(inode(&program) != before && inode(&program) == inode(&beside));

    fs_err::hard_link(&program, &elsewhere).unwrap();
    let refused = set(&["--soname", "other"], &[&program]);
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("the file has 1 more names in other directories"), "{error}");
    let before = inode(&program);
    stdout_of_success(set(&["--soname", "other"], &[&program, &elsewhere]));
    assert!(inode(&program) != before && inode(&program) == inode(&elsewhere));

    let inside = format!("{EPREFIX}/usr/libexec");
    stdout_of_success(on(&root, &["rewrite", &inside]));
    assert_eq!(inode(&program), inode(&elsewhere));
    assert_eq!(inode(&program), inode(&beside));
    stdout_of_success(set(&["--soname", "third", "--break-hard-links"], &[&elsewhere]));
    assert!(inode(&program) == inode(&beside) && inode(&program) != inode(&elsewhere));
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
    stdout_of_success(on(&root, &["rewrite"]));
    let text =
        |name: &str| fs_err::read_to_string(root.inside(&format!("usr/bin/{name}"))).unwrap();
    assert_eq!(text("env"), format!("#!{EPREFIX}/usr/bin/perl\nrest\n"));
    assert_eq!(text("direct"), format!("#! {EPREFIX}/usr/bin/perl -w\nrest\n"));
    assert_eq!(text("absent"), "#!/usr/bin/python3\nrest\n");
    let found = errors(&root);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].0.as_str(), found[0].1.as_str()),
        ("shebang", "/usr/local/iso/usr/bin/absent")
    );
}

#[test]
fn rules_are_waived_chosen_and_explained() {
    let root = root();
    let waived =
        ["check", "--waive", "character-sets,interpreter,loader,locale,name-services,needed"];
    stdout_of_success(on(&root, &waived));
    stdout_of_success(on(&root, &["check", "--rule", "link"]));
    assert_eq!(on(&root, &["check", "--rule", "loader"]).status.code(), Some(3));
    let unknown = on(&root, &["check", "--rule", "nothing"]);
    assert_eq!(unknown.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&unknown.stderr), @r#"error: invalid value 'nothing' for '--rule <ID>': there is no rule "nothing"; the rules are interpreter, needed, start, search-path, symbol-version, symbol, loader, character-sets, locale, name-services, opened, modules, machine, hardening, elf, shebang, bytecode, unit, effect, link, staging, relocated, place, special, name, unfinished, unowned, preserved, owner, mode, access

For more information, try '--help'."#);
    let page =
        stdout_of_success(fprefix().args(["check", "--explain", "loader"]).output().unwrap());
    insta::assert_snapshot!(page, @"
    loader
      The prefix's loader is sealed.
      Why:    A copied glibc loader reads /etc/ld.so.preload and /etc/ld.so.cache of the target and falls back to its library directories, whatever programs say; musl's does the latter.
      Remedy: Rewriting seals it.
    ");
}

/// A tree as distributions with multiarch directories have it: a directory of its own for each
/// machine, and links for sonames.
#[test]
fn a_tree_of_another_layout_is_made_to_pass() {
    let root = root();
    fs_err::create_dir(root.inside("usr/lib")).unwrap_or_default();
    fs_err::rename(root.inside("usr/lib64"), root.inside("usr/lib/any-linux-gnu")).unwrap();
    fs_err::remove_file(root.inside("lib64")).unwrap();
    let library = root.inside("usr/lib/any-linux-gnu/libthing.so.1");
    fs_err::rename(&library, library.with_file_name("libthing.so.1.0")).unwrap();
    root.link("libthing.so.1.0", "usr/lib/any-linux-gnu/libthing.so.1");
    stdout_of_success(on(&root, &["rewrite"]));
    assert_eq!(errors(&root), []);
    let proof = stdout_of_success(on(&root, &["check", "--run", "program"]));
    assert!(
        proof.contains(&format!("{EPREFIX}/usr/lib/any-linux-gnu/libthing.so.1.0\n")),
        "{proof}"
    );
    assert!(proof.contains(", 0 from outside"), "{proof}");
}

/// The proof follows what a program starts, names what runs a script, and does not wait for what
/// stays behind.
#[test]
fn processes_scripts_and_daemons_are_followed() {
    let root = root();
    let code = "#include <unistd.h>\n#include <sys/wait.h>\n\
                int main(int count, char **words) {\n\
                  if (count < 2) { for (;;) pause(); }\n\
                  for (int i = 0; i < 8; i++)\n\
                    if (fork() == 0) { execl(PROGRAM, PROGRAM, (char *)0); _exit(1); }\n\
                  for (int i = 0; i < 8; i++) wait(0);\n\
                  if (fork() == 0) { setsid(); execl(words[0], words[0], (char *)0); }\n\
                  return 0;\n\
                }\n";
    let define = format!("-DPROGRAM=\"{EPREFIX}/usr/bin/program\"");
    libc_root::compile(&root, "forks.c", code, "usr/bin/forks", &[&define]);
    root.file("usr/bin/script", &format!("#!{EPREFIX}/usr/bin/forks\n"));
    root.mode("usr/bin/script", 0o755);
    stdout_of_success(on(&root, &["rewrite"]));
    let proof = stdout_of_success(on(&root, &["check", "--run", "script"]));
    for name in ["bin/script", "bin/forks", "bin/program", "lib64/libthing.so.1"] {
        assert!(proof.contains(&format!("inside   {EPREFIX}/usr/{name}\n")), "{name}: {proof}");
    }
    assert!(proof.contains("ended with status 0") && proof.contains(", 0 from outside"), "{proof}");
}
