//! Comparison of a plan with a tree or another extension below it, as overlayfs combines them.
//! Names are compared, and links are not followed, except for /usr and /opt themselves, where
//! systemd mounts.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::level::Level;
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::resolve::ResolvedPath;
use crate::fstree::root_dir::RootDir;
use crate::sysext::target::caches::find_maker;
use crate::sysext::target::{TargetFinding, TargetRule};

/// Directories over which systemd mounts extensions (systemd-sysext(8)).
const HIERARCHIES: &[&str] = &["usr", "opt"];

/// The layer below the extension, or beside it.
#[derive(Debug)]
pub(super) enum Layer {
    /// A tree on disk.
    Root {
        /// Its root directory.
        root: RootDir,
        /// Paths of its hierarchies: the place each leads to, and whether a link leads there.
        hierarchies: BTreeMap<PathBuf, ResolvedPath>,
        /// Owner of the tree, which stands for root.
        owner: (u32, u32),
    },
    /// Another extension.
    Extension(OtherExtension),
}

/// An extension that is attached beside the one that is compared.
#[derive(Debug)]
pub(super) struct OtherExtension {
    /// Name of the extension, for messages.
    pub name: String,
    /// Content of the extension.
    pub plan: FileTree,
    /// True if its name comes last, so that it is on top.
    pub is_above: bool,
    /// True if the caches in the prefix of the extension that is compared list what this one has.
    pub is_listed: bool,
}

impl Layer {
    /// Returns the layer for the tree at `root`.
    pub(super) fn root(root: &RootDir) -> Result<Self> {
        let owner = root.metadata(Path::new("/"))?.map(|meta| (meta.uid(), meta.gid()));
        let owner = owner.context("the target has no root directory")?;
        let hierarchies = HIERARCHIES
            .iter()
            .map(|name| (PathBuf::from(name), root.resolve(&Path::new("/").join(name))))
            .collect();
        Ok(Self::Root { root: root.clone(), hierarchies, owner })
    }

    /// Returns the name of the layer for messages.
    fn describe_layer(&self) -> String {
        match self {
            Self::Root { .. } => "the target".to_owned(),
            Self::Extension(other) => format!("the extension {}", other.name),
        }
    }

    /// Returns the entry of the layer at `path`; `None` if it has none.
    fn entry(&self, path: &Path) -> Result<Option<Entry>> {
        let (root, owner) = match self {
            Self::Extension(OtherExtension { plan, .. }) => {
                return Ok(plan.entries.get(path).map(|e| resolve_hard_link(plan, e)));
            }
            Self::Root { root, owner, .. } => (root, owner),
        };
        let Some(place) = self.place(path) else { return Ok(None) };
        let Some(meta) = root.symlink_metadata(&place)? else { return Ok(None) };
        let kind = if meta.is_dir() {
            EntryKind::Directory
        } else if meta.is_symlink() {
            EntryKind::Link(root.read_link(&place)?)
        } else {
            // Pipes and devices have no content to read, so they equal no file.
            let size = if meta.is_file() { meta.size() } else { u64::MAX };
            EntryKind::File(FileContent::unread(ContentSource::Disk(place), size))
        };
        let mut entry = Entry::on_disk(kind, &meta);
        entry.count_as_root(*owner);
        Ok(Some(entry))
    }

    /// Returns the place in the tree over which systemd mounts `path` of an extension.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let Self::Root { hierarchies, .. } = self else { return None };
        match hierarchies.iter().find(|(top, _)| path.starts_with(top))? {
            (top, ResolvedPath::There { inside, .. }) => {
                let below = path.strip_prefix(top).unwrap_or(path);
                // Without a name below it, a joined path would end in a slash, which leads into a link.
                Some(inside.components().chain(below.components()).collect())
            }
            _ => None,
        }
    }

    /// Returns the digest of a file of the layer.
    fn digest(&self, content: &FileContent) -> Result<[u8; 32]> {
        match (self, &content.source) {
            (Self::Root { root, .. }, ContentSource::Disk(place)) => {
                let file = root.open_file(place)?;
                let file = file.with_context(|| format!("{} is gone", place.escaped()))?;
                Ok(digest::hash_reader(file)?.0)
            }
            _ => digest_of(content),
        }
    }
}

