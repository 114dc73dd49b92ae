//! What fprefix adds to the emerge that it drives, as ratios measured in one run.
//!
//! `cargo bench --bench line` makes a prefix in a temporary home (the network is used once, before
//! anything is measured) and alternates between fprefix and the same commands by hand.
//!
//! `FPREFIX_BENCH_TREE=~/flatcar/scripts cargo bench --bench line` measures emerge on that tree
//! instead, see `line/tree.rs`.

#![allow(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

#[path = "line/tree.rs"]
mod tree;

struct World {
    home: tempfile::TempDir,
}

impl World {
    fn fprefix<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<Duration> {
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        words.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        let log = self.home.path().join("log");
        let begun = Instant::now();
        let output = duct::cmd(env!("CARGO_BIN_EXE_fprefix"), &words)
            .env("FPREFIX_HOME", self.home.path())
            .stdin_null()
            .stderr_to_stdout()
            .stdout_path(&log)
            .unchecked()
            .run()?;
        let took = begun.elapsed();
        ensure!(
            output.status.success(),
            "fprefix {words:?} failed:\n{}",
            fs_err::read_to_string(&log)?
        );
        Ok(took)
    }

    fn setup(&self) -> Result<Duration> {
        let wrappers = self.home.path().join("bin");
        self.fprefix([
            "setup".as_ref(),
            "bench".as_ref(),
            "/opt/bench".as_ref(),
            "--wrapper-dir".as_ref(),
            wrappers.as_os_str(),
        ])
    }

    /// The two calls of emerge that `fprefix emerge` makes, by hand.
    fn by_hand(&self, args: &[&str]) -> Result<Duration> {
        self.by_hand_with(&[], args)
    }

    /// The same, with further variables for the one on final.
    fn by_hand_with(&self, variables: &[&str], args: &[&str]) -> Result<Duration> {
        let staging = self.fprefix([&["enter", "--", "emerge"], args].concat())?;
        let r#final =
            ["enter", "--", "env", "ROOT=/fprefix/final/root", "PORTAGE_CONFIGROOT=/fprefix/final"];
        Ok(staging + self.fprefix([&r#final, variables, &["emerge"], args].concat())?)
    }
}

/// The middle one of five, after one that does not count.
fn median(mut measure: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    measure()?;
    let mut all = (0..5).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    all.sort();
    Ok(all[2])
}

fn compare(what: &str, ours: Duration, theirs: Duration, limit: f64) {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!(
        "{what:44} {:8.3} s  {:8.3} s  {ratio:5.2} x  (at most {limit} x)",
        ours.as_secs_f64(),
        theirs.as_secs_f64()
    );
}

/// What setup can not avoid: copying the toolchain's files, and one emerge of them for each
/// environment.
fn unavoidable(world: &World) -> Result<Duration> {
    let begun = Instant::now();
    for entry in fs_err::read_dir(world.home.path().join("distfiles"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            fs_err::copy(&path, world.home.path().join("copy"))?;
        }
    }
    let copied = begun.elapsed();
    let args = ["--oneshot", "--quiet", "--jobs=2", "--color=n", "@system"];
    // An empty set of packages, as setup finds it.
    let clear = |dir: &str| {
        let dir = world.home.path().join("prefixes/bench-amd64-usr").join(dir);
        if Path::new(&dir).exists() { fs_err::remove_dir_all(dir) } else { Ok(()) }
    };
    clear("staging/root/opt/bench/var/db/pkg")?;
    clear("final/root/opt/bench/var/db/pkg")?;
    clear("staging/pkgs")?;
    fs_err::create_dir(world.home.path().join("prefixes/bench-amd64-usr/staging/pkgs"))?;
    Ok(copied + world.by_hand(&args)?)
}

fn main() -> Result<()> {
    let world = World { home: tempfile::tempdir()? };
    if let Some(path) = std::env::var_os("FPREFIX_BENCH_TREE") {
        return tree::measure(&world, &path);
    }
    world.setup()?;
    println!("{:44} {:>10}  {:>10}", "", "fprefix", "by hand");

    world.fprefix(["remove", "bench", "--yes"])?;
    let setup = world.setup()?;
    compare("setup, everything downloaded", setup, unavoidable(&world)?, 1.3);

    world.fprefix(["remove", "bench", "--yes"])?;
    world.setup()?;
    let again = ["--oneshot", "virtual/libc", "virtual/os-headers"];
    let again_final = ["--oneshot", "virtual/libc"];
    world.fprefix([&["emerge", "--stage"], again.as_slice()].concat())?;
    let ours = median(|| world.fprefix([&["emerge"], again_final.as_slice()].concat()))?;
    compare("emerge of a small package", ours, median(|| world.by_hand(&again_final))?, 1.05);

    world.fprefix(["emerge", "app-misc/jq"])?;
    let nothing = ["--noreplace", "app-misc/jq"];
    let ours = median(|| world.fprefix([&["emerge"], nothing.as_slice()].concat()))?;
    compare("emerge with nothing to do", ours, median(|| world.by_hand(&nothing))?, 1.2);

    for words in [["list"].as_slice(), &["status"]] {
        let took = median(|| world.fprefix(words))?;
        println!("{:44} {:8.3} s  (at most 0.050 s)", words.join(" "), took.as_secs_f64());
    }
    let refusal = Instant::now();
    ensure!(world.setup().is_err(), "a second setup has to refuse");
    println!("{:44} {:8.3} s  (at most 0.050 s)", "setup refused", refusal.elapsed().as_secs_f64());
    Ok(())
}
