//! Portage profiles in a repository: detection, a check of their parents, and the default for
//! prefixes on a board.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::fstree::walk::TreeWalk;

/// A profile of Gentoo's for self-contained prefixes, below profiles/default/linux/ARCH: a version,
/// and the oldest kernel that programs run on. Merged-usr, without 32-bit libraries where there is
/// the choice.
#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static STANDALONE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(\d+(?:\.\d+)*)/(no-multilib/)?prefix/kernel-(\d+(?:\.\d+)*)\+$").unwrap()
});

/// The maximum depth of such a profile below profiles/default/linux/ARCH.
const DEPTH: usize = 4;

/// Returns whether `dir` is a profile, and not a folder of profiles (PMS 5.2).
pub(crate) fn is_profile(dir: &Path) -> bool {
    ["parent", "make.defaults"].iter().any(|name| dir.join(name).is_file())
}

/// Refuses the profile `dir` where Portage could not use it: a parent is missing, here or further
/// up. `locate` says where a repository is whose profiles parents may name (`repository:path`).
pub(crate) fn check(dir: &Path, locate: &dyn Fn(&str) -> Option<PathBuf>) -> Result<()> {
    let mut seen = Vec::new();
    let mut next = vec![dir.to_owned()];
    while let Some(dir) = next.pop() {
        let real = fs_err::canonicalize(&dir)
            .with_context(|| format!("there is no profile {}", dir.escaped()))?;
        if seen.contains(&real) {
            continue;
        }
        for parent in parents(&real)? {
            let place = match parent.split_once(':') {
                // Portage takes nothing before the colon for the repository itself.
                Some(("", _)) => continue,
                Some((name, below)) => locate(name)
                    .with_context(|| {
                        format!(
                            "the profile {} builds upon {parent}, and no repository {name} was \
                             given",
                            dir.escaped()
                        )
                    })?
                    .join("profiles")
                    .join(below),
                None => real.join(&parent),
            };
            if !place.is_dir() {
                bail!(
                    "the profile {} builds upon {parent}, and there is no {}",
                    dir.escaped(),
                    place.escaped()
                );
            }
            next.push(place);
        }
        seen.push(real);
    }
    Ok(())
}

/// The lines of a profile's `parent`.
fn parents(dir: &Path) -> Result<Vec<String>> {
    let file = dir.join("parent");
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let text = input::read_text(&file, TEXT)?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// The profile of the repository at `path` for self-contained prefixes on `board`, below its
/// profiles/: the newest that is not deprecated, for the newest kernel. profiles.desc is not asked:
/// it leaves arm64's out.
pub(crate) fn for_board(path: &Path, board: &Board) -> Result<PathBuf> {
    let below = Path::new("default/linux").join(&board.arch);
    let top = path.join("profiles").join(&below);
    let mut found = Vec::new();
    for entry in TreeWalk::down_to(&top, DEPTH).filter_map(Result::ok) {
        let rest = entry.below();
        let Some(name) = rest.to_str() else { continue };
        if let Some(rank) = rank_profile(name)
            && is_profile(entry.disk())
        {
            found.push((rank, rest.to_owned(), entry.disk().join("deprecated").exists()));
        }
    }
    found.sort();
    let newest = found.iter().rev().find(|(_, _, deprecated)| !deprecated);
    if let Some((_, rest, _)) = newest {
        return Ok(below.join(rest));
    }
    match found.last() {
        Some((_, rest, _)) => bail!(
            "all profiles for prefixes on {} in {} are deprecated; name one with --profile, the \
             newest is {}",
            board.name,
            path.escaped(),
            below.join(rest).escaped()
        ),
        None => bail!(
            "{} has no profile for prefixes on {} (profiles/{}/VERSION/prefix/kernel-VERSION+); \
             name one with --profile",
            path.escaped(),
            board.name,
            below.escaped()
        ),
    }
}

/// Returns the rank of a profile; the highest is preferred: by version, then without 32-bit
/// libraries, then by kernel. `None` where `name` is no such profile.
fn rank_profile(name: &str) -> Option<(Vec<u32>, bool, Vec<u32>)> {
    let found = STANDALONE.captures(name)?;
    let numbers = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    Some((numbers(&found[1]), found.get(2).is_some(), numbers(&found[3])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(repo: &Path, name: &str, parent: &str) {
        let dir = repo.join("profiles/default/linux").join(name);
        fs_err::create_dir_all(&dir).unwrap();
        fs_err::write(dir.join("parent"), parent).unwrap();
    }

    #[test]
    fn the_newest_that_is_not_deprecated() {
        let repo = tempfile::tempdir().unwrap();
        let path = repo.path();
        let board = Board::find("amd64-usr").unwrap();
        let of_board = || for_board(path, &board).map_err(|error| error.to_string());
        assert!(of_board().unwrap_err().contains("has no profile for prefixes"));
        for name in [
            "amd64/17.1/no-multilib/prefix/kernel-3.2+",
            "amd64/23.0/no-multilib/prefix/kernel-2.6.32+",
            "amd64/23.0/no-multilib/prefix/kernel-3.2+",
            "amd64/23.0/prefix/kernel-5.0+",
            "amd64/23.0/split-usr/no-multilib/prefix/kernel-6.0+",
            "amd64/9.0/no-multilib/prefix/kernel-3.2+",
            "arm64/29.0/prefix/kernel-3.2+",
        ] {
            profile(path, name, "");
        }
        let newest = of_board().unwrap();
        assert_eq!(newest, Path::new("default/linux/amd64/23.0/no-multilib/prefix/kernel-3.2+"));
        for entry in ["23.0/prefix/kernel-5.0+", "23.0/no-multilib/prefix/kernel-2.6.32+"] {
            let dir = path.join("profiles/default/linux/amd64").join(entry);
            fs_err::write(dir.join("deprecated"), "").unwrap();
        }
        fs_err::write(path.join("profiles").join(&newest).join("deprecated"), "").unwrap();
        let next = of_board().unwrap();
        assert_eq!(next, Path::new("default/linux/amd64/17.1/no-multilib/prefix/kernel-3.2+"));
    }

    #[test]
    fn parents_have_to_be_there() {
        let repo = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        profile(repo.path(), "a", "../b\n# no\nother:default/linux/c\n");
        profile(repo.path(), "b", "../a\n");
        let dir = repo.path().join("profiles/default/linux/a");
        let none = |_: &str| None;
        let error = check(&dir, &none).unwrap_err().to_string();
        assert!(error.contains("no repository other was given"), "{error}");
        let locate = |name: &str| (name == "other").then(|| other.path().to_owned());
        assert!(check(&dir, &locate).is_err());
        profile(other.path(), "c", "");
        check(&dir, &locate).unwrap();
    }
}
