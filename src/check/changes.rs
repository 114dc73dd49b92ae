//! A tree as it will be: what is on disk, with something gone and something else in its place.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What differs from the tree on disk, by path as programs see it: what will be there, or that
/// nothing will.
#[derive(Debug, Default)]
pub(crate) struct TreeChanges(pub BTreeMap<PathBuf, Option<NewEntry>>);

/// What will be there.
#[derive(Debug)]
pub(crate) struct NewEntry {
    /// What it is.
    pub content: NewContent,
    /// Its permission bits and file type, as in stat(2).
    pub mode: u32,
    /// Its user and group.
    pub owner: (u32, u32),
    /// The names of its extended attributes.
    pub attributes: Vec<std::ffi::OsString>,
}

/// What something that is not in the tree is, and where its bytes are.
#[derive(Debug)]
pub(crate) enum NewContent {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(PathBuf),
    /// A file, whose bytes are those of the file at this path.
    Disk(PathBuf),
    /// A file with these bytes.
    Bytes(Vec<u8>),
}
