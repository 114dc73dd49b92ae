//! Trees, as `--tree` names them. A tree is either one repository that stands alone, like Gentoo's, or a folder
//! of repositories that build upon each other, like `third_party` of a flatcar/scripts checkout.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::portage::repos::{is_repository, masters_of, name_of};

/// The folder of repositories in a checkout of flatcar/scripts.
const THIRD_PARTY: &str = "sdk_container/src/third_party";

/// The folder of a repository with the Portage configuration for its prefixes: Flatcar's
/// prefix-overlay has one, which `setup_prefix` copies.
pub(crate) const SKELETON: &str = "skel/etc/portage";

/// The repositories of the tree at `path`, lowest priority first; the first is the main one.
pub(crate) fn repositories(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    if !path.is_dir() {
        bail!("there is no directory {}", path.escaped());
    }
    if is_repository(path) {
        return Ok(vec![(name_of(path)?, path.to_owned())]);
    }
    let below = path.join(THIRD_PARTY);
    let path = if below.is_dir() { below.as_path() } else { path };
    let mut found = Vec::new();
    for entry in fs_err::read_dir(path)? {
        let dir = entry?.path();
        if is_repository(&dir) {
            found.push((name_of(&dir)?, dir));
        }
    }
    found.sort();
    if found.is_empty() {
        bail!(
            "{} is no ebuild tree: it is neither a repository (profiles/repo_name) nor a folder of \
             some; give Gentoo's repository, or a checkout of flatcar/scripts",
            path.escaped()
        );
    }
    masters_first(path, found)
}

/// Orders repositories so that each comes after those that it builds upon. Where that leaves a
/// choice the order is by name, which is Flatcar's own: its prefix-overlay wins over
/// coreos-overlay, that over portage-stable.
fn masters_first(tree: &Path, mut rest: Vec<(String, PathBuf)>) -> Result<Vec<(String, PathBuf)>> {
    let mut ordered: Vec<(String, PathBuf)> = Vec::new();
    while !rest.is_empty() {
        let mut ready = None;
        for (at, (_, path)) in rest.iter().enumerate() {
            let masters = masters_of(path)?;
            if !rest.iter().any(|(name, _)| masters.contains(name)) {
                ready = Some(at);
                break;
            }
        }
        let Some(at) = ready else {
            let names: Vec<&str> = rest.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "the repositories in {} name each other as masters, so none can be the first: {}",
                tree.escaped(),
                names.join(", ")
            );
        };
        ordered.push(rest.remove(at));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(dir: &Path, name: &str, masters: &str) {
        fs_err::create_dir_all(dir.join("profiles")).unwrap();
        fs_err::create_dir_all(dir.join("metadata")).unwrap();
        fs_err::write(dir.join("profiles/repo_name"), name).unwrap();
        fs_err::write(dir.join("metadata/layout.conf"), format!("masters = {masters}\n")).unwrap();
    }

    fn names(path: &Path) -> Vec<String> {
        repositories(path).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn folders_and_checkouts() {
        let dir = tempfile::tempdir().unwrap();
        let third_party = dir.path().join(THIRD_PARTY);
        assert!(repositories(dir.path()).is_err());
        repository(&third_party.join("a-stable"), "zz-main", "");
        repository(&third_party.join("one"), "one", "zz-main");
        repository(&third_party.join("two"), "after", "one zz-main");
        fs_err::create_dir_all(third_party.join("no-repository")).unwrap();
        assert_eq!(names(dir.path()), ["zz-main", "one", "after"]);
        assert_eq!(names(&third_party), ["zz-main", "one", "after"]);
        assert_eq!(names(&third_party.join("one")), ["one"]);
        repository(&third_party.join("a-stable"), "zz-main", "after");
        let error = repositories(&third_party).unwrap_err().to_string();
        assert!(error.contains("name each other as masters"), "{error}");
    }
}
