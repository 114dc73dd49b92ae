//! `fprefix relocate` beside what one would do otherwise: grep and sed, with slashes in place of what is
//! too long. `cargo bench --bench relocate [-- DIR]`.
//!
//! The tree has the files of DIR (/usr/bin and /usr/lib/python3) with the path that is changed in one of
//! a hundred, on a tmpfs where there is one. grep and sed know one encoding and no rules of a path, and
//! neither ELF nor compressed files: what they leave is not correct. The time is that on the clock, the
//! best of three, alternately.

#![allow(clippy::print_stdout, reason = "it reports ratios to the person who runs it")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use assert_cmd::Command;
use walkdir::WalkDir;

const FROM: &str = "/opt/a-prefix-of-some-length-that-is-used-for-this-benchmark-alone";
const TO: &str = "/opt/short";
/// One of so many files has the path in it.
const RARITY: usize = 100;

fn main() -> Result<()> {
    let asked: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|arg| !arg.as_encoded_bytes().starts_with(b"-"))
        .map(PathBuf::from)
        .collect();
    let usual = ["/usr/bin", "/usr/lib/python3"].map(PathBuf::from);
    let sources = if asked.is_empty() { usual.to_vec() } else { asked };
    let shm = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if shm.is_dir() { shm } else { Path::new("/tmp") })?;
    let original = dir.path().join("original");
    let (files, bytes) = collect(&sources, &original)?;
    println!("{files} files, {} MiB", bytes >> 20);
    let (mut relocate_time, mut sed_time) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        relocate_time = relocate_time.min(time_on_copy(&original, dir.path(), fprefix)?);
        sed_time = sed_time.min(time_on_copy(&original, dir.path(), grep_and_sed)?);
    }
    let ratio = relocate_time.as_secs_f64() / sed_time.as_secs_f64();
    println!("grep and sed      {:7.3} s", sed_time.as_secs_f64());
    println!("fprefix relocate  {:7.3} s  {ratio:.2} x grep and sed", relocate_time.as_secs_f64());
    Ok(())
}

/// Copies files to the tree at `root`; returns how many, and their bytes.
fn collect(sources: &[PathBuf], root: &Path) -> Result<(usize, u64)> {
    let (mut count, mut bytes) = (0, 0);
    for entry in sources.iter().flat_map(|dir| WalkDir::new(dir).sort_by_file_name()) {
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_file() {
            continue;
        }
        let mut content = fs_err::read(entry.path())?;
        if count % RARITY == 0 {
            content.extend_from_slice(format!("\0{FROM}/lib\0").as_bytes());
        }
        let to = root.join(&FROM[1..]).join(entry.path().strip_prefix("/")?);
        fs_err::create_dir_all(to.parent().context("a file is in a directory")?)?;
        bytes += content.len() as u64;
        fs_err::write(to, content)?;
        count += 1;
    }
    ensure!(count > RARITY, "there are only {count} files");
    Ok((count, bytes))
}

fn time_on_copy(original: &Path, dir: &Path, act: impl Fn(&Path) -> Command) -> Result<Duration> {
    let copy = dir.join("copy");
    Command::new("cp").arg("-a").args([original, &copy]).assert().try_success()?;
    let mut command = act(&copy);
    let begun = Instant::now();
    let output = command.output()?;
    let took = begun.elapsed();
    // A file that cannot be changed is told by status 3.
    ensure!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs_err::remove_dir_all(copy)?;
    Ok(took)
}

fn fprefix(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fprefix"));
    command.arg("relocate").arg("--root").arg(root).args(["--from", FROM, "--to", TO]);
    command
}

fn grep_and_sed(root: &Path) -> Command {
    let padded = format!("{TO}{}", "/".repeat(FROM.len() - TO.len()));
    let script = format!(
        "grep -rlZF -- {FROM} . | xargs -0 -r sed -i 's|{FROM}|{padded}|g' && mkdir -p .{TO} && \
         mv .{FROM}/* .{TO}/"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).current_dir(root);
    command
}
