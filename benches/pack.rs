//! Packing beside what one would type instead: the bare mkfs tool on the same tree, as ratios
//! measured in one run. `cargo bench --bench pack [-- system small directory large sizes]`.
//!
//! The trees hold nothing that is left out, so both sides write the same content. Both are run in
//! turns, and the better of each counts. Beside the time by the clock is that of the processors
//! (ours and of all that we start), because others may use the machine as well.

#![allow(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![allow(clippy::cast_precision_loss, reason = "ratios need no more")]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const EPREFIX: &str = "opt/bench";
/// How much of the system's files is packed.
const SYSTEM: u64 = 120 << 20;
const SMALL_FILES: usize = 100_000;
/// Files of one directory.
const DIRECTORY_FILES: usize = 100_000;
const LARGE: u64 = 4 << 30;

fn main() -> Result<()> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let world = World { dir: dir.path().to_owned() };
    if is_wanted("system") || is_wanted("sizes") {
        world.fill("system", system)?;
    }
    if is_wanted("system") {
        for format in ["squashfs", "erofs"] {
            world.compare("system", format)?;
        }
        world.again("system")?;
    }
    if is_wanted("sizes") {
        world.sizes("system")?;
    }
    if is_wanted("small") {
        world.fill("small", small)?;
        for format in ["squashfs", "erofs"] {
            world.compare("small", format)?;
        }
        world.again("small")?;
    }
    if is_wanted("directory") {
        world.fill("directory", directory)?;
        for format in ["squashfs", "erofs", "ext4"] {
            world.compare("directory", format)?;
        }
    }
    if is_wanted("large") {
        world.fill("large", large)?;
        world.compare("large", "squashfs:lz4")?;
    }
    Ok(())
}

struct World {
    dir: PathBuf,
}

/// How long something took, and how much memory fprefix itself had at most.
struct Measure {
    time: Duration,
    processors: Duration,
    memory: u64,
}

impl Default for Measure {
    fn default() -> Self {
        Self { time: Duration::MAX, processors: Duration::MAX, memory: 0 }
    }
}

impl Measure {
    fn better(&mut self, other: Self) {
        self.time = self.time.min(other.time);
        self.processors = self.processors.min(other.processors);
        self.memory = self.memory.max(other.memory);
    }
}

/// Processor time of all children that have ended (proc(5): fields 16 and 17 of stat are in ticks
/// of 10 ms).
fn of_children() -> Result<Duration> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("no name in stat")?.1.split(' ');
    let ticks: u64 = fields.skip(13).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

impl World {
    fn fill(&self, name: &str, fill: fn(&Path) -> Result<()>) -> Result<()> {
        let prefix = self.root(name).join(EPREFIX);
        fs_err::create_dir_all(prefix.join("share"))?;
        fill(&prefix.join("share"))
    }

    fn root(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `fprefix pack`, with all its reports or without.
    fn pack(&self, name: &str, format: &str, more: &[&str]) -> Result<Measure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fprefix"));
        command.args(["pack", "--quiet", "--eprefix", &format!("/{EPREFIX}"), "--name", name]);
        command.arg("--root").arg(self.root(name)).arg("--output").arg(self.dir.join("out"));
        measure(command.args(["--format", format]).args(more))
    }

    /// The mkfs tool by hand, with the same options where they matter.
    fn bare(&self, name: &str, format: &str) -> Result<Measure> {
        let (root, image) = (self.root(name), self.dir.join("bare.raw"));
        let mut parts = format.split(':');
        let kind = parts.next().unwrap_or_default();
        let compressor = parts.next();
        if image.exists() {
            fs_err::remove_file(&image)?;
        }
        let mut command = if kind == "squashfs" {
            let mut command = Command::new("mksquashfs");
            command.arg(&root).arg(&image).args(["-noappend", "-all-root", "-quiet"]);
            command.args(["-no-progress", "-comp", compressor.unwrap_or("zstd")]);
            command.args(compressor.filter(|name| *name == "lz4").map(|_| "-Xhc"));
            command
        } else if kind == "ext4" {
            let mut command = Command::new("mke2fs");
            command.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("2G");
            command
        } else {
            let mut command = Command::new("mkfs.erofs");
            command.args(["--quiet", "-zlz4hc"]).arg(&image).arg(&root);
            command
        };
        measure(&mut command)
    }

    fn compare(&self, name: &str, format: &str) -> Result<()> {
        let mut bare = Measure::default();
        let mut packed = Measure::default();
        let mut reported = Measure::default();
        for _ in 0..2 {
            bare.better(self.bare(name, format)?);
            packed.better(self.pack(name, format, &["--no-reports", "--force"])?);
            reported.better(self.pack(name, format, &["--force"])?);
        }
        println!(
            "{name}, {format}: {:.2} x the bare tool ({:.1} s), {:.2} x with all reports; of \
             processors {:.2} x ({:.1} s), {:.2} x; {} MiB",
            ratio(packed.time, bare.time),
            bare.time.as_secs_f64(),
            ratio(reported.time, bare.time),
            ratio(packed.processors, bare.processors),
            bare.processors.as_secs_f64(),
            ratio(reported.processors, bare.processors),
            packed.memory.max(reported.memory) >> 10,
        );
        Ok(())
    }

