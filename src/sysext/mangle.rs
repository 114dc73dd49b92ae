//! Changes to the content that only its packer knows. Their source is a tree that is laid over the
//! content, or a script that gets the content as a directory. The manglefs scripts of Flatcar's
//! `build_sysext` work like that.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::fstree::entries::{Entry, FileTree};
use crate::fstree::scan;
use crate::imagefmt::directory;
use crate::sandbox::fake_root;

/// Source of the changes to the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mangle {
    /// A directory; all of its entries are laid over the content.
    Tree(PathBuf),
    /// A program that gets the directory of the content as its argument.
    Script(PathBuf),
}

impl Mangle {
    /// Opens `path` as a tree or a script.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = fs_err::canonicalize(path)?;
        if path.is_dir() {
            return Ok(Self::Tree(path));
        }
        if fs_err::metadata(&path)?.permissions().mode() & 0o111 != 0 {
            return Ok(Self::Script(path));
        }
        bail!("{} is neither a directory nor a program to mangle with", path.escaped())
    }

    /// Changes `plan`. A script works on a tree at `dir`, which must stay: files are read from
    /// there.
    pub(crate) fn apply(&self, plan: &mut FileTree, dir: &Path) -> Result<()> {
        match self {
            Self::Tree(tree) => lay_over(plan, tree)?,
            Self::Script(script) => run(plan, script, dir)?,
        }
        share_directories(plan);
        Ok(())
    }
}

/// Gives directories outside the prefix the attributes that every target has: they are the target's
/// directories too.
fn share_directories(plan: &mut FileTree) {
    let (prefix, epoch) = (plan.prefix_path().to_owned(), plan.epoch);
    for (path, entry) in &mut plan.entries {
        if entry.is_directory() && !path.starts_with(&prefix) {
            *entry = Entry::shared_directory(epoch);
        }
    }
}

/// Replaces the entries of `plan` by those that `tree` has at the same paths.
fn lay_over(plan: &mut FileTree, tree: &Path) -> Result<()> {
    let mut over = FileTree::new(&plan.eprefix, plan.epoch);
    scan::scan_tree(tree, &mut over)?;
    for (path, entry) in over.entries {
        let there = plan.entries.get(&path);
        if entry.is_directory() && there.is_some_and(Entry::is_directory) {
            continue;
        }
        if there.is_some() {
            if entry.is_directory() || there.is_some_and(Entry::is_directory) {
                bail!("/{} is a directory in one tree and none in the other", path.escaped());
            }
            plan.remove(&[path.clone()].into());
        }
        plan.add(path, entry)?;
    }
    Ok(())
}

fn run(plan: &mut FileTree, script: &Path, dir: &Path) -> Result<()> {
    directory::write(plan, dir, &|_| {})?;
    fake_root::command_at("mangle the content", script)?.arg(dir).dir(dir).run_quiet()?;
    let mut mangled = FileTree::new(&plan.eprefix, plan.epoch);
    scan::scan_tree(dir, &mut mangled)?;
    *plan = mangled;
    Ok(())
}
