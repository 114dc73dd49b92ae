//! Which directories of a tree hold which libraries: to find a needed library that lies in a
//! directory of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Directories by the file name of a library that is in them.
#[derive(Debug, Default)]
pub struct Libraries(BTreeMap<OsString, BTreeSet<PathBuf>>);

impl Libraries {
    /// Indexes those of `files` that are named like shared libraries, by their paths in `tree`.
    pub fn index(files: &[&Path], tree: &Path) -> Self {
        let mut index = Self::default();
        for file in files {
            let (Some(name), Some(dir)) = (file.file_name(), file.parent()) else { continue };
            if name.to_string_lossy().contains(".so")
                && let Ok(dir) = dir.strip_prefix(tree)
            {
                index.0.entry(name.to_owned()).or_default().insert(Path::new("/").join(dir));
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
}
