//! A sealed loader on a hostile target: everything that a glibc loader consults by itself is
//! there, and wrong.

use std::path::{Path, PathBuf};

use fprefix::elf::{self, Edit, ObjectKind, PatchPlan, Seal, SealError, SearchPathEdit};
use tempfile::TempDir;

use crate::fixtures::LOADER;
use crate::harness::tools::{both_streams, output_of, success_of, write_program};
use crate::inspect::rewrite;

const LIB: &str = "/opt/own/lib64";

/// The loader with its patches.
fn sealed(loader: &[u8]) -> Vec<u8> {
    let Seal::Needed(patches) = elf::seal_loader(loader).unwrap() else {
        panic!("the machine's loader is sealed already");
    };
    let plan = PatchPlan {
        method: elf::PatchMethod::InPlace,
        patches,
        appended: vec![],
        source_size: loader.len() as u64,
    };
    plan.apply_to_vec(loader)
}

#[test]
fn a_second_time_there_is_nothing_to_do() {
    let loader = sealed(&fs_err::read(LOADER).unwrap());
    assert_eq!(elf::seal_loader(&loader).unwrap(), Seal::Already);
    assert_eq!(elf::read(&loader).unwrap().kind, ObjectKind::Loader);
    // The help text goes on to name the cache, but does not end with it.
    for gone in ["/etc/ld.so.cache\0", "/etc/ld.so.preload", "/x86_64-linux-gnu/", "/usr/lib/"] {
        let found = loader.windows(gone.len()).any(|window| window == gone.as_bytes());
        assert!(!found, "{gone} is still in the loader");
    }
}

#[test]
fn what_is_not_a_whole_glibc_loader_is_refused() {
    let loader = fs_err::read(LOADER).unwrap();
    let replaced = |from: &str, to: &str| {
        let at = loader.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut copy = loader.clone();
        copy[at..at + to.len()].copy_from_slice(to.as_bytes());
        elf::seal_loader(&copy).unwrap_err()
    };
    let unexpected = |what| SealError::Unexpected { what, found: 0 };
    assert_eq!(
        replaced("/etc/ld.so.preload", "/etc/ld.so.preloaX"),
        unexpected("/etc/ld.so.preload")
    );
    assert_eq!(replaced("/etc/ld.so.cache", "/tmp/ld.so.cache"), unexpected("/etc/ld.so.cache"));
    assert_eq!(replaced("/etc/ld.so.cache", "\0"), SealError::Partly("/etc/ld.so.preload"));
    let program = fs_err::read("/bin/ls").unwrap();
    let error = elf::seal_loader(&program).unwrap_err();
    assert_eq!(error, SealError::NotALoader(ObjectKind::PieExecutable));
    assert_eq!(elf::seal_loader(b"#!/bin/sh").unwrap_err(), SealError::Elf(elf::Error::NotElf));
}

/// A root with a prefix in it, and a hostile system around.
struct Target {
    dir: TempDir,
}

