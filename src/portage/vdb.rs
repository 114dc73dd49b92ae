//! Portage's database of installed packages (VDB): `<EROOT>/var/db/pkg/<category>/<PF>/`, with a
//! file per variable (PMS 12, and what Portage adds).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::escape::{Escape, visible_line};
use crate::base::input;
use crate::base::limits::{LIST, TEXT};
use crate::fstree::walk::TreeWalk;
use crate::portage::cpv::Cpv;
use crate::portage::{contents, sources};

/// The path of the database below EROOT.
pub(crate) const BELOW_EROOT: &str = "var/db/pkg";

/// A package in the database.
#[derive(Clone, Debug)]
pub struct VdbEntry {
    cpv: Cpv,
    dir: PathBuf,
}

/// Returns the packages in the database at `vdb`, sorted by their text. There are none where there
/// is no such directory. As in Portage, an entry without the name of a package is skipped.
///
/// # Errors
///
/// Fails if the database cannot be read.
pub fn installed(vdb: &Path) -> Result<Vec<VdbEntry>> {
    let mut packages = Vec::new();
    if !vdb.is_dir() {
        return Ok(packages);
    }
    for entry in TreeWalk::at_depth(vdb, 2) {
        let entry =
            entry.with_context(|| format!("could not read the database {}", vdb.escaped()))?;
        // An entry in the making is no package, see `MERGING`.
        if entry.file_type().is_dir()
            && let Some(cpv) = entry.below().to_str().and_then(|text| text.parse().ok())
        {
            packages.push(VdbEntry { cpv, dir: entry.into_disk() });
        }
    }
    packages.sort_by_cached_key(|package| package.cpv.to_string());
    Ok(packages)
}

/// Returns the identities of the packages in the database at `vdb`, sorted by their text.
///
/// # Errors
///
/// Fails if the database cannot be read.
pub fn packages(vdb: &Path) -> Result<Vec<Cpv>> {
    Ok(installed(vdb)?.into_iter().map(|package| package.cpv).collect())
}

/// The start of the name of an entry while Portage merges its package (`MERGING_IDENTIFIER` in
/// portage/const.py).
const MERGING: &str = "-MERGING-";

/// Returns the packages that Portage began to merge into the database at `vdb`, and did not end:
/// their files may be there, and no package owns them.
///
/// # Errors
///
/// Fails if the database cannot be read.
pub(crate) fn cut_short(vdb: &Path) -> Result<Vec<Cpv>> {
    let mut packages = Vec::new();
    if !vdb.is_dir() {
        return Ok(packages);
    }
    for entry in TreeWalk::at_depth(vdb, 2) {
        let entry =
            entry.with_context(|| format!("could not read the database {}", vdb.escaped()))?;
        let text = entry.below().to_str().filter(|text| text.contains(MERGING));
        packages.extend(text.and_then(|text| text.replacen(MERGING, "", 1).parse::<Cpv>().ok()));
    }
    Ok(packages)
}

/// A package as it was built once. `BUILD_ID` counts the builds of a version in a PKGDIR, and begins
/// anew in another one; `BUILD_TIME` tells those apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BuildIdentity {
    pub cpv: Cpv,
    /// The slot, without the subslot.
    pub slot: String,
    /// Empty where the package was never in a binary package.
    pub build_id: String,
    pub build_time: String,
}

/// Returns the builds of the packages in the database at `vdb`, sorted by the text of the package.
///
/// # Errors
///
/// Fails if the database cannot be read.
pub(crate) fn builds(vdb: &Path) -> Result<Vec<BuildIdentity>> {
    let identity = |entry: VdbEntry| {
        let slot = entry.read("SLOT")?;
        Ok(BuildIdentity {
            slot: slot.trim().split('/').next().unwrap_or_default().to_owned(),
            build_id: entry.read("BUILD_ID")?.trim().to_owned(),
            build_time: entry.read("BUILD_TIME")?.trim().to_owned(),
            cpv: entry.cpv,
        })
    };
    installed(vdb)?.into_iter().map(identity).collect()
}

/// Returns the entry of `cpv` in the database at `vdb`, if it is installed there.
pub(crate) fn find(vdb: &Path, cpv: &Cpv) -> Option<VdbEntry> {
    let dir = vdb.join(cpv.category()).join(cpv.pf());
    dir.is_dir().then(|| VdbEntry { cpv: cpv.clone(), dir })
}

/// Returns the packages in the database at `vdb` that were built from the repository `name`.
pub(crate) fn from_repository(vdb: &Path, name: &str) -> Result<Vec<Cpv>> {
    let mut from = Vec::new();
    for package in installed(vdb)? {
        if package.read("repository")?.trim() == name {
            from.push(package.cpv);
        }
    }
    Ok(from)
}

