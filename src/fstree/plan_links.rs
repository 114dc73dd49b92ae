//! Links of a planned tree, as programs follow them when its root is their root directory.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::fstree::entries::{EntryKind, FileTree};
use crate::fstree::resolve::{Followed, LinkTree, follow_links};

impl LinkTree for FileTree {
    /// True for a directory.
    type Entry = bool;

    fn entry(&self, path: &Path) -> Option<(bool, Option<Cow<'_, Path>>)> {
        let entry = self.entries.get(path.strip_prefix("/").unwrap_or(path))?;
        let target = match &entry.kind {
            EntryKind::Link(target) => Some(Cow::Borrowed(target.as_path())),
            _ => None,
        };
        Some((entry.is_directory(), target))
    }

    fn is_directory(&self, is_directory: &bool) -> bool {
        *is_directory
    }
}

impl FileTree {
    /// Returns the place below EPREFIX to which `path` leads, there or missing; `None` if it leads
    /// out of the prefix or nowhere.
    pub(crate) fn locate_in_prefix(&self, path: &Path) -> Option<PathBuf> {
        let (Followed::There { inside, .. } | Followed::Missing(inside)) =
            follow_links(self, Path::new("/"), path)
        else {
            return None;
        };
        let below = inside.strip_prefix(self.eprefix.as_path()).ok()?;
        (below != Path::new("")).then(|| below.to_owned())
    }
}
