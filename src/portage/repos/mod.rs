//! Ebuild repositories: the files that make a directory one, and its path in the sandbox.

mod configured;
mod profile;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::inside::{InsidePath, OWN_REPOS, REPOS};
use crate::base::limits::TEXT;
use crate::base::names;
use crate::fstree::walk::TreeWalk;

pub(crate) use crate::portage::repos::configured::list_places as places_of_machine;
pub(crate) use crate::portage::repos::configured::of_machine as repositories_of_machine;
pub(crate) use crate::portage::repos::profile::{
    check as check_profile, for_board as profile_for_board, is_profile,
};
pub(crate) use crate::portage::repos::tree::{SKELETON, repositories as repositories_of_tree};

/// The name of the built-in repository.
pub(crate) const BUILT_IN: &str = "fprefix";
/// The name of the repository that carries the imported toolchain.
pub(crate) const TOOLCHAIN: &str = "fprefix-toolchain";

/// Returns the path of the repository `name` in the sandbox.
pub(crate) fn inside(name: &str) -> InsidePath {
    match name {
        BUILT_IN | TOOLCHAIN => OWN_REPOS.join(name),
        _ => REPOS.join(name),
    }
}

/// The name of the repository at `path` (PMS 3.1.5, with layout.conf(5) as Portage reads it).
pub(crate) fn name_of(path: &Path) -> Result<String> {
    if !path.is_dir() {
        bail!("there is no directory {}", path.escaped());
    }
    let file = path.join("profiles/repo_name");
    let name = if file.is_file() {
        input::read_text(&file, TEXT)?.trim().to_owned()
    } else {
        name_in_layout(path)?.with_context(|| {
            format!(
                "{} is not an ebuild repository: it has neither profiles/repo_name nor a \
                 repo-name in metadata/layout.conf",
                path.escaped()
            )
        })?
    };
    if !names::is_repo_name(&name) {
        bail!("{} says that its name is {name:?}, which no repository can have", path.escaped());
    }
    Ok(name)
}

fn name_in_layout(path: &Path) -> Result<Option<String>> {
    in_layout(path, "repo-name")
}

/// The repositories that the one at `path` builds upon, by name (layout.conf(5)).
pub(crate) fn masters_of(path: &Path) -> Result<Vec<String>> {
    let masters = in_layout(path, "masters")?.unwrap_or_default();
    Ok(masters.split_whitespace().map(str::to_owned).collect())
}

/// Returns the name of the main repository among `repos`, which are names and places: the first one
/// whose layout.conf says that it has no masters, as Gentoo's does, or one that is silent about masters
/// and is the master of another one, as in Flatcar's checkout. Portage takes the main repository as
/// the master of those that name none, and finds no ebuild at all where that has no eclasses.
pub(crate) fn find_main<'a>(repos: &[(&'a str, &Path)]) -> Option<&'a str> {
    let masters_in = |path: &Path| in_layout(path, "masters").ok().flatten();
    let is_master = |name: &str| {
        repos.iter().filter_map(|(_, path)| masters_of(path).ok()).flatten().any(|of| of == name)
    };
    let with_eclasses = || repos.iter().filter(|(_, path)| path.join("eclass").is_dir());
    with_eclasses()
        .find(|(_, path)| masters_in(path).is_some_and(|masters| masters.is_empty()))
        .or_else(|| {
            with_eclasses().find(|(name, path)| masters_in(path).is_none() && is_master(name))
        })
        .map(|(name, _)| *name)
}

/// The directory of security advisories (GLSA) in the repository at `path`; `None` where it has none.
pub(crate) fn advisories(path: &Path) -> Option<PathBuf> {
    let dir = path.join("metadata/glsa");
    let is_advisory = |entry: fs_err::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("glsa-") && name.ends_with(".xml")
    };
    let mut entries = fs_err::read_dir(&dir).ok()?.flatten();
    entries.any(is_advisory).then_some(dir)
}

/// Returns whether the directory `path` is a repository.
pub(crate) fn is_repository(path: &Path) -> bool {
    path.join("profiles/repo_name").is_file() || path.join("metadata/layout.conf").is_file()
}

