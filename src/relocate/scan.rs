//! Scan of a tree in one walk: its regular files, with hard links grouped, and its symbolic links.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::publish;
use crate::fstree::walk::TreeWalk;

/// A regular file of the tree, with all its names.
pub(super) struct ScannedFile {
    /// Paths as programs see them; several if it has hard links.
    pub paths: Vec<PathBuf>,
    pub disk: PathBuf,
    pub size: u64,
    /// True if it runs with rights that its caller does not have (setuid, setgid).
    pub privileged: bool,
    /// True if somebody may execute it.
    pub is_executable: bool,
}

/// Contents of a tree, sorted by path.
#[derive(Default)]
pub(super) struct TreeScan {
    pub files: Vec<ScannedFile>,
    /// Symbolic links as programs see them, each with its target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Other paths, if only some paths are examined: they may be libraries.
    others: Vec<PathBuf>,
    /// Directories on disk with files of a run that was killed.
    pub unfinished: BTreeSet<PathBuf>,
}

impl TreeScan {
    /// Scans `tree`. If `only` has paths, only these are examined.
    pub(super) fn scan(tree: &Path, only: &[PathBuf]) -> Result<Self> {
        let mut scan = Self::default();
        // Position and number of names of each file that has several, by device and inode.
        let mut linked: HashMap<(u64, u64), (usize, u64)> = HashMap::new();
        for entry in TreeWalk::below(tree) {
            let entry = entry?;
            if publish::is_unfinished(entry.name()) {
                scan.unfinished.extend(entry.disk().parent().map(Path::to_owned));
                continue;
            }
            let kind = entry.file_type();
            if !kind.is_file() && !kind.is_symlink() {
                continue;
            }
            let path = entry.inside();
            if !only.is_empty() && !only.iter().any(|only| path.starts_with(only)) {
                scan.others.push(path);
                continue;
            }
            if kind.is_symlink() {
                scan.links.push((path, entry.link_target()?));
                continue;
            }
            let meta = entry.metadata()?;
            if meta.nlink() > 1 {
                let key = (meta.dev(), meta.ino());
                let (position, _) = *linked.entry(key).or_insert((scan.files.len(), meta.nlink()));
                if let Some(file) = scan.files.get_mut(position) {
                    file.paths.push(path);
                    continue;
                }
            }
            scan.files.push(ScannedFile {
                paths: vec![path],
                disk: entry.into_disk(),
                size: meta.len(),
                privileged: meta.mode() & 0o6000 != 0,
                is_executable: meta.mode() & 0o111 != 0,
            });
        }
        scan.add_other_names(tree, &linked);
        Ok(scan)
    }

    /// Adds to the examined files their names among the other paths: a file is the same under each
    /// of its names.
    fn add_other_names(&mut self, tree: &Path, linked: &HashMap<(u64, u64), (usize, u64)>) {
        let lacks_names = |&(position, names): &(usize, u64)| {
            self.files.get(position).is_some_and(|file| (file.paths.len() as u64) < names)
        };
        if !linked.values().any(lacks_names) {
            return;
        }
        for path in &self.others {
            let disk = tree.join(path.strip_prefix("/").unwrap_or(path));
            // A name that disappears meanwhile is none.
            let Ok(meta) = disk.symlink_metadata() else { continue };
            if let Some((position, _)) = linked.get(&(meta.dev(), meta.ino()))
                && let Some(file) = self.files.get_mut(*position)
            {
                file.paths.push(path.clone());
            }
        }
    }

    /// Returns all paths that could be a library by their name: files, and links to them.
    pub(super) fn names(&self) -> impl Iterator<Item = &Path> {
        let files = self.files.iter().flat_map(|file| &file.paths);
        files
            .chain(self.links.iter().map(|(path, _)| path))
            .chain(&self.others)
            .map(PathBuf::as_path)
    }
}
