//! Rewriting the files of a system: in place, as copies, and again without a change, beside what
//! one would do otherwise. `cargo bench --bench elf`; `PATCHELF=PATH` names the patchelf.
//!
//! Everything runs warm on a tmpfs, and only the ratios mean something. Both times are printed:
//! processor time of this process and of those it starts, which others that use the machine
//! change little, and the time on the clock, which is what is waited for. The engine is measured on
//! one thread and on all processors, the command as it is. Each measure is the best of three, on
//! fresh copies where files are changed.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "it reports ratios to the person who runs it"
)]

#[path = "elf/command.rs"]
mod command;

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use assert_cmd::Command;
use fprefix::elf::{self, Edit, ObjectKind, PatchMethod, SearchPathEdit};
use rayon::prelude::*;
use walkdir::WalkDir;

/// Files to measure, and the largest of them: patchelf reads and writes whole files, so large
/// ones would only make it look worse.
const FILES: usize = 1_500;
const LARGEST: u64 = 2 << 20;

fn main() -> Result<()> {
    if command::child()? {
        return Ok(());
    }
    let shm = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if shm.is_dir() { shm } else { Path::new("/tmp") })?;
    let corpus = Corpus::collect(&dir.path().join("source"))?;
    println!("{} dynamic files, {} MiB", corpus.names.len(), corpus.bytes >> 20);
    let edit = edit();

    let fresh = |threads| {
        corpus.best(dir.path(), |tree| corpus.each(threads, tree, &|file| rewrite(file, &edit)))
    };
    let in_place = fresh(1)?;
    let on_all = fresh(0)?;
    let rewritten = corpus.copy(dir.path(), "rewritten")?;
    corpus.each(1, &rewritten, &|file| rewrite(file, &edit))?;
    let again = best_of(|| corpus.each(1, &rewritten, &|file| rewrite(file, &edit)))?;
    let headers = best_of(|| corpus.each(1, &rewritten, &read_headers))?;
    let copying = best_of(|| corpus.copy_each(dir.path(), None))?;
    let copies = best_of(|| corpus.copy_each(dir.path(), Some(&edit)))?;
    let copy = best_of(|| {
        let to = dir.path().join("cp");
        run("cp", &["-a".as_ref(), corpus.source.as_ref(), to.as_ref()])?;
        Ok(fs_err::remove_dir_all(to)?)
    })?;
    println!("{:40} {:>9} {:>9}   times this, by processor and by clock", "", "cpu ms", "clock ms");
    in_place.report("in place, one thread", copy, "cp -a and its removal");
    on_all.report("in place, all processors", copy, "cp -a and its removal");
    again.report("a second time, nothing to change", headers, "reading the headers");
    copies.report("as copies", copying, "copying with the same calls");
    copies.report("as copies", copy, "cp -a and its removal");
    for program in patchelfs() {
        match patchelf(&program, &corpus, dir.path()) {
            Ok((version, took)) => {
                took.report(&version, in_place, "in place, one thread");
                took.report(&version, on_all, "in place, all processors");
            }
            Err(error) => println!("{program} was not compared: {error:#}"),
        }
    }
    corpus.methods(&edit)?;
    command::measure(&corpus, dir.path())
}

/// Processor time and time on the clock.
#[derive(Clone, Copy)]
struct Took {
    cpu: Duration,
    clock: Duration,
}

impl Took {
    const FOREVER: Took = Took { cpu: Duration::MAX, clock: Duration::MAX };

    fn of(act: impl FnOnce() -> Result<()>) -> Result<Took> {
        let (started, clock) = (processor_time()?, Instant::now());
        act()?;
        let cpu = processor_time()?.saturating_sub(started);
        Ok(Took { cpu, clock: clock.elapsed() })
    }

    fn least(self, other: Took) -> Took {
        Took { cpu: self.cpu.min(other.cpu), clock: self.clock.min(other.clock) }
    }

    fn report(self, what: &str, other: Took, to: &str) {
        let ratio = |own: Duration, other: Duration| own.as_secs_f64() / other.as_secs_f64();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{what:40} {:9.1} {:9.1}   {:6.3} {:6.3} x {to}",
            milliseconds(self.cpu),
            milliseconds(self.clock),
            ratio(self.cpu, other.cpu),
            ratio(self.clock, other.clock),
        );
    }
}

