//! Files of a whole system. By default that is the machine's own; `FPREFIX_ELF_CORPUS=DIR`
//! names other trees (separated by colons) for a wide run, see CONTRIBUTING.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use fprefix::elf::{self, Edit, ObjectKind, PatchMethod, SearchPathEdit};
use walkdir::WalkDir;

use crate::fixtures::LOADER;
use crate::harness::tools::{both_streams, output_of, success_of, write_program};
use crate::inspect::rewrite;

/// Files of the machine that the default run looks at.
const MACHINE_FILES: usize = 1_600;
/// A path of 100 characters.
fn prefix() -> String {
    format!("/opt/{}/usr/lib64", "p".repeat(100 - "/opt//usr/lib64".len()))
}

fn edit() -> Edit {
    Edit {
        interpreter: Some(format!("{}/ld-linux-x86-64.so.2", prefix()).into()),
        search_path: SearchPathEdit::Runpath(format!("$ORIGIN/../lib64:{}", prefix()).into()),
        ..Edit::default()
    }
}

/// ELF files below the directories, links not followed, the same file once.
fn elf_files(roots: &[PathBuf]) -> Vec<PathBuf> {
    let entries = roots.iter().flat_map(|root| WalkDir::new(root).sort_by_file_name());
    let entries = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    entries.map(walkdir::DirEntry::into_path).filter(|path| begins_as_elf(path)).collect()
}

fn begins_as_elf(path: &Path) -> bool {
    use std::io::Read as _;
    let mut first = [0; 4];
    fs_err::File::open(path).is_ok_and(|mut file| file.read_exact(&mut first).is_ok())
        && elf::is_elf(&first)
}

#[test]
fn files_of_a_system_are_rewritten_soundly() {
    let named = std::env::var_os("FPREFIX_ELF_CORPUS");
    let roots: Vec<PathBuf> = match &named {
        Some(paths) => std::env::split_paths(paths).collect(),
        None => ["/usr/bin", "/usr/sbin", "/usr/lib"].iter().map(PathBuf::from).collect(),
    };
    let mut files = elf_files(&roots);
    if named.is_none() {
        // A spread over all directories rather than the first ones of them.
        let step = files.len().div_ceil(MACHINE_FILES).max(1);
        files = files.into_iter().step_by(step).collect();
    }
    let edit = edit();
    let mut methods: BTreeMap<String, usize> = BTreeMap::new();
    let (mut dynamic, mut grown, mut growth) = (0, 0, Vec::new());
    let mut refused = Vec::new();
    for path in &files {
        let bytes = fs_err::read(path).unwrap();
        let name = path.to_string_lossy();
        if let Err(error) = elf::plan(&bytes, &edit) {
            refused.push(format!("{name}: {error}"));
            continue;
        }
        let (plan, new) = rewrite(&bytes, &edit, &name);
        *methods.entry(format!("{:?}", plan.method)).or_default() += 1;
        if plan.is_unchanged() {
            continue;
        }
        dynamic += 1;
        if plan.growth() > 0 {
            grown += 1;
            growth.push(plan.growth());
        }
        let (was, is) = (elf::read(&bytes).unwrap(), elf::read(&new).unwrap());
        assert_eq!(is.interpreter.is_some(), was.interpreter.is_some(), "{name}");
        assert!(is.interpreter.is_none() || is.interpreter == edit.interpreter, "{name}");
        assert_eq!(SearchPathEdit::Runpath(is.runpath.unwrap()), edit.search_path, "{name}");
        assert_eq!((was.needed, was.soname, was.build_id), (is.needed, is.soname, is.build_id));
        assert_eq!(was.needed_versions, is.needed_versions, "{name}");
    }
    growth.sort_unstable();
    let median = growth.get(growth.len() / 2);
    println!("{} files, {dynamic} rewritten: {methods:#?}", files.len());
    println!("{grown} grew, median by {median:?} bytes");
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(dynamic >= 300 || named.is_some(), "only {dynamic} dynamic files on this machine");
}