/// Returns `entry` of `plan`; for a hard link, the file that it names.
fn resolve_hard_link(plan: &FileTree, entry: &Entry) -> Entry {
    match &entry.kind {
        EntryKind::HardLink(first) => plan.entries.get(first).unwrap_or(entry).clone(),
        _ => entry.clone(),
    }
}

/// Returns the changes that `plan` makes over `layer`. Entries below the prefix belong to the
/// prefix: differences from an earlier version of it make one finding.
pub(super) fn compare_layer(plan: &FileTree, layer: &Layer) -> Result<Vec<TargetFinding>> {
    let mut findings = find_hidden_links(plan, layer);
    let mut passed: Option<&Path> = None;
    let mut earlier = 0_usize;
    for (path, entry) in &plan.entries {
        let is_attached = HIERARCHIES.iter().any(|top| path.starts_with(top));
        if !is_attached || passed.is_some_and(|above| path.starts_with(above)) {
            continue;
        }
        let present = layer.entry(path)?;
        let joined = entry.is_directory() && present.as_ref().is_some_and(Entry::is_directory);
        if !joined {
            passed = Some(path);
        }
        let Some(present) = present else { continue };
        let Some(finding) =
            compare_entries(path, &resolve_hard_link(plan, entry), &present, layer)?
        else {
            continue;
        };
        if path != plan.prefix_path() && path.starts_with(plan.prefix_path()) {
            match (finding.rule, layer) {
                (TargetRule::HiddenCache, Layer::Extension(other)) => {
                    // A cache on top that lists what both have hides nothing.
                    let is_whole = other.is_listed && !other.is_above;
                    findings.extend((!is_whole).then_some(finding));
                }
                (rule, _) => earlier += usize::from(rule != TargetRule::DirectoryMode),
            }
            continue;
        }
        findings.push(finding);
    }
    if earlier > 0 {
        let detail = format!(
            "is already a prefix in {}, and {earlier} of its entries are other ones",
            layer.describe_layer()
        );
        let path = Some(plan.prefix_path());
        findings.push(TargetFinding::new(TargetRule::ShadowedFile, Level::Warning, path, detail));
    }
    Ok(findings)
}

/// Returns the finding for one path that both have.
fn compare_entries(
    path: &Path,
    packed: &Entry,
    present: &Entry,
    layer: &Layer,
) -> Result<Option<TargetFinding>> {
    let whose = layer.describe_layer();
    let found = |rule, level, detail| Some(TargetFinding::new(rule, level, Some(path), detail));
    Ok(match (&packed.kind, &present.kind) {
        (EntryKind::Directory, EntryKind::Directory) => {
            let is_same =
                (packed.mode, packed.uid, packed.gid) == (present.mode, present.uid, present.gid);
            // The directory would become accessible to others, or those who run programs in it now
            // could not do so.
            let opens = packed.mode & !present.mode & 0o777 != 0;
            let closes = present.mode & !packed.mode & 0o055 != 0;
            let level = if opens || closes { Level::Error } else { Level::Warning };
            let detail = format!(
                "is {} in the extension, and {} in {whose}",
                describe_access(packed),
                describe_access(present)
            );
            if is_same { None } else { found(TargetRule::DirectoryMode, level, detail) }
        }
        (EntryKind::Directory, EntryKind::Link(to)) => found(
            TargetRule::HiddenLink,
            Level::Error,
            format!("is a directory in the extension, and a link to {} in {whose}", to.escaped()),
        ),
        (_, EntryKind::Directory) => found(
            TargetRule::HiddenDirectory,
            Level::Error,
            format!("is a directory in {whose}, and none in the extension"),
        ),
        _ if is_same_file(packed, present, layer)? => None,
        _ => Some(find_hidden_file(path, packed, layer)),
    })
}

/// Returns the finding for a file of `layer` at the path of the entry `packed`, which is another one.
fn find_hidden_file(path: &Path, packed: &Entry, layer: &Layer) -> TargetFinding {
    let whose = layer.describe_layer();
    let seen = match layer {
        Layer::Root { .. } => "",
        Layer::Extension(other) if other.is_above => {
            "; that one is seen, since its name comes last"
        }
        Layer::Extension(_) => "; this one is seen, since its name comes last",
    };
    let (rule, level, detail) = match (find_maker(path), layer) {
        (Some(maker), _) => (
            TargetRule::HiddenCache,
            Level::Error,
            format!("is another cache in {whose}, made by {maker}{seen}"),
        ),
        (None, _) if packed.is_directory() => (
            TargetRule::ShadowedFile,
            Level::Error,
            format!("is a directory in the extension, and a file in {whose}{seen}"),
        ),
        (None, Layer::Root { .. }) => {
            (TargetRule::ShadowedFile, Level::Error, format!("is another file in {whose}"))
        }
        (None, Layer::Extension(_)) => {
            (TargetRule::ShadowedFile, Level::Warning, format!("is another file in {whose}{seen}"))
        }
    };
    TargetFinding::new(rule, level, Some(path), detail)
}

