//! Directories that git tracks: the tree that they are in a commit.
//!
//! A checkout's configuration names programs that git runs: filters, hooks, helpers. In a checkout
//! of the user that we run as, that is the user's own choice. In a checkout of another user it would
//! be that user's choice (`safe.directory`, git-config(1)), so git only says there which tree was
//! committed, in the box for foreign tools. The files are hashed by us.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use sha1::{Digest, Sha1};

use crate::base::command::Command;
use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::LIST;
use crate::fstree::walk::{TreeWalk, WalkEntry};
use crate::host::tools;
use crate::sandbox::foreign_tool::ForeignTool;

/// Directory of git at the top of a checkout, or the file that leads to it.
pub(super) const GIT: &str = ".git";

/// Modes of entries in a tree of git (gitformat-pack(5) and git-fast-import(1) list them).
const DIRECTORY: &str = "40000";
const FILE: &str = "100644";
const EXECUTABLE: &str = "100755";
const LINK: &str = "120000";

/// Names of a committed tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedTree {
    /// Name of the tree.
    pub tree: String,
    /// Name of a commit that contains it.
    pub commit: String,
}

/// Returns the tree of `dir`, if git tracks all files of it unchanged. Returns `None` if it does
/// not, or if git cannot say.
pub(super) fn find_committed_tree(dir: &Path) -> Option<CommittedTree> {
    find_for(dir, rustix::process::geteuid().as_raw())
}

fn find_for(dir: &Path, user: u32) -> Option<CommittedTree> {
    let dir = fs_err::canonicalize(dir).ok()?;
    let top = dir.ancestors().find(|dir| dir.join(GIT).exists())?;
    if fs_err::metadata(top).ok()?.uid() == user {
        return ask_own(&dir);
    }
    ask_foreign(top, &dir).ok().flatten()
}

/// Asks git about a checkout of the user that we run as.
fn ask_own(dir: &Path) -> Option<CommittedTree> {
    let git = tools::GIT.find()?.command("ask git");
    let status = ["status", "--porcelain", "--ignored", "--", "."];
    let changed = git.clone().arg("-C").arg(dir).args(status).read().ok()?;
    if changed.is_empty() { ask_names(git, dir).ok() } else { None }
}

/// Compares a checkout of another user with its commit.
fn ask_foreign(top: &Path, dir: &Path) -> Result<Option<CommittedTree>> {
    let tool = ForeignTool::reading_checkout("ask git", top)?;
    let names = ask_names(tool.command().args(["-c", "safe.directory=*"]), dir)?;
    Ok((hash_tree(dir)? == names.tree).then_some(names))
}

/// Asks for the names of the tree and of the commit. That runs nothing that the checkout names.
fn ask_names(git: Command, dir: &Path) -> Result<CommittedTree> {
    let answer = git.arg("-C").arg(dir).args(["rev-parse", "HEAD:./", "HEAD"]).read()?;
    let mut names = answer.lines().map(str::to_owned);
    let (Some(tree), Some(commit)) = (names.next(), names.next()) else {
        bail!("git named no tree and no commit for {}", dir.escaped());
    };
    Ok(CommittedTree { tree, commit })
}

/// Entry of a tree of git.
struct TreeEntry {
    mode: &'static str,
    name: Vec<u8>,
    id: [u8; 20],
}

/// Returns the name that git gives to the tree of the files below `dir`.
///
/// # Errors
///
/// Fails if a file cannot be read, and if there are files that no tree of git has.
fn hash_tree(dir: &Path) -> Result<String> {
    let own = |entry: &WalkEntry| entry.below() == Path::new(GIT);
    let mut files = Vec::new();
    for entry in TreeWalk::below(dir).skip_below(own) {
        let entry = entry?;
        if !entry.file_type().is_dir() && entry.below() != Path::new(GIT) {
            files.push(entry);
        }
    }
    let hash = |entry: WalkEntry| -> Result<(PathBuf, TreeEntry)> {
        let (mode, id) = hash_blob(&entry)?;
        let parent = entry.below().parent().unwrap_or(Path::new("")).to_owned();
        Ok((parent, TreeEntry { mode, name: entry.name().as_bytes().to_owned(), id }))
    };
    let hashed = files.into_par_iter().map(hash).collect::<Result<Vec<_>>>()?;
    let mut directories: BTreeMap<PathBuf, Vec<TreeEntry>> = BTreeMap::new();
    for (parent, entry) in hashed {
        directories.entry(parent).or_default().push(entry);
    }
    // What is below a directory sorts after it, so the last one is whole.
    while let Some((path, entries)) = directories.pop_last() {
        let id = hash_entries(entries);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(hex(&id));
        };
        let entry = TreeEntry { mode: DIRECTORY, name: name.as_bytes().to_owned(), id };
        directories.entry(parent.to_owned()).or_default().push(entry);
    }
    bail!("{} has no files", dir.escaped())
}