/// `PATCHELF` names them, separated by colons; else the one on PATH.
fn patchelfs() -> Vec<String> {
    let named = std::env::var("PATCHELF").unwrap_or_else(|_| "patchelf".to_owned());
    named.split(':').map(str::to_owned).collect()
}

fn edit() -> Edit {
    let prefix = format!("/opt/{}/usr/lib64", "p".repeat(85));
    Edit {
        interpreter: Some(format!("{prefix}/ld-linux-x86-64.so.2").into()),
        search_path: SearchPathEdit::Runpath(prefix.into()),
        ..Edit::default()
    }
}

fn rewrite(path: &Path, edit: &Edit) -> Result<()> {
    let file: File = fs_err::OpenOptions::new().read(true).write(true).open(path)?.into();
    let bytes = elf::open(&file)?;
    let plan = elf::plan(&bytes, edit).with_context(|| path.to_string_lossy().into_owned())?;
    if !plan.is_unchanged() {
        plan.write_in_place(&file)?;
    }
    Ok(())
}

fn read_headers(path: &Path) -> Result<()> {
    let file: File = fs_err::File::open(path)?.into();
    let image = elf::read(&elf::open(&file)?)?;
    ensure!(image.class == elf::ElfClass::Elf64 || image.needed.len() < usize::MAX);
    Ok(())
}

