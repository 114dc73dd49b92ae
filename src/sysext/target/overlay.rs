//! Comparison of a plan with a tree or another extension below it, as overlayfs combines them.
//! Names are compared, and links are not followed, except for /usr and /opt themselves, where
//! systemd mounts.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::level::Level;
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::resolve::ResolvedPath;
use crate::sysext::target::root::TargetRoot;
use crate::sysext::target::{TargetFinding, TargetRule};

/// Directories over which systemd mounts extensions (systemd-sysext(8)).
const HIERARCHIES: &[&str] = &["usr", "opt"];

/// The layer below the extension, or beside it.
#[derive(Debug)]
pub(super) enum Layer {
    /// A tree on disk.
    Root {
        /// Paths of its hierarchies: the place each leads to, and whether a link leads there.
        hierarchies: BTreeMap<PathBuf, ResolvedPath>,
        /// Owner of the tree, which stands for root.
        owner: (u32, u32),
    },
    /// Another extension.
    Extension {
        /// File name of the extension.
        name: String,
        /// Content of the extension.
        plan: FileTree,
    },
}

impl Layer {
    /// Returns the layer for the tree of `target`.
    pub(super) fn root(target: &TargetRoot) -> Result<Self> {
        let meta = fs_err::metadata(&target.root)?;
        let hierarchies = HIERARCHIES
            .iter()
            .map(|name| (PathBuf::from(name), target.place(&Path::new("/").join(name))))
            .collect();
        Ok(Self::Root { hierarchies, owner: (meta.uid(), meta.gid()) })
    }

    /// Returns the layer for the extension `name`, which holds `plan`.
    pub(super) fn extension(name: String, plan: FileTree) -> Self {
        Self::Extension { name, plan }
    }

    /// Returns the name of the layer for messages.
    fn whose(&self) -> String {
        match self {
            Self::Root { .. } => "the target".to_owned(),
            Self::Extension { name, .. } => format!("the extension {name}"),
        }
    }

