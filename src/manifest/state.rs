//! State of an ebuild repository, as a lock file records it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::data::{self, Folder, hex};
use crate::fstree::digest;
use crate::fstree::walk::{TreeWalk, WalkEntry};
use crate::manifest::checkout::{self, CommittedTree};
use crate::portage::repos;
use crate::prefix::definition::{Prefix, PrefixRepo};
use crate::prefix::layout::PrefixLayout;

/// A repository and the state of its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repository {
    /// Name of the repository.
    pub name: String,
    /// `git:` and the name of its tree, or `sha256:` and the digest of its files.
    pub state: String,
    /// Commit with this tree, for information only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// Returns the states of the repositories of `prefix`, without that of the toolchain: its packages
/// are locked by their content.
pub(crate) fn of_prefix(prefix: &Prefix) -> Result<Vec<Repository>> {
    of_repos(&prefix.definition.repos, Some(&prefix.layout))
}

/// Returns these states before or after setup. Before it, the state of the built-in repository is
/// that of the files that setup would write.
pub(crate) fn of_repos(
    all: &[PrefixRepo],
    layout: Option<&PrefixLayout>,
) -> Result<Vec<Repository>> {
    all.iter()
        .filter(|repo| repo.name != repos::TOOLCHAIN)
        .map(|repo| {
            let built_in = layout.map(|layout| layout.own_repos().join(repos::BUILT_IN));
            match repo.path.as_ref().or(built_in.as_ref()) {
                Some(path) => of_directory(&repo.name, path),
                None => built_in_state(&repo.name),
            }
            .with_context(|| {
                format!("could not find out the state of the repository {}", repo.name)
            })
        })
        .collect()
}

fn built_in_state(name: &str) -> Result<Repository> {
    let files = data::files(Folder::Overlay, "")?;
    let digests =
        files.into_iter().map(|file| (file.path, Sha256::digest(&file.contents).into())).collect();
    Ok(Repository { name: name.to_owned(), state: of_digests(digests), commit: None })
}

fn of_directory(name: &str, dir: &Path) -> Result<Repository> {
    let name = name.to_owned();
    if let Some(CommittedTree { tree, commit }) = checkout::find_committed_tree(dir) {
        return Ok(Repository { name, state: format!("git:{tree}"), commit: Some(commit) });
    }
    let mut files: Vec<WalkEntry> = Vec::new();
    // The cache is generated from ebuilds, and git may repack .git at any time.
    let generated = |entry: &WalkEntry| {
        entry.below() == Path::new(checkout::GIT) || entry.name() == "md5-cache"
    };
    for entry in TreeWalk::below(dir).skip_below(generated) {
        let entry = entry?;
        if !entry.file_type().is_dir() {
            files.push(entry);
        }
    }
    let digest = |entry: WalkEntry| -> Result<(PathBuf, [u8; 32])> {
        let sha256 = if entry.file_type().is_symlink() {
            Sha256::digest(entry.link_target()?.as_os_str().as_encoded_bytes()).into()
        } else {
            digest::hash_file(entry.disk())?.0
        };
        Ok((entry.below().to_owned(), sha256))
    };
    let digests = files.into_par_iter().map(digest).collect::<Result<Vec<_>>>()?;
    Ok(Repository { name, state: of_digests(digests), commit: None })
}

fn of_digests(mut digests: Vec<(PathBuf, [u8; 32])>) -> String {
    digests.sort();
    let mut hash = Sha256::new();
    for (path, sha256) in digests {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(sha256);
    }
    format!("sha256:{}", hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::Command;

    #[test]
    fn the_built_in_one_is_the_same_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        data::write_out(Folder::Overlay, "", dir.path()).unwrap();
        let written = of_directory("x", dir.path()).unwrap();
        assert_eq!(written, built_in_state("x").unwrap());
        fs_err::write(dir.path().join("more"), "").unwrap();
        assert_ne!(written, of_directory("x", dir.path()).unwrap());
    }

    #[test]
    fn git_names_what_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        fs_err::create_dir(&overlay).unwrap();
        fs_err::write(overlay.join("file"), "1").unwrap();
        let git = |args: &[&str]| {
            Command::new("make a repository", "git")
                .args(["-c", "user.name=x", "-c", "user.email=x@y", "-C"])
                .arg(dir.path())
                .args(args)
                .run_quiet()
                .unwrap();
        };
        git(&["init", "-q"]);
        let plain = of_directory("x", &overlay).unwrap();
        assert!(plain.state.starts_with("sha256:"), "{plain:?}");
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "x"]);
        let first = of_directory("x", &overlay).unwrap();
        assert!(first.state.starts_with("git:") && first.commit.is_some(), "{first:?}");
        // A commit that touches only other directories does not change the tree of this one.
        fs_err::write(dir.path().join("other"), "").unwrap();
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "y"]);
        let second = of_directory("x", &overlay).unwrap();
        assert_eq!(first.state, second.state);
        assert_ne!(first.commit, second.commit);
        fs_err::write(overlay.join("file"), "2").unwrap();
        assert!(of_directory("x", &overlay).unwrap().state.starts_with("sha256:"));
    }
}
