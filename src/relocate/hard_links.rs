//! Other names of a file (hard links), for edits of single files.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::relocate::EditOptions;

/// Returns the names of the file at `path`, other than this one: those in its directory, and those
/// of `options`. `path` has no links.
///
/// # Errors
///
/// Fails if the file has more names, unless these may keep the old content.
pub(super) fn other_names(path: &Path, options: EditOptions<'_>) -> Result<Vec<PathBuf>> {
    let meta = fs_err::metadata(path)?;
    if meta.nlink() < 2 {
        return Ok(Vec::new());
    }
    let is_other_name = |other: &PathBuf| {
        let same =
            |found: &std::fs::Metadata| (found.dev(), found.ino()) == (meta.dev(), meta.ino());
        other != path && other.symlink_metadata().is_ok_and(|found| same(&found))
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let beside = fs_err::read_dir(dir)?.flatten().map(|entry| entry.path());
    let given = options.names.iter().filter_map(|name| fs_err::canonicalize(name).ok());
    let names: BTreeSet<PathBuf> = beside.chain(given).filter(is_other_name).collect();
    let unknown = (meta.nlink() - 1).saturating_sub(names.len() as u64);
    if unknown > 0 && !options.break_hard_links {
        bail!(
            "the file has {unknown} more names in other directories (hard links), which would keep \
             the old content\n\
             hint: name all of them in one command: `find DIR -samefile FILE` lists them\n\
             hint: --break-hard-links makes it a file of its own"
        );
    }
    Ok(names.into_iter().collect())
}