impl Target {
    fn make() -> Target {
        let dir = tempfile::tempdir().unwrap();
        let target = Target { dir };
        for name in
            ["opt/own/lib64", "opt/own/bin", "lib/x86_64-linux-gnu", "usr/lib", "etc", "lib64"]
        {
            fs_err::create_dir_all(target.path(name)).unwrap();
        }
        let evil = "#include <unistd.h>\nint answer(void) { return 66; }\n\
                    __attribute__((constructor)) static void e(void) { _exit(66); }\n";
        let shared = ["-shared", "-Wl,-soname,libanswer.so"];
        let own = "int answer(void) { return 42; }";
        target.compile(own, "opt/own/lib64/libanswer.so", &shared);
        for place in ["lib/x86_64-linux-gnu/libanswer.so", "usr/lib/libanswer.so", "evil.so"] {
            target.compile(evil, place, &shared);
        }
        let text = "int answer(void); int main(void) { return answer(); }";
        let library = target.path("opt/own/lib64/libanswer.so");
        target.compile(
            text,
            "opt/own/bin/program",
            &[library.to_str().unwrap(), "-Wl,--no-as-needed"],
        );
        // The target's libc is no libc at all.
        fs_err::copy(target.path("evil.so"), target.path("lib/x86_64-linux-gnu/libc.so.6"))
            .unwrap();
        fs_err::copy("/lib/x86_64-linux-gnu/libc.so.6", target.path("opt/own/lib64/libc.so.6"))
            .unwrap();
        fs_err::write(target.path("etc/ld.so.preload"), "/evil.so\n").unwrap();
        fs_err::write(target.path("etc/ld.so.conf"), "/lib/x86_64-linux-gnu\n").unwrap();
        success_of("/sbin/ldconfig", [Path::new("-r"), target.dir.path()]);
        target
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    fn compile(&self, text: &str, to: &str, flags: &[&str]) {
        let source = self.path("source.c");
        fs_err::write(&source, text).unwrap();
        let to = self.path(to);
        let mut args = vec!["-fPIC", "-o", to.to_str().unwrap(), source.to_str().unwrap()];
        args.extend(flags);
        success_of("gcc", args);
    }

    /// Install the loader and the program with a runpath, run it; its status, and the files
    /// that it asked for.
    fn run(&self, loader: &[u8], runpath: &str) -> (Option<i32>, Vec<String>) {
        write_program(&self.path("opt/own/lib64/ld-linux-x86-64.so.2"), loader);
        let edit = Edit {
            interpreter: Some(format!("{LIB}/ld-linux-x86-64.so.2").into()),
            search_path: SearchPathEdit::Runpath(runpath.into()),
            ..Edit::default()
        };
        let file = self.path("opt/own/bin/program");
        let (_, new) = rewrite(&fs_err::read(&file).unwrap(), &edit, "program");
        write_program(&file, &new);
        let log = self.path("log");
        let root = self.dir.path().to_str().unwrap();
        let mut args = vec!["-f", "-o", log.to_str().unwrap(), "-e", "trace=file"];
        args.extend(["bwrap", "--bind", root, "/", "--clearenv", "/opt/own/bin/program"]);
        let output = output_of("strace", args);
        let log = fs_err::read_to_string(log).unwrap();
        let own = log.lines().skip_while(|line| !line.contains("execve(\"/opt/own/bin/program\""));
        let paths: Vec<String> =
            own.skip(1).filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect();
        assert!(!paths.is_empty(), "the program was not traced: {} {log}", both_streams(&output));
        (output.status.code(), paths)
    }
}

#[test]
fn a_sealed_loader_asks_for_nothing_of_a_hostile_target() {
    let target = Target::make();
    let loader = fs_err::read(LOADER).unwrap();

    let (status, paths) = target.run(&loader, LIB);
    assert_eq!(status, Some(66), "the target is not as hostile as it should be: {paths:?}");
    assert!(paths.iter().any(|path| path == "/etc/ld.so.preload"), "{paths:?}");

    let (status, paths) = target.run(&sealed(&loader), LIB);
    assert_eq!(status, Some(42), "{paths:?}");
    let outside = paths.iter().filter(|path| !path.is_empty() && !path.starts_with("/opt/own/"));
    assert_eq!(outside.count(), 0, "{paths:?}");

    // What the prefix lacks is not found elsewhere.
    let (status, paths) = target.run(&sealed(&loader), "/opt/own/nothing-here");
    assert_eq!(status, Some(127), "{paths:?}");
    for path in paths {
        let nowhere = path.is_empty() || path.starts_with("/opt/own/") || path.starts_with("/~~~");
        assert!(nowhere, "asked for {path}");
    }
}

/// musl's libc is its loader: it has none of glibc's files in it, but a list of directories.
#[test]
fn a_loader_of_musl_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (source, file) = (dir.path().join("libc.c"), dir.path().join("libc.so"));
    let build = |soname: &str, code: &str| {
        fs_err::write(&source, code).unwrap();
        let soname = if soname.is_empty() { "" } else { &format!("-soname,{soname},") };
        let flags = format!("-Wl,{soname}-e,start");
        let args = ["-shared", "-fPIC", "-nostdlib", &flags, "-o", file.to_str().unwrap()];
        success_of("gcc", args.into_iter().chain(source.to_str()));
        fs_err::read(&file).unwrap()
    };
    for soname in ["libc.so", "libc.musl-x86_64.so.1"] {
        let bytes = build(soname, "void start(void) {}\n");
        assert_eq!(elf::read(&bytes).unwrap().kind, ObjectKind::Loader);
        assert_eq!(elf::seal_loader(&bytes).unwrap_err(), SealError::Musl);
        let list = "const char *start(void) { return \"/lib:/usr/local/lib:/usr/lib\"; }\n";
        let closed = sealed(&build(soname, list));
        assert_eq!(elf::seal_loader(&closed).unwrap(), Seal::Already);
        let named = "const char *name(void) { return \"%.*s/etc/ld-musl-x86_64.path\"; }\n";
        let nameless = sealed(&build("", &[list, named].concat()));
        assert_eq!(elf::seal_loader(&nameless).unwrap(), Seal::Already);
        assert!(!closed.windows(15).any(|part| part == b"/lib:/usr/local"));
    }
}

#[test]
fn loaders_of_other_machines_are_sealed_too() {
    for loader in [
        "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
        "/usr/i686-linux-gnu/lib/ld-linux.so.2",
        "/usr/s390x-linux-gnu/lib/ld64.so.1",
    ] {
        let Ok(bytes) = fs_err::read(loader) else {
            panic!("{loader} is missing; on Debian it comes with the cross compilers");
        };
        assert_eq!(elf::seal_loader(&sealed(&bytes)).unwrap(), Seal::Already, "{loader}");
    }
}