    /// Returns the entry of the layer at `path`; `None` if it has none.
    fn entry(&self, path: &Path) -> Result<Option<Entry>> {
        let (hierarchies, owner) = match self {
            Self::Extension { plan, .. } => {
                return Ok(plan.entries.get(path).map(|e| whole(plan, e)));
            }
            Self::Root { hierarchies, owner } => (hierarchies, owner),
        };
        let Some((top, ResolvedPath::There { disk, .. })) =
            hierarchies.iter().find(|(top, _)| path.starts_with(top))
        else {
            return Ok(None);
        };
        let below = path.strip_prefix(top).unwrap_or(path);
        let disk = if below.as_os_str().is_empty() { disk.clone() } else { disk.join(below) };
        match fs_err::symlink_metadata(&disk) {
            Ok(meta) => Ok(Some(on_disk(disk, &meta, *owner)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns `entry` of `plan`; for a hard link, the file that it names.
fn whole(plan: &FileTree, entry: &Entry) -> Entry {
    match &entry.kind {
        EntryKind::HardLink(first) => plan.entries.get(first).unwrap_or(entry).clone(),
        _ => entry.clone(),
    }
}

fn on_disk(disk: PathBuf, meta: &std::fs::Metadata, owner: (u32, u32)) -> Result<Entry> {
    let kind = if meta.is_dir() {
        EntryKind::Directory
    } else if meta.is_symlink() {
        EntryKind::Link(fs_err::read_link(disk)?)
    } else {
        // Pipes and devices have no content to read, so they equal no file.
        let size = if meta.is_file() { meta.size() } else { u64::MAX };
        EntryKind::File(FileContent::unread(ContentSource::Disk(disk), size))
    };
    let mut entry = Entry::on_disk(kind, meta);
    entry.count_as_root(owner);
    Ok(entry)
}

/// Returns the changes that `plan` makes over `layer`. Entries below the prefix belong to the
/// prefix: differences from an earlier version of it make one finding.
pub(super) fn compare(plan: &FileTree, layer: &Layer) -> Result<Vec<TargetFinding>> {
    let mut findings = linked(plan, layer);
    let mut passed: Option<&Path> = None;
    let mut earlier = 0_usize;
    for (path, entry) in &plan.entries {
        let is_attached = HIERARCHIES.iter().any(|top| path.starts_with(top));
        if !is_attached || passed.is_some_and(|above| path.starts_with(above)) {
            continue;
        }
        let theirs = layer.entry(path)?;
        let joined = entry.is_directory() && theirs.as_ref().is_some_and(Entry::is_directory);
        if !joined {
            passed = Some(path);
        }
        let Some(theirs) = theirs else { continue };
        let Some(finding) = judge(path, &whole(plan, entry), &theirs, layer)? else { continue };
        if path != plan.prefix_path() && path.starts_with(plan.prefix_path()) {
            earlier += usize::from(finding.rule != TargetRule::DirectoryMode);
            continue;
        }
        findings.push(finding);
    }
    if earlier > 0 {
        let detail = format!(
            "{} has a prefix there already, and {earlier} of its entries are other ones",
            layer.whose()
        );
        let path = Some(plan.prefix_path());
        findings.push(TargetFinding::new(TargetRule::ShadowedFile, Level::Warning, path, detail));
    }
    Ok(findings)
}

/// Returns the finding for one path that both have.
fn judge(
    path: &Path,
    ours: &Entry,
    theirs: &Entry,
    layer: &Layer,
) -> Result<Option<TargetFinding>> {
    let whose = layer.whose();
    let found = |rule, level, detail| Some(TargetFinding::new(rule, level, Some(path), detail));
    Ok(match (&ours.kind, &theirs.kind) {
        (EntryKind::Directory, EntryKind::Directory) => {
            let is_same = (ours.mode, ours.uid, ours.gid) == (theirs.mode, theirs.uid, theirs.gid);
            // The directory would become accessible to others. Directories of an extension outside
            // the prefix never remove access that 0755 gives.
            let opens = ours.mode & !theirs.mode & 0o777 != 0;
            let level = if opens { Level::Error } else { Level::Warning };
            let detail = format!(
                "it is {} in the extension, and {} in {whose}",
                access(ours),
                access(theirs)
            );
            if is_same { None } else { found(TargetRule::DirectoryMode, level, detail) }
        }
        (EntryKind::Directory, EntryKind::Link(to)) => found(
            TargetRule::HiddenLink,
            Level::Error,
            format!("a directory in the extension, and a link to {} in {whose}", to.display()),
        ),
        (_, EntryKind::Directory) => found(
            TargetRule::HiddenDirectory,
            Level::Error,
            format!("a directory in {whose}, and none in the extension"),
        ),
        _ if is_same_file(ours, theirs)? => None,
        _ => {
            let (level, order) = match layer {
                Layer::Root { .. } => (Level::Error, ""),
                Layer::Extension { .. } => {
                    (Level::Warning, "; the one whose name comes last is seen")
                }
            };
            let detail = format!("{whose} has another file there{order}");
            found(TargetRule::ShadowedFile, level, detail)
        }
    })
}

fn access(entry: &Entry) -> String {
    format!("{:04o} of {}:{}", entry.mode, entry.uid, entry.gid)
}

fn is_same_file(ours: &Entry, theirs: &Entry) -> Result<bool> {
    match (&ours.kind, &theirs.kind) {
        (EntryKind::Link(ours), EntryKind::Link(theirs)) => Ok(ours == theirs),
        (EntryKind::File(a), EntryKind::File(b)) => {
            Ok(ours.mode == theirs.mode && a.size == b.size && digest_of(a)? == digest_of(b)?)
        }
        _ => Ok(false),
    }
}

fn digest_of(content: &FileContent) -> Result<[u8; 32]> {
    if let Some(sha256) = content.sha256 {
        return Ok(sha256);
    }
    let (sha256, _) = match &content.source {
        ContentSource::Disk(path) => digest::hash_file(path)?,
        ContentSource::Bytes(bytes) => digest::hash_reader(bytes.as_slice())?,
    };
    Ok(sha256)
}

/// Finds hierarchies that are links, if the extension has entries for them.
fn linked(plan: &FileTree, layer: &Layer) -> Vec<TargetFinding> {
    let Layer::Root { hierarchies, .. } = layer else { return Vec::new() };
    let mut findings = Vec::new();
    for (top, place) in hierarchies.iter().filter(|(top, _)| plan.entries.contains_key(*top)) {
        let (level, detail) = match place {
            ResolvedPath::There { inside, .. } | ResolvedPath::Missing(inside)
                if *inside != Path::new("/").join(top) =>
            {
                (Level::Warning, format!("it is a link to {} on the target", inside.display()))
            }
            ResolvedPath::Loop => (Level::Error, "it is a link that leads in a circle".to_owned()),
            ResolvedPath::NoDirectory(place) => (
                Level::Error,
                format!(
                    "it is a link that leads up from {}, which is no directory",
                    place.display()
                ),
            ),
            ResolvedPath::There { .. } | ResolvedPath::Missing(_) => continue,
        };
        findings.push(TargetFinding::new(TargetRule::LinkedHierarchy, level, Some(top), detail));
    }
    findings
}
