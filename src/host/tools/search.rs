//! Search for external programs, with the probes and the versions that they must pass.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

use crate::base::board::Board;
use crate::base::command::{Command, MACHINE_PATH, SYSTEM_PATH, find_program};
use crate::base::escape::Escape;
use crate::host::tools::facts::{SearchList, ToolFacts};

/// Directories of each [`SearchList`], in the form of `PATH`.
#[derive(Clone, Debug)]
pub(super) struct SearchLists {
    caller: OsString,
    system: OsString,
    machine: OsString,
}

impl SearchLists {
    pub(super) fn of_process() -> Self {
        Self {
            caller: std::env::var_os("PATH").unwrap_or_default(),
            system: SYSTEM_PATH.into(),
            machine: MACHINE_PATH.into(),
        }
    }

    fn directories(&self, list: SearchList) -> &OsString {
        match list {
            SearchList::Caller => &self.caller,
            SearchList::System => &self.system,
            SearchList::Machine => &self.machine,
        }
    }

    /// Returns the program `name` on the caller's `PATH`, else in the directories of the system.
    /// The `PATH` of an ordinary user often lacks sbin.
    pub(super) fn find_anywhere(&self, name: &str) -> Option<PathBuf> {
        find_program(name, &self.caller).or_else(|| find_program(name, &self.system))
    }
}

/// A program that was found and passed its probe.
#[derive(Debug)]
pub(crate) struct FoundTool<'a> {
    facts: &'a ToolFacts,
    path: PathBuf,
}

/// Reason why a program cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// None of the directories has it.
    Missing,
    /// The program at this path failed its probe.
    Failed(PathBuf, Error),
}

/// A version older than the oldest accepted one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OldVersion {
    /// Version of the program; `None` if it does not print one.
    pub(crate) version: Option<String>,
    /// Oldest version that is accepted.
    pub(crate) oldest: String,
}

impl ToolFacts {
    /// Returns all files that may be this program, the best first, without a probe.
    pub(super) fn locate(&self, board: Option<&Board>, lists: &SearchLists) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for name in self.candidates(board) {
            for list in &self.search {
                let path = find_program(&name, lists.directories(*list));
                found.extend(path.filter(|path| !is_multi_call(path) && !found.contains(path)));
            }
        }
        found
    }

    /// Returns the first file that passes the probe.
    pub(super) fn find(
        &self,
        board: Option<&Board>,
        lists: &SearchLists,
    ) -> Result<FoundTool<'_>, Unusable> {
        let mut unusable = Unusable::Missing;
        for path in self.locate(board, lists) {
            if self.probe.is_empty() {
                return Ok(FoundTool { facts: self, path });
            }
            let probe = Command::new(format!("probe {}", path.escaped()), &path);
            // The wrapper of a version manager finds the real program by PATH.
            match probe.pass("PATH").args(&self.probe).run_quiet() {
                Ok(()) => return Ok(FoundTool { facts: self, path }),
                Err(error) => unusable = Unusable::Failed(path, error),
            }
        }
        Err(unusable)
    }
}

impl FoundTool<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the name of the file, which may be that of an alternative.
    pub(crate) fn program(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Starts a command that runs it; `purpose` completes "could not ...".
    pub(crate) fn command(&self, purpose: impl Into<String>) -> Command {
        Command::new(purpose, &self.path)
    }

    /// Runs it to learn its version; `None` if it prints none.
    ///
    /// # Errors
    ///
    /// Fails if it does not start.
    pub(crate) fn version(&self) -> Result<Option<String>> {
        let output = self
            .command(format!("read the version of {}", self.path.escaped()))
            .args(&self.facts.version)
            .output()?;
        // Some programs print it to stderr, some exit with an error after it.
        let mut printed = output.stdout;
        printed.extend(output.stderr);
        Ok(find_version(&String::from_utf8_lossy(&printed)))
    }

    /// Returns its version if that is older than the oldest accepted one. If an oldest version is
    /// set, a program that prints no version is too old.
    pub(crate) fn old_version(&self) -> Result<Option<OldVersion>> {
        let Some(oldest) = self.facts.oldest.clone() else { return Ok(None) };
        let version = self.version()?;
        let is_new = version.as_ref().is_some_and(|own| numbers(own) >= numbers(&oldest));
        Ok((!is_new).then_some(OldVersion { version, oldest }))
    }
}

/// Returns whether the program is one of `BusyBox` or Toybox, which lack options that are needed.
fn is_multi_call(path: &Path) -> bool {
    let real = fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real.file_name().is_some_and(|name| name == "busybox" || name == "toybox")
}

/// Returns the first word of `text` that is a version, as in "mke2fs 1.47.0 (5-Feb-2023)" or
/// "part of btrfs-progs v7.3".
fn find_version(text: &str) -> Option<String> {
    text.split_whitespace().find_map(|word| {
        let word = word.strip_prefix('v').unwrap_or(word);
        let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let version = word.get(..end)?.trim_end_matches('.');
        version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
    })
}

