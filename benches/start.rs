//! Starts of programs from an extension, beside the same programs natively: system calls, those that
//! fail, and the time of 1,000 starts. `cargo bench --bench start [-- jq python3]`.
//!
//! The programs are those of this machine, with the libraries that they load. Natively they are in an
//! image as the machine has them, with an ld.so.cache; the others are rewritten and packed, with needed
//! libraries by names and by paths. Both are mounted from squashfs and from erofs, and started in a root
//! directory that has nothing else, in turns; the best of five counts. Mounting takes root.

#![allow(clippy::disallowed_methods, reason = "a benchmark starts what it measures")]
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![allow(clippy::cast_precision_loss, reason = "ratios need no more")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

const EPREFIX: &str = "/opt/start";
const STARTS: usize = 1_000;
const ROUNDS: usize = 5;

/// Starts a program again and again in a root directory, and prints the nanoseconds.
const STARTER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int count, char **words) {
    struct timespec begin, end;
    int status = 0;
    if (count < 4 || chroot(words[1]) || chdir("/")) return 100;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int left = atoi(words[2]); left > 0 && !status; left--) {
        pid_t child = vfork();
        if (child < 0) return 101;
        if (child == 0) { execv(words[3], words + 3); _exit(102); }
        waitpid(child, &status, 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    fprintf(stderr, "%lld\n",
            (end.tv_sec - begin.tv_sec) * 1000000000LL + end.tv_nsec - begin.tv_nsec);
    return status ? 103 : 0;
}
"#;

/// A program of this machine.
struct Program {
    name: &'static str,
    path: PathBuf,
    arguments: &'static [&'static str],
}

fn main() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        println!("nothing was measured: only root can mount images");
        return Ok(());
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let all: [(_, &'static [&'static str]); 2] =
        [("jq", &["-n", "1"]), ("python3", &["-c", "pass"])];
    let mut programs = Vec::new();
    for (name, arguments) in all {
        let path = Path::new("/usr/bin").join(name);
        if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
            continue;
        }
        if path.is_file() {
            programs.push(Program { name, path, arguments });
        } else {
            println!("{name} is left out: this machine has no {}", path.display());
        }
    }
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let bench = Bench { dir: dir.path().to_owned(), programs };
    bench.prepare()?;
    for format in ["squashfs", "erofs"] {
        bench.measure(format)?;
    }
    Ok(())
}

struct Bench {
    dir: PathBuf,
    programs: Vec<Program>,
}

/// An image that is mounted while this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Result<Self> {
        fs_err::create_dir(&at)?;
        run(Command::new("mount").args(["-o", "loop,ro"]).args([image, &at]))?;
        Ok(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs_err::remove_dir(&self.0);
    }
}

impl Bench {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the two trees, and the program that starts the others.
    fn prepare(&self) -> Result<()> {
        let (native, own) = (self.at("native"), self.at("root"));
        let prefix = own.join(&EPREFIX[1..]);
        for program in &self.programs {
            let file = fs_err::canonicalize(&program.path)?;
            copy(&file, &inside(&native, &program.path))?;
            copy(&file, &prefix.join("usr/bin").join(program.name))?;
            for library in libraries(&file)? {
                let name = library.file_name().context("a library has a name")?;
                copy(&library, &inside(&native, &library))?;
                copy(&library, &prefix.join("usr/lib64").join(name))?;
            }
            if program.name == "python3" {
                let modules = run(Command::new(&program.path)
                    .args(["-c", "import os; print(os.path.dirname(os.__file__))"]))?;
                let modules = PathBuf::from(String::from_utf8(modules.stdout)?.trim());
                for root in [&native, &prefix] {
                    let to = inside(root, &modules);
                    fs_err::create_dir_all(to.parent().context("modules are in a directory")?)?;
                    run(Command::new("cp").args(["-a", "-L"]).args([&modules, &to]))?;
                }
            }
        }
        fs_err::create_dir_all(native.join("etc"))?;
        run(Command::new("ldconfig").arg("-r").arg(&native))?;
        fs_err::write(self.at("starter.c"), STARTER)?;
        run(Command::new("gcc")
            .arg("-O2")
            .arg("-o")
            .args([self.at("starter"), self.at("starter.c")]))?;
        self.fprefix("rewrite", &[])
    }

    fn fprefix(&self, command: &str, options: &[&str]) -> Result<()> {
        let mut fprefix = Command::new(env!("CARGO_BIN_EXE_fprefix"));
        fprefix.arg(command).arg("--root").arg(self.at("root"));
        run(fprefix.args(["--eprefix", EPREFIX]).args(options)).map(drop)
    }

