//! Programs and libraries of all linkers: rewritten, run, stripped, run again.

use std::path::Path;

use fprefix::elf::{self, Edit, PatchMethod, SearchPathEdit};

use crate::fixtures::{Build, LOADER, World, build};
use crate::harness::tools::{both_streams, output_of, success_of, write_program};
use crate::inspect::{assert_no_new_complaints, rewrite};

/// Way to link, flags for both files, flags for the program, size of its bss.
type Way = (&'static str, &'static str, &'static [&'static str], &'static [&'static str], u64);

const SMALL: u64 = 4096;
const LARGE: u64 = 300 << 20;

const BFD: [Way; 14] = [
    ("bfd", "gcc", &[], &["-pie"], SMALL),
    ("bfd no-pie", "gcc", &[], &["-no-pie"], SMALL),
    ("bfd stripped", "gcc", &["-s"], &["-pie"], SMALL),
    ("bfd no-pie stripped", "gcc", &["-s"], &["-no-pie"], SMALL),
    ("bfd sysv hash", "gcc", &["-Wl,--hash-style=sysv"], &[], SMALL),
    ("bfd both hashes", "gcc", &["-Wl,--hash-style=both"], &[], SMALL),
    ("bfd now", "gcc", &["-Wl,-z,relro,-z,now"], &[], SMALL),
    ("bfd one page", "gcc", &["-Wl,-z,noseparate-code"], &[], SMALL),
    ("bfd one page no-pie", "gcc", &["-Wl,-z,noseparate-code"], &["-no-pie"], SMALL),
    ("bfd 64K", "gcc", &["-Wl,-z,max-page-size=0x10000"], &[], SMALL),
    ("bfd 2M no-pie", "gcc", &["-Wl,-z,max-page-size=0x200000"], &["-no-pie"], SMALL),
    ("bfd large bss", "gcc", &[], &["-no-pie"], LARGE),
    ("bfd relr", "gcc", &["-Wl,-z,pack-relative-relocs"], &[], SMALL),
    ("bfd no spare tags", "gcc", &["-Wl,--spare-dynamic-tags=0"], &[], SMALL),
];

const GOLD: [Way; 4] = [
    ("gold", "gcc", &["-fuse-ld=gold"], &["-pie"], SMALL),
    ("gold no-pie", "gcc", &["-fuse-ld=gold"], &["-no-pie"], SMALL),
    ("gold stripped", "gcc", &["-fuse-ld=gold", "-s"], &[], LARGE),
    ("gold 64K", "gcc", &["-fuse-ld=gold", "-Wl,-z,max-page-size=0x10000"], &[], SMALL),
];

const LLD: [Way; 8] = [
    ("lld", "clang", &["-fuse-ld=lld"], &["-pie"], SMALL),
    ("lld no-pie", "clang", &["-fuse-ld=lld"], &["-no-pie"], SMALL),
    ("lld stripped", "clang", &["-fuse-ld=lld", "-s"], &[], SMALL),
    ("lld large bss", "clang", &["-fuse-ld=lld"], &["-no-pie"], LARGE),
    ("lld now", "clang", &["-fuse-ld=lld", "-Wl,-z,now,-z,relro"], &[], SMALL),
    ("lld separate", "clang", &["-fuse-ld=lld", "-Wl,-z,separate-loadable-segments"], &[], SMALL),
    ("lld no rosegment", "clang", &["-fuse-ld=lld", "-Wl,--no-rosegment"], &["-no-pie"], SMALL),
    ("lld 64K", "clang", &["-fuse-ld=lld", "-Wl,-z,max-page-size=0x10000"], &[], SMALL),
];

const MOLD: [Way; 4] = [
    ("mold", "gcc", &["-fuse-ld=mold"], &["-pie"], SMALL),
    ("mold no-pie", "gcc", &["-fuse-ld=mold"], &["-no-pie"], SMALL),
    ("mold stripped", "gcc", &["-fuse-ld=mold", "-s"], &[], LARGE),
    ("mold sysv hash", "gcc", &["-fuse-ld=mold", "-Wl,--hash-style=sysv"], &[], SMALL),
];

