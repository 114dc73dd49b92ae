//! A C library that finds its character sets and locales in the prefix, however long its path is.

use super::libc_root::{compile, errors, on, root};
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::stdout_of_success;

/// 65 characters.
const LONG: &str = "/usr/local/my-stuff-with-a-long-name/that-has-sixty-characters-aa";

const PROGRAM: &str = "
#include <iconv.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
int main(void) {
    printf(\"%s\\n\", setlocale(LC_ALL, \"C.UTF-8\") ? nl_langinfo(CODESET) : \"no locale\");
    char euro[] = \"\\xa4\", out[8] = \"\", *from = euro, *to = out;
    size_t left = 1, room = 7;
    iconv_t convert = iconv_open(\"UTF-8\", \"ISO-8859-15\");
    if (convert != (iconv_t)-1) iconv(convert, &from, &left, &to, &room);
    puts(out);
    return 0;
}
";

fn with_program(eprefix: &'static str) -> SmallRoot {
    let root = root(eprefix);
    compile(&root, "sets.c", PROGRAM, "usr/bin/sets", &[]);
    root
}

fn libc(root: &SmallRoot) -> Vec<u8> {
    fs_err::read(root.inside("usr/lib64/libc.so.6")).unwrap()
}

#[test]
fn character_sets_and_locales_are_found_below_a_long_path() {
    let root = with_program(LONG);
    let found = errors(&root);
    for (rule, what) in [
        ("character-sets", "gconv-modules.cache"),
        ("character-sets", "names modules that are not beside it"),
        ("locale", "/usr/lib/locale/locale-archive"),
        ("locale", "looks for locales in /usr/lib/locale"),
    ] {
        assert!(
            found.iter().any(|(id, _, detail)| id == rule && detail.contains(what)),
            "{found:?}"
        );
    }
    stdout_of_success(on(&root, &["rewrite"]));
    assert_eq!(errors(&root), []);
    let proof = stdout_of_success(on(&root, &["check", "--run", "sets"]));
    assert!(proof.starts_with("UTF-8\n€\n"), "{proof}");
    assert!(proof.contains(&format!("inside   {LONG}/usr/lib64/gconv/ISO8859-15.so\n")), "{proof}");
    assert!(proof.contains(", 0 from outside"), "{proof}");
    let before = libc(&root);
    assert!(stdout_of_success(on(&root, &["rewrite"])).ends_with("0 changed\n"));
    assert!(libc(&root) == before);
}

/// The way over another path leaves nothing behind.
#[test]
fn a_second_path_takes_the_place_of_the_first() {
    let other = "/opt/a-prefix-of-another-length";
    let (straight, around) = (root(other), root(LONG));
    stdout_of_success(on(&straight, &["rewrite"]));
    stdout_of_success(on(&around, &["rewrite"]));
    let place = other.trim_start_matches('/');
    fs_err::create_dir_all(around.root().join("opt")).unwrap();
    fs_err::rename(around.eroot(), around.root().join(place)).unwrap();
    let root = around.root();
    let mut again = fprefix();
    again.arg("rewrite").arg("--root").arg(&root).args(["--eprefix", other]);
    stdout_of_success(again.output().unwrap());
    for name in ["usr/lib64/gconv/gconv-modules.cache", "usr/lib64/libc.so.6"] {
        let strings = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(LONG);
        let moved = fs_err::read(root.join(place).join(name)).unwrap();
        if name.ends_with("cache") {
            assert!(moved == fs_err::read(straight.inside(name)).unwrap());
        }
        assert!(!strings(moved), "{name}");
    }
}

/// What the prefix does not have, the target's does not stand in for.
#[test]
fn without_its_own_it_takes_none_of_the_target() {
    let root = with_program("/opt/bare");
    fs_err::remove_dir_all(root.inside("usr/lib64/gconv")).unwrap();
    fs_err::remove_dir_all(root.inside("usr/lib/locale")).unwrap();
    stdout_of_success(on(&root, &["rewrite"]));
    assert_eq!(errors(&root), []);
    let notes = stdout_of_success(on(&root, &["check", "-v"]));
    assert!(notes.contains("finds no gconv-modules.cache in the prefix"), "{notes}");
    assert!(notes.contains("finds no locale-archive in the prefix"), "{notes}");
    let proof = stdout_of_success(on(&root, &["check", "--run", "sets"]));
    assert!(proof.starts_with("no locale\n\n"), "{proof}");
}
