//! Links in /usr/bin to programs of the prefix.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;

use crate::base::escape::Escape;
use crate::fstree::entries::{Entry, FileTree};
use crate::fstree::resolve::relative_path;
use crate::fstree::root_dir::RootDir;

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

impl Expose {
    /// Returns whether this names the program at `path`.
    pub(crate) fn is_program_at(&self, path: &Path) -> bool {
        matches!(self, Self::Program(name) if path.file_name() == Some(name.as_ref()))
    }
}

/// Programs that are exposed.
#[derive(Debug, Default)]
pub(crate) struct ExposedPrograms {
    /// Names of the programs.
    pub names: BTreeSet<String>,
    /// True if all programs are wanted.
    pub are_all: bool,
    /// Names that the target already has.
    pub taken: Vec<String>,
}

/// Adds the links to `plan`. Names that the roots in `bases` already have are skipped if all
/// programs are wanted, and are an error if they were given explicitly.
pub(crate) fn apply(
    plan: &mut FileTree,
    wanted: &[Expose],
    bases: &[RootDir],
) -> Result<ExposedPrograms> {
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
    let mut exposed = ExposedPrograms { are_all: all, ..ExposedPrograms::default() };
    let mut done = BTreeSet::new();
    for (name, path) in programs {
        if !(all || named(&name)) || !done.insert(name.clone()) {
            continue;
        }
        let link = Path::new(BIN).join(&name);
        if let Some(base) = RootDir::first_with(bases, &link)? {
            if named(&name) {
                bail!(
                    "{} has /{} already, which a link would hide",
                    base.path().escaped(),
                    link.escaped()
                );
            }
            exposed.taken.push(name.escaped().to_string());
            continue;
        }
        let target = relative_path(Path::new(BIN), &path);
        plan.add(link, Entry::link(target, plan.epoch))?;
        exposed.names.insert(name.to_string_lossy().into_owned());
    }
    Ok(exposed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_base_do_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("base/usr/bin");
        fs_err::create_dir_all(dir.path().join("base/usr/programs")).unwrap();
        fs_err::create_dir(dir.path().join("outside")).unwrap();
        fs_err::write(dir.path().join("outside/jq"), "").unwrap();
        let roots = [RootDir::open(&dir.path().join("base")).unwrap()];
        let taken = |wanted: &Expose| {
            let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
            let program = Entry { mode: 0o755, ..Entry::generated(Vec::new(), 1) };
            plan.add("opt/x/usr/bin/jq", program).unwrap();
            apply(&mut plan, std::slice::from_ref(wanted), &roots).map(|exposed| exposed.taken)
        };
        for target in
            [dir.path().join("outside"), "../../outside".into(), "x/../../../outside".into()]
        {
            fs_err::os::unix::fs::symlink(target, &bin).unwrap();
            assert!(taken(&Expose::All).unwrap().is_empty());
            fs_err::remove_file(&bin).unwrap();
        }
        // A link inside is followed, and a broken link at the place is an entry too.
        fs_err::os::unix::fs::symlink("/usr/programs", &bin).unwrap();
        fs_err::os::unix::fs::symlink("none", dir.path().join("base/usr/programs/jq")).unwrap();
        assert_eq!(taken(&Expose::All).unwrap(), ["jq"]);
        let error = taken(&Expose::Program("jq".into())).unwrap_err().to_string();
        assert!(error.contains("has /usr/bin/jq already"), "{error}");
    }
}