#[test]
fn gnu_ld() {
    BFD.iter().for_each(check);
}

#[test]
fn gold() {
    GOLD.iter().for_each(check);
}

#[test]
fn lld() {
    LLD.iter().for_each(check);
}

#[test]
fn mold() {
    MOLD.iter().for_each(check);
}

fn prefix_edit() -> Edit {
    let world = World::get();
    Edit {
        interpreter: Some(world.loader.to_str().unwrap().into()),
        search_path: SearchPathEdit::Runpath(format!("$ORIGIN:{}", world.lib_text()).into()),
        ..Edit::default()
    }
}

fn check(way: &Way) {
    let (name, compiler, flags, program_flags, big) = way;
    check_pair(name, &build(compiler, flags, program_flags, *big));
}

/// Both files to the prefix; run; strip in three ways; run; back to short paths, and forth.
fn check_pair(name: &str, build: &Build) {
    let edit = prefix_edit();
    let place = build.dir.path().join("new");
    fs_err::create_dir(&place).unwrap();
    let (program, library) = (place.join("program"), place.join("libshared.so"));
    let mut sizes = Vec::new();
    for (from, to) in [(&build.library, &library), (&build.program, &program)] {
        let old = fs_err::read(from).unwrap();
        let (_, new) = rewrite(&old, &edit, name);
        write_program(to, &new);
        assert_no_new_complaints(from, to, name);
        assert_read_back(&old, &new, &edit, name);
        sizes.push(new.len());
    }
    assert_runs(&program, name);
    check_stripped(&program, &library, name);
    check_there_and_back(&program, &library, &sizes, name);
}

fn assert_read_back(old: &[u8], new: &[u8], edit: &Edit, name: &str) {
    let (was, is) = (elf::read(old).unwrap(), elf::read(new).unwrap());
    if was.interpreter.is_some() {
        assert_eq!(is.interpreter, edit.interpreter, "{name}");
    }
    let SearchPathEdit::Runpath(runpath) = &edit.search_path else { return };
    assert_eq!(is.runpath.as_ref(), Some(runpath), "{name}");
    assert_eq!(is.rpath, None, "{name}");
    let rest = |image: &elf::ElfImage| {
        let versions = (image.needed_versions.clone(), image.defined_versions.clone());
        let flags = (image.flags, image.flags_1, image.executable_stack);
        (image.needed.clone(), image.soname.clone(), image.build_id.clone(), versions, flags)
    };
    assert_eq!(rest(&was), rest(&is), "{name}");
}

#[track_caller]
fn assert_runs(program: &Path, name: &str) {
    let output = output_of(program, [World::get().lib_text()]);
    assert_eq!(
        output.status.code(),
        Some(42),
        "{name}: {} {}",
        output.status,
        both_streams(&output)
    );
}

fn check_stripped(program: &Path, library: &Path, name: &str) {
    let ways: [&[&str]; 4] =
        [&["strip"], &["objcopy", "--strip-debug"], &["llvm-strip"], &["eu-strip"]];
    for way in ways {
        let place = program.parent().unwrap().join(way[0]);
        fs_err::create_dir(&place).unwrap();
        for file in [program, library] {
            let to = place.join(file.file_name().unwrap());
            fs_err::copy(file, &to).unwrap();
            let args: Vec<_> = way[1..].iter().copied().chain(to.to_str()).collect();
            success_of(way[0], args);
            elf::read(&fs_err::read(&to).unwrap()).unwrap();
        }
        assert_runs(&place.join("program"), &format!("{name}, {}", way[0]));
    }
}