/// Programs that say their version and do nothing else.
const PROGRAMS: [&str; 64] = [
    "ar",
    "awk",
    "basename",
    "bash",
    "bwrap",
    "cat",
    "chmod",
    "clang",
    "cmp",
    "comm",
    "cp",
    "curl",
    "cut",
    "date",
    "dd",
    "df",
    "diff",
    "dpkg",
    "du",
    "env",
    "eu-readelf",
    "expand",
    "expr",
    "file",
    "find",
    "gcc",
    "git",
    "gpg",
    "grep",
    "gzip",
    "head",
    "id",
    "join",
    "ld.bfd",
    "ld.gold",
    "ld.lld",
    "ln",
    "ls",
    "make",
    "mkdir",
    "mold",
    "mv",
    "nl",
    "nproc",
    "objdump",
    "od",
    "openssl",
    "patchelf",
    "perl",
    "python3",
    "readelf",
    "rm",
    "sed",
    "sort",
    "ssh",
    "stat",
    "strace",
    "tail",
    "tar",
    "tr",
    "wc",
    "xargs",
    "xz",
    "zstd",
];

/// Every program with its libraries, in a root that holds nothing else: first as they are, then
/// all rewritten and moved into a prefix, then stripped. They must say the same.
#[test]
fn programs_say_the_same_from_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let lib = PathBuf::from(prefix().trim_start_matches('/'));
    let bin = lib.parent().unwrap().join("bin");
    for root in [&before, &after] {
        fs_err::create_dir_all(root.join("lib64")).unwrap();
        fs_err::create_dir_all(root.join("usr/bin")).unwrap();
    }
    fs_err::create_dir_all(after.join(&lib)).unwrap();
    fs_err::create_dir_all(after.join(&bin)).unwrap();
    let mut libraries = BTreeSet::new();
    let mut programs = Vec::new();
    for name in PROGRAMS {
        let Ok(path) = fs_err::canonicalize(Path::new("/usr/bin").join(name)) else { continue };
        let bytes = fs_err::read(&path).unwrap();
        if !elf::is_elf(&bytes) || elf::read(&bytes).unwrap().interpreter.is_none() {
            continue;
        }
        collect(&bytes, &mut libraries);
        write_program(&before.join("usr/bin").join(name), &bytes);
        let (_, new) = rewrite(&bytes, &edit(), name);
        write_program(&after.join(&bin).join(name), &new);
        programs.push(name);
    }
    for path in &libraries {
        let (bytes, name) = (fs_err::read(path).unwrap(), path.file_name().unwrap());
        write_program(&before.join("lib64").join(name), &bytes);
        let (_, new) = rewrite(&bytes, &edit(), &path.to_string_lossy());
        write_program(&after.join(&lib).join(name), &new);
    }
    assert!(programs.len() >= 40, "only {} of the programs are here", programs.len());
    let mut compared = 0;
    let answers: Vec<_> = programs
        .iter()
        .map(|name| answer(&before, &format!("/usr/bin/{name}"), "/lib64"))
        .collect();
    for round in ["rewritten", "stripped"] {
        for (name, expected) in programs.iter().zip(&answers) {
            let program = format!("/{}/{name}", bin.display());
            // No library path: the runpath alone has to find everything.
            let got = answer(&after, &program, "");
            assert_eq!(without_directory(expected), without_directory(&got), "{round} {name}");
            compared += usize::from(expected.starts_with("Some(0)"));
        }
        strip_all(&[after.join(&bin), after.join(&lib)]);
    }
    println!("{} programs, {} libraries, {compared} answers", programs.len(), libraries.len());
    assert!(compared >= 80, "only {compared} programs told their version");
}

fn without_directory(text: &str) -> String {
    let bin = prefix().replace("lib64", "bin");
    [&bin, "/usr/bin"]
        .iter()
        .fold(text.to_owned(), |text, dir| text.replace(&format!("{dir}/"), "").replace(dir, ""))
}

fn strip_all(dirs: &[PathBuf]) {
    for file in elf_files(dirs) {
        success_of("strip", [&file]);
    }
}

