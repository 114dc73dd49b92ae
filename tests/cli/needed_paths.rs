//! Needed libraries by their paths (`pack --needed paths`): the prefix's own loader loads the same files,
//! each of them once, as it did by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fprefix::elf::{self, Edit, ElfImage, SearchPathEdit};

use super::libc_root::{compile, loader_name, machine_file, on};
use super::loading::{Loads, needs, rpath};
use crate::harness::small_root::{FPREFIX, SmallRoot};
use crate::harness::tools::{both_streams, output_of, stdout_of, stdout_of_success};
use crate::random::Random;

const EPREFIX: &str = "/opt/load";

/// Packs into a directory; returns the root that it is for a program.
fn pack(root: &SmallRoot, output: &str, options: &[&str]) -> PathBuf {
    let always = ["--format", "directory", "--no-reports"];
    root.pack(output, &[&always[..], options].concat());
    root.beside(output).join("load")
}

fn image(tree: &Path, path: &str) -> ElfImage {
    elf::read(&fs_err::read(tree.join("opt/load").join(path)).unwrap()).unwrap()
}

fn needed(tree: &Path, path: &str) -> Vec<String> {
    let needed = image(tree, path).needed.into_iter();
    needed.map(|name| String::from_utf8(name).unwrap()).collect()
}

/// Prints what is loaded, before and after libraries are opened.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <math.h>
#include <stdio.h>
int plain(void), versioned(void), real(void);
static int show(struct dl_phdr_info *info, size_t size, void *data) {
    if (info->dlpi_name[0] == '/') printf("%s%s", (char *)data, info->dlpi_name);
    return 0;
}
int main(int count, char **names) {
    printf("%d %.1f", plain() + versioned() + real(), sqrt(4.0 * count / count));
    dl_iterate_phdr(show, "\nstarted ");
    for (int at = 1; at < count; at++) {
        void *opened = dlopen(names[at], RTLD_NOW), *loaded = dlopen(names[at], RTLD_NOW | RTLD_NOLOAD);
        printf("\n%s %s", names[at], opened && opened == loaded ? "is loaded" : dlerror());
    }
    dl_iterate_phdr(show, "\nnow ");
    printf("\n");
    return 0;
}
"#;

/// A root with a program and libraries that a compiler made, one of them with versions and one that needs
/// the mathematical library.
fn root() -> SmallRoot {
    let root = SmallRoot::empty(EPREFIX);
    for name in ["libc.so.6", "libm.so.6", "libgcc_s.so.1", loader_name()] {
        root.copy(machine_file(name), &format!("usr/lib64/{name}"), 0o755);
    }
    let library = |name: &str, dir: &str, code: &str, more: &[&str]| {
        let path = format!("{dir}/{name}");
        let soname = format!("-Wl,-soname,{name}");
        let options = [&["-shared", "-fPIC", &soname], more].concat();
        compile(&root, "library.c", code, &path, &options);
        root.inside(&path).to_str().unwrap().to_owned()
    };
    let script = root.beside("versions");
    fs_err::write(&script, "V_1 { versioned; }; V_2 { other; } V_1;\n").unwrap();
    let script = format!("-Wl,--version-script={}", script.display());
    let code = "int versioned(void) { return 1; }\nint other(void) { return 2; }\n";
    let versioned = library("libversioned.so.1", "usr/lib64", code, &[&script]);
    let code = "#include <math.h>\n#include <stdlib.h>\nint versioned(void), other(void);\n\
                int plain(void) { return versioned() + other() + (int)cbrt(versioned()) + !!getenv(\"NONE\"); }\n";
    let plain = library("libplain.so.1", "usr/lib64/own", code, &[&versioned, "-lm"]);
    let real = library("libreal.so.2", "usr/lib64", "int real(void) { return 6; }\n", &[]);
    root.link("libreal.so.2", "usr/lib64/libreal.so.1");
    library("liblate.so.1", "usr/lib64/own", "int late(void) { return 7; }\n", &[&versioned]);
    let options: [&str; 5] = [&plain, &versioned, &real, "-lm", "-Wl,--disable-new-dtags"];
    let program = "usr/bin/program";
    compile(&root, "program.c", PROGRAM, program, &options);
    root.link("usr/lib64", "lib64");
    stdout_of_success(on(&root, &["rewrite"]));
    root
}

