//! Index of the directories in a tree by the libraries in them, to find a needed library that is in
//! a directory of its own.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Directories by the file name of a library in them.
#[derive(Debug, Default)]
pub struct LibraryIndex(HashMap<OsString, BTreeSet<PathBuf>>);

impl LibraryIndex {
    /// Indexes the paths that are named like shared libraries. `paths` are files and links as
    /// programs see them; most sonames are links.
    pub fn index<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let mut index = Self::default();
        for path in paths {
            let (Some(name), Some(dir)) = (path.file_name(), path.parent()) else { continue };
            if Self::is_library(name) {
                index.0.entry(name.to_owned()).or_default().insert(dir.to_owned());
            }
        }
        index
    }

    /// Returns whether a file of this name can be a library or a loader.
    pub(super) fn is_library(name: &OsStr) -> bool {
        memchr::memmem::find(name.as_encoded_bytes(), b".so").is_some()
    }

    /// Returns the directories that have `name`.
    pub(super) fn dirs_of(&self, name: &Path) -> impl Iterator<Item = &Path> {
        self.0.get(name.as_os_str()).into_iter().flatten().map(PathBuf::as_path)
    }

    /// Returns the names, each with the directories that have it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&OsStr, &BTreeSet<PathBuf>)> {
        self.0.iter().map(|(name, dirs)| (name.as_os_str(), dirs))
    }

    /// Returns the only directory that has `name`. Returns `None` if no directory has it, or if
    /// several have it, because none is known to be the right one.
    pub fn only_dir_of(&self, name: &Path) -> Option<&Path> {
        let mut dirs = self.dirs_of(name);
        dirs.next().filter(|_| dirs.next().is_none())
    }

    /// Returns the paths of files that are named like a loader (`ld-linux-x86-64.so.2`).
    pub(super) fn loaders(&self) -> impl Iterator<Item = PathBuf> {
        let is_loader = |name: &OsStr| {
            let name = name.as_encoded_bytes();
            [&b"ld-"[..], b"ld.", b"ld64."].iter().any(|start| name.starts_with(start))
        };
        let loaders = self.0.iter().filter(move |(name, _)| is_loader(name));
        loaders.flat_map(|(name, dirs)| dirs.iter().map(move |dir| dir.join(name)))
    }

    /// Returns the shared directory of the C library (`usr/lib/x86_64-linux-gnu`), in distributions
    /// that have one directory for each machine. Libraries of all programs are in it.
    pub fn shared_dir(&self) -> Option<&Path> {
        self.only_dir_of(Path::new("libc.so.6"))
    }
}
