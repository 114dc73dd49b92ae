//! Paths at which debuggers look for symbols that are separate from their program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};

/// Directory in which gdb, lldb and elfutils look (gdb's manual, "Separate Debug Files").
const PLACE: &str = "usr/lib/debug";

/// Suffix of the names of such files.
pub(super) const SUFFIX: &str = ".debug";

/// Returns the path at which debuggers look for the symbols of the program at `path`, which has no
/// leading slash. The path depends on the build-id, else on the program's own path.
pub(super) fn debug_path(path: &Path, build_id: Option<&[u8]>) -> PathBuf {
    match build_id.and_then(<[u8]>::split_first) {
        Some((first, rest)) if !rest.is_empty() => {
            let name = format!("{}/{}{SUFFIX}", hex(&[*first]), hex(rest));
            Path::new(PLACE).join(".build-id").join(name)
        }
        _ => Path::new(PLACE).join(path.with_file_name(debug_name(path))),
    }
}

/// Returns the name of the file with the symbols of the program at `path`.
pub(super) fn debug_name(path: &Path) -> OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(SUFFIX);
    name
}

/// Returns the symbols that Portage separated in the prefix (FEATURES=splitdebug), by the path at
/// which debuggers look for them on the target. The target has one such directory, outside the
/// prefix.
pub(crate) fn of_prefix(plan: &FileTree) -> BTreeMap<PathBuf, Entry> {
    let inside = plan.prefix_path().join(PLACE);
    let mut found = BTreeMap::new();
    for (path, entry) in &plan.entries {
        let Ok(below) = path.strip_prefix(&inside) else { continue };
        if entry.is_directory() || path.extension().is_none_or(|end| end != "debug") {
            continue;
        }
        let mut entry = entry.clone();
        if let EntryKind::HardLink(first) = &mut entry.kind {
            match first.strip_prefix(&inside) {
                Ok(first_below) => *first = Path::new(PLACE).join(first_below),
                Err(_) => continue,
            }
        }
        found.insert(Path::new(PLACE).join(below), entry);
    }
    found
}

/// Returns an entry for the symbols in `file`.
pub(super) fn debug_entry(file: PathBuf, epoch: u64) -> Result<Entry> {
    let size = fs_err::metadata(&file)?.len();
    if size == 0 {
        bail!("{} has no symbols", file.escaped());
    }
    let mut entry = Entry::generated(Vec::new(), epoch);
    entry.kind = EntryKind::File(FileContent::unread(ContentSource::Disk(file), size));
    Ok(entry)
}
