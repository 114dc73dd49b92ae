//! Proof at run time. A program is started in an empty root that holds only the prefix. The proof
//! lists every file that the program or its child processes execute, map or open.

mod empty_root;
mod emulator;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Serialize;

use crate::base::command::{Command, tail};
use crate::base::data::{self, Folder};
use crate::base::escape::{self, Escape};
use crate::base::files;
use crate::base::input;
use crate::base::inside::EMULATOR;
use crate::base::limits::TRACE;
use crate::base::names::Eprefix;
use crate::base::scratch::ScratchDir;
use crate::check::prove::emulator::Emulator;
use crate::elf;
use crate::host::machine;
use crate::host::tools;
use crate::prefix::final_root::FinalRoot;
use crate::relocate::shebang::Shebang;
use crate::sandbox::bubblewrap::Bubblewrap;
use crate::sandbox::namespaces::shield;

/// Result of running a program.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    /// Path of the program, as programs see it.
    #[serde(serialize_with = "escape::path::serialize")]
    pub program: PathBuf,
    /// Exit status.
    pub status: i32,
    /// Text on stdout.
    pub stdout: String,
    /// Text on stderr.
    pub stderr: String,
    /// Files of the prefix that were executed or mapped as code.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub inside: BTreeSet<PathBuf>,
    /// Files outside the prefix that were executed, mapped or opened.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub outside: BTreeSet<PathBuf>,
}

/// Directories that every process may open, and in which nobody can put a library.
const HARMLESS: &[&str] = &["/proc", "/dev", "/sys"];

impl Proof {
    /// Returns whether no file came from outside the prefix.
    pub(crate) fn passes(&self) -> bool {
        self.outside.is_empty()
    }

    /// Renders the proof for people.
    pub(crate) fn text(&self) -> String {
        let mut text = self.stdout.clone();
        text += &self.stderr;
        for path in &self.inside {
            text += &format!("inside   {}\n", path.escaped());
        }
        for path in &self.outside {
            text += &format!("OUTSIDE  {}\n", path.escaped());
        }
        text += &format!(
            "{} ended with status {}: {} files of the prefix were executed or mapped, {} from \
             outside\n",
            self.program.escaped(),
            self.status,
            self.inside.len(),
            self.outside.len()
        );
        text
    }
}

/// Runs `words` in an empty root with the prefix of `root`.
pub(crate) fn in_empty_root(root: &FinalRoot, words: &[String]) -> Result<Proof> {
    let Some((program, args)) = words.split_first() else { bail!("which program?") };
    let program = find(root, program)?;
    let strace = tools::STRACE.require()?;
    let emulator = Emulator::of(root, &program)?;
    let bwrap = Bubblewrap::find()?;
    let inner = empty_root::plan(bwrap.clone(), &root.eroot(), root.eprefix(), emulator.as_ref())?;
    let own = std::env::current_exe().context("could not find our own program")?;
    let work = ScratchDir::new()?;
    let trace = work.path().join("trace");
    let command = strace
        .command("follow the program")
        .args(["--follow-forks", "--decode-fds=path", "--string-limit=4096", "--quiet=all"])
        .args(["--trace=execve,execveat,mmap,open,openat,openat2", "--output"])
        .arg(&trace)
        .arg("--")
        .args(shield(bwrap, inner, &own));
    let command = match &emulator {
        Some(emulator) => command.arg(&EMULATOR).args(&emulator.words),
        None => command.arg(&program),
    };
    let command = command.args(args);
    let output = command.output()?;
    let trace = Trace {
        path: &trace,
        target: Path::new("/"),
        eprefix: root.eprefix(),
        on_disk: root.path(),
        emulated: emulator.is_some(),
    };
    trace.judge(program, &command, &output)
}

/// Attaches the extension `image` to an empty root with systemd-sysext, as a target does, and runs
/// `words` there. Needs root.
pub(crate) fn on_image(image: &Path, eprefix: &Eprefix, words: &[String]) -> Result<Proof> {
    if !machine::is_root() {
        bail!("attaching an extension needs root: run this with sudo");
    }
    let Some((program, args)) = words.split_first() else { bail!("which program?") };
    let program = in_prefix(eprefix, program);
    for tool in [tools::STRACE, tools::SYSTEMD_SYSEXT] {
        tool.require()?;
    }
    let unshare = tools::UNSHARE.require()?;
    let image = fs_err::canonicalize(image)?;
    let name = extension_name(&image)?;
    let work = ScratchDir::new()?;
    let target = work.path().join("target");
    let trace = work.path().join("trace");
    fs_err::create_dir(&target)?;
    let script = data::text(Folder::Templates, "attach.sh")?;
    let command = unshare
        .command("attach the extension")
        .args([
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
        ])
        .arg(&*script)
        .arg("attach")
        .args([&target, &image])
        .arg(&name)
        .arg(&trace)
        .arg(work.path().join("programs"))
        .arg(&program)
        .args(args);
    let output = command.output()?;
    if !trace.exists() {
        bail!("could not attach {}:\n{}", image.escaped(), tail(&output.stderr).trim_end());
    }
    // The attached files disappear with their namespace, except a copy of the program.
    let on_disk = work.path().join("programs");
    Trace { path: &trace, target: &target, eprefix, on_disk: &on_disk, emulated: false }
        .judge(program, &command, &output)
}

