//! Macros and scripts of the machine's build tools, linked to where ebuilds look below BROOT.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::files;

/// Directories of macros and scripts below /usr/share, and how the names begin of what is taken
/// from there: autotools.eclass and gnuconfig.eclass look for these.
const SHARED: &[(&str, &str)] = &[
    ("aclocal", ""),
    ("gettext", "config.rpath"),
    ("gnuconfig", "config."),
    ("libtool/build-aux", "config."),
    ("misc", "config."),
];

/// Links them into BROOT file by file: packages that Portage builds into BROOT put theirs beside
/// them, or in their place.
pub(super) fn link(broot: &Path) -> Result<()> {
    let share = Path::new("/usr/share");
    for (dir, start) in SHARED {
        for file in files(&share.join(dir), start) {
            files::link(&file, &broot.join("usr/share").join(file.strip_prefix(share)?))?;
        }
    }
    // automake's directory has its version in its name.
    for dir in files(share, "automake-") {
        for file in files(&dir, "config.") {
            files::link(&file, &broot.join("usr/share").join(file.strip_prefix(share)?))?;
        }
    }
    Ok(())
}

/// Returns the entries of `dir` with names that begin with `start`; none where there is no `dir`.
fn files(dir: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}