    /// Packing what has not changed.
    fn again(&self, name: &str) -> Result<()> {
        // What changed just now may change again without a sign, so it is not taken for unchanged.
        std::thread::sleep(Duration::from_millis(200));
        self.pack(name, "squashfs", &["--force"])?;
        let mut read = Duration::MAX;
        let mut again = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            read_all(&self.root(name))?;
            read = read.min(begun.elapsed());
            again = again.min(self.pack(name, "squashfs", &[])?.time);
        }
        println!("{name}, unchanged: {:.2} x reading it once ({read:.0?})", ratio(again, read));
        Ok(())
    }

    /// What others make of the same content, by the commands that they run.
    fn sizes(&self, name: &str) -> Result<()> {
        let root = self.root(name).display().to_string();
        let image = self.dir.join("other.raw");
        let other = image.display().to_string();
        let bakery = format!("mksquashfs {root} {other} -all-root -noappend -quiet -no-progress");
        let tight = format!(
            "mkfs.erofs --quiet -zlz4hc,12 -C65536 -Efragments,ztailpacking {other} {root}"
        );
        for (whose, command, format) in [
            ("sysext-bakery's squashfs", bakery.clone(), "squashfs"),
            ("mkosi's squashfs", format!("{bakery} -comp zstd"), "squashfs"),
            ("build_sysext's erofs", tight, "erofs-tight:lz4hc:12"),
        ] {
            let mut words = command.split(' ');
            measure(Command::new(words.next().unwrap_or_default()).args(words))?;
            let theirs = fs_err::metadata(&image)?.len();
            fs_err::remove_file(&image)?;
            self.pack(name, format, &["--no-reports", "--force"])?;
            let ours = fs_err::metadata(self.dir.join("out").join(format!("{name}.raw")))?.len();
            println!("{format}: {:.3} x the size of {whose}", ours as f64 / theirs as f64);
        }
        Ok(())
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn measure(command: &mut Command) -> Result<Measure> {
    let (begun, before) = (Instant::now(), of_children()?);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut memory = 0;
    loop {
        if let Some(ended) = child.try_wait()? {
            ensure!(ended.success(), "{command:?} ended with {ended}");
            let processors = of_children()?.saturating_sub(before);
            return Ok(Measure { time: begun.elapsed(), processors, memory });
        }
        let text = fs_err::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        memory = memory.max(peak.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read_all(dir: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let mut file = fs_err::File::open(entry.path())?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}

/// Files of this system. Programs lose their first bytes, since they are not this prefix's.
fn system(dir: &Path) -> Result<()> {
    let mut left = SYSTEM;
    for top in ["/usr/bin", "/usr/lib", "/usr/share"] {
        let third = left.saturating_sub(SYSTEM / 3);
        for entry in walkdir::WalkDir::new(top).sort_by_file_name().into_iter().flatten() {
            if left <= third {
                break;
            }
            if !entry.file_type().is_file() {
                continue;
            }
            let Ok(bytes) = fs_err::read(entry.path()) else { continue };
            if bytes.len() > 4 << 20 {
                continue;
            }
            let is_program = bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!");
            let kept = bytes.get(if is_program { 4 } else { 0 }..).unwrap_or_default();
            let place = dir.join(entry.path().strip_prefix("/")?);
            fs_err::create_dir_all(place.parent().context("a file lies nowhere")?)?;
            fs_err::write(place, kept)?;
            left = left.saturating_sub(kept.len() as u64);
        }
        left = third;
    }
    Ok(())
}

fn small(dir: &Path) -> Result<()> {
    for number in 0..SMALL_FILES {
        let place = dir.join(format!("{:03}", number / 500));
        if number % 500 == 0 {
            fs_err::create_dir(&place)?;
        }
        let text = format!("{number} a small file\n").repeat(1 + number % 90);
        fs_err::write(place.join(number.to_string()), text)?;
    }
    Ok(())
}

/// Many files of different sizes: mksquashfs compares those of one size with each other.
fn directory(dir: &Path) -> Result<()> {
    for number in 0..DIRECTORY_FILES {
        let text = format!("{number} a file among many\n").repeat(1 + number % 190);
        fs_err::write(dir.join(format!("file-{number}")), text)?;
    }
    Ok(())
}

fn large(dir: &Path) -> Result<()> {
    let mut file = std::io::BufWriter::new(fs_err::File::create(dir.join("large"))?);
    let mut state = 1_u64;
    for _ in 0..LARGE / 8 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        file.write_all(&(state >> 20 & 0x0f0f_0f0f_0f0f).to_le_bytes())?;
    }
    Ok(file.flush()?)
}
