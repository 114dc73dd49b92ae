//! Names of libraries, and the links between them.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// Returns the path in the image that the text of the link at `path` points to. Further links are
/// not resolved.
pub(super) fn pointed_at(path: &Path, target: &Path) -> PathBuf {
    let mut place = match path.parent() {
        Some(parent) if target.is_relative() => parent.to_owned(),
        _ => PathBuf::new(),
    };
    for part in target.components() {
        match part {
            Component::ParentDir => {
                place.pop();
            }
            Component::Normal(name) => place.push(name),
            _ => {}
        }
    }
    place
}

/// Returns whether `name` is the file name of a library with something after `.so`.
pub(super) fn has_library_version(name: &OsStr) -> bool {
    name.to_string_lossy().contains(".so.")
}