    /// Packs both trees, mounts and measures.
    fn measure(&self, format: &str) -> Result<()> {
        let native = self.at(&format!("native.{format}"));
        let made = match format {
            "squashfs" => Command::new("mksquashfs")
                .args([&self.at("native"), &native])
                .args(["-comp", "zstd", "-quiet", "-no-progress"])
                .output(),
            _ => Command::new("mkfs.erofs")
                .arg("-zlz4hc")
                .args([&native, &self.at("native")])
                .output(),
        };
        succeeded(made.context("could not start mkfs")?, "mkfs")?;
        let native = Mounted::new(&native, self.at("mnt-native"))?;
        let mut others = Vec::new();
        for form in ["names", "paths"] {
            let output = self.at(&format!("{format}-{form}"));
            let text = output.to_str().context("the path is not text")?;
            let waived = "shebang,bytecode,machine,opened,modules,symbol,needed,link,hardening";
            let options = ["--format", format, "--output", text, "--no-reports", "--needed", form];
            self.fprefix("pack", &[&options[..], &["--waive", waived]].concat())?;
            let mounted = Mounted::new(&output.join("start.raw"), self.at(&format!("mnt-{form}")))?;
            others.push((form, mounted));
        }
        for program in &self.programs {
            let inside = format!("{EPREFIX}/usr/bin/{}", program.name);
            let usual = program.path.to_str().context("the path is not text")?.to_owned();
            let mut roots = vec![("native", &native.0, usual)];
            roots.extend(others.iter().map(|(form, at)| (*form, &at.0, inside.clone())));
            self.compare(format, program, &roots)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        format: &str,
        program: &Program,
        roots: &[(&str, &PathBuf, String)],
    ) -> Result<()> {
        let mut best = vec![u64::MAX; roots.len()];
        for _ in 0..ROUNDS {
            for ((_, root, path), best) in roots.iter().zip(&mut best) {
                let took =
                    start(&mut Command::new(self.at("starter")), root, STARTS, path, program)?;
                *best = took.min(*best);
            }
        }
        let calls: Vec<(usize, usize)> = roots
            .iter()
            .map(|(_, root, path)| self.calls(root, path, program))
            .collect::<Result<_>>()?;
        let (first, native) = (best.first().copied().unwrap_or(1), calls.first().copied());
        for (((form, ..), took), (all, failed)) in roots.iter().zip(&best).zip(&calls) {
            println!(
                "{:8} {format:8} {form:6} {all:5} calls {:5.2} x  {failed:4} fail {:5.2} x  {:7.3} ms {:5.2} x",
                program.name,
                *all as f64 / native.map_or(1, |native| native.0) as f64,
                *failed as f64 / native.map_or(1, |native| native.1.max(1)) as f64,
                *took as f64 / 1e6 / STARTS as f64,
                *took as f64 / first as f64,
            );
        }
        Ok(())
    }

    /// Counts the system calls of the program, and those that fail.
    fn calls(&self, root: &Path, path: &str, program: &Program) -> Result<(usize, usize)> {
        let log = self.at("calls");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(&log).arg(self.at("starter"));
        start(&mut strace, root, 1, path, program)?;
        let text = fs_err::read_to_string(&log)?;
        let own = format!("execve(\"{path}\"");
        let process = text.lines().find(|line| line.contains(&own) && line.contains(" = 0"));
        let process = process.and_then(|line| line.split(' ').next()).context("nothing started")?;
        let calls = text.lines().skip_while(|line| !line.contains(&own));
        let calls =
            calls.filter(|line| line.split(' ').next() == Some(process) && line.contains(" = "));
        let calls: Vec<&str> = calls.collect();
        Ok((calls.len(), calls.iter().filter(|line| line.contains(" = -1 ")).count()))
    }
}

/// Starts the program with `starter`; returns the nanoseconds.
fn start(
    starter: &mut Command,
    root: &Path,
    starts: usize,
    path: &str,
    program: &Program,
) -> Result<u64> {
    let starter = starter.arg(root).arg(starts.to_string()).arg(path).args(program.arguments);
    let output = run(starter.env_clear().env("LC_ALL", "C.UTF-8"))?;
    let said = String::from_utf8(output.stderr)?;
    said.lines().last().unwrap_or_default().parse().context("the starter prints no time")
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs_err::create_dir_all(dir)?;
    }
    fs_err::copy(from, to)?;
    Ok(())
}

/// Returns the paths of the loader and the libraries of a program, by ldd(1).
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = run(Command::new("ldd").arg(program))?;
    let text = String::from_utf8(output.stdout)?;
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

fn run(command: &mut Command) -> Result<Output> {
    let shown = format!("{command:?}");
    succeeded(command.output().with_context(|| format!("could not start {shown}"))?, &shown)
}

fn succeeded(output: Output, shown: &str) -> Result<Output> {
    if !output.status.success() {
        bail!("{shown} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    ensure!(output.stdout.len() < 1 << 20, "{shown} says too much");
    Ok(output)
}
