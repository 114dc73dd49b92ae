//! The index of a PKGDIR, the file `Packages` (portage(5), BINARY PACKAGES): a paragraph of
//! `KEY: VALUE` lines per binary package. Portage trusts it (make.conf(5), `pkgdir-index-trusted`),
//! and does not find a package that is missing in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::input;
use crate::base::limits::LIST;
use crate::fstree::walk::TreeWalk;
use crate::portage::cpv::Cpv;

/// The name of the index in a PKGDIR.
pub(crate) const FILE: &str = "Packages";

/// Endings of the names of binary packages (make.conf(5), `BINPKG_FORMAT`).
const SUFFIXES: [&str; 3] = [".gpkg.tar", ".xpak", ".tbz2"];

/// The binary packages of a PKGDIR.
#[derive(Debug, Default)]
pub(crate) struct PackagesIndex {
    /// Paths below PKGDIR, by package and `BUILD_ID`; the latter is empty where a package has none.
    paths: BTreeMap<(Cpv, String), String>,
    /// Sizes by path; `None` where the index has none.
    sizes: BTreeMap<PathBuf, Option<u64>>,
}

impl PackagesIndex {
    /// Loads the index of `pkgdir`; it is empty where there is none. A damaged one is read as far as
    /// it can be.
    pub(crate) fn load(pkgdir: &Path) -> Result<Self> {
        let file = pkgdir.join(FILE);
        if !file.is_file() {
            return Ok(Self::default());
        }
        Ok(Self::parse(&input::read_lossy(&file, LIST)?))
    }

    /// Parses the text of an index.
    pub(crate) fn parse(text: &str) -> Self {
        let mut index = Self::default();
        for paragraph in text.split("\n\n") {
            let field = |key: &str| {
                let value =
                    |line: &str| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned());
                paragraph.lines().find_map(value)
            };
            let Some(path) = field("PATH") else { continue };
            let size = field("SIZE").and_then(|size| size.parse().ok());
            index.sizes.insert(path.clone().into(), size);
            if let Some(cpv) = field("CPV").and_then(|cpv| cpv.parse().ok()) {
                index.paths.insert((cpv, field("BUILD_ID").unwrap_or_default()), path);
            }
        }
        index
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

/// Returns whether a file of this name is a binary package.
pub(crate) fn is_package(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Returns the packages in which the index of `pkgdir` and the files there differ, as paths below
/// it, sorted: files that the index lacks or has with another size, and entries without a file.
///
/// # Errors
///
/// Fails if the directory or the index cannot be read.
pub(crate) fn list_differences(pkgdir: &Path) -> Result<Vec<PathBuf>> {
    let mut different = Vec::new();
    if !pkgdir.is_dir() {
        return Ok(different);
    }
    let mut listed = PackagesIndex::load(pkgdir)?.sizes;
    for entry in TreeWalk::below(pkgdir) {
        let entry = entry?;
        let name = entry.below().to_string_lossy();
        if !entry.file_type().is_file() || !is_package(&name) {
            continue;
        }
        let size = fs_err::symlink_metadata(pkgdir.join(entry.below()))?.len();
        if listed.remove(entry.below()) != Some(Some(size)) {
            different.push(entry.below().to_owned());
        }
    }
    different.extend(listed.into_keys());
    different.sort();
    Ok(different)
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

    #[test]
    fn what_an_index_lacks() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list_differences(dir.path()).unwrap().is_empty());
        for (file, text) in [
            ("a/b/b-1-1.gpkg.tar", "123"),
            ("a/c-1.tbz2", "12"),
            ("a/b/b-1-1.gpkg.tar.lock", ""),
            ("a/b/b-2-1.gpkg.tar", ""),
        ] {
            let file = dir.path().join(file);
            fs_err::create_dir_all(file.parent().unwrap()).unwrap();
            fs_err::write(file, text).unwrap();
        }
        let differences = |index: &str| {
            fs_err::write(dir.path().join(FILE), index).unwrap();
            let found = list_differences(dir.path()).unwrap();
            found.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let all = ["a/b/b-1-1.gpkg.tar", "a/b/b-2-1.gpkg.tar", "a/c-1.tbz2"];
        assert_eq!(differences("\0\u{fffd}"), all);
        let whole = "PACKAGES: 3\n\nCPV: a/b-1\nPATH: a/b/b-1-1.gpkg.tar\nSIZE: 3\n\n\
                     PATH: a/b/b-2-1.gpkg.tar\nSIZE: 0\n\nSIZE: 2\nPATH: a/c-1.tbz2\n";
        assert!(differences(whole).is_empty());
        assert_eq!(differences(&whole.replace("SIZE: 3", "SIZE: 4")), all[..1]);
        let more = format!("{whole}\nPATH: a/gone/gone-1-1.gpkg.tar\nSIZE: 1\n");
        assert_eq!(differences(&more), ["a/gone/gone-1-1.gpkg.tar"]);
    }
}