fn hash_blob(entry: &WalkEntry) -> Result<(&'static str, [u8; 20])> {
    if entry.file_type().is_symlink() {
        return Ok((LINK, hash_object("blob", entry.link_target()?.as_os_str().as_bytes())));
    }
    if !entry.file_type().is_file() {
        bail!("{} is no file", entry.disk().escaped());
    }
    let mode = if entry.metadata()?.mode() & 0o100 == 0 { FILE } else { EXECUTABLE };
    let content =
        input::read(entry.disk(), LIST).context("could not hash a file of the checkout")?;
    Ok((mode, hash_object("blob", &content)))
}

fn hash_entries(mut entries: Vec<TreeEntry>) -> [u8; 20] {
    // git sorts the name of a directory as if it ended with a slash (git-mktree(1), base_name_compare).
    entries.sort_by_cached_key(|entry| {
        let end: &[u8] = if entry.mode == DIRECTORY { b"/" } else { b"" };
        [&entry.name, end].concat()
    });
    let mut tree = Vec::new();
    for entry in entries {
        tree.extend([entry.mode.as_bytes(), b" ", &entry.name, &[0], &entry.id].concat());
    }
    hash_object("tree", &tree)
}

fn hash_object(kind: &str, content: &[u8]) -> [u8; 20] {
    let hash = Sha1::new().chain_update(format!("{kind} {}\0", content.len()));
    hash.chain_update(content).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkout with files, links and directories whose order is not that of their names.
    fn checkout() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let overlay = dir.path().join("overlay");
        for (path, text) in [("a/file", "1"), ("a.txt", "2"), ("a-b", ""), ("b/c/d", "3")] {
            let path = overlay.join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        fs_err::os::unix::fs::symlink("a/file", overlay.join("link")).unwrap();
        git(dir.path(), &["init", "-q"]);
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "-q", "-m", "x"]);
        (dir, overlay)
    }

    fn git(dir: &Path, args: &[&str]) {
        Command::new("change a checkout", "git")
            .args(["-c", "user.name=x", "-c", "user.email=x@y", "-C"])
            .arg(dir)
            .args(args)
            .run_quiet()
            .unwrap();
    }

    fn this_user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn another_users_checkout_has_the_same_names() {
        let (_dir, overlay) = checkout();
        let own = find_for(&overlay, this_user()).unwrap();
        assert_eq!(find_for(&overlay, this_user() + 1).unwrap(), own);
        assert_eq!(own.tree, hash_tree(&overlay).unwrap());
        for change in ["a/file", "untracked"] {
            fs_err::write(overlay.join(change), "other").unwrap();
            assert_eq!(find_for(&overlay, this_user() + 1), None, "{change}");
            assert_eq!(find_for(&overlay, this_user()), None, "{change}");
            git(overlay.parent().unwrap(), &["add", "."]);
            git(overlay.parent().unwrap(), &["commit", "-q", "-m", "y"]);
            assert!(find_for(&overlay, this_user() + 1).is_some(), "{change}");
        }
    }

    #[test]
    fn nothing_that_another_users_checkout_names_is_run_or_believed() {
        let (dir, overlay) = checkout();
        let ran = dir.path().join("ran");
        let run = format!("echo ran >> '{}'; printf 1", ran.escaped());
        git(dir.path(), &["config", "filter.x.clean", &run]);
        git(dir.path(), &["config", "core.fsmonitor", &run]);
        fs_err::write(dir.path().join(".git/info/attributes"), "* filter=x\n").unwrap();
        // The filter turns any content into the committed one.
        fs_err::write(overlay.join("a/file"), "changed").unwrap();
        assert_eq!(find_for(&overlay, this_user() + 1), None);
        assert!(!ran.exists());
    }
}
