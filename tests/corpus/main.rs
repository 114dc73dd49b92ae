//! Whole packages of a distribution: fetched by apt, unpacked as a root directory, moved into a
//! prefix of 100 characters and rewritten. Every program that told its version before has to say
//! the same from a root that holds nothing but the prefix, every library that could be loaded has
//! to load, and `strip` must change nothing of that.
//!
//! `FPREFIX_CORPUS=all` takes a few dozen packages with all that they depend on instead of a few, and
//! `FPREFIX_CORPUS_SUITE=sid` those of another release, with another C library.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells how much it compared"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod answers;
mod apt;
mod loader;
mod made;
mod root;

use std::path::Path;

use answers::Answers;
use root::Root;

/// A machine that packages are for, and the tools that make and run programs for it.
struct Machine {
    debian: &'static str,
    gcc: &'static str,
    strip: &'static str,
    /// What runs its programs, where this machine does not.
    emulator: Option<&'static str>,
    /// Programs of [`FEW`] that the emulator does not run.
    without: &'static [&'static str],
}

impl Machine {
    /// What is looked at: an emulator is so slow that the few packages are only sampled with it.
    fn some_of(&self, paths: impl Iterator<Item = String>) -> Vec<String> {
        let step = if self.emulator.is_some() && !is_wide() { 4 } else { 1 };
        let named = |path: &str| {
            let made = made::programs();
            FEW.iter().any(|(_, program)| path == format!("/usr/bin/{program}"))
                || made.iter().any(|made| made == path)
        };
        paths
            .enumerate()
            .filter(|(number, path)| number % step == 0 || named(path))
            .map(|(_, path)| path)
            .collect()
    }
}

/// Returns whether all packages are wanted.
fn is_wide() -> bool {
    std::env::var_os("FPREFIX_CORPUS").is_some_and(|value| value == "all")
}

/// Returns the release of Debian that the packages are of, if it is not the machine's.
fn suite() -> Option<String> {
    std::env::var("FPREFIX_CORPUS_SUITE").ok().filter(|suite| !suite.is_empty())
}

/// A program of each language has to be among those that are compared.
fn few() -> impl Iterator<Item = (&'static str, &'static str)> {
    // Debian 11 has no package of it.
    let is_there = |name: &str| name != "mopac" || suite().as_deref() != Some("bullseye");
    FEW.into_iter().filter(move |(_, name)| is_there(name))
}

const FEW: [(&str, &str); 6] = [
    ("coreutils", "ls"),
    ("curl", "curl"),
    ("ninja-build", "ninja"),
    ("age", "age"),
    ("ripgrep", "rg"),
    ("mopac", "mopac"),
];

/// C, C++, Go, Rust and Fortran; programs with many libraries, and with plugins.
const MANY: [&str; 46] = [
    "aria2",
    "bash",
    "bind9-dnsutils",
    "bzip2",
    "cmake",
    "diffutils",
    "ffmpeg",
    "file",
    "findutils",
    "fzf",
    "gawk",
    "git",
    "gnupg",
    "grep",
    "groff-base",
    "hyperfine",
    "jq",
    "less",
    "lftp",
    "libarpack2",
    "liblapack3",
    "libopenblas0-pthread",
    "lz4",
    "minify",
    "mkvtoolnix",
    "openssl",
    "perl",
    "podman",
    "poppler-utils",
    "protobuf-compiler",
    "python3-minimal",
    "restic",
    "fd-find",
    "rsync",
    "sed",
    "socat",
    "sqlite3",
    "strace",
    "tar",
    "tmux",
    "vim-tiny",
    "xtb",
    "xz-utils",
    "zstd",
    "bat",
    "elfutils",
];

fn prove(machine: &Machine) {
    let dir = tempfile::tempdir().unwrap();
    let mut packages: Vec<&str> = few().map(|(package, _)| package).collect();
    if suite().is_some() {
        packages.push("libc6-dev");
    }
    if is_wide() {
        packages.extend(MANY);
    }
    let archives =
        apt::fetch(machine.debian, suite().as_deref(), &packages, &dir.path().join("apt"));
    let root = Root::unpack(&archives, dir.path());
    made::add(machine, &root);

    let before = Answers::of(machine, &root, None);
    for (_, program) in few().filter(|(_, name)| !machine.without.contains(name)) {
        let program = format!("/usr/bin/{program}");
        assert!(before.has(&program), "{program} did not tell its version");
    }
    for program in made::programs() {
        assert!(before.has(&program), "{program} did not tell its version");
    }
    let root = root.into_prefix(dir.path());
    rewrite(&root, &[], "a first time");
    before.assert_kept(&Answers::of(machine, &root, Some(&before)), "rewritten");
    assert!(rewrite(&root, &[], "again").starts_with("0 "), "a second run changes nothing");
    let listed = loader::compare(machine, &root);
    assert!(listed > 50, "{listed} files are too few to mean much");
    root.strip(machine);
    before.assert_kept(&Answers::of(machine, &root, Some(&before)), "rewritten and stripped");
    rewrite(&root, &["--relative"], "relative to the files");
    before.assert_kept(&Answers::of(machine, &root, Some(&before)), "with relative paths");
    loader::compare(machine, &root);
    println!(
        "{}: {} packages, {} programs, {} libraries; {listed} files listed by the loader",
        machine.debian,
        archives.len(),
        before.programs.len(),
        before.libraries.len()
    );
}

/// Counts the files that changed, as the command says it: "N changed".
fn rewrite(root: &Root, more: &[&str], when: &str) -> String {
    let eprefix = root::eprefix();
    let mut args = vec!["rewrite", "--root", root.path().to_str().unwrap(), "--eprefix", &eprefix];
    args.extend(more);
    let program = Path::new(env!("CARGO_BIN_EXE_fprefix"));
    let said = harness::tools::both_streams(&harness::tools::success_of(program, args));
    assert!(!said.contains("left as it is"), "{when}: {said}");
    said.trim().rsplit(", ").next().unwrap().to_owned()
}

#[test]
fn packages_of_this_machine() {
    prove(&Machine { debian: "amd64", gcc: "gcc", strip: "strip", emulator: None, without: &[] });
}

#[test]
fn packages_of_arm64() {
    prove(&Machine {
        debian: "arm64",
        gcc: "aarch64-linux-gnu-gcc",
        strip: "aarch64-linux-gnu-strip",
        emulator: Some("qemu-aarch64"),
        without: &[],
    });
}

#[test]
fn packages_of_32_bit_x86() {
    prove(&Machine {
        debian: "i386",
        gcc: "i686-linux-gnu-gcc",
        strip: "i686-linux-gnu-strip",
        emulator: Some("qemu-i386"),
        // Go reserves more addresses than the emulator has.
        without: &["age"],
    });
}
