//! Files that the target already has: an earlier extension for the same prefix, or a root
//! directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::names::Eprefix;
use crate::base::scratch::ScratchDir;
use crate::fstree::entries::{Entry, FileTree};
use crate::fstree::resolve::ResolvedPath;
use crate::fstree::root_dir::RootDir;
use crate::imagefmt::image_format::ImageFormat;
use crate::imagefmt::squashfs;
use crate::portage::cpv::Cpv;
use crate::portage::vdb;
use crate::prefix::final_root::FinalRoot;

/// Suffix of the file name of a package information image.
pub(crate) const SUFFIX: &str = "_pkginfo.raw";

/// A root directory or a package information image that describes the target.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    /// Root directory; for an image, the directory it was unpacked to.
    pub root: RootDir,
    _unpacked: Option<std::sync::Arc<ScratchDir>>,
}

impl Base {
    /// Opens a root directory, or an image that `--pkginfo` wrote.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self { root: RootDir::open(path)?, _unpacked: None });
        }
        if !path.is_file() {
            bail!("there is no root directory or package information at {}", path.escaped());
        }
        let dir = ScratchDir::new()?;
        let root = dir.path().join("root");
        squashfs::FORMAT
            .unpack(path, &root)
            .with_context(|| format!("{} cannot be unpacked", path.escaped()))?;
        Ok(Self { root: RootDir::open(&root)?, _unpacked: Some(std::sync::Arc::new(dir)) })
    }

    /// Returns the packages installed in the prefix at `eprefix`. Packages outside the prefix are
    /// of no use to a prefix.
    fn packages(&self, eprefix: &Eprefix) -> Result<Vec<Cpv>> {
        match self.root.resolve(&eprefix.as_path().join(vdb::BELOW_EROOT)) {
            ResolvedPath::There { disk, .. } => vdb::packages(&disk),
            _ => Ok(Vec::new()),
        }
    }
}

/// Removes from `plan` the files of packages that `bases` have installed. Files that another
/// package shares stay. Returns the names of the packages.
pub(crate) fn leave_out(plan: &mut FileTree, root: &FinalRoot, bases: &[Base]) -> Result<Vec<Cpv>> {
    let mut known = BTreeSet::new();
    for base in bases {
        known.extend(base.packages(root.eprefix())?);
    }
    let (mut theirs, mut ours, mut names) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for package in vdb::installed(&root.vdb())? {
        let files = package.files()?;
        if known.contains(package.cpv()) {
            names.push(package.cpv().clone());
            theirs.extend(files);
        } else {
            ours.extend(files);
        }
    }
    let gone = theirs
        .difference(&ours)
        .filter(|path| plan.entries.get(*path).is_some_and(|entry| !Entry::is_directory(entry)));
    let gone: BTreeSet<PathBuf> = gone.cloned().collect();
    plan.remove(&gone);
    Ok(names)
}

/// Returns the package database alone, for an image that later extensions are packed against.
pub(crate) fn package_information(plan: &FileTree) -> Result<FileTree> {
    let mut information = FileTree::new(&plan.eprefix, plan.epoch);
    let database = plan.prefix_path().join(vdb::BELOW_EROOT);
    for (path, entry) in plan.entries.iter().filter(|(path, _)| path.starts_with(&database)) {
        information.add(path, entry.clone())?;
    }
    Ok(information)
}
