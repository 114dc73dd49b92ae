//! Kills at exact moments: strace sends the signal when a run is about to make its N-th system call
//! of a kind. No clock is involved, so a kill can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{Run, Said, World};

/// Calls by which a run changes files and starts programs. Not every machine has those with ?.
const CALLS: &str = "openat,write,pwrite64,fsync,syncfs,?rename,renameat,?renameat2,linkat,\
                     symlinkat,?symlink,unlinkat,?unlink,mkdirat,?mkdir,?rmdir,?fchmod,fchmodat,\
                     utimensat,wait4,?waitid";

/// Calls that mostly read, or wait.
const COMMON: &[&str] = &["openat", "wait4", "waitid", "write"];

/// Variable that raises the number of kills of each command.
const KILLS: &str = "FPREFIX_KILLS";

/// Processes that a kill is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The process alone. What it started goes on as long as nobody ends it.
    Process,
    /// Its whole process group.
    Group,
}

/// A moment at which a run is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    call: String,
    number: usize,
    pub scope: Scope,
}

impl Kill {
    /// The moment at which a process makes its `number`-th `call`.
    pub(crate) fn at(call: &str, number: usize, scope: Scope) -> Self {
        Self { call: call.to_owned(), number, scope }
    }

    /// Runs `run` until it is killed at this moment, or has come to its end before. With `follows`,
    /// the first of all processes that it starts, too, for which the moment comes is the one.
    pub(crate) fn end(&self, follows: bool, run: Run<'_>) -> Said {
        let world = run.world;
        let file = world.path("trace");
        let signal = if self.scope == Scope::Process { "SIGKILL" } else { "SIGSTOP" };
        let Self { call, number, .. } = self;
        let mut words = words(follows, &file);
        words.extend(["-e".into(), format!("trace={call}"), "-e".into()]);
        words.extend([format!("inject={call}:signal={signal}:when={number}"), "--".into()]);
        let mut running = run.through(words).start();
        if self.scope == Scope::Group {
            let text = || fs_err::read_to_string(&file).unwrap_or_default();
            if running.until(|_| text().contains("stopped by SIGSTOP")) {
                running.signal_group(Signal::KILL);
            }
        }
        running.wait(world)
    }
}

/// Moments of a run, found by counting the calls of one that was not disturbed.
pub(crate) struct Moments {
    counts: BTreeMap<String, usize>,
    /// State of the generator of random numbers.
    random: u64,
    follows: bool,
}

/// Returns how often each command is killed, `few` if nobody asked for more.
pub(crate) fn number_of_kills(few: usize) -> usize {
    std::env::var(KILLS).map_or(few, |number| number.parse().expect("a number of kills"))
}

impl Moments {
    /// Counts the calls of `run`, which has to succeed. With `follows`, those of its threads and of
    /// the programs that it starts count too. The seed is `name`.
    pub(crate) fn count(name: &str, follows: bool, run: Run<'_>) -> Self {
        let file = run.world.path("trace");
        let mut words = words(follows, &file);
        words.extend(["-e".into(), format!("trace={CALLS}"), "--".into()]);
        run.through(words).said().succeeds();
        let mut counts = BTreeMap::new();
        let call = regex::Regex::new(r"(?m)^(?:\d+ +)?([a-z_0-9]+)\(").unwrap();
        let mut of_process: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in fs_err::read_to_string(file).unwrap().lines() {
            let Some(found) = call.captures(line) else { continue };
            let process = line.split(' ').next().filter(|_| follows).unwrap_or_default();
            let number = of_process.entry((process.to_owned(), found[1].to_owned())).or_default();
            *number += 1;
            // strace counts for each process on its own.
            let most: &mut usize = counts.entry(found[1].to_owned()).or_default();
            *most = (*most).max(*number);
        }
        // The state of xorshift must not be 0.
        let seed = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let random = name.bytes().fold(0xcbf2_9ce4_8422_2325, seed) | 1;
        Self { counts, random, follows }
    }

