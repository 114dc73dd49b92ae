//! A root that holds a prefix: final's, or any other tree of which somebody says where its
//! prefix is. Rewriting, checking and packing work on it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::base::names::{Environment, Eprefix};
use crate::portage::{vdb, world};
use crate::prefix::definition::Prefix;

/// A root directory with a prefix in it.
#[derive(Clone, Debug)]
pub(crate) struct FinalRoot {
    root: PathBuf,
    eprefix: Eprefix,
    origin: Origin,
    /// EPREFIX that its files were built for, if it is another.
    former: Option<Eprefix>,
}

/// The origin of a root, which decides how a finding in it is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A tree that somebody named.
    Tree,
    /// The final environment of a prefix that fprefix set up.
    Prefix {
        /// The value for `-P`.
        name: String,
        /// The command that brings it up to date, where another fprefix made it.
        update: Option<String>,
        /// The file in which the user says what is there although Portage did not install it.
        provided: PathBuf,
        /// Portage's database of staging.
        staging: PathBuf,
    },
}

impl FinalRoot {
    /// Opens the tree at `root`, in which programs live at `eprefix`.
    pub(crate) fn open(root: &Path, eprefix: &Eprefix) -> Result<Self> {
        if !root.is_dir() {
            bail!("there is no directory {}", root.escaped());
        }
        let root = fs_err::canonicalize(root)?;
        let inside = eprefix.below(&root);
        if !inside.is_dir() {
            bail!("{} has no prefix at {eprefix}: {} is missing", root.escaped(), inside.escaped());
        }
        Ok(Self { root, eprefix: eprefix.clone(), origin: Origin::Tree, former: None })
    }

    /// The final root of `prefix`.
    pub(crate) fn of_prefix(prefix: &Prefix) -> Result<Self> {
        let (name, update) = (prefix.definition.id.to_string(), prefix.update_command()?);
        let root = Self::open(&prefix.layout.root(Environment::Final), prefix.layout.eprefix())?;
        let provided = prefix.layout.package_provided(Environment::Final);
        let staging = prefix.layout.vdb(Environment::Staging);
        let former = prefix.layout.is_relocatable().then(Eprefix::canonical);
        Ok(Self { origin: Origin::Prefix { name, update, provided, staging }, former, ..root })
    }

    /// The same root, whose files were built for the prefix `former`.
    pub(crate) fn relocated_from(self, former: Eprefix) -> Self {
        Self { former: Some(former), ..self }
    }

    /// The EPREFIX that its files were built for, if it is another.
    pub(crate) fn former_eprefix(&self) -> Option<&Eprefix> {
        self.former.as_ref()
    }

    /// Returns the origin of the root.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The root directory on disk.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// EPREFIX.
    pub(crate) fn eprefix(&self) -> &Eprefix {
        &self.eprefix
    }

    /// The prefix on disk: EROOT.
    pub(crate) fn eroot(&self) -> PathBuf {
        self.eprefix.below(&self.root)
    }

    /// Returns the place on disk of a path that programs use; links are not resolved.
    pub(crate) fn on_disk(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Portage's database in it.
    pub(crate) fn vdb(&self) -> PathBuf {
        self.eroot().join(vdb::BELOW_EROOT)
    }

    /// The packages that somebody asked for (portage(5), `/var/lib/portage/world`).
    pub(crate) fn world(&self) -> PathBuf {
        self.eroot().join(world::BELOW_EROOT)
    }
}