/// Returns the numbers of a version, so that 1.10 is newer than 1.9.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// Returns the program `name` on the caller's `PATH`, else in the directories of the system. It
/// serves names that users type. A program that fprefix chooses has an entry in
/// profiles/tools.toml.
pub(crate) fn find_by_name(name: &str) -> Option<PathBuf> {
    SearchLists::of_process().find_anywhere(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::Command;

    fn facts(text: &str) -> ToolFacts {
        toml::from_str(&format!("reason = 'tests'\npackages = {{}}\n{text}")).unwrap()
    }

    /// Directories called caller, system and machine.
    struct Directories(tempfile::TempDir);

    impl Directories {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn add(&self, path: &str, script: &str) -> PathBuf {
            let path = self.0.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            // A child writes it: a test that forks meanwhile would hold a file of ours open for
            // writing, and the kernel runs no such file (ETXTBSY, execve(2)).
            let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\"";
            Command::new("write a program", "sh")
                .args(["-c", write])
                .arg(&path)
                .arg(script)
                .run_quiet()
                .unwrap();
            path
        }

        fn lists(&self) -> SearchLists {
            let path = |name: &str| self.0.path().join(name).into_os_string();
            let (caller, system, machine) = (path("caller"), path("system"), path("machine"));
            SearchLists { caller, system, machine }
        }
    }

    #[test]
    fn lists_are_searched_in_order() {
        let directories = Directories::new();
        let lists = directories.lists();
        let tool = facts("program = 'sheep'\nor = ['goat']");
        assert!(matches!(tool.find(None, &lists), Err(Unusable::Missing)));
        let goat = directories.add("caller/goat", "");
        assert_eq!(tool.find(None, &lists).unwrap().program(), "goat");
        // PATH lacks sbin, the system does not. The program's own name has priority over another.
        let system = directories.add("system/sheep", "");
        assert_eq!(tool.find(None, &lists).unwrap().path(), system);
        let caller = directories.add("caller/sheep", "");
        assert_eq!(tool.locate(None, &lists), [caller.clone(), system.clone(), goat]);
        let first = |search: &str| {
            let tool = facts(&format!("program = 'sheep'\nsearch = {search}"));
            tool.find(None, &lists).ok().map(|found| found.path().to_owned())
        };
        assert_eq!(first("['system', 'caller']"), Some(system));
        assert_eq!(first("['machine']"), None);
        assert_eq!(lists.find_anywhere("sheep"), Some(caller));
    }

    #[test]
    fn programs_of_busybox_do_not_count() {
        let directories = Directories::new();
        directories.add("caller/busybox", "");
        fs_err::os::unix::fs::symlink("busybox", directories.0.path().join("caller/tar")).unwrap();
        let tool = facts("program = 'tar'");
        assert!(matches!(tool.find(None, &directories.lists()), Err(Unusable::Missing)));
        let real = directories.add("system/tar", "");
        assert_eq!(tool.find(None, &directories.lists()).unwrap().path(), real);
    }

    #[test]
    fn probes_have_to_succeed() {
        let directories = Directories::new();
        let lists = directories.lists();
        let tool = facts("program = 'python'\nprobe = ['-c', 'x']");
        let bad = directories.add("caller/python", "echo no module >&2; exit 1");
        let Err(Unusable::Failed(path, error)) = tool.find(None, &lists) else { panic!() };
        assert!(path == bad && error.to_string().contains("no module"), "{error}");
        let good = directories.add("system/python", "test \"$1 $2\" = '-c x'");
        assert_eq!(tool.find(None, &lists).unwrap().path(), good);
    }

    #[test]
    fn versions_are_read_and_compared() {
        for (text, version) in [
            ("mkfs.btrfs, part of btrfs-progs v7.3\n-EXPERIMENTAL +ZSTD\n", "7.3"),
            ("mkfs.btrfs, part of btrfs-progs v8", "8"),
            ("mksquashfs version 4.5.1 (2022/03/17)", "4.5.1"),
            ("mke2fs 1.47.0 (5-Feb-2023)", "1.47.0"),
            ("gpg (GnuPG) 2.2.40", "2.2.40"),
            ("GNU bash, version 5.2.15(1)-release", "5.2.15"),
        ] {
            assert_eq!(find_version(text).as_deref(), Some(version));
        }
        assert_eq!(find_version("no version"), None);
        assert!(numbers("1.10.0") > numbers("1.9") && numbers("1.0.1") < numbers("1.2.3"));
        assert!(numbers("7.3.1") >= numbers("7.3") && numbers("6.19.1") < numbers("7.3"));
    }

    #[test]
    fn programs_can_be_too_old() {
        let directories = Directories::new();
        let lists = directories.lists();
        let tool = facts("program = 'mkfs'\noldest = '7.3'\nversion = ['-V']");
        let old_version = |script: &str| {
            directories.add("caller/mkfs", script);
            tool.find(None, &lists).unwrap().old_version().unwrap()
        };
        let old = |version: Option<&str>| {
            Some(OldVersion { version: version.map(str::to_owned), oldest: "7.3".to_owned() })
        };
        assert_eq!(old_version("test $1 = -V && echo mkfs 6.2"), old(Some("6.2")));
        assert_eq!(old_version("echo mkfs 7.3.1 >&2; exit 1"), None);
        assert_eq!(old_version("echo mkfs"), old(None));
    }
}