/// One process of a patchelf for each file. Its failures are counted: files that it refuses, and
/// files that it makes and that the engine, or the loader behind `ldd`, can not read.
fn patchelf(program: &str, corpus: &Corpus, dir: &Path) -> Result<(String, Took)> {
    let version = run(program, &["--version".as_ref()])?.trim().to_owned();
    let edit = edit();
    let SearchPathEdit::Runpath(runpath) = &edit.search_path else {
        return Ok((version, Took::FOREVER));
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let interpreter = text(edit.interpreter.as_deref().unwrap_or_default());
    let runpath = text(runpath);
    let tree = corpus.copy(dir, "patchelf")?;
    let mut refused = 0;
    let took = Took::of(|| {
        for (name, has_interpreter) in &corpus.names {
            let path = tree.join(name);
            let mut args: Vec<&OsStr> = vec!["--set-rpath".as_ref(), runpath.as_ref()];
            if *has_interpreter {
                let both: [&OsStr; 2] = ["--set-interpreter".as_ref(), interpreter.as_ref()];
                args.extend(both);
            }
            args.push(path.as_os_str());
            refused += usize::from(run(program, &args).is_err());
        }
        Ok(())
    })?;
    let stripped = broken_by_strip(corpus, &tree)?;
    fs_err::remove_dir_all(tree)?;
    Ok((format!("{version}: {refused} refused, strip breaks {stripped}"), took))
}

/// How many files `strip` refuses, or makes such that they say other needed libraries.
fn broken_by_strip(corpus: &Corpus, tree: &Path) -> Result<usize> {
    let mut broken = 0;
    for (name, _) in &corpus.names {
        let path = tree.join(name);
        let needed =
            |path: &Path| -> Result<Vec<Vec<u8>>> { Ok(elf::read(&fs_err::read(path)?)?.needed) };
        let before = needed(&path);
        let stripped = run("strip", &[path.as_os_str()]);
        let same = matches!((before, needed(&path)), (Ok(a), Ok(b)) if a == b);
        broken += usize::from(stripped.is_err() || !same);
    }
    Ok(broken)
}

fn run(program: &str, args: &[&OsStr]) -> Result<String> {
    let output = Command::new(program).args(args).output().context(program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The files, by number, and whether each has an interpreter.
struct Corpus {
    source: PathBuf,
    names: Vec<(String, bool)>,
    bytes: u64,
}

impl Corpus {
    fn collect(source: &Path) -> Result<Corpus> {
        fs_err::create_dir_all(source)?;
        let mut corpus = Corpus { source: source.to_owned(), names: vec![], bytes: 0 };
        let roots = ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu", "/usr/lib"];
        let entries = roots.iter().flat_map(|root| WalkDir::new(root).sort_by_file_name());
        for entry in entries.filter_map(Result::ok).filter(|e| e.file_type().is_file()) {
            let len = entry.metadata()?.len();
            if corpus.names.len() == FILES || !(64..=LARGEST).contains(&len) {
                continue;
            }
            let bytes = fs_err::read(entry.path())?;
            let Ok(image) = elf::read(&bytes) else { continue };
            let wanted =
                [ObjectKind::Executable, ObjectKind::PieExecutable, ObjectKind::SharedObject];
            if !wanted.contains(&image.kind) {
                continue;
            }
            let name = format!("{:04}", corpus.names.len());
            fs_err::write(source.join(&name), &bytes)?;
            corpus.names.push((name, image.interpreter.is_some()));
            corpus.bytes += len;
        }
        Ok(corpus)
    }

    /// Each file, by this many threads; 0 for as many as there are processors.
    fn each(
        &self,
        threads: usize,
        tree: &Path,
        act: &(dyn Fn(&Path) -> Result<()> + Sync),
    ) -> Result<()> {
        if threads == 1 {
            return self.names.iter().try_for_each(|(name, _)| act(&tree.join(name)));
        }
        self.names.par_iter().try_for_each(|(name, _)| act(&tree.join(name)))
    }

    fn copy(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        let to = dir.join(name);
        run("cp", &["-a".as_ref(), self.source.as_ref(), to.as_ref()])?;
        Ok(to)
    }

    /// Best of three, each on a fresh copy.
    fn best(&self, dir: &Path, act: impl Fn(&Path) -> Result<()>) -> Result<Took> {
        let mut best = Took::FOREVER;
        for _ in 0..3 {
            let tree = self.copy(dir, "fresh")?;
            best = best.least(Took::of(|| act(&tree))?);
            fs_err::remove_dir_all(tree)?;
        }
        Ok(best)
    }

    /// A copy of every file, rewritten or as it is, by the same system calls; each is removed.
    fn copy_each(&self, dir: &Path, edit: Option<&Edit>) -> Result<()> {
        let none = Edit::default();
        let to = dir.join("copy");
        self.each(1, &self.source, &|path| {
            let source: File = fs_err::File::open(path)?.into();
            let dest: File = fs_err::File::create(&to)?.into();
            let bytes = elf::open(&source)?;
            elf::plan(&bytes, edit.unwrap_or(&none))?.write_copy(&source, &dest)?;
            Ok(fs_err::remove_file(&to)?)
        })
    }

    /// How the files are changed.
    fn methods(&self, edit: &Edit) -> Result<()> {
        let mut counts = [0_usize; 4];
        for (name, _) in &self.names {
            let plan = elf::plan(&fs_err::read(self.source.join(name))?, edit)?;
            counts[match plan.method {
                PatchMethod::Unchanged(_) => 0,
                PatchMethod::InPlace => 1,
                PatchMethod::Slide => 2,
                PatchMethod::Append => 3,
            }] += 1;
        }
        let [unchanged, in_place, slide, append] = counts;
        println!("unchanged {unchanged}, in place {in_place}, slid {slide}, appended {append}");
        Ok(())
    }
}

/// Best of three.
fn best_of(act: impl Fn() -> Result<()>) -> Result<Took> {
    (0..3).try_fold(Took::FOREVER, |best, _| Ok(best.least(Took::of(&act)?)))
}

/// Processor time of all threads of this process and of all children that have ended (proc(5):
/// schedstat is in nanoseconds; fields 16 and 17 of stat are in ticks of 10 ms).
fn processor_time() -> Result<Duration> {
    let mut own = 0;
    for thread in fs_err::read_dir("/proc/self/task")? {
        let spent = fs_err::read_to_string(thread?.path().join("schedstat"))?;
        own += spent.split(' ').next().context("no time in schedstat")?.parse::<u64>()?;
    }
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("no name in stat")?.1.split(' ');
    let children: u64 = fields.skip(13).take(2).map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_nanos(own) + Duration::from_millis(10 * children))
}
