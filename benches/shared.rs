//! From shared binary packages to an image, in seconds by part: what a machine of a farm waits for.
//!
//! `cargo bench --bench shared [-- PACKAGE]` builds PACKAGE (dev-lang/python) once, which takes long and
//! is not measured, and then makes a second prefix, at another path, that takes it from there. `FPREFIX_BENCH_BINHOST`
//! names a directory that keeps what was built for the next time.

#![allow(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// What the second prefix may take in all, with Python, on two cores.
const LIMIT: f64 = 60.0;

/// Path of the prefix that builds, and of the one that takes what was built.
const EPREFIX: &str = "/opt/fprefix-bench";
const OTHER_EPREFIX: &str = "/opt/b";

struct World {
    home: tempfile::TempDir,
}

impl World {
    fn fprefix(&self, args: &[&str]) -> Result<(Duration, String)> {
        let log = self.home.path().join("log");
        let begun = Instant::now();
        let output = duct::cmd(env!("CARGO_BIN_EXE_fprefix"), args)
            .env("FPREFIX_HOME", self.home.path())
            .dir(self.home.path())
            .stdin_null()
            .stderr_to_stdout()
            .stdout_path(&log)
            .unchecked()
            .run()?;
        let took = begun.elapsed();
        let said = fs_err::read_to_string(&log)?;
        ensure!(output.status.success(), "fprefix {args:?} failed:\n{said}");
        Ok((took, said))
    }

    fn setup(&self, name: &str, eprefix: &str, binhost: &Path) -> Result<Duration> {
        let binhost = binhost.display().to_string();
        let args = ["setup", name, eprefix, "--relocatable", "--wrapper-dir", "bin"];
        Ok(self.fprefix(&[&args[..], &["--binhost", &binhost]].concat())?.0)
    }
}

fn main() -> Result<()> {
    // cargo passes --bench as well.
    let asked = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let package = asked.unwrap_or_else(|| "dev-lang/python".into());
    let world = World { home: tempfile::tempdir()? };
    let binhost = match std::env::var_os("FPREFIX_BENCH_BINHOST") {
        Some(dir) => PathBuf::from(dir),
        None => world.home.path().join("binpkgs"),
    };
    fs_err::create_dir_all(&binhost)?;
    world.setup("first", EPREFIX, &binhost)?;
    let (built, _) = world.fprefix(&["-P", "first", "emerge", "--jobs=2", &package])?;
    println!("{:24} {:7.1} s  (not counted)", "build of the first", built.as_secs_f64());

    let setup = world.setup("second", OTHER_EPREFIX, &binhost)?;
    let mut parts = vec![("setup", setup)];
    for (what, args) in [
        ("emerge, staging", &["emerge", "--stage", "--jobs=2", &package][..]),
        ("emerge, final", &["emerge", "--install", "--jobs=2", &package]),
        ("check", &["check"]),
        ("pack, with reports", &["pack", "--output", "out"]),
    ] {
        let (took, said) = world.fprefix(&[&["-P", "second"], args].concat())?;
        ensure!(!said.contains(">>> Emerging ("), "something was built:\n{said}");
        parts.push((what, took));
    }
    for (what, took) in &parts {
        println!("{what:24} {:7.1} s", took.as_secs_f64());
    }
    let all: Duration = parts.iter().map(|(_, took)| *took).sum();
    let limit =
        if package == "dev-lang/python" { format!("  (at most {LIMIT} s)") } else { String::new() };
    println!("{:24} {:7.1} s{limit}", "all", all.as_secs_f64());
    Ok(())
}