/// Returns whether the repository at `path` has ebuilds of `package`, which is `category/name`.
pub(crate) fn has_package(path: &Path, package: &str) -> bool {
    let Ok(entries) = fs_err::read_dir(path.join(package)) else { return false };
    entries.flatten().any(|entry| {
        Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "ebuild")
    })
}

/// The packages of which the repository at `path` has ebuilds, as `category/name`, sorted.
pub(crate) fn packages(path: &Path) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    if !path.is_dir() {
        return Ok(packages);
    }
    for entry in TreeWalk::at_depth(path, 2) {
        let entry = entry?;
        if let Some(package) = entry.below().to_str()
            && has_package(path, package)
        {
            packages.push(package.to_owned());
        }
    }
    packages.sort();
    Ok(packages)
}

fn in_layout(path: &Path, wanted: &str) -> Result<Option<String>> {
    let file = path.join("metadata/layout.conf");
    if !file.is_file() {
        return Ok(None);
    }
    let text = input::read_text(&file, TEXT)?;
    Ok(text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == wanted).then(|| value.trim().to_owned())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories() {
        let dir = tempfile::tempdir().unwrap();
        let error = name_of(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not an ebuild repository"), "{error}");
        fs_err::create_dir_all(dir.path().join("metadata")).unwrap();
        fs_err::write(dir.path().join("metadata/layout.conf"), "masters =\nrepo-name = one\n")
            .unwrap();
        assert_eq!(name_of(dir.path()).unwrap(), "one");
        fs_err::create_dir_all(dir.path().join("profiles")).unwrap();
        fs_err::write(dir.path().join("profiles/repo_name"), "two\n").unwrap();
        assert_eq!(name_of(dir.path()).unwrap(), "two");
    }

    #[test]
    fn main_repositories_have_no_masters_and_some_eclasses() {
        let dir = tempfile::tempdir().unwrap();
        let [repo, other] = ["one", "two"].map(|name| dir.path().join(name));
        for path in [&repo, &other] {
            fs_err::create_dir_all(path.join("metadata")).unwrap();
        }
        let of = |repos: &[(&'static str, &Path)]| find_main(repos);
        assert_eq!(of(&[("one", &repo)]), None);
        fs_err::create_dir_all(repo.join("eclass")).unwrap();
        for (layout, of_other, expected) in [
            ("thin-manifests = true\n", "", None),
            ("thin-manifests = true\n", "masters = three\n", None),
            ("thin-manifests = true\n", "masters = three one\n", Some("one")),
            ("masters = gentoo\n", "masters = one\n", None),
            ("masters =\n", "", Some("one")),
        ] {
            fs_err::write(repo.join("metadata/layout.conf"), layout).unwrap();
            fs_err::write(other.join("metadata/layout.conf"), of_other).unwrap();
            assert_eq!(of(&[("two", &other), ("one", &repo)]), expected, "{layout}{of_other}");
        }
        // Who says so wins over who is silent.
        fs_err::create_dir_all(other.join("eclass")).unwrap();
        fs_err::write(repo.join("metadata/layout.conf"), "").unwrap();
        fs_err::write(other.join("metadata/layout.conf"), "masters =\n").unwrap();
        assert_eq!(of(&[("one", &repo), ("two", &other)]), Some("two"));
        fs_err::remove_dir(repo.join("eclass")).unwrap();
        fs_err::remove_dir(other.join("eclass")).unwrap();
        assert_eq!(of(&[("one", &repo), ("two", &other)]), None);
    }

    #[test]
    fn advisories_are_files() {
        let dir = tempfile::tempdir().unwrap();
        let glsa = dir.path().join("metadata/glsa");
        assert_eq!(advisories(dir.path()), None);
        fs_err::create_dir_all(&glsa).unwrap();
        fs_err::write(glsa.join("Manifest"), "").unwrap();
        assert_eq!(advisories(dir.path()), None);
        fs_err::write(glsa.join("glsa-202601-01.xml"), "").unwrap();
        assert_eq!(advisories(dir.path()), Some(glsa));
    }
}
