//! Files that are not stripped: those that packages exclude, and those that the user names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize, Serializer};

use crate::portage::atom::Atom;
use crate::portage::vdb;
use crate::prefix::final_root::FinalRoot;

/// Files that the user names to keep their symbols: by package or by path.
#[derive(Clone, Debug)]
pub(crate) enum KeepSymbols {
    /// Files of this package.
    Package(Atom),
    /// Files at these paths, as programs see them.
    Paths(GlobMatcher),
}

impl FromStr for KeepSymbols {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            let glob = GlobBuilder::new(text)
                .literal_separator(true)
                .empty_alternates(true)
                .build()
                .with_context(|| format!("{text:?} is no pattern of paths"))?;
            return Ok(Self::Paths(glob.compile_matcher()));
        }
        let atom: Atom = text.parse().with_context(|| {
            format!("{text:?} has to be a package or a path as programs see it, from / on")
        })?;
        if atom.package() != atom.as_str() {
            bail!("{text:?} has to be CATEGORY/NAME alone, like {}", atom.package());
        }
        Ok(Self::Package(atom))
    }
}

impl Serialize for KeepSymbols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for KeepSymbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Package(atom) => atom.fmt(f),
            Self::Paths(glob) => glob.glob().fmt(f),
        }
    }
}

/// A file that keeps its symbols.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct KeptSymbols {
    /// Path of the file, as programs see it.
    pub path: String,
    /// Reason.
    pub why: String,
}

/// Files of a root that are not stripped.
#[derive(Debug, Default)]
pub(super) struct KeptFiles<'a> {
    paths: Vec<&'a GlobMatcher>,
    /// Reasons by path, without a leading slash.
    files: BTreeMap<PathBuf, String>,
}

impl<'a> KeptFiles<'a> {
    /// Returns the files that the packages in `root` exclude, and those in `keep`.
    pub(super) fn collect(root: &FinalRoot, keep: &'a [KeepSymbols]) -> Result<Self> {
        let mut exceptions = Self::default();
        let mut atoms = BTreeMap::new();
        for named in keep {
            match named {
                KeepSymbols::Paths(paths) => exceptions.paths.push(paths),
                KeepSymbols::Package(atom) => drop(atoms.insert(atom.package(), false)),
            }
        }
        for package in vdb::installed(&root.vdb())? {
            let cpv = package.cpv();
            let why = if let Some(found) = atoms.get_mut(cpv.package().as_str()) {
                *found = true;
                format!("{cpv} was named")
            } else if package.has_word("RESTRICT", "strip")? {
                format!("{cpv} has RESTRICT=strip")
            } else if package.has_word("FEATURES", "nostrip")? {
                format!("{cpv} was built with FEATURES=nostrip")
            } else {
                continue;
            };
            exceptions.files.extend(package.files()?.into_iter().map(|file| (file, why.clone())));
        }
        if let Some((atom, _)) = atoms.iter().find(|(_, found)| !**found) {
            bail!("{atom} is to keep its symbols, and is not installed in the prefix");
        }
        Ok(exceptions)
    }

    /// Returns the reason to keep the symbols of the file at `path`, which has no leading slash;
    /// `None` if the file is stripped.
    pub(super) fn reason_to_keep(&self, path: &Path) -> Option<String> {
        let absolute = Path::new("/").join(path);
        if let Some(paths) = self.paths.iter().find(|paths| paths.is_match(&absolute)) {
            return Some(format!("{} was named", paths.glob()));
        }
        self.files.get(path).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_paths() {
        assert!(matches!("dev-lang/go".parse(), Ok(KeepSymbols::Package(_))));
        let Ok(KeepSymbols::Paths(paths)) = "/usr/local/x/usr/bin/*".parse() else {
            panic!("no paths")
        };
        assert!(paths.is_match("/usr/local/x/usr/bin/a"));
        assert!(!paths.is_match("/usr/local/x/usr/bin/a/b"));
        for bad in ["", "go", ">=dev-lang/go-1", "dev-lang/go:0", "usr/lib64/a.so", "/usr/{a"] {
            assert!(bad.parse::<KeepSymbols>().is_err(), "{bad}");
        }
    }
}
