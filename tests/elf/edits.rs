//! Each single edit: what it does, and that the loader agrees.

use std::path::{Path, PathBuf};

use fprefix::elf::{self, Edit, Error, PatchMethod, SearchPathEdit};
use tempfile::TempDir;

use crate::harness::tools::{both_streams, output_of, success_of, write_program};
use crate::inspect::rewrite;

/// A library with a version script, one without, and a program that needs both.
struct Shop {
    dir: TempDir,
}

const LINKERS: [(&str, &str); 4] = [
    ("gcc", "-fuse-ld=bfd"),
    ("gcc", "-fuse-ld=gold"),
    ("clang", "-fuse-ld=lld"),
    ("gcc", "-fuse-ld=mold"),
];

impl Shop {
    fn open(compiler: &str, linker: &str) -> Shop {
        let shop = Shop { dir: tempfile::tempdir().unwrap() };
        fs_err::write(shop.path("one.c"), "int one(void) { return 40; }\n").unwrap();
        fs_err::write(shop.path("two.c"), "int two(void) { return 2; }\n").unwrap();
        fs_err::write(shop.path("one.map"), "ONE_1.0 { global: one; local: *; };\n").unwrap();
        let main = "int one(void); int two(void); int main(void) { return one() + two(); }\n";
        fs_err::write(shop.path("main.c"), main).unwrap();
        let map = format!("-Wl,--version-script={}", shop.path("one.map").display());
        let library = |name: &str, extra: &[&str]| {
            let (to, from) = (shop.path(&format!("lib{name}.so")), shop.path(&format!("{name}.c")));
            let soname = format!("-Wl,-soname,lib{name}.so");
            let mut args = vec![linker, "-shared", "-fPIC", &soname, "-o", to.to_str().unwrap()];
            args.push(from.to_str().unwrap());
            args.extend(extra);
            success_of(compiler, args);
        };
        library("one", &[&map]);
        library("two", &[]);
        let (main, program) = (shop.path("main.c"), shop.path("program"));
        let path = format!("-L{}", shop.dir.path().display());
        let mut args = vec![linker, main.to_str().unwrap(), &path, "-lone", "-ltwo"];
        args.extend(["-Wl,-rpath,$ORIGIN", "-Wl,--enable-new-dtags"]);
        args.extend(["-o", program.to_str().unwrap()]);
        success_of(compiler, args);
        shop.assert_runs("as it was built");
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn status(&self) -> (Option<i32>, String) {
        let output = output_of(self.path("program"), [""; 0]);
        (output.status.code(), both_streams(&output))
    }

    #[track_caller]
    fn assert_runs(&self, what: &str) {
        let (status, said) = self.status();
        assert_eq!(status, Some(42), "{what}: {said}");
    }

    fn edit(&self, name: &str, edit: &Edit) -> elf::ElfImage {
        let (_, new) = rewrite(&fs_err::read(self.path(name)).unwrap(), edit, name);
        write_program(&self.path(name), &new);
        elf::read(&new).unwrap()
    }
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

#[test]
fn a_needed_library_is_renamed_with_its_versions() {
    for (compiler, linker) in LINKERS {
        let shop = Shop::open(compiler, linker);
        let renamed = "libone-under-a-much-longer-name-than-it-had-before.so.1";
        fs_err::rename(shop.path("libone.so"), shop.path(renamed)).unwrap();
        let edit =
            Edit { replace_needed: vec![(bytes("libone.so"), bytes(renamed))], ..Edit::default() };
        let image = shop.edit("program", &edit);
        assert_eq!(image.needed[0], renamed.as_bytes());
        assert!(image.needed_versions.iter().any(|v| v.library == renamed.as_bytes()), "{linker}");
        shop.assert_runs(linker);
        success_of("strip", [shop.path("program")]);
        shop.assert_runs(linker);
    }
}

#[test]
fn a_needed_library_is_removed_with_its_versions() {
    for (compiler, linker) in LINKERS {
        let shop = Shop::open(compiler, linker);
        let edit = Edit { remove_needed: vec![bytes("libone.so")], ..Edit::default() };
        let image = shop.edit("program", &edit);
        assert_eq!(image.needed, [bytes("libtwo.so"), bytes("libc.so.6")]);
        assert!(image.needed_versions.iter().all(|v| v.library != b"libone.so"), "{linker}");
        let (status, said) = shop.status();
        assert!(status == Some(127) && said.contains("undefined symbol: one"), "{linker}: {said}");
        // Preloaded, the library serves without its version.
        let preload = format!("LD_PRELOAD={}", shop.path("libone.so").display());
        let output = output_of("env", [preload.as_ref(), shop.path("program").as_os_str()]);
        assert_eq!(output.status.code(), Some(42), "{linker}");
    }
}

#[test]
fn a_library_is_needed_in_addition() {
    for (compiler, linker) in LINKERS {
        let shop = Shop::open(compiler, linker);
        let more: Vec<_> = (0..12).map(|n| bytes(&format!("libmore-of-them-{n}.so"))).collect();
        for name in &more {
            let name = std::str::from_utf8(name).unwrap();
            fs_err::copy(shop.path("libtwo.so"), shop.path(name)).unwrap();
        }
        // One after the other: the dynamic section runs out of spare entries on the way.
        for name in &more {
            shop.edit("program", &Edit { add_needed: vec![name.clone()], ..Edit::default() });
            shop.assert_runs(linker);
        }
        let image = elf::read(&fs_err::read(shop.path("program")).unwrap()).unwrap();
        assert_eq!(image.needed[3..], more[..], "{linker}");
        success_of("strip", [shop.path("program")]);
        shop.assert_runs(linker);
        success_of("llvm-strip", [shop.path("program")]);
        shop.assert_runs(linker);
    }
}

#[test]
fn search_paths_replace_each_other() {
    for (compiler, linker) in LINKERS {
        let shop = Shop::open(compiler, linker);
        let origin = bytes("$ORIGIN");
        let search = |search_path| Edit { search_path, ..Edit::default() };
        let image = shop.edit("program", &search(SearchPathEdit::Rpath(origin.clone())));
        assert_eq!((image.rpath, image.runpath), (Some(origin.clone()), None));
        shop.assert_runs(linker);
        let image = shop.edit("program", &search(SearchPathEdit::Remove));
        assert_eq!((image.rpath, image.runpath), (None, None));
        assert_eq!(shop.status().0, Some(127), "{linker}");
        let image = shop.edit("program", &search(SearchPathEdit::Runpath(origin.clone())));
        assert_eq!((image.rpath, image.runpath), (None, Some(origin)));
        shop.assert_runs(linker);
    }
}

#[test]
fn soname_and_default_directories() {
    for (compiler, linker) in LINKERS {
        let shop = Shop::open(compiler, linker);
        let soname = Some(bytes("libtwo-with-a-longer-soname.so.2"));
        let edit = Edit { soname: soname.clone(), no_default_lib: true, ..Edit::default() };
        let image = shop.edit("libtwo.so", &edit);
        assert_eq!(image.soname, soname);
        assert_eq!(image.flags_1 & 0x800, 0x800);
        shop.assert_runs(linker);
        let old = fs_err::read(shop.path("program")).unwrap();
        let (plan, _) = rewrite(&old, &Edit { no_default_lib: true, ..Edit::default() }, linker);
        assert!(plan.method <= PatchMethod::InPlace || linker.ends_with("lld"), "{plan:?}");
    }
}

#[test]
fn a_symbol_that_shares_the_tail_of_the_old_string_survives() {
    let dir = tempfile::tempdir().unwrap();
    let (source, file) = (dir.path().join("a.c"), dir.path().join("liba.so"));
    // GNU ld stores `answer` as the end of the runpath.
    fs_err::write(&source, "int answer(void) { return 42; }\n").unwrap();
    let rpath = "-Wl,-rpath,/opt/prefix/answer,--hash-style=both,-soname,the-answer";
    let args = ["-shared", "-fPIC", rpath, "-o", file.to_str().unwrap(), source.to_str().unwrap()];
    success_of("gcc", args);
    let old = fs_err::read(&file).unwrap();
    for path in ["/a", "/opt/prefix/another/path/that/is/longer"] {
        let edit = Edit { search_path: SearchPathEdit::Runpath(bytes(path)), ..Edit::default() };
        let edit = Edit { soname: Some(bytes("other")), ..edit };
        let (_, new) = rewrite(&old, &edit, path);
        write_program(&file, &new);
        let symbols =
            both_streams(&success_of("readelf", [Path::new("-W"), Path::new("--dyn-syms"), &file]));
        assert!(symbols.contains(" answer\n"), "{symbols}");
    }
}

#[test]
fn edits_that_mean_nothing_are_refused() {
    let program = fs_err::read("/bin/ls").unwrap();
    let refused = |edit: Edit| matches!(elf::plan(&program, &edit), Err(Error::InvalidEdit(_)));
    assert!(refused(Edit { search_path: SearchPathEdit::Runpath(vec![]), ..Edit::default() }));
    assert!(refused(Edit { interpreter: Some(vec![]), ..Edit::default() }));
    assert!(refused(Edit { interpreter: Some(vec![b'x'; 4096]), ..Edit::default() }));
    assert!(refused(Edit { soname: Some(bytes("a\0b")), ..Edit::default() }));
    assert!(elf::plan(&program, &Edit::default()).unwrap().is_unchanged());
    assert_eq!(elf::plan(b"#!/bin/sh\n", &Edit::default()), Err(Error::NotElf));
}

#[test]
fn what_follows_the_image_is_never_pushed_away() {
    let old = fs_err::read("/bin/ls").unwrap();
    let mut with_payload = old.clone();
    with_payload.extend_from_slice(b"PK and more of an archive");
    assert_eq!(elf::read(&with_payload).unwrap().payload, 25);
    let edit =
        |len| Edit { search_path: SearchPathEdit::Runpath(vec![b'x'; len]), ..Edit::default() };
    let (plan, new) = rewrite(&with_payload, &edit(100), "payload");
    assert_eq!(plan.method, PatchMethod::Slide);
    assert!(new.ends_with(b"PK and more of an archive"));
    // Too long for the padding: a file without payload is appended to, this one is refused.
    let (plan, _) = rewrite(&old, &edit(10_000), "no payload");
    assert_eq!(plan.method, PatchMethod::Append);
    assert!(matches!(elf::plan(&with_payload, &edit(10_000)), Err(Error::NoRoom(_))));
}
