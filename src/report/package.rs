//! Facts about installed packages that the reports list.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::portage::cpv::Cpv;
use crate::portage::vdb::{self, VdbEntry};

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstalledPackage {
    pub cpv: Cpv,
    /// Repository of its ebuild.
    pub repository: String,
    /// LICENSE, with USE conditions resolved.
    pub license: String,
    /// DESCRIPTION.
    pub description: String,
    /// HOMEPAGE.
    pub homepage: String,
    /// `SRC_URI` as pairs of URI and file name.
    pub sources: Vec<(String, String)>,
    /// Files and links that it installed, relative to ROOT.
    pub files: Vec<PathBuf>,
}

impl InstalledPackage {
    /// Returns `category/PF::repository`, as in Flatcar's lists.
    pub(crate) fn project(&self) -> String {
        format!("{}::{}", self.cpv, self.repository)
    }

    fn load(installed: &VdbEntry) -> Result<Self> {
        Ok(Self {
            cpv: installed.cpv().clone(),
            repository: installed.read_line("repository")?,
            license: installed.read_line("LICENSE")?,
            description: installed.read_line("DESCRIPTION")?,
            homepage: installed.read_line("HOMEPAGE")?,
            sources: installed.sources()?,
            files: installed.files()?,
        })
    }
}

/// Returns all packages in the database at `vdb`, sorted.
pub(crate) fn installed(vdb: &Path) -> Result<Vec<InstalledPackage>> {
    vdb::installed(vdb)?
        .iter()
        .map(|package| {
            InstalledPackage::load(package)
                .with_context(|| format!("could not read the database entry of {}", package.cpv()))
        })
        .collect()
}

/// Renders a line per package: `category/PF::repository`.
pub(super) fn list(packages: &[InstalledPackage]) -> String {
    packages.iter().map(|package| package.project() + "\n").collect()
}
