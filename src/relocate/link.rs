//! Symbolic links with absolute targets. A target in the build sandbox, or one that only the prefix
//! has, is changed to its path in the prefix.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::fstree::resolve::RootResolver;
use crate::relocate::{FileAction, FileOutcome, RelocateOptions, text};

/// Plans the change of the link at `path` to `target`. A link to a file of the machine
/// (`/etc/passwd`) stays, because the prefix has no other file of that name.
pub(super) fn plan_link(
    options: &RelocateOptions,
    path: &Path,
    target: &Path,
    rooted: &RootResolver,
) -> FileOutcome {
    if !target.is_absolute() {
        return FileOutcome::Nothing;
    }
    let eprefix = options.eprefix.as_path();
    let new = match target.to_str().and_then(|target| text::map_sandbox_path(eprefix, target)) {
        Some(new) => Some(PathBuf::from(new)),
        None if target.starts_with(eprefix) || rooted.find(target).is_some() => None,
        None => {
            let below = target.strip_prefix("/").unwrap_or(target);
            Some(eprefix.join(below)).filter(|new| is_other_file(path, new, rooted))
        }
    };
    match new.filter(|new| new.is_absolute() && new.as_os_str().as_bytes().len() < 4096) {
        Some(new) => {
            let changes = vec![format!("link to {}", new.escaped())];
            FileOutcome::Changed(FileAction::Link(new), changes)
        }
        None => FileOutcome::Nothing,
    }
}

/// Returns the new targets of the links that change, by path.
pub(super) fn collect_new_targets(
    links: &[(PathBuf, PathBuf)],
    outcomes: &[FileOutcome],
) -> HashMap<PathBuf, PathBuf> {
    let pairs = links.iter().zip(outcomes);
    pairs
        .filter_map(|((path, _), outcome)| match outcome {
            FileOutcome::Changed(FileAction::Link(new), _) => Some((path.clone(), new.clone())),
            _ => None,
        })
        .collect()
}

/// Returns whether `new` exists and is not the link at `path` itself.
fn is_other_file(path: &Path, new: &Path, rooted: &RootResolver) -> bool {
    let resolve = |path: &Path| Some(rooted.find(path.parent()?)?.join(path.file_name()?));
    resolve(new).is_some_and(|new| rooted.exists(&new) && resolve(path) != Some(new))
}