/// Name by which systemd-sysext knows an extension: the file name without its suffix.
fn extension_name(image: &Path) -> Result<String> {
    let file = image.file_name().context("an extension needs a name")?.to_string_lossy();
    let file = file.strip_suffix(".raw").unwrap_or(&file);
    Ok(file.to_owned())
}

/// Output of strace, and the roots that its paths refer to.
struct Trace<'a> {
    path: &'a Path,
    /// Root directory of the program, as strace sees it.
    target: &'a Path,
    eprefix: &'a Eprefix,
    /// Directory on disk with the program's files.
    on_disk: &'a Path,
    /// True if an emulator runs the program. An emulator maps code without `PROT_EXEC`, like any
    /// file.
    emulated: bool,
}

impl Trace<'_> {
    fn judge(
        &self,
        program: PathBuf,
        command: &Command,
        output: &std::process::Output,
    ) -> Result<Proof> {
        let events = input::read(self.path, TRACE).with_context(|| {
            format!("`{command}` left no trace:\n{}", tail(&output.stderr).trim_end())
        })?;
        let events = String::from_utf8_lossy(&events).into_owned();
        let (started, mapped) = if self.emulated {
            (EMULATOR.as_path(), &*MAPPED_AT_ALL)
        } else {
            (program.as_path(), &*MAPPED)
        };
        let mut seen = Seen::collect(&events, started, mapped, self.target);
        seen.code.remove(EMULATOR.as_path());
        if !seen.started {
            bail!("{} did not start:\n{}", program.escaped(), tail(&output.stderr).trim_end());
        }
        let mut unseen: Vec<PathBuf> = seen.code.iter().cloned().collect();
        while let Some(path) = unseen.pop() {
            if let Some(starter) = starter(self.on_disk, &path)
                && seen.code.insert(starter.clone())
            {
                unseen.push(starter);
            }
        }
        let eprefix = self.eprefix.as_path();
        let harmless = |path: &PathBuf| HARMLESS.iter().any(|own| path.starts_with(own));
        let (inside, outside): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
            seen.code.into_iter().partition(|path| path.starts_with(eprefix));
        // Parents of the prefix are directories. A program may open them with O_DIRECTORY or
        // without: find(1) opens its start directory without.
        let leads_there = |path: &PathBuf| path.starts_with(eprefix) || eprefix.starts_with(path);
        let opened = seen.opened.into_iter().filter(|path| !leads_there(path));
        Ok(Proof {
            program,
            status: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            inside,
            outside: outside.into_iter().chain(opened).filter(|path| !harmless(path)).collect(),
        })
    }
}

/// Returns the file that the kernel starts for the program at `path` without a system call: the
/// loader of a program, or the interpreter of a script.
fn starter(on_disk: &Path, path: &Path) -> Option<PathBuf> {
    let bytes = files::map(&on_disk.join(path.strip_prefix("/").ok()?)).ok()?;
    if let Some(shebang) = Shebang::parse(bytes.get(..4096).unwrap_or(&bytes)) {
        return Some(shebang.interpreter.to_owned());
    }
    let interpreter = elf::read(&bytes).ok()?.interpreter?;
    Some(PathBuf::from(OsString::from_vec(interpreter)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Finds the program to run: a path, or a name in the prefix's usr/bin.
fn find(root: &FinalRoot, program: &str) -> Result<PathBuf> {
    let path = in_prefix(root.eprefix(), program);
    if root.on_disk(&path).symlink_metadata().is_err() {
        bail!("there is no program {} in {}", path.escaped(), root.path().escaped());
    }
    Ok(path)
}

fn in_prefix(eprefix: &Eprefix, program: &str) -> PathBuf {
    if program.contains('/') {
        return PathBuf::from(program);
    }
    eprefix.as_path().join("usr/bin").join(program)
}

/// Files that a trace shows.
#[derive(Debug, Default)]
struct Seen {
    started: bool,
    code: BTreeSet<PathBuf>,
    opened: BTreeSet<PathBuf>,
}

#[expect(clippy::unwrap_used, reason = "constants that a test compiles")]
static EXECUTED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"exec(?:ve|veat)\((?:[^"]*)"([^"]+)".* = 0$"#).unwrap());
#[expect(clippy::unwrap_used, reason = "constants that a test compiles")]
static MAPPED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"mmap\([^<]*PROT_[A-Z_|]*EXEC[^<]*, \d+<([^>]+)>").unwrap());
#[expect(clippy::unwrap_used, reason = "constants that a test compiles")]
static MAPPED_AT_ALL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"mmap\([^<]*, \d+<([^>]+)>").unwrap());
#[expect(clippy::unwrap_used, reason = "constants that a test compiles")]
static OPENED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"open(?:at|at2)?\(.* = \d+<([^>]+)>$").unwrap());