impl VdbEntry {
    /// Returns the package's identity.
    pub fn cpv(&self) -> &Cpv {
        &self.cpv
    }

    /// Returns the content of the file `name`; empty where there is none. Values may be in any
    /// encoding, so what is not UTF-8 is replaced.
    ///
    /// # Errors
    ///
    /// Fails if the file is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<String> {
        let file = self.dir.join(name);
        // Portage makes no links here. In the database of somebody else, a link may lead anywhere.
        if !file.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            return Ok(String::new());
        }
        input::read_lossy(&file, if name == "CONTENTS" { LIST } else { TEXT })
    }

    /// Returns the content of the file `name` in one line, with single spaces between words, as
    /// messages and lists show it.
    pub(crate) fn read_line(&self, name: &str) -> Result<String> {
        let line = self.read(name)?.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(visible_line(line.as_bytes()))
    }

    /// Returns whether the file `name` has the word `word`.
    pub(crate) fn has_word(&self, name: &str, word: &str) -> Result<bool> {
        Ok(self.read(name)?.split_whitespace().any(|is| is == word))
    }

    /// Returns those USE flags of the package's IUSE that were set, sorted.
    pub(crate) fn use_flags(&self) -> Result<Vec<String>> {
        let (iuse, set) = (self.read("IUSE")?, self.read("USE")?);
        let own: BTreeSet<&str> =
            iuse.split_whitespace().map(|flag| flag.trim_start_matches(['+', '-'])).collect();
        let set: BTreeSet<&str> = set.split_whitespace().collect();
        Ok(set.intersection(&own).map(|flag| (*flag).to_owned()).collect())
    }

    /// Returns the paths of the files and links that the package installed, relative to ROOT.
    ///
    /// # Errors
    ///
    /// Fails if CONTENTS is there and cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        Ok(contents::files(&self.read("CONTENTS")?))
    }

    /// Returns `SRC_URI` as pairs of URI and file name, out of the environment of the build; none
    /// where Portage kept no environment.
    pub(crate) fn sources(&self) -> Result<Vec<(String, String)>> {
        let environment = self.dir.join("environment.bz2");
        if !environment.is_file() {
            return Ok(Vec::new());
        }
        sources::read_environment(&environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(vdb: &Path, package: &str, files: &[(&str, &str)]) {
        let dir = vdb.join(package);
        fs_err::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            fs_err::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn lists_packages_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let vdb = dir.path();
        for package in ["a/b-10", "a/b-9", "a-b/c-1", "a/-MERGING-d-1", "a/.cache", "a/b"] {
            write(vdb, package, &[]);
        }
        fs_err::write(vdb.join("a/e-1"), "").unwrap();
        let texts: Vec<String> = packages(vdb).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["a-b/c-1", "a/b-10", "a/b-9"]);
        assert!(packages(&vdb.join("none")).unwrap().is_empty());
        assert_eq!(cut_short(vdb).unwrap(), ["a/d-1".parse().unwrap()]);
        assert!(cut_short(&vdb.join("none")).unwrap().is_empty());
        assert!(find(vdb, &"a/b-9".parse().unwrap()).is_some());
        assert!(find(vdb, &"a/b-8".parse().unwrap()).is_none());
    }

    #[test]
    fn reads_values() {
        let dir = tempfile::tempdir().unwrap();
        let values = [
            ("repository", "gentoo\n"),
            ("DESCRIPTION", " two \n words\n"),
            ("IUSE", "+ssl -x y z"),
            ("USE", "z amd64 x ssl"),
            ("RESTRICT", "mirror strip"),
            ("CONTENTS", "dir /usr\nobj /usr/a 0 1\n"),
        ];
        write(dir.path(), "a/b-1", &values);
        let [package] = installed(dir.path()).unwrap().try_into().unwrap();
        assert_eq!(package.read_line("DESCRIPTION").unwrap(), "two words");
        assert_eq!(package.read("HOMEPAGE").unwrap(), "");
        assert_eq!(package.use_flags().unwrap(), ["ssl", "x", "z"]);
        assert!(package.has_word("RESTRICT", "strip").unwrap());
        assert!(!package.has_word("RESTRICT", "str").unwrap());
        assert_eq!(package.files().unwrap(), [PathBuf::from("usr/a")]);
        assert!(package.sources().unwrap().is_empty());
        assert_eq!(from_repository(dir.path(), "gentoo").unwrap(), [package.cpv().clone()]);
        assert!(from_repository(dir.path(), "gent").unwrap().is_empty());
    }
}
