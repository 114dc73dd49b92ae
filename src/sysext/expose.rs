//! Links in /usr/bin to programs of the prefix.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;

use crate::fstree::entries::{Entry, EntryKind, FileTree};

/// Directory in which targets look for programs.
const BIN: &str = "usr/bin";

/// Directories in which a prefix has its programs.
const PROGRAMS: &[&str] = &["usr/bin", "usr/sbin", "bin", "sbin"];

/// Programs that are to be exposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Expose {
    /// All programs that the target does not have.
    All,
    /// The program with this name.
    Program(String),
}

impl FromStr for Expose {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        if text.is_empty() || text.contains('/') || matches!(text, "." | "..") {
            bail!("{text:?} has to be the name of a program, or all");
        }
        Ok(Self::Program(text.to_owned()))
    }
}

/// Adds the links to `plan`. Returns the names that the roots in `bases` already have. Such a name
/// is skipped if all programs are wanted, and is an error if it was given explicitly.
pub(crate) fn apply(
    plan: &mut FileTree,
    wanted: &[Expose],
    bases: &[PathBuf],
) -> Result<Vec<String>> {
    let named = |name: &OsString| {
        wanted.iter().any(|one| matches!(one, Expose::Program(wanted) if wanted.as_str() == name))
    };
    let all = wanted.contains(&Expose::All);
    let programs = programs(plan);
    for one in wanted {
        if let Expose::Program(name) = one
            && !programs.iter().any(|(known, _)| known == name.as_str())
        {
            bail!("the prefix has no program {name:?} to expose");
        }
    }
    let mut taken = Vec::new();
    let mut done = BTreeSet::new();
    for (name, path) in programs {
        if !(all || named(&name)) || !done.insert(name.clone()) {
            continue;
        }
        let link = Path::new(BIN).join(&name);
        if let Some(base) = bases.iter().find(|base| is_there(&base.join(&link))) {
            if named(&name) {
                bail!(
                    "{} has /{} already, which a link would hide",
                    base.display(),
                    link.display()
                );
            }
            taken.push(name.to_string_lossy().into_owned());
            continue;
        }
        let target = Path::new("../..").join(&path);
        let target = match target.strip_prefix("../../usr") {
            Ok(rest) => Path::new("..").join(rest),
            Err(_) => target,
        };
        let entry =
            Entry { kind: EntryKind::Link(target), ..Entry::generated(Vec::new(), plan.epoch) };
        plan.add(link, Entry { mode: 0o777, ..entry })?;
    }
    Ok(taken)
}

fn is_there(path: &Path) -> bool {
    fs_err::symlink_metadata(path).is_ok()
}

/// Returns the programs of the prefix by name: the files that somebody may execute.
fn programs(plan: &FileTree) -> Vec<(OsString, PathBuf)> {
    let mut programs = Vec::new();
    for dir in PROGRAMS.iter().map(|dir| plan.prefix_path().join(dir)) {
        if !plan.entries.get(&dir).is_some_and(Entry::is_directory) {
            continue;
        }
        for (path, entry) in plan.entries.range(dir.clone()..) {
            if !path.starts_with(&dir) {
                break;
            }
            let may_run = !entry.is_directory() && entry.mode & 0o111 != 0;
            if let (true, Some(name)) =
                (may_run && path.parent() == Some(dir.as_path()), path.file_name())
            {
                programs.push((name.to_owned(), path.clone()));
            }
        }
    }
    programs
}
