//! Planned state of a tree: the tree on disk, with some entries removed or replaced.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Differences from the tree on disk, by path as programs see it. `None` removes the entry.
#[derive(Debug, Default)]
pub(crate) struct TreeChanges(pub BTreeMap<PathBuf, Option<NewEntry>>);

/// An entry that is added or replaced.
#[derive(Debug)]
pub(crate) struct NewEntry {
    /// Type and content of the entry.
    pub content: NewContent,
    /// Permission bits and file type, as in stat(2).
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Names of the extended attributes.
    pub attributes: Vec<std::ffi::OsString>,
}

/// Type of a new entry, and the source of its bytes.
#[derive(Debug)]
pub(crate) enum NewContent {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(PathBuf),
    /// A file with the content of the file at this path.
    Disk(PathBuf),
    /// A file with these bytes.
    Bytes(Vec<u8>),
}
