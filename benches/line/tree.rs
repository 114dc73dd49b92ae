//! emerge on a real tree: resolving what a package needs, and finding that there is nothing to do.
//!
//! `FPREFIX_BENCH_TREE` is what `setup --tree` takes. `FPREFIX_BENCH_PACKAGES` are the packages, those
//! of Flatcar's manual by default; they are not built. `FPREFIX_BENCH_INSTALLED` is built before
//! anything is measured; its sources are in `FPREFIX_BENCH_DISTFILES`, or downloaded.
//! `FPREFIX_BENCH_CONFIG` is what `--package-config` takes, which a machine without Gentoo may need.

use std::ffi::OsStr;
use std::time::Duration;

use anyhow::Result;

use crate::{World, compare};

/// Fprefix and plain emerge take turns, so that a machine that grows slower is slower for both.
const TURNS: usize = 5;

pub(crate) fn measure(world: &World, tree: &OsStr) -> Result<()> {
    let words = |name: &str, default: &str| -> Vec<String> {
        let said = std::env::var(name).unwrap_or_else(|_| default.into());
        said.split_whitespace().map(str::to_owned).collect()
    };
    let asked = words("FPREFIX_BENCH_PACKAGES", "app-misc/jq net-misc/socat dev-lang/python");
    let installed = words("FPREFIX_BENCH_INSTALLED", "app-arch/ncompress");

    let wrappers = world.home.path().join("bin");
    let mut setup: Vec<&OsStr> = ["setup", "bench", "/opt/bench"].map(AsRef::as_ref).into();
    setup.extend([OsStr::new("--wrapper-dir"), wrappers.as_os_str(), "--tree".as_ref(), tree]);
    let given = ["FPREFIX_BENCH_DISTFILES", "FPREFIX_BENCH_CONFIG"].map(std::env::var_os);
    for (option, dir) in ["--distdir", "--package-config"].into_iter().zip(&given) {
        setup.extend(dir.iter().flat_map(|dir| [OsStr::new(option), dir]));
    }
    world.fprefix(setup)?;
    let installed: Vec<&str> = installed.iter().map(String::as_str).collect();
    world.fprefix([&["emerge"], installed.as_slice()].concat())?;

    println!("{:44} {:>10}  {:>10}", "", "fprefix", "by hand");
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let pretend = [&["--pretend"], asked.as_slice()].concat();
    // Final is asked what it would be given, had the packages been built.
    let options = ["EMERGE_DEFAULT_OPTS=--usepkg --root-deps=rdeps"];
    let (ours, theirs) = in_turns(
        || world.fprefix([&["emerge"], pretend.as_slice()].concat()),
        || world.by_hand_with(&options, &pretend),
    )?;
    compare("tree: emerge --pretend", ours, theirs, 1.05);

    let nothing = [&["--noreplace"], installed.as_slice()].concat();
    let (ours, theirs) = in_turns(
        || world.fprefix([&["emerge"], nothing.as_slice()].concat()),
        || world.by_hand(&nothing),
    )?;
    compare("tree: emerge with nothing to do", ours, theirs, 1.05);
    Ok(())
}

/// The middle time of each, after one of each that does not count.
fn in_turns(
    mut ours: impl FnMut() -> Result<Duration>,
    mut theirs: impl FnMut() -> Result<Duration>,
) -> Result<(Duration, Duration)> {
    ours()?;
    theirs()?;
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        times.0.push(ours()?);
        times.1.push(theirs()?);
    }
    times.0.sort();
    times.1.sort();
    Ok((times.0[TURNS / 2], times.1[TURNS / 2]))
}