impl Seen {
    /// Reads a trace from the execution of `program` on. The calls before it belong to entering the
    /// root.
    ///
    /// `mapped` matches the mappings that count. strace shows descriptors with paths as it sees
    /// them, so `target` is removed from the start of paths.
    fn collect(trace: &str, program: &Path, mapped: &Regex, target: &Path) -> Self {
        let mut seen = Self::default();
        for line in &whole_calls(trace) {
            let found = |pattern: &Regex| {
                let path = Path::new(pattern.captures(line)?.get(1)?.as_str());
                let below = path.strip_prefix(target).ok();
                Some(below.map_or_else(|| path.to_owned(), |below| Path::new("/").join(below)))
            };
            if let Some(path) = found(&EXECUTED) {
                seen.started |= path == program;
                seen.code.extend(seen.started.then_some(path));
            } else if seen.started {
                seen.code.extend(found(mapped));
                // Listing a directory does not use a file in it.
                if !line.contains("O_DIRECTORY") {
                    seen.opened.extend(found(&OPENED));
                }
            }
        }
        seen
    }
}

/// Returns the lines of a trace with interrupted calls joined. strace splits a call if another
/// process makes one meanwhile (strace(1): "unfinished", "resumed").
fn whole_calls(trace: &str) -> Vec<String> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let process = line.split(' ').next().unwrap_or_default();
        if let Some(start) = line.strip_suffix("<unfinished ...>") {
            begun.insert(process, start);
        } else if let Some((_, end)) = line.split_once(" resumed>")
            && let Some(start) = begun.remove(process)
        {
            calls.push(format!("{start}{end}"));
        } else {
            calls.push(line.to_owned());
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_trace() {
        let trace = "\
7 openat(AT_FDCWD</>, \"/etc/ld.so.cache\", O_RDONLY) = 3</etc/ld.so.cache>
7 execve(\"/usr/bin/jq\", [\"jq\"], 0x7 /* 1 var */) = -1 ENOENT (No such file)
7 execve(\"/opt/x/usr/bin/jq\", [\"jq\", \"a\"], 0x7 /* 1 var */) = 0
7 openat(AT_FDCWD</>, \"/opt/x/usr/lib64/libc.so.6\", O_RDONLY|O_CLOEXEC) = 3</opt/x/usr/lib64/libc.so.6>
7 mmap(0x7f, 1, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED, 3</opt/x/usr/lib64/libc.so.6>, 0x1000) = 0x7f
7 openat(AT_FDCWD</>, \"/etc/passwd\", O_RDONLY) = 3</etc/passwd>
8 openat(AT_FDCWD</>, \"/etc/none\", O_RDONLY) = -1 ENOENT (No such file or directory)
";
        let seen = Seen::collect(trace, Path::new("/opt/x/usr/bin/jq"), &MAPPED, Path::new("/"));
        assert!(seen.started);
        let code: Vec<_> = seen.code.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(code, ["/opt/x/usr/bin/jq", "/opt/x/usr/lib64/libc.so.6"]);
        assert!(seen.opened.contains(Path::new("/etc/passwd")));
        assert_eq!(seen.opened.len(), 2);
    }

    #[test]
    fn calls_of_several_processes_are_told_apart() {
        let trace = "\
7 execve(\"/opt/x/sh\", [\"sh\"], 0x7 /* 1 var */ <unfinished ...>
8 openat(AT_FDCWD</>, \"/lib/evil.so\", O_RDONLY <unfinished ...>
7 <... execve resumed>)                 = 0
8 <... openat resumed>)                 = 3</lib/evil.so>
8 mmap(NULL, 16, PROT_READ|PROT_EXEC, MAP_PRIVATE, 3</lib/evil.so>, 0 <unfinished ...>
7 openat(AT_FDCWD</>, \"/etc/passwd\", O_RDONLY <unfinished ...>
8 <... mmap resumed>)                   = 0x7f
7 <... openat resumed>)                 = 3</etc/passwd>
";
        let seen = Seen::collect(trace, Path::new("/opt/x/sh"), &MAPPED, Path::new("/"));
        assert!(seen.started);
        assert!(seen.code.contains(Path::new("/lib/evil.so")), "{seen:?}");
        assert!(seen.opened.contains(Path::new("/etc/passwd")), "{seen:?}");
    }
}
