//! What an extension holds, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::names::Eprefix;

/// The mode of a directory that an extension shares with the target, and of those that we add. The
/// mode and owner in an extension win over the target's own when it is attached, so they have to
/// be what every target has.
pub(crate) const SHARED_DIRECTORY_MODE: u32 = 0o755;

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContentSource {
    /// A file on disk.
    Disk(PathBuf),
    /// Bytes that we made.
    Bytes(Vec<u8>),
}

/// A regular file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileContent {
    /// Where it comes from.
    pub source: ContentSource,
    /// How many bytes it has.
    pub size: u64,
    /// Its SHA-256, once it has been read.
    pub sha256: Option<[u8; 32]>,
    /// Its SHA-1, where a bill of materials wants it.
    pub sha1: Option<[u8; 20]>,
}

impl FileContent {
    /// `size` bytes from `source`, which nobody has read yet.
    pub(crate) fn unread(source: ContentSource, size: u64) -> Self {
        Self { source, size, sha256: None, sha1: None }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(FileContent),
    /// A symbolic link, and what it says.
    Link(PathBuf),
    /// Another name of the file at this path of the image.
    HardLink(PathBuf),
}

/// An entry of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of its last change, in seconds since 1970.
    pub mtime: u64,
    /// Extended attributes.
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
}

impl Entry {
    /// A directory that the extension shares with the target.
    pub(crate) fn shared_directory(epoch: u64) -> Self {
        Self::plain(EntryKind::Directory, SHARED_DIRECTORY_MODE, epoch)
    }

    /// A file that we made.
    pub(crate) fn generated(bytes: Vec<u8>, epoch: u64) -> Self {
        let size = bytes.len() as u64;
        let content = FileContent::unread(ContentSource::Bytes(bytes), size);
        Self::plain(EntryKind::File(content), 0o644, epoch)
    }

    fn plain(kind: EntryKind, mode: u32, mtime: u64) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }

    /// Whether it is a directory as every target has it, with this time.
    pub(crate) fn is_shared_directory(&self, epoch: u64) -> bool {
        *self == Self::shared_directory(epoch)
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }

    /// The size of its content.
    pub(crate) fn size(&self) -> u64 {
        match &self.kind {
            EntryKind::File(content) => content.size,
            _ => 0,
        }
    }
}

/// What an image holds: entries by their path in it, which has no slash in front. The root
/// directory itself is not among them; it is like a shared directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileTree {
    /// EPREFIX.
    pub eprefix: Eprefix,
    /// The time of everything that has no time of its own, and the latest that anything has.
    pub epoch: u64,
    /// The entries; a directory comes before what is in it.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// How much a plan holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Totals {
    /// Regular files, each counted once.
    pub files: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Symbolic links.
    pub links: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes in files.
    pub bytes: u64,
}

impl FileTree {
    /// A plan with the directories that lead to the prefix.
    pub(crate) fn new(eprefix: &Eprefix, epoch: u64) -> Self {
        Self { eprefix: eprefix.clone(), epoch, entries: BTreeMap::new() }
    }

    /// The prefix's path in the image.
    pub(crate) fn prefix_path(&self) -> &Path {
        let path = self.eprefix.as_path();
        path.strip_prefix("/").unwrap_or(path)
    }

