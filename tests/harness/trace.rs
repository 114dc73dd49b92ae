//! System calls of a run, as strace records them, and the order that they have to have for files
//! to outlive a power failure.

use std::path::{Path, PathBuf};

use regex::Regex;

/// Calls that change what files hold, what they are called, or what is on the disk.
const CALLS: &str = "trace=write,pwrite64,writev,pwritev,copy_file_range,sendfile,ftruncate,\
                     fsync,syncfs,rename,renameat,renameat2,linkat,symlinkat";

/// A recording of a run.
pub(crate) struct Recording {
    file: PathBuf,
}

/// The calls of a run, in their order.
pub(crate) struct Trace(Vec<Call>);

struct Call {
    process: String,
    name: String,
    arguments: String,
}

/// An entry that got its name.
struct Naming {
    position: usize,
    /// The file or link before: its path, or how strace shows the open file.
    from: String,
    to: PathBuf,
}

impl Recording {
    /// A recording that goes to `file`.
    pub(crate) fn to(file: PathBuf) -> Self {
        Self { file }
    }

    /// The words that start a program which is recorded.
    pub(crate) fn words(&self) -> Vec<String> {
        let options = ["strace", "-f", "-y", "-qq", "-s", "8", "-e", "signal=none", "-e", CALLS];
        let mut words: Vec<String> = options.map(String::from).into();
        words.extend(["-o".into(), self.file.display().to_string(), "--".into()]);
        words
    }

    /// The calls of the run, which has ended.
    pub(crate) fn read(&self) -> Trace {
        let text = fs_err::read_to_string(&self.file).unwrap();
        let line = Regex::new(r"^(\d+) +([a-z_0-9]+)\((.*)$").unwrap();
        // What was interrupted by another process is resumed in a line of its own.
        let calls = text
            .lines()
            .filter_map(|text| line.captures(text))
            .filter(|found| !found[3].contains(" = -1 "));
        let calls = calls.map(|found| Call {
            process: found[1].to_owned(),
            name: found[2].to_owned(),
            arguments: found[3].to_owned(),
        });
        Trace(calls.collect())
    }
}

impl Trace {
    /// Asserts that the file `path` was named once its content was on the disk, and that its name
    /// was on the disk before the run ended. Returns the position of the last naming.
    #[track_caller]
    pub(crate) fn assert_durable(&self, path: &Path) -> usize {
        let namings: Vec<Naming> = self.namings().filter(|naming| naming.to == path).collect();
        assert!(!namings.is_empty(), "{} was not named:\n{self}", path.display());
        for naming in &namings {
            self.assert_flushed_before(naming);
            self.assert_directory_flushed_after(naming);
        }
        namings.last().unwrap().position
    }

    /// Asserts that the link `path` got its name, and that this was on the disk before the run ended.
    #[track_caller]
    pub(crate) fn assert_durable_link(&self, path: &Path) -> usize {
        let naming = self.namings().filter(|naming| naming.to == path).last();
        let naming = naming.unwrap_or_else(|| panic!("{} was not named:\n{self}", path.display()));
        self.assert_directory_flushed_after(&naming);
        naming.position
    }

    /// Paths in the directory `dir` that got their names, in their order.
    pub(crate) fn named_in(&self, dir: &Path) -> Vec<PathBuf> {
        self.namings().map(|naming| naming.to).filter(|to| to.parent() == Some(dir)).collect()
    }

    #[track_caller]
    fn assert_flushed_before(&self, naming: &Naming) {
        let of_file = |call: &Call| call.arguments.contains(&format!("<{}>", naming.from));
        let before = &self.0[..naming.position];
        let flushed = before.iter().rposition(|call| call.name == "fsync" && of_file(call));
        let written = before.iter().rposition(|call| call.is_write() && of_file(call));
        assert!(
            written.is_some() && written < flushed,
            "{} was written at {written:?}, flushed at {flushed:?} and named at {}:\n{self}",
            naming.to.display(),
            naming.position
        );
    }

    #[track_caller]
    fn assert_directory_flushed_after(&self, naming: &Naming) {
        let dir = format!("<{}>", naming.to.parent().unwrap().display());
        let mut after = self.0[naming.position..].iter();
        assert!(
            after.any(|call| call.name == "fsync" && call.arguments.contains(&dir)),
            "the name of {} was not flushed:\n{self}",
            naming.to.display()
        );
    }

    fn namings(&self) -> impl Iterator<Item = Naming> {
        self.0.iter().enumerate().filter_map(|(position, call)| {
            let [from, to] = call.paths()?;
            let from = self.identity(position, from, &call.process);
            Some(Naming { position, from, to })
        })
    }

    /// The path of a file that is renamed or linked, or how strace shows it while it is open.
    fn identity(&self, position: usize, path: PathBuf, process: &str) -> String {
        if let Ok(number) = path.strip_prefix("/proc/self/fd") {
            let open = Regex::new(&format!(r"\b{}<([^>]*)>", number.display())).unwrap();
            let before = self.0[..position].iter().rev().filter(|call| call.process == process);
            let mut shown = before.filter_map(|call| open.captures(&call.arguments));
            return shown.next().expect("a file that nobody wrote to was linked")[1].to_owned();
        }
        // A file without a name got a hidden one first.
        let linked = self.0[..position].iter().enumerate().rev().find_map(|(earlier, call)| {
            let [from, to] = call.paths()?;
            (call.name == "linkat" && to == path).then_some((earlier, from))
        });
        match linked {
            Some((earlier, from)) => self.identity(earlier, from, process),
            None => path.display().to_string(),
        }
    }
}

impl Call {
    fn is_write(&self) -> bool {
        !["fsync", "syncfs", "linkat", "symlinkat"].contains(&&*self.name)
            && !self.name.starts_with("rename")
    }

    /// The old and the new path, if the call gives something a name.
    fn paths(&self) -> Option<[PathBuf; 2]> {
        if self.name != "linkat" && !self.name.starts_with("rename") {
            return None;
        }
        let path = Regex::new(r#"(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"([^"]*)""#).unwrap();
        let mut paths = path.captures_iter(&self.arguments).map(|found| {
            let dir = found.get(1).map_or("", |dir| dir.as_str());
            Path::new(dir).join(&found[2])
        });
        Some([paths.next()?, paths.next()?])
    }
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, call) in self.0.iter().enumerate() {
            writeln!(f, "{position} {} {}({}", call.process, call.name, call.arguments)?;
        }
        Ok(())
    }
}
