//! Which directories of a tree hold which libraries: to find a needed library that lies in a
//! directory of its own.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Directories by the file name of a library that is in them.
#[derive(Debug, Default)]
pub struct LibraryIndex(HashMap<OsString, BTreeSet<PathBuf>>);

impl LibraryIndex {
    /// Indexes those of `paths`, as programs see them, that are named like shared libraries: files,
    /// and links to them, as most sonames are.
    pub fn index<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let mut index = Self::default();
        for path in paths {
            let (Some(name), Some(dir)) = (path.file_name(), path.parent()) else { continue };
            if memchr::memmem::find(name.as_encoded_bytes(), b".so").is_some() {
                index.0.entry(name.to_owned()).or_default().insert(dir.to_owned());
            }
        }
        index
    }

    /// The one directory that has `name`. Where several have it, none is the right one.
    pub fn only_dir_of(&self, name: &Path) -> Option<&Path> {
        let dirs = self.0.get(name.as_os_str())?;
        let mut dirs = dirs.iter();
        dirs.next().filter(|_| dirs.next().is_none()).map(PathBuf::as_path)
    }

    /// The directory in which a distribution that gives every machine one keeps its C library,
    /// and with it what all programs share (`usr/lib/x86_64-linux-gnu`).
    pub fn shared_dir(&self) -> Option<&Path> {
        self.only_dir_of(Path::new("libc.so.6"))
    }
}