fn describe_access(entry: &Entry) -> String {
    format!("{:04o} of {}:{}", entry.mode, entry.uid, entry.gid)
}

fn is_same_file(packed: &Entry, present: &Entry, layer: &Layer) -> Result<bool> {
    match (&packed.kind, &present.kind) {
        (EntryKind::Link(packed), EntryKind::Link(present)) => Ok(packed == present),
        (EntryKind::File(a), EntryKind::File(b)) => Ok(packed.mode == present.mode
            && a.size == b.size
            && digest_of(a)? == layer.digest(b)?),
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
fn find_hidden_links(plan: &FileTree, layer: &Layer) -> Vec<TargetFinding> {
    let Layer::Root { hierarchies, .. } = layer else { return Vec::new() };
    let mut findings = Vec::new();
    for (top, place) in hierarchies.iter().filter(|(top, _)| plan.entries.contains_key(*top)) {
        let (level, detail) = match place {
            ResolvedPath::There { inside, .. } | ResolvedPath::Missing(inside)
                if *inside != Path::new("/").join(top) =>
            {
                (Level::Warning, format!("is a link to {} on the target", inside.escaped()))
            }
            ResolvedPath::Loop => (Level::Error, "is a link that leads in a circle".to_owned()),
            ResolvedPath::NoDirectory(place) => (
                Level::Error,
                format!("is a link that leads up from {}, which is no directory", place.escaped()),
            ),
            ResolvedPath::There { .. } | ResolvedPath::Missing(_) => continue,
        };
        findings.push(TargetFinding::new(TargetRule::LinkedHierarchy, level, Some(top), detail));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;
    use std::os::unix::fs::PermissionsExt;

    /// Returns the rules and details of the findings for an extension with /usr/bin/jq.
    fn findings(root: &Path) -> Vec<(TargetRule, String)> {
        let mut plan = FileTree::new(&"/usr/x".parse().unwrap(), 1);
        plan.add("usr/bin/jq", Entry::generated(b"packed".to_vec(), 1)).unwrap();
        let root = RootDir::open(root).unwrap();
        let findings = compare_layer(&plan, &Layer::root(&root).unwrap()).unwrap();
        findings.into_iter().map(|finding| (finding.rule, finding.detail)).collect()
    }

    #[test]
    fn links_of_a_target_do_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for place in ["root/system/bin", "outside/bin"] {
            fs_err::create_dir_all(dir.path().join(place)).unwrap();
            fs_err::write(dir.path().join(place).join("jq"), "present").unwrap();
        }
        let usr = root.join("usr");
        let with = |target: &Path| {
            symlink(target, &usr).unwrap();
            let found = findings(&root);
            fs_err::remove_file(&usr).unwrap();
            found
        };
        let linked = |detail: &str| vec![(TargetRule::LinkedHierarchy, detail.to_owned())];
        let outside = "is a link to /outside on the target";
        assert_eq!(with(Path::new("../outside")), linked(outside));
        let detail = "is a link that leads up from /none, which is no directory";
        assert_eq!(with(Path::new("none/../../outside")), linked(detail));
        assert_eq!(with(Path::new("usr")), linked("is a link that leads in a circle"));
        let absolute = dir.path().join("outside");
        let detail = format!("is a link to {} on the target", absolute.escaped());
        assert_eq!(with(&absolute), linked(&detail));
        // The place that a link inside leads to is compared.
        let rules: Vec<_> = with(Path::new("/system")).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(rules, [TargetRule::LinkedHierarchy, TargetRule::ShadowedFile]);
        let same = root.join("system/bin/jq");
        fs_err::write(&same, "packed").unwrap();
        fs_err::set_permissions(&same, PermissionsExt::from_mode(0o644)).unwrap();
        let found = with(Path::new("system"));
        assert_eq!(found, linked("is a link to /system on the target"));
    }
}