    /// Adds `entry` at `path`, with the directories above it as the target has them.
    pub(crate) fn add(&mut self, path: impl Into<PathBuf>, entry: Entry) -> Result<()> {
        let path = path.into();
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            let there = self
                .entries
                .entry(above.to_owned())
                .or_insert_with(|| Entry::shared_directory(self.epoch));
            if !there.is_directory() {
                bail!("{} cannot hold /{}: it is no directory", above.display(), path.display());
            }
        }
        if self.entries.contains_key(&path) && !entry.is_directory() {
            bail!("/{} is in the extension already", path.display());
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Takes the root directory of an image that was read out, which has to be a shared one.
    pub(crate) fn take_root(&mut self) -> Result<()> {
        match self.entries.remove(Path::new("")) {
            Some(root) if !root.is_shared_directory(self.epoch) => {
                bail!("the root directory of the image is not as it should be: {root:?}")
            }
            _ => Ok(()),
        }
    }

    /// How much it holds.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for entry in self.entries.values() {
            match &entry.kind {
                EntryKind::Directory => totals.directories += 1,
                EntryKind::File(content) => {
                    totals.files += 1;
                    totals.bytes += content.size;
                }
                EntryKind::Link(_) => totals.links += 1,
                EntryKind::HardLink(_) => totals.hard_links += 1,
            }
        }
        totals
    }

    /// Whether root owns all of it.
    pub(crate) fn is_all_root(&self) -> bool {
        self.entries.values().all(|entry| (entry.uid, entry.gid) == (0, 0))
    }

    /// The first entry that is not root's, and whose it is.
    pub(crate) fn first_not_of_root(&self) -> (&Path, (u32, u32)) {
        let mut owners =
            self.entries.iter().map(|(path, entry)| (path.as_path(), (entry.uid, entry.gid)));
        owners.find(|(_, owner)| *owner != (0, 0)).unwrap_or((Path::new(""), (0, 0)))
    }

    /// How many more names files have, by the path of the first.
    pub(crate) fn other_names(&self) -> BTreeMap<&Path, u32> {
        let mut names = BTreeMap::new();
        for entry in self.entries.values() {
            if let EntryKind::HardLink(first) = &entry.kind {
                *names.entry(first.as_path()).or_default() += 1;
            }
        }
        names
    }

    /// Removes the entries at `paths`. Where the first name of a file goes, the next one takes
    /// its place; directories that are left with nothing in them go as well.
    pub(crate) fn remove(&mut self, paths: &BTreeSet<PathBuf>) {
        let mut heirs: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        let mut removed = BTreeMap::new();
        for path in paths {
            if let Some(entry) = self.entries.remove(path) {
                removed.insert(path.clone(), entry);
            }
        }
        for (path, entry) in &mut self.entries {
            let EntryKind::HardLink(first) = &mut entry.kind else { continue };
            if let Some(heir) = heirs.get(first) {
                first.clone_from(heir);
            } else if let Some(gone) = removed.get(first) {
                heirs.insert(first.clone(), path.clone());
                entry.kind = gone.kind.clone();
            }
        }
        for path in removed.keys() {
            self.remove_empty_above(path);
        }
    }

    fn remove_empty_above(&mut self, path: &Path) {
        for above in path.ancestors().skip(1) {
            if above == self.prefix_path() || !above.starts_with(self.prefix_path()) {
                return;
            }
            let mut below = self.entries.range(above.to_owned()..).skip(1);
            if below.next().is_some_and(|(next, _)| next.starts_with(above)) {
                return;
            }
            self.entries.remove(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FileTree {
        FileTree::new(&"/opt/x".parse().unwrap(), 7)
    }

    #[test]
    fn directories_above_are_the_targets() {
        let mut plan = plan();
        plan.add("opt/x/usr/bin/a", Entry::generated(b"a".to_vec(), 7)).unwrap();
        let paths: Vec<_> = plan.entries.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["opt", "opt/x", "opt/x/usr", "opt/x/usr/bin", "opt/x/usr/bin/a"]);
        assert_eq!(plan.entries.get(Path::new("opt")), Some(&Entry::shared_directory(7)));
        assert!(plan.add("opt/x/usr/bin/a/b", Entry::generated(Vec::new(), 7)).is_err());
        assert!(plan.add("opt/x/usr/bin/a", Entry::generated(Vec::new(), 7)).is_err());
    }

    #[test]
    fn another_name_inherits_the_content() {
        let mut plan = plan();
        plan.add("opt/x/a/1", Entry::generated(b"content".to_vec(), 7)).unwrap();
        for name in ["opt/x/b/2", "opt/x/b/3"] {
            let kind = EntryKind::HardLink("opt/x/a/1".into());
            plan.add(name, Entry { kind, ..Entry::generated(Vec::new(), 7) }).unwrap();
        }
        plan.remove(&BTreeSet::from(["opt/x/a/1".into()]));
        assert!(!plan.entries.contains_key(Path::new("opt/x/a")), "an empty directory stays");
        assert_eq!(plan.entries.get(Path::new("opt/x/b/2")).unwrap().size(), 7);
        let third = &plan.entries.get(Path::new("opt/x/b/3")).unwrap().kind;
        assert_eq!(*third, EntryKind::HardLink("opt/x/b/2".into()));
    }
}
