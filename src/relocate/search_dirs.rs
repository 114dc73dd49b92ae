//! The new search path of one file: what it names in the prefix, in its order, and what it lacks.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::elf::{ElfIdent, Fit};
use crate::fstree::resolve::relative_path;
use crate::relocate::objects::Objects;
use crate::relocate::search_path::{Tokens, has_origin, has_tokens, is_expressible};
use crate::relocate::text;

/// Directories below EPREFIX that may hold libraries on every machine, in the order of the search.
const LIBRARY_DIRS: &[&str] = &["usr/lib64", "usr/lib"];

/// Returns the directories that every machine has, and the one of the C library.
pub(super) fn usual_dirs(eprefix: &Path, own: &ElfIdent, objects: &Objects<'_>) -> Vec<PathBuf> {
    let fixed = LIBRARY_DIRS.iter().map(|dir| eprefix.join(dir));
    let shared = objects.only_dir_of(own, Path::new("libc.so.6"));
    fixed.chain(shared.filter(|dir| dir.starts_with(eprefix)).map(Path::to_owned)).collect()
}

/// Returns where a path outside of the prefix would be in it: a path of the build sandbox, or one of
/// a system.
pub(super) fn place_in_prefix(eprefix: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix("/").ok()?;
    if path.starts_with(eprefix) {
        return None;
    }
    let mapped = path.to_str().and_then(|path| text::map_sandbox_path(eprefix, path));
    Some(mapped.map_or_else(|| eprefix.join(below), PathBuf::from))
}

/// A search path while it is put together.
pub(super) struct SearchPath<'a, 'o> {
    own: &'a ElfIdent,
    objects: &'a Objects<'o>,
    eprefix: &'a Path,
    /// Directory of the file, if the entries are to be relative to it.
    origin: Option<PathBuf>,
    /// Entries as the file gets them.
    pub texts: Vec<Vec<u8>>,
    /// Directories that the entries stand for, without links, each once.
    dirs: Vec<PathBuf>,
}

impl<'a, 'o> SearchPath<'a, 'o> {
    pub(super) fn new(
        own: &'a ElfIdent,
        objects: &'a Objects<'o>,
        eprefix: &'a Path,
        origin: Option<&Path>,
    ) -> Self {
        // A way up leads to the parent of the directory itself, not of a link to it.
        let origin = origin.and_then(|origin| objects.rooted.find(origin));
        Self { own, objects, eprefix, origin, texts: Vec::new(), dirs: Vec::new() }
    }

    /// Keeps an entry of the old search path, as far as it leads to a directory of the prefix.
    /// `origins` is what `$ORIGIN` stands for.
    pub(super) fn keep(&mut self, entry: &[u8], origins: &[PathBuf], lib: &str) {
        let by_origin = has_origin(entry);
        let machine = self.own.machine;
        let expand = |origin| Tokens { origin, lib, machine }.expand(entry);
        let paths: Vec<PathBuf> = if by_origin {
            origins.iter().flat_map(|origin| expand(Some(origin.as_path()))).collect()
        } else {
            expand(None)
        };
        let found: Vec<Option<PathBuf>> = paths.iter().map(|path| self.place(path)).collect();
        let is_plain = !has_tokens(entry);
        let is_kept = found.iter().any(Option::is_some)
            && paths
                .iter()
                .zip(&found)
                .all(|(path, found)| found.is_some() || !self.is_there(path))
            && match (by_origin, is_plain) {
                (true, _) => self.origin.is_some(),
                (false, true) => {
                    self.origin.is_none()
                        && Path::new(OsStr::from_bytes(entry)).starts_with(self.eprefix)
                }
                (false, false) => true,
            };
        if is_kept {
            let dirs: Vec<PathBuf> = found.into_iter().flatten().collect();
            if dirs.iter().any(|dir| !self.dirs.contains(dir)) {
                self.texts.push(entry.to_vec());
                self.dirs.extend(dirs);
            }
            return;
        }
        for (path, found) in paths.iter().zip(found) {
            let other = || self.place(&place_in_prefix(self.eprefix, path)?);
            if let Some(dir) = found.or_else(other) {
                self.add(&dir);
            }
        }
    }

    /// Appends a directory of the prefix.
    pub(super) fn add(&mut self, dir: &Path) {
        let Some(dir) = self.place(dir).filter(|dir| !self.dirs.contains(dir)) else { return };
        let (text, named) = match &self.origin {
            Some(origin) => {
                let below = relative_path(origin, &dir);
                let text = if below.as_os_str().is_empty() {
                    PathBuf::from("$ORIGIN")
                } else {
                    Path::new("$ORIGIN").join(&below)
                };
                (text, below)
            }
            None => (dir.clone(), dir.clone()),
        };
        if is_expressible(&named) {
            self.texts.push(text.into_os_string().into_vec());
            self.dirs.push(dir);
        }
    }

    /// Returns the directories that the entries stand for, without links.
    pub(super) fn into_dirs(self) -> Vec<PathBuf> {
        self.dirs
    }

    /// Returns whether the loader's search for `name` ends here: with a library, or with something
    /// that it cannot load.
    pub(super) fn finds(&self, name: &Path) -> bool {
        let mut judged = self.dirs.iter().map(|dir| self.objects.judge(self.own, &dir.join(name)));
        judged.any(|fit| matches!(fit, Some(Fit::Loads | Fit::Stops(_))))
    }

    /// Returns the directory in which the loader finds the library `name`.
    pub(super) fn dir_of(&self, name: &Path) -> Option<PathBuf> {
        let has =
            |dir: &&PathBuf| self.objects.judge(self.own, &dir.join(name)) == Some(Fit::Loads);
        self.dirs.iter().find(has).cloned()
    }

    /// Returns the directory at `path` without links, if it is in the prefix.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let dir = self.objects.rooted.find(path).filter(|_| path.is_absolute())?;
        dir.starts_with(self.eprefix).then_some(dir)
    }

    fn is_there(&self, path: &Path) -> bool {
        self.objects.rooted.find(path).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::escape::Escape;

    #[test]
    fn directories_relative_to_a_file() {
        let text =
            |origin, dir| relative_path(Path::new(origin), Path::new(dir)).escaped().to_string();
        assert_eq!(text("/opt/x/usr/bin", "/opt/x/usr/lib64"), "../lib64");
        assert_eq!(text("/opt/x/usr/lib64", "/opt/x/usr/lib64"), "");
        assert_eq!(text("/opt/x/usr/lib64", "/opt/x/usr/lib64/gconv"), "gconv");
    }
}
