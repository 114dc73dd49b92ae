//! The index of the binary packages in a PKGDIR, by which Portage finds them (`Packages`). Portage
//! trusts it (make.conf(5), `pkgdir-index-trusted`), and says of what is missing in it that there
//! is no such package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::input;
use crate::base::limits::LIST;
use crate::fstree::walk::TreeWalk;

/// The name of the index below PKGDIR.
const INDEX: &str = "Packages";

/// Endings of the names of binary packages (make.conf(5), `BINPKG_FORMAT`).
const SUFFIXES: [&str; 3] = [".gpkg.tar", ".xpak", ".tbz2"];

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
    let mut listed = read(&pkgdir.join(INDEX))?;
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

/// Returns the paths in an index, each with its size; none where there is no index. What is damaged
/// is read as far as it can be.
fn read(index: &Path) -> Result<BTreeMap<PathBuf, Option<u64>>> {
    if !index.is_file() {
        return Ok(BTreeMap::new());
    }
    let text = input::read_lossy(index, LIST)?;
    let entries = text.split("\n\n").filter_map(|entry| {
        let value = |wanted: &str| {
            let mut pairs = entry.lines().filter_map(|line| line.split_once(": "));
            pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value)
        };
        Some((PathBuf::from(value("PATH")?), value("SIZE").and_then(|size| size.parse().ok())))
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            fs_err::write(dir.path().join(INDEX), index).unwrap();
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
