//! Which directories of a tree hold which libraries: to find a needed library that lies in a
//! directory of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Directories by the file name of a library that is in them.
#[derive(Debug, Default)]
pub struct Libraries(BTreeMap<OsString, BTreeSet<PathBuf>>);

impl Libraries {
    /// Notes what is at `path`, as programs see it, if it is named like a shared library: a file, or
    /// a link to one, as most sonames are.
    pub fn add(&mut self, path: &Path) {
        if let (Some(name), Some(dir)) = (path.file_name(), path.parent())
            && name.to_string_lossy().contains(".so")
        {
            self.0.entry(name.to_owned()).or_default().insert(dir.to_owned());
        }
    }

    /// The one directory that has `name`. Where several have it, none is the right one.
    pub fn only_dir_of(&self, name: &Path) -> Option<&Path> {
        let dirs = self.0.get(name.as_os_str())?;
        let mut dirs = dirs.iter();
        dirs.next().filter(|_| dirs.next().is_none()).map(PathBuf::as_path)
    }
}