/// Short paths again, then the long ones: no bigger than it was, and it runs.
fn check_there_and_back(program: &Path, library: &Path, sizes: &[usize], name: &str) {
    let short = Edit {
        interpreter: Some(LOADER.into()),
        search_path: SearchPathEdit::Runpath(b"$ORIGIN".to_vec()),
        ..Edit::default()
    };
    for (file, size) in [library, program].iter().zip(sizes) {
        let (plan, new) = rewrite(&fs_err::read(file).unwrap(), &short, name);
        assert!(plan.method <= PatchMethod::Slide, "{name}: shorter paths, yet {:?}", plan.method);
        assert!(!contains(&new, World::get().lib_text()), "{name}: the old path is still there");
        let (_, again) = rewrite(&new, &prefix_edit(), name);
        assert!(again.len() <= *size, "{name}: grew from {size} to {}", again.len());
        write_program(file, &again);
    }
    assert_runs(program, name);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn without_section_headers() {
    for (compiler, flags, program_flags) in [
        ("gcc", &["-Wl,--hash-style=both"][..], &["-pie"][..]),
        ("gcc", &["-Wl,--hash-style=gnu"], &["-pie"]),
        ("gcc", &["-Wl,--hash-style=gnu"], &["-no-pie"]),
        ("clang", &["-fuse-ld=lld"], &["-pie"]),
        ("gcc", &["-fuse-ld=mold"], &["-pie"]),
        ("gcc", &["-fuse-ld=gold"], &["-pie"]),
    ] {
        let name = format!("{flags:?} without sections");
        let build = build(compiler, flags, program_flags, SMALL);
        let place = build.dir.path().join("new");
        fs_err::create_dir(&place).unwrap();
        for file in [&build.library, &build.program] {
            success_of("llvm-strip", ["--strip-sections", file.to_str().unwrap()]);
            let old = fs_err::read(file).unwrap();
            assert!(!elf::read(&old).unwrap().has_sections);
            let (_, new) = rewrite(&old, &prefix_edit(), &name);
            write_program(&place.join(file.file_name().unwrap()), &new);
        }
        assert_runs(&place.join("program"), &name);
    }
}

#[test]
fn exceptions_unwind_through_a_rewritten_program() {
    let dir = tempfile::tempdir().unwrap();
    let (source, file) = (dir.path().join("throw.cc"), dir.path().join("throw"));
    let text = "#include <stdexcept>\n#include <string>\nint main(int n, char **) { try { throw \
                std::runtime_error(std::string(n, 'x')); } catch (std::exception &e) { return \
                41 + n; } }\n";
    fs_err::write(&source, text).unwrap();
    for flags in [&["-fuse-ld=bfd"][..], &["-fuse-ld=gold"], &["-fuse-ld=lld"], &["-no-pie"]] {
        let mut args = vec![source.to_str().unwrap(), "-o", file.to_str().unwrap()];
        args.extend(flags);
        success_of("g++", args);
        let mut edit = prefix_edit();
        edit.search_path = SearchPathEdit::Runpath(
            format!("{}:/usr/lib/x86_64-linux-gnu", World::get().lib_text()).into(),
        );
        let (_, new) = rewrite(&fs_err::read(&file).unwrap(), &edit, "throw");
        let to = dir.path().join("new");
        write_program(&to, &new);
        assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "{flags:?}");
        success_of("strip", [&to]);
        assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "{flags:?} stripped");
    }
}

#[test]
fn rust_programs() {
    let dir = tempfile::tempdir().unwrap();
    let (source, file) = (dir.path().join("main.rs"), dir.path().join("main"));
    let text = "fn main() { let r = std::panic::catch_unwind(|| { if std::env::args().count() > 0 \
                { panic!(\"x\") } }); std::process::exit(if r.is_err() { 42 } else { 1 }) }";
    fs_err::write(&source, text).unwrap();
    for flags in
        [&[][..], &["-Clink-arg=-fuse-ld=lld"], &["-Clink-arg=-fuse-ld=mold", "-Cstrip=symbols"]]
    {
        let mut args = vec![source.to_str().unwrap(), "-o", file.to_str().unwrap()];
        args.extend(flags);
        success_of("rustc", args);
        let mut edit = prefix_edit();
        edit.search_path = SearchPathEdit::Runpath(
            format!("{}:/lib/x86_64-linux-gnu", World::get().lib_text()).into(),
        );
        let (_, new) = rewrite(&fs_err::read(&file).unwrap(), &edit, "rust");
        let to = dir.path().join("new");
        write_program(&to, &new);
        assert_no_new_complaints(&file, &to, "rust");
        assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "{flags:?}");
        success_of("strip", [&to]);
        assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "{flags:?} stripped");
    }
}

