//! Rules about what Portage knows of files: which packages own them, and which it merely keeps.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::check::{Detail, Fact, FactKind, Scene};
use crate::portage::ownership::PackageOwnership;
use crate::portage::preserved;
use crate::prefix::final_root::FinalRoot;

/// Portage's knowledge of a root.
#[derive(Debug, Default)]
pub(super) struct PackageRecords {
    /// `None` where Portage installed nothing.
    ownership: Option<PackageOwnership>,
    preserved: HashSet<PathBuf>,
}

impl PackageRecords {
    /// Reads the records in `root`.
    pub(super) fn read(root: &FinalRoot) -> Result<Self> {
        let eprefix = root.eprefix().as_path();
        Ok(Self {
            ownership: PackageOwnership::read(root.path(), eprefix, &root.vdb())?,
            preserved: preserved::list(&root.eroot())?.into_iter().collect(),
        })
    }
}

pub(super) fn check_unowned(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(ownership) = &scene.records.ownership else { return Vec::new() };
    // The entries of a directory speak for it. What a step of ours adds is not on disk.
    let is_directory = matches!(fact.kind, FactKind::Directory);
    let is_there = || scene.root.on_disk(&fact.path).symlink_metadata().is_ok();
    if is_directory || !ownership.is_unowned(&fact.path) || !is_there() {
        return Vec::new();
    }
    vec![Detail::note("was installed by no package")]
}

pub(super) fn check_preserved(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !scene.records.preserved.contains(&fact.path) {
        return Vec::new();
    }
    vec![Detail::note("is kept by Portage for programs that were built with it")]
}