/// The libraries that a file needs, and theirs, from where the machine has them.
fn collect(bytes: &[u8], found: &mut BTreeSet<PathBuf>) {
    let image = elf::read(bytes).unwrap();
    for needed in &image.needed {
        let needed = std::str::from_utf8(needed).unwrap();
        let directories = ["/lib/x86_64-linux-gnu", "/usr/lib", "/usr/lib/llvm-14/lib"];
        let directories = directories.iter().map(|dir| Path::new(dir).join(needed));
        let private = image.runpath.iter().flat_map(|path| path.split(|&byte| byte == b':'));
        let private = private.map(|dir| Path::new(std::str::from_utf8(dir).unwrap()).join(needed));
        let Some(path) = private.chain(directories).find(|path| path.exists()) else { continue };
        if found.insert(path.clone()) {
            collect(&fs_err::read(&path).unwrap(), found);
        }
    }
    found.insert(PathBuf::from(LOADER));
}

/// What a program says about its version, alone in a root.
fn answer(root: &Path, program: &str, library_path: &str) -> String {
    let root = root.to_str().unwrap();
    let mut args = vec!["--unshare-all", "--die-with-parent", "--bind", root, "/"];
    args.extend(["--proc", "/proc", "--dev", "/dev", "--clearenv"]);
    if !library_path.is_empty() {
        args.extend(["--setenv", "LD_LIBRARY_PATH", library_path]);
    }
    args.extend([program, "--version"]);
    let output = output_of("bwrap", args);
    format!("{:?} {}", output.status.code(), both_streams(&output))
}

/// Kinds that are left alone are left alone for the reason that is given.
#[test]
fn files_of_other_kinds_stay() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("a.c");
    fs_err::write(&source, "int main(void) { return 0; }\n").unwrap();
    let build = |flags: &[&str]| {
        let file = dir.path().join("a");
        let mut args = vec![source.to_str().unwrap(), "-g", "-o", file.to_str().unwrap()];
        args.extend(flags);
        success_of("gcc", args);
        fs_err::read(file).unwrap()
    };
    let debug = |bytes: &[u8], tool: &str| {
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        write_program(&from, bytes);
        let (from, to_text) = (from.to_str().unwrap(), to.to_str().unwrap());
        if tool == "objcopy" {
            success_of(tool, ["--only-keep-debug", from, to_text]);
        } else {
            success_of(tool, ["-f", to_text, from]);
        }
        fs_err::read(to).unwrap()
    };
    let program = build(&[]);
    let of_type = |number: u8| {
        let mut copy = program.clone();
        copy[16] = number;
        copy
    };
    let module = {
        let (object, text) = (dir.path().join("module.ko"), dir.path().join("modinfo"));
        write_program(&object, build(&["-c"]));
        fs_err::write(&text, "license=GPL\0").unwrap();
        let section = format!(".modinfo={}", text.display());
        success_of("objcopy", ["--add-section", &section, object.to_str().unwrap()]);
        fs_err::read(object).unwrap()
    };
    let cases = [
        (build(&["-static"]), ObjectKind::StaticExecutable),
        (build(&["-static-pie"]), ObjectKind::StaticPie),
        (build(&["-c"]), ObjectKind::Relocatable),
        (module, ObjectKind::KernelModule),
        (of_type(4), ObjectKind::Core),
        (of_type(200), ObjectKind::Other),
        (debug(&program, "objcopy"), ObjectKind::DebugFile),
        (debug(&program, "eu-strip"), ObjectKind::DebugFile),
        (debug(&build(&["-no-pie"]), "objcopy"), ObjectKind::DebugFile),
        (debug(&build(&["-shared", "-fPIC"]), "objcopy"), ObjectKind::DebugFile),
        (fs_err::read(LOADER).unwrap(), ObjectKind::Loader),
    ];
    for (bytes, kind) in cases {
        assert_eq!(elf::read(&bytes).unwrap().kind, kind);
        let plan = elf::plan(&bytes, &edit()).unwrap();
        assert_eq!(plan.method, PatchMethod::Unchanged(elf::UnchangedReason::ObjectKind(kind)));
    }
}