#[test]
fn go_programs() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("main.go");
    let text = "package main\nimport (\"os\"; \"os/user\")\nfunc main() { u, err := \
                user.Current(); if err != nil || u.Uid == \"\" { os.Exit(1) }; os.Exit(42) }\n";
    fs_err::write(&source, text).unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
    for (name, flags) in [
        ("internal", &["-ldflags=-linkmode=internal"][..]),
        ("internal stripped", &["-ldflags=-linkmode=internal -s -w"]),
        ("external", &["-ldflags=-linkmode=external"]),
    ] {
        let file = dir.path().join("main");
        let mut args = vec![format!("GOCACHE={}", cache.display()), "GO111MODULE=off".to_owned()];
        args.extend(["CGO_ENABLED=1", "go", "build", "-o"].map(str::to_owned));
        args.push(file.to_str().unwrap().to_owned());
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        args.push(source.to_str().unwrap().to_owned());
        success_of("env", &args);
        let old = fs_err::read(&file).unwrap();
        assert_eq!(output_of(&file, [""; 0]).status.code(), Some(42), "go {name}");
        let (_, new) = rewrite(&old, &prefix_edit(), name);
        let to = dir.path().join("new");
        write_program(&to, &new);
        assert_no_new_complaints(&file, &to, name);
        assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "go {name}");
        let said_id = |path: &Path| {
            both_streams(&success_of("go", ["tool", "buildid", path.to_str().unwrap()]))
        };
        assert_eq!(said_id(&file), said_id(&to), "go {name}");
        success_of("strip", [&to]);
        assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "go {name} stripped");
    }
}

/// A note that the program's own code knows the address of (as crash reporters do), between
/// two that may move: it stays, and is still found.
#[test]
fn a_note_that_is_referred_to_stays() {
    let text = r#"
        #define _GNU_SOURCE
        #include <link.h>
        extern const char own_note[];
        __asm__(".pushsection .note.custom,\"a\",@note\n.globl own_note\nown_note:\n"
                ".long 7,8,1\n.asciz \"Custom\"\n.balign 4\n.long 1,2\n.popsection\n");
        static int find(struct dl_phdr_info *info, size_t size, void *found) {
            (void)size;
            for (int i = 0; i < info->dlpi_phnum && !*(int *)found; i++) {
                const char *note = (const char *)info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                const char *end = note + info->dlpi_phdr[i].p_memsz;
                if (info->dlpi_phdr[i].p_type == PT_NOTE && note <= own_note && own_note < end)
                    *(int *)found = 1;
            }
            return 1;
        }
        int main(void) { int found = 0; dl_iterate_phdr(find, &found); return found ? 42 : 1; }
    "#;
    let dir = tempfile::tempdir().unwrap();
    let (source, file) = (dir.path().join("note.c"), dir.path().join("note"));
    fs_err::write(&source, text).unwrap();
    for flags in [&["-fuse-ld=lld"][..], &["-fuse-ld=bfd"], &["-fuse-ld=gold"]] {
        let mut args = vec![source.to_str().unwrap(), "-o", file.to_str().unwrap()];
        args.extend(flags);
        success_of("clang", args);
        // With lld's order, longer than any padding, so that a segment has to be added.
        let append = flags[0].ends_with("lld");
        let more = if append { "/x".repeat(10_000) } else { String::new() };
        let path = format!("{}:{more}", World::get().lib_text());
        let edit = Edit { search_path: SearchPathEdit::Runpath(path.into()), ..prefix_edit() };
        let (plan, new) = rewrite(&fs_err::read(&file).unwrap(), &edit, flags[0]);
        assert_eq!(plan.method == PatchMethod::Append, append, "{flags:?}");
        let to = dir.path().join("new");
        write_program(&to, &new);
        assert_no_new_complaints(&file, &to, &format!("{flags:?}"));
        for tool in ["none", "strip", "llvm-strip"] {
            if tool != "none" {
                success_of(tool, [&to]);
            }
            assert_eq!(output_of(&to, [""; 0]).status.code(), Some(42), "{flags:?} {tool}");
        }
    }
}