/// Starts the program with these arguments in a root that has nothing but the prefix.
fn run(tree: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (String, String) {
    let program = format!("{EPREFIX}/usr/bin/program");
    let opt = tree.join("opt");
    let mut words = vec!["--unshare-all", "--die-with-parent", "--clearenv"];
    for (name, value) in variables {
        words.extend(["--setenv", name, value]);
    }
    words.extend(["--ro-bind", opt.to_str().unwrap(), "/opt", "--proc", "/proc", "--", &program]);
    let output = output_of("bwrap", [&words, arguments].concat());
    assert!(output.status.success(), "{}", both_streams(&output));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn programs_load_the_same_files_by_paths() {
    let root = root();
    let (names, paths) = (
        pack(&root, "names", &["--needed", "names"]),
        pack(&root, "paths", &["--needed", "paths"]),
    );
    let lib64 = |name: &str| format!("{EPREFIX}/usr/lib64/{name}");
    let own = |name: &str| format!("{EPREFIX}/usr/lib64/own/{name}");
    let in_program = needed(&paths, "usr/bin/program");
    let expected = [
        own("libplain.so.1"),
        lib64("libversioned.so.1"),
        lib64("libreal.so.2"),
        lib64("libm.so.6"),
        lib64("libc.so.6"),
    ];
    assert_eq!(in_program, expected);
    // A program of the target may load a library, and has a C library already.
    let in_library = needed(&paths, "usr/lib64/own/libplain.so.1");
    let expected = [lib64("libversioned.so.1"), lib64("libm.so.6"), "libc.so.6".to_owned()];
    assert_eq!(in_library, expected);
    assert_eq!(needed(&paths, "usr/lib64/libc.so.6"), needed(&names, "usr/lib64/libc.so.6"));
    let (program, before) = (image(&paths, "usr/bin/program"), image(&names, "usr/bin/program"));
    assert_eq!(program.rpath, before.rpath);
    for version in &program.needed_versions {
        assert!(program.needed.contains(&version.library), "{version:?}");
    }
    let versions = |image: &ElfImage| {
        let versions = image.needed_versions.iter().map(|needed| needed.version.clone());
        versions.collect::<Vec<_>>()
    };
    assert_eq!(versions(&program), versions(&before));
    assert_eq!(image(&paths, "usr/lib64/libversioned.so.1").soname.unwrap(), b"libversioned.so.1");

    let opened = lib64("libreal.so.1");
    let arguments = ["libversioned.so.1", "libm.so.6", "libreal.so.1", &opened, "liblate.so.1"];
    let preloaded = lib64("libreal.so.1");
    for variables in [
        &[][..],
        &[("LD_PRELOAD", "libversioned.so.1")],
        &[("LD_PRELOAD", preloaded.as_str())],
        &[("LD_BIND_NOW", "1")],
        &[("LD_LIBRARY_PATH", "/opt/load/usr/lib64/own")],
    ] {
        let (before, _) = run(&names, variables, &arguments);
        assert!(before.starts_with("11 2.0\nstarted "), "{before}");
        assert_eq!(before.matches(" is loaded\n").count(), arguments.len(), "{before}");
        assert_eq!(run(&paths, variables, &arguments).0, before, "{variables:?}");
    }
    let tries =
        |tree: &Path| run(tree, &[("LD_DEBUG", "libs")], &[]).1.matches("trying file=").count();
    assert!(tries(&names) > 4, "{}", tries(&names));
    assert_eq!(tries(&paths), 0);
    for tree in [&names, &paths] {
        stdout_of(FPREFIX, ["check", "--root", tree.to_str().unwrap(), "--eprefix", EPREFIX]);
    }
    // The root is as it was, and so is what was not stripped.
    assert_eq!(needed(&root.root(), "usr/bin/program"), needed(&names, "usr/bin/program"));
    let whole = pack(&root, "whole", &["--needed", "paths", "--no-strip"]);
    assert_eq!(run(&whole, &[], &arguments), run(&names, &[], &arguments));
}

/// A name remains where the loader would find something else by a path, or nothing at another time.
#[test]
fn names_remain_where_paths_could_mean_something_else() {
    let loads = Loads::new();
    let search = || rpath("@/usr/lib64:@/usr/lib");
    for name in ["one", "other", "filtered", "unversioned"] {
        loads.library(&format!("usr/lib64/lib{name}.so.1"), Edit::default());
    }
    for dir in ["usr/lib64", "usr/lib"] {
        loads.library(&format!("{dir}/libtwo.so.1"), Edit::default());
    }
    let soname = Edit { soname: Some("libalias.so.2".into()), ..Edit::default() };
    loads.put("usr/lib64/libalias.so.1", &loads.library, &soname);
    loads.rewrite(&[]);
    let names = ["libone.so.1", "libtwo.so.1", "libalias.so.1"];
    loads.program("usr/bin/rpath", &names, search());
    loads.program("usr/bin/origin", &names[..1], rpath("$ORIGIN/../lib64"));
    let SearchPathEdit::Rpath(path) = search() else { unreachable!() };
    let searched = fs_err::read(loads.root.inside("usr/bin/rpath")).unwrap();
    let runpath = Edit { search_path: SearchPathEdit::Runpath(path), ..Edit::default() };
    loads.put("usr/bin/runpath", &searched, &runpath);
    // A link to a directory leads to the same path for all.
    loads.root.link("usr/lib64", "lib64");
    loads.program("usr/bin/link", &names[..1], rpath("@/usr/bin/../../lib64"));
    let tree = pack(&loads.root, "paths", &["--needed", "paths", "--waive", "needed,search-path"]);
    let one = format!("{EPREFIX}/usr/lib64/libone.so.1");
    let of = |file: &str| {
        let needed = needed(&tree, &format!("usr/bin/{file}")).into_iter();
        needed.filter(|name| !name.ends_with("/libc.so.6")).collect::<Vec<_>>()
    };
    assert_eq!(of("rpath"), [&one, names[1], names[2]]);
    assert_eq!(of("link"), [&*one]);
    assert_eq!(of("origin"), ["libc.so.6", names[0]]);
    assert_eq!(of("runpath"), ["libc.so.6", names[0], names[1], names[2]]);
}

/// Trees with `$ORIGIN`, and those of musl, stay as they are.
#[test]
fn relative_trees_and_those_of_musl_keep_their_names() {
    for (loads, options) in [(Loads::new(), &["--relative"][..]), (Loads::musl(), &[])] {
        loads.library("usr/lib/libone.so.1", needs(&["libtwo.so.1"]));
        loads.library("usr/lib/libtwo.so.1", Edit::default());
        loads.program("usr/bin/p", &["libone.so.1"], rpath("@/usr/lib:@/usr/lib64"));
        loads.rewrite(options);
        let [names, paths] = ["names", "paths"].map(|form| {
            let tree = pack(&loads.root, form, &["--needed", form]);
            ["usr/bin/p", "usr/lib/libone.so.1"]
                .map(|file| fs_err::read(tree.join("opt/load").join(file)).unwrap())
        });
        assert!(names == paths, "{options:?}");
    }
}

/// Libraries in several directories, some under the same name, and search paths in any order.
#[test]
fn random_search_paths_mean_the_same_with_paths() {
    let mut random = Random::numbered(0x9a7);
    let (mut started, mut changed) = (0, 0);
    for round in 0..4 {
        let loads = Loads::new();
        loads.fill_at_random(&mut random);
        loads.rewrite(&[]);
        let waived = "needed,start,search-path,symbol,symbol-version";
        let tree = pack(&loads.root, "paths", &["--needed", "paths", "--waive", waived]);
        let files = ["usr/bin", "usr/lib", "usr/lib/a", "usr/lib/b", "usr/libexec/c", "usr/lib64"];
        let files = files.iter().flat_map(|dir| {
            let names = fs_err::read_dir(loads.root.inside(dir)).into_iter().flatten().flatten();
            names.map(move |entry| format!("{dir}/{}", entry.file_name().to_str().unwrap()))
        });
        let is_own = |path: &String| {
            let name = path.rsplit('/').next().unwrap();
            loads.root.inside(path).is_file() && (name.starts_with('p') || name.starts_with("lib"))
        };
        let before: BTreeMap<String, _> = files
            .filter(is_own)
            .map(|file| (file.clone(), loads.list_paths(&loads.root.root(), &file)))
            .collect();
        for (file, found) in &before {
            let names = needed(&tree, file);
            assert_eq!(loads.list_paths(&tree, file), *found, "{file} in round {round}: {names:?}");
            started += usize::from(found.is_some());
            changed += names.iter().filter(|name| name.contains("/lib")).count();
        }
    }
    assert!(started > 20 && changed > 20, "{started} files were loaded, {changed} names changed");
}

#[test]
fn forms_are_named() {
    let error = SmallRoot::full().refuse_usage("out", &["--needed", "path"]);
    assert!(error.contains("\"path\" has to be names or paths"), "{error}");
}
