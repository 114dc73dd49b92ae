//! Moves the directory of a prefix to its new path in a tree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::names::Eprefix;
use crate::base::publish;

/// Name of the directory between its two places. Directories above the old place that are empty then
/// may be in the way of the new one.
const ASIDE: &str = ".fprefix-relocated";

/// The move of a prefix within a tree.
#[derive(Clone, Debug)]
pub struct TreeMove {
    root: PathBuf,
    old: PathBuf,
    new: PathBuf,
}

/// State of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MoveState {
    /// The prefix is at its old path.
    Old,
    /// It is on its way: a run was killed.
    Aside,
    /// It is at its new path.
    New,
}

impl TreeMove {
    /// Plans the move of the prefix at `from` to `to` in the tree at `root`.
    ///
    /// # Errors
    ///
    /// Fails if the prefix is at neither path, if a link is on the way, or if something else is at
    /// the new path.
    pub fn new(root: &Path, from: &Eprefix, to: &Eprefix) -> Result<Self> {
        let root = fs_err::canonicalize(root)?;
        let (old, new) = (from.below(&root), to.below(&root));
        let plan = Self { root, old, new };
        for path in [&plan.old, &plan.new] {
            plan.refuse_links(path)?;
        }
        plan.state()?;
        Ok(plan)
    }

    /// Returns whether the prefix is not at its new path yet.
    ///
    /// # Errors
    ///
    /// Fails like [`TreeMove::new`].
    pub fn is_pending(&self) -> Result<bool> {
        Ok(self.state()? != MoveState::New)
    }

    /// Moves the prefix. Directories above the old path that are empty then go.
    ///
    /// # Errors
    ///
    /// Fails if a directory cannot be made, renamed or removed. Another run continues from there.
    pub fn apply(&self) -> Result<()> {
        if self.state()? == MoveState::Old && self.old != self.new {
            publish::rename_flushed(&self.old, &self.aside())?;
        }
        if self.state()? == MoveState::Aside {
            self.remove_empty_parents()?;
            let parent = self.new.parent().context("a prefix is below the root directory")?;
            fs_err::create_dir_all(parent)?;
            publish::rename_flushed(&self.aside(), &self.new)?;
        }
        Ok(())
    }

    fn aside(&self) -> PathBuf {
        self.root.join(ASIDE)
    }

    fn state(&self) -> Result<MoveState> {
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        match (is_there(&self.old), is_there(&self.aside()), is_there(&self.new)) {
            (true, false, _) if self.old == self.new => Ok(MoveState::New),
            (true, false, false) => Ok(MoveState::Old),
            (false, true, false) => Ok(MoveState::Aside),
            (false, false, true) => Ok(MoveState::New),
            (false, false, false) => {
                bail!("there is no prefix at {}", self.old.escaped())
            }
            (_, _, true) => bail!(
                "{} is there already, and would be mixed with the prefix at {}\n\
                 hint: remove it, or take another path",
                self.new.escaped(),
                self.old.escaped()
            ),
            (true, true, false) => bail!(
                "{} is there already: another relocation did not come to its end\n\
                 hint: repeat it with the paths that it had",
                self.aside().escaped()
            ),
        }
    }

    fn remove_empty_parents(&self) -> Result<()> {
        let parents = self.old.ancestors().skip(1);
        for dir in parents.take_while(|dir| *dir != self.root) {
            match fs_err::remove_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Fails if a part of `path` below the root is there and no directory.
    fn refuse_links(&self, path: &Path) -> Result<()> {
        for part in path.ancestors().take_while(|part| *part != self.root) {
            let kind = part.symlink_metadata().map(|meta| meta.file_type());
            if kind.is_ok_and(|kind| !kind.is_dir()) {
                bail!(
                    "{} is no directory, so the prefix cannot be moved from {} to {}",
                    part.escaped(),
                    self.old.escaped(),
                    self.new.escaped()
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn move_in(root: &Path, from: &str, to: &str) -> Result<()> {
        TreeMove::new(root, &from.parse()?, &to.parse()?)?.apply()
    }

    fn tree(file: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(file);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, "x").unwrap();
        root
    }

    #[test]
    fn directories_move() {
        for (from, to) in [("/opt/long/a", "/usr/b"), ("/opt/long/a", "/opt/long/b")] {
            let root = tree(&format!("{}/file", &from[1..]));
            move_in(root.path(), from, to).unwrap();
            assert!(root.path().join(&to[1..]).join("file").is_file(), "{to}");
            assert!(!root.path().join("opt/long/a").exists(), "{to}");
            let left = root.path().join("opt").exists();
            assert_eq!(left, to.starts_with("/opt"), "empty directories go: {to}");
            move_in(root.path(), from, to).unwrap();
        }
    }

    #[test]
    fn what_is_there_stays() {
        let root = tree("opt/long/a/file");
        let refused = |to: &str| move_in(root.path(), "/opt/long/a", to).unwrap_err().to_string();
        fs_err::create_dir(root.path().join("opt/b")).unwrap();
        assert!(refused("/opt/b").contains("is there already"));
        fs_err::os::unix::fs::symlink("/elsewhere", root.path().join("srv")).unwrap();
        assert!(refused("/srv/x").contains("is no directory"));
        assert!(root.path().join("opt/long/a/file").is_file());
        let error = move_in(root.path(), "/opt/none", "/opt/n").unwrap_err().to_string();
        assert!(error.contains("there is no prefix at"), "{error}");
    }

    #[test]
    fn a_run_that_was_killed_is_continued() {
        let root = tree(&format!("{ASIDE}/file"));
        move_in(root.path(), "/opt/a", "/b/c").unwrap();
        assert!(root.path().join("b/c/file").is_file());
    }
}