    /// Returns the next moment. Half of them are at calls by which entries get their names, each kind
    /// as likely as any other; half at any call.
    pub(crate) fn next(&mut self) -> Kill {
        let scope = if self.random().is_multiple_of(2) { Scope::Process } else { Scope::Group };
        let total: usize = self.counts.values().sum();
        let number = self.random();
        let kinds: Vec<(String, usize)> = self.counts.clone().into_iter().collect();
        let placing = kinds.iter().filter(|(call, _)| !COMMON.contains(&&**call));
        let placing: Vec<_> = placing.cloned().collect();
        if !placing.is_empty() && self.random().is_multiple_of(2) {
            let (call, count) = placing[pick(number, placing.len())].clone();
            let number = pick(self.random(), count) + 1;
            return Kill { call, number, scope };
        }
        let mut left = pick(number, total);
        for (call, count) in kinds {
            if left < count {
                return Kill { call, number: left + 1, scope };
            }
            left -= count;
        }
        unreachable!("a number is below the total")
    }

    /// xorshift64 (Marsaglia).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Runs `run` until it is killed at the moment `kill`, or has come to its end before.
    pub(crate) fn kill(&self, kill: &Kill, run: Run<'_>) -> Said {
        kill.end(self.follows, run)
    }
}

fn pick(number: u64, count: usize) -> usize {
    usize::try_from(number % count as u64).unwrap()
}

fn words(follows: bool, file: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["strace", "-qq"].map(String::from).into();
    words.extend(follows.then(|| "-f".to_owned()));
    words.extend(["-o".into(), file.display().to_string()]);
    words
}

/// Everything below a directory: paths, kinds, modes and contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<PathBuf, Vec<u8>>);

impl Contents {
    /// Reads `dir`, without the paths of which `skip` says so.
    pub(crate) fn read(dir: &Path, skip: impl Fn(&Path) -> bool) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let entries = walkdir::WalkDir::new(dir).min_depth(1).into_iter();
        let entries = entries.filter_entry(|entry| !skip(entry.path()));
        let read = entries.map(|entry| {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type());
            let mut bytes = if kind.is_file() {
                fs_err::read(path).unwrap()
            } else if kind.is_symlink() {
                fs_err::read_link(path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                Vec::new()
            };
            let mode = entry.metadata().unwrap().permissions().mode();
            bytes.extend(format!(" {mode:o}").bytes());
            (path.strip_prefix(dir).unwrap().to_owned(), bytes)
        });
        Self(read.collect())
    }

    /// Paths at which this differs from `other`.
    pub(crate) fn differences(&self, other: &Self) -> Vec<PathBuf> {
        let paths: BTreeSet<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        let differ = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        differ.cloned().collect()
    }

    /// Files and links that are neither as they were `before` nor as they are `after`, and that do
    /// not belong to an unfinished run.
    pub(crate) fn half_written(&self, before: &Self, after: &Self) -> Vec<PathBuf> {
        let is_hidden = |path: &Path| path.iter().any(fprefix::base::publish::is_unfinished);
        let is_whole = |path: &PathBuf, bytes: &Vec<u8>| {
            [before, after].iter().any(|whole| whole.0.get(path) == Some(bytes))
        };
        let files =
            self.0.iter().filter(|(path, bytes)| !is_hidden(path) && !is_whole(path, bytes));
        files.map(|(path, _)| path.clone()).collect()
    }
}

/// A world that is put back to what it was before each kill.
pub(crate) struct Original {
    dir: PathBuf,
}

impl Original {
    /// Keeps a copy of all that is in `world`.
    pub(crate) fn keep(world: &World) -> Self {
        let dir = world.path("original");
        fs_err::create_dir(&dir).unwrap();
        let original = Self { dir };
        for path in original.entries(world) {
            let cp = world.run("cp").args(["-a", "--reflink=auto", "--"]);
            cp.args([path.as_path(), &original.dir]).said().succeeds();
        }
        original
    }

    /// Puts `world` back.
    pub(crate) fn restore(&self, world: &World) {
        for path in self.entries(world) {
            if path.is_dir() && !path.is_symlink() {
                fprefix::base::files::remove(&path).unwrap();
            } else {
                fs_err::remove_file(path).unwrap();
            }
        }
        let cp = world.run("cp").args(["-a", "--reflink=auto", "-T", "--"]);
        cp.args([self.dir.as_path(), &world.path("")]).said().succeeds();
    }

    fn entries(&self, world: &World) -> Vec<PathBuf> {
        let entries = fs_err::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| *path != self.dir).collect()
    }
}

/// Returns the mounts of this process.
pub(crate) fn mounts() -> String {
    fs_err::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The processes whose command line names something below `dir`.
pub(crate) fn processes(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs_err::read_dir("/proc").unwrap().flatten() {
        // It may have ended meanwhile.
        let Ok(line) = fs_err::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(dir) {
            found.push(line);
        }
    }
    found
}
