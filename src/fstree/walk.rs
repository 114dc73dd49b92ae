//! Walk over a tree on disk. Entries come sorted by name, and no link below the top is followed.
//!
//! Directories are read as the walk proceeds. Metadata, targets, attributes and contents are read
//! only on request, so that a caller can read them on several threads.

use std::ffi::OsStr;
use std::fs::{FileType, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result};

use crate::base::escape::Escape;
use crate::base::{files, input};
use crate::fstree::xattr::XattrSource;

/// Entries below a directory, each directory before its content.
#[derive(Debug)]
pub(crate) struct TreeWalk {
    top: Arc<Path>,
    entries: walkdir::IntoIter,
}

/// Entry that a walk found.
#[derive(Clone, Debug)]
pub(crate) struct WalkEntry {
    top: Arc<Path>,
    entry: walkdir::DirEntry,
}

impl TreeWalk {
    /// Begins a walk over everything below the directory `top`, which may be a link.
    pub(crate) fn below(top: &Path) -> Self {
        Self::between(top, 1, usize::MAX)
    }

    /// Begins a walk over the entries exactly `depth` levels below the directory `top`.
    pub(crate) fn at_depth(top: &Path, depth: usize) -> Self {
        Self::between(top, depth, depth)
    }

    /// Begins a walk over the entries at most `depth` levels below the directory `top`.
    pub(crate) fn down_to(top: &Path, depth: usize) -> Self {
        Self::between(top, 1, depth)
    }

    fn between(top: &Path, first: usize, last: usize) -> Self {
        let walk = walkdir::WalkDir::new(top).follow_links(false).sort_by_file_name();
        Self { top: top.into(), entries: walk.min_depth(first).max_depth(last).into_iter() }
    }

    /// Leaves out the entries that `skip` selects, with everything below them.
    pub(crate) fn skip_below(
        mut self,
        skip: impl Fn(&WalkEntry) -> bool,
    ) -> impl Iterator<Item = Result<WalkEntry>> {
        std::iter::from_fn(move || {
            loop {
                match self.next()? {
                    Ok(entry) if skip(&entry) => {
                        if entry.file_type().is_dir() {
                            self.entries.skip_current_dir();
                        }
                    }
                    found => return Some(found),
                }
            }
        })
    }

    fn explain(&self, error: walkdir::Error) -> Error {
        let act = format!("could not look through {}", self.top.escaped());
        let path = error.path().filter(|path| **path != *self.top).map(Path::to_owned);
        let error = to_error(error);
        match path {
            Some(path) => error.context(format!("could not read {}", path.escaped())),
            None => error,
        }
        .context(act)
    }
}

impl Iterator for TreeWalk {
    type Item = Result<WalkEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.entries.next()? {
            Ok(entry) => Ok(WalkEntry { top: Arc::clone(&self.top), entry }),
            Err(error) => Err(self.explain(error)),
        })
    }
}

impl WalkEntry {
    /// Returns the path on disk.
    pub(crate) fn disk(&self) -> &Path {
        self.entry.path()
    }

    /// Returns the path on disk.
    pub(crate) fn into_disk(self) -> PathBuf {
        self.entry.into_path()
    }

    /// Returns the path below the top of the walk.
    pub(crate) fn below(&self) -> &Path {
        self.disk().strip_prefix(&self.top).unwrap_or(self.disk())
    }

    /// Returns the path as programs see it if the top of the walk is their root directory.
    pub(crate) fn inside(&self) -> PathBuf {
        Path::new("/").join(self.below())
    }

    /// Returns the last component of the path.
    pub(crate) fn name(&self) -> &OsStr {
        self.entry.file_name()
    }

    /// Returns the type of the entry, which costs no system call.
    pub(crate) fn file_type(&self) -> FileType {
        self.entry.file_type()
    }

    /// Reads the metadata of the entry. Each call is a system call.
    ///
    /// # Errors
    ///
    /// Fails if the entry cannot be read.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        self.entry
            .metadata()
            .map_err(to_error)
            .with_context(|| format!("could not read the metadata of {}", self.disk().escaped()))
    }

    /// Reads the target of the link.
    ///
    /// # Errors
    ///
    /// Fails if the entry is no link.
    pub(crate) fn link_target(&self) -> Result<PathBuf> {
        Ok(fs_err::read_link(self.disk())?)
    }

    /// Returns the source of the entry's extended attributes.
    pub(crate) fn xattrs(&self) -> XattrSource<'_> {
        XattrSource::Path(self.disk())
    }
}

/// Returns the cause alone. The error of walkdir repeats it in its own text.
fn to_error(error: walkdir::Error) -> Error {
    error.into_io_error().map_or_else(|| Error::msg("links form a loop"), Error::new)
}

/// Copies the content of the directory `from`, with its files and links, to `to`.
///
/// # Errors
///
/// Fails if an entry cannot be read or written, and if something other than a link is at the place
/// of a link.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in TreeWalk::below(from) {
        let entry = entry?;
        let place = to.join(entry.below());
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(place)?;
        } else if entry.file_type().is_symlink() {
            files::link(entry.link_target()?, &place)?;
        } else {
            input::copy_file(entry.disk(), &place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(dir.path().join("b/deep")).unwrap();
        fs_err::create_dir(dir.path().join("c")).unwrap();
        fs_err::write(dir.path().join("b/deep/file"), "x").unwrap();
        fs_err::write(dir.path().join("a"), "xyz").unwrap();
        symlink("b", dir.path().join("link")).unwrap();
        symlink("..", dir.path().join("c/up")).unwrap();
        dir
    }

    fn paths(walk: impl Iterator<Item = Result<WalkEntry>>) -> Vec<String> {
        walk.map(|entry| entry.unwrap().below().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn entries_are_sorted_and_links_are_not_followed() {
        let dir = tree();
        let all = ["a", "b", "b/deep", "b/deep/file", "c", "c/up", "link"];
        assert_eq!(paths(TreeWalk::below(dir.path())), all);
        assert_eq!(paths(TreeWalk::at_depth(dir.path(), 2)), ["b/deep", "c/up"]);
        assert_eq!(paths(TreeWalk::down_to(dir.path(), 1)), ["a", "b", "c", "link"]);
        let without = TreeWalk::below(dir.path())
            .skip_below(|entry| entry.name() == "b" || entry.below() == Path::new("a"));
        assert_eq!(paths(without), ["c", "c/up", "link"]);
        // The top itself may be a link.
        assert_eq!(paths(TreeWalk::below(&dir.path().join("link"))), ["deep", "deep/file"]);
        let first = TreeWalk::below(dir.path()).next().unwrap().unwrap();
        assert_eq!((first.metadata().unwrap().len(), first.inside()), (3, "/a".into()));
        let last = TreeWalk::below(dir.path()).last().unwrap().unwrap();
        assert_eq!(last.link_target().unwrap(), Path::new("b"));
        assert!(last.metadata().unwrap().is_symlink());
    }

    #[test]
    fn errors_name_the_path_and_the_act() {
        let error = TreeWalk::below(Path::new("/none")).next().unwrap().unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("could not look through /none: No such file"), "{text}");
    }

    #[test]
    fn a_copy_has_the_same_entries() {
        let (dir, to) = (tree(), tempfile::tempdir().unwrap());
        let to = to.path().join("new");
        copy_tree(dir.path(), &to).unwrap();
        assert_eq!(paths(TreeWalk::below(&to)), paths(TreeWalk::below(dir.path())));
        assert_eq!(fs_err::read_link(to.join("link")).unwrap(), Path::new("b"));
    }
}
