//! A root that holds a prefix: final's, or any other tree of which somebody says where its
//! prefix is. Rewriting, checking and packing work on it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::definition::Prefix;
use crate::layout::Environment;
use crate::names::Eprefix;

/// A root directory with a prefix in it.
#[derive(Clone, Debug)]
pub struct FinalRoot {
    root: PathBuf,
    eprefix: Eprefix,
}

impl FinalRoot {
    /// Opens the tree at `root`, in which programs live at `eprefix`.
    pub fn open(root: &Path, eprefix: &Eprefix) -> Result<Self> {
        if !root.is_dir() {
            bail!("there is no directory {}", root.display());
        }
        let root = fs_err::canonicalize(root)?;
        let inside = eprefix.below(&root);
        if !inside.is_dir() {
            bail!("{} has no prefix at {eprefix}: {} is missing", root.display(), inside.display());
        }
        Ok(Self { root, eprefix: eprefix.clone() })
    }

    /// The final root of `prefix`.
    pub fn of(prefix: &Prefix) -> Result<Self> {
        Self::open(&prefix.layout.root(Environment::Final), prefix.layout.eprefix())
    }

    /// The root directory on disk.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// EPREFIX.
    pub fn eprefix(&self) -> &Eprefix {
        &self.eprefix
    }

    /// The prefix on disk: EROOT.
    pub fn eroot(&self) -> PathBuf {
        self.eprefix.below(&self.root)
    }

    /// Where a path that programs use is on disk, links not resolved.
    pub fn on_disk(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Portage's database in it.
    pub fn vdb(&self) -> PathBuf {
        self.eroot().join("var/db/pkg")
    }
}
