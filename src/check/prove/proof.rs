//! Result of running a program, and its rendering for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::base::escape::{self, Escape};

/// Result of running a program.
#[derive(Debug, Serialize)]
pub(crate) struct Proof {
    /// Path of the program, as programs see it.
    #[serde(serialize_with = "escape::path::serialize")]
    pub program: PathBuf,
    /// Exit status. `None` if a signal ended the program.
    pub status: Option<i32>,
    /// Signal that ended the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
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
    /// Files that the program made itself, and executed or mapped as code.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub made: BTreeSet<PathBuf>,
    /// Files outside the prefix that were not there, and that a target may have.
    pub tried: BTreeSet<Attempt>,
    /// Acts that could not be followed, so that nothing is proven of them.
    pub unfollowed: BTreeSet<String>,
}

/// A file that a program tried to use in vain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Attempt {
    /// Use of the file.
    pub kind: AttemptKind,
    /// Path of the file.
    #[serde(serialize_with = "escape::path::serialize")]
    pub path: PathBuf,
    /// Arguments with which the file was to be executed, as words of a shell; empty if there are none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub arguments: String,
}

impl Attempt {
    /// Returns the attempt to use the file at `path` in the way `kind`.
    pub(crate) fn new(kind: AttemptKind, path: PathBuf) -> Self {
        Self { kind, path, arguments: String::new() }
    }
}

/// Use of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AttemptKind {
    /// The file is executed.
    Execute,
    /// The file is loaded as a library.
    Load,
    /// The file is read, or its presence is looked up.
    Open,
}

impl fmt::Display for AttemptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Execute => "to execute it",
            Self::Load => "to load it",
            Self::Open => "to open it",
        })
    }
}

impl Proof {
    /// Returns whether no file came from outside the prefix, and all that the program did was
    /// followed.
    pub(crate) fn passes(&self) -> bool {
        self.outside.is_empty() && self.unfollowed.is_empty()
    }

    /// Describes how the program ended.
    pub(crate) fn ending(&self) -> String {
        match (self.status, &self.signal) {
            (Some(status), _) => format!("ended with status {status}"),
            (None, Some(signal)) => format!("was ended by {signal}"),
            (None, None) => "ended in an unknown way".to_owned(),
        }
    }

    /// Renders the proof for people.
    pub(crate) fn text(&self) -> String {
        let mut text = self.stdout.clone();
        text += &self.stderr;
        for path in &self.inside {
            text += &format!("inside   {}\n", path.escaped());
        }
        for path in &self.made {
            text += &format!("made     {} by the program itself\n", path.escaped());
        }
        let tried = self.list_attempts();
        for line in &tried {
            text += &format!("tried    {line}\n");
        }
        for act in &self.unfollowed {
            text += &format!("UNKNOWN  {act} could not be followed\n");
        }
        for path in &self.outside {
            text += &format!("OUTSIDE  {}\n", path.escaped());
        }
        text += &format!(
            "{} {}: {} files of the prefix were executed or mapped, {} from outside{}\n",
            self.program.escaped(),
            self.ending(),
            self.inside.len(),
            self.outside.len(),
            match tried.len() {
                0 => String::new(),
                1 => "; 1 file that a target may have was tried".to_owned(),
                count => format!("; {count} files that a target may have were tried"),
            }
        );
        text
    }

    /// Renders the attempts, one line for all directories in which a file was looked for.
    pub(crate) fn list_attempts(&self) -> Vec<String> {
        let mut groups: BTreeMap<_, BTreeSet<&Path>> = BTreeMap::new();
        for Attempt { kind, path, arguments } in &self.tried {
            let name = path.file_name();
            groups.entry((*kind, name, arguments)).or_default().insert(path);
        }
        let mut lines = Vec::new();
        for ((kind, _, arguments), paths) in groups {
            let mut paths: Vec<_> = paths.into_iter().collect();
            paths.sort_by_key(|path| (path.as_os_str().len(), *path));
            let Some((first, others)) = paths.split_first() else { continue };
            let more = match others.len() {
                0 => String::new(),
                1 => ", and in 1 other directory".to_owned(),
                count => format!(", and in {count} other directories"),
            };
            let arguments =
                if arguments.is_empty() { String::new() } else { format!(" with {arguments}") };
            lines.push(format!("{} {kind}{arguments}{more}", first.escaped()));
        }
        lines
    }
}
