//! `fprefix check` beside what one would look through a tree with otherwise: lddtree and scanelf
//! (pax-utils). `cargo bench --bench check`.
//!
//! The tree has programs and libraries of this machine, on a tmpfs where there is one. Each tool is
//! one process that gets all files at once, and what counts is processor time, of all threads,
//! because others use the machine as well. check reads every file to its end and applies all rules;
//! lddtree finds needed libraries; scanelf prints what the headers say.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "it reports ratios to the person who runs it"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use assert_cmd::Command;
use fprefix::elf;
use walkdir::WalkDir;

const EPREFIX: &str = "/opt/bench";
/// Sizes of the trees; those above the first are made of hard links to it.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
/// Larger files would only measure how fast memory is.
const LARGEST: u64 = 1 << 20;

fn main() -> Result<()> {
    let shm = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if shm.is_dir() { shm } else { Path::new("/tmp") })?;
    let [small, ..] = SIZES;
    let files = collect(&dir.path().join("1"), small)?;
    let mut first = None;
    for (index, size) in SIZES.into_iter().enumerate() {
        let root = dir.path().join((index + 1).to_string());
        multiply(&files, &root, size / files.len())?;
        let time = best(|| check(&root))?;
        let each = time.as_secs_f64() * 1e6 / size as f64;
        let first = *first.get_or_insert(each);
        println!(
            "check, {size:6} files {:9.0} ms {each:7.1} us a file {:7.2} x the first",
            time.as_secs_f64() * 1e3,
            each / first
        );
        if index == 0 {
            compare("scanelf -n", best(|| scanelf(&root))?, time);
            match processor_time(&mut lddtree(&root, &files)) {
                Ok(lddtree) => compare("lddtree -a", lddtree, time),
                Err(error) => println!("lddtree was not compared: {error:#}"),
            }
        }
        if index > 0 {
            fs_err::remove_dir_all(root)?;
        }
    }
    Ok(())
}

fn compare(what: &str, other: Duration, ours: Duration) {
    let ratio = other.as_secs_f64() / ours.as_secs_f64();
    println!("{what:19} {:9.0} ms   {ratio:7.2} x check", other.as_secs_f64() * 1e3);
}

fn check(root: &Path) -> Result<Duration> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fprefix"));
    command.args(["check", "--json", "--eprefix", EPREFIX, "--root"]).arg(root);
    processor_time(&mut command)
}

fn scanelf(root: &Path) -> Result<Duration> {
    processor_time(Command::new("scanelf").args(["-R", "-n", "-B"]).arg(root))
}

fn lddtree(root: &Path, files: &[PathBuf]) -> Command {
    let mut command = Command::new("lddtree");
    let paths =
        files.iter().map(|file| Path::new("/").join(file.strip_prefix(root).unwrap_or(file)));
    // It is for the distribution's Python.
    command.env("PATH", "/usr/bin:/bin").args(["-a", "--root"]).arg(root).args(paths);
    command
}

/// A prefix with dynamic files of this machine in it: programs in usr/bin, libraries in usr/lib64.
fn collect(root: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let eroot = root.join(EPREFIX.trim_start_matches('/'));
    let mut files = Vec::new();
    let roots =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/bin", "/usr/sbin"];
    let entries = roots.iter().flat_map(|root| WalkDir::new(root).sort_by_file_name());
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        let is_wanted = (64..=LARGEST).contains(&entry.metadata()?.len());
        if files.len() == count || !is_wanted {
            continue;
        }
        let bytes = fs_err::read(entry.path())?;
        let Ok(image) = elf::read(&bytes) else { continue };
        if image.needed.is_empty() {
            continue;
        }
        let folder = if entry.path().starts_with("/usr/lib") { "usr/lib64" } else { "usr/bin" };
        let soname = image.soname.map(|name| String::from_utf8_lossy(&name).into_owned());
        let name = soname.unwrap_or_else(|| entry.file_name().to_string_lossy().into_owned());
        let to = eroot.join(folder).join(name);
        if to.exists() {
            continue;
        }
        fs_err::create_dir_all(to.parent().context("it has a folder")?)?;
        fs_err::write(&to, bytes)?;
        files.push(to);
    }
    ensure!(files.len() == count, "this machine has only {} such files", files.len());
    Ok(files)
}

/// A tree with `times` links to each of `files`.
fn multiply(files: &[PathBuf], root: &Path, times: usize) -> Result<()> {
    for copy in 1..=times {
        if copy == 1 && files.iter().all(|file| file.starts_with(root)) {
            continue;
        }
        let dir = root.join(EPREFIX.trim_start_matches('/')).join(copy.to_string());
        fs_err::create_dir_all(&dir)?;
        for file in files {
            fs_err::hard_link(file, dir.join(file.file_name().context("it has a name")?))?;
        }
    }
    Ok(())
}

/// Best of three.
fn best(act: impl Fn() -> Result<Duration>) -> Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(act()?);
    }
    Ok(best)
}

/// Processor time of `command`, whatever it finds (proc(5): fields 16 and 17 of stat, in ticks of
/// 10 ms).
fn processor_time(command: &mut Command) -> Result<Duration> {
    let before = children()?;
    let output = command.output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(!complaint.contains("Error"), "{}", complaint.trim_end());
    Ok(Duration::from_millis(10 * (children()? - before)))
}

fn children() -> Result<u64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("no name in stat")?.1.split(' ');
    Ok(fields.skip(13).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?)
}
