//! The index of a PKGDIR, the file `Packages` (portage(5), BINARY PACKAGES): a paragraph of
//! `KEY: VALUE` lines per binary package.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::base::input;
use crate::base::limits::LIST;
use crate::portage::cpv::Cpv;

/// The name of the index in a PKGDIR.
pub(crate) const FILE: &str = "Packages";

/// The binary packages of a PKGDIR.
#[derive(Debug, Default)]
pub(crate) struct PackagesIndex {
    /// Paths below PKGDIR, by package and `BUILD_ID`; the latter is empty where a package has none.
    paths: BTreeMap<(Cpv, String), String>,
}

impl PackagesIndex {
    /// Loads the index of `pkgdir`; it is empty where there is none.
    pub(crate) fn load(pkgdir: &Path) -> Result<Self> {
        let file = pkgdir.join(FILE);
        if !file.is_file() {
            return Ok(Self::default());
        }
        Ok(Self::parse(&input::read_text(&file, LIST)?))
    }

    /// Parses the text of an index.
    pub(crate) fn parse(text: &str) -> Self {
        let mut paths = BTreeMap::new();
        for paragraph in text.split("\n\n") {
            let field = |key: &str| {
                let value =
                    |line: &str| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned());
                paragraph.lines().find_map(value)
            };
            let cpv = field("CPV").and_then(|cpv| cpv.parse().ok());
            if let (Some(cpv), Some(path)) = (cpv, field("PATH")) {
                paths.insert((cpv, field("BUILD_ID").unwrap_or_default()), path);
            }
        }
        Self { paths }
    }

    /// Returns the builds: packages, each with its `BUILD_ID`, which may be empty.
    pub(crate) fn builds(&self) -> impl Iterator<Item = (&Cpv, &str)> {
        self.paths.keys().map(|(cpv, build_id)| (cpv, build_id.as_str()))
    }

    /// Returns the path below PKGDIR of the build `build_id` of `cpv`.
    pub(crate) fn path(&self, cpv: &Cpv, build_id: &str) -> Option<&str> {
        self.paths.get(&(cpv.clone(), build_id.to_owned())).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_packages_by_build() {
        let index = PackagesIndex::parse(
            "ARCH: amd64\nPACKAGES: 4\n\n\
             BUILD_ID: 1\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 5\n\n\
             BUILD_ID: 2\nCPV: a/b-1\nPATH: a/b/b-1-2.gpkg.tar\n\n\
             CPV: a/c-2-r1\nPATH: a/c-2-r1.tbz2\n\n\
             CPV: a/no-path-1\n\nCPV: nothing\nPATH: x\n",
        );
        let path = |cpv: &str, build: &str| index.path(&cpv.parse().unwrap(), build);
        assert_eq!(path("a/b-1", "1"), Some("a/b/b-1-1.gpkg.tar"));
        assert_eq!(path("a/b-1", "2"), Some("a/b/b-1-2.gpkg.tar"));
        assert_eq!(path("a/b-1", ""), None);
        assert_eq!(path("a/c-2-r1", ""), Some("a/c-2-r1.tbz2"));
        assert_eq!(path("a/no-path-1", ""), None);
        assert_eq!(index.paths.len(), 3);
    }

    #[test]
    fn a_pkgdir_without_an_index() {
        let dir = tempfile::tempdir().unwrap();
        assert!(PackagesIndex::load(dir.path()).unwrap().paths.is_empty());
    }
}
