//! Scans of trees on disk, which become entries of a plan.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::publish;
use crate::fstree::acl;
use crate::fstree::budget::TreeBudget;
use crate::fstree::capability;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::walk::TreeWalk;
use crate::fstree::xattr::{self, XattrSource};

/// Attributes with which overlayfs hides entries of lower layers (kernel documentation of
/// overlayfs, "whiteouts and opaque directories"). An extension that carries one hides the target's
/// files.
const OVERLAY_MARKERS: &[&str] = &[OVERLAY_MARK, "user.overlay."];
/// Start of the names of those that count for a mount by root.
pub(crate) const OVERLAY_MARK: &str = "trusted.overlay.";

/// Reason to refuse an overlayfs whiteout.
pub(crate) const WHITEOUT: &str =
    "it is an overlayfs whiteout: attached, it would hide what the target has there";
/// Reason to refuse other entries that are no files.
pub(crate) const SPECIAL: &str = "it is a device, a socket or a pipe, and an extension holds none";

/// Reads the prefix at `eroot`, which lies in the root directory `root`, into `plan`.
///
/// Files keep their times, limited to the plan's epoch. Directories and links get the epoch: their
/// times on disk are those of the installation, which is no property of the prefix. The owner of
/// the prefix becomes root in the image; other owners are kept. Returns the paths of entries with an
/// access control list, which the plan has not.
pub(crate) fn scan_prefix(eroot: &Path, root: &Path, plan: &mut FileTree) -> Result<Vec<PathBuf>> {
    scan_below(eroot, root, plan)
}

/// Reads the tree at `dir`, which will be the root directory, into `plan`, by the same rules.
pub(crate) fn scan_tree(dir: &Path, plan: &mut FileTree) -> Result<()> {
    scan_below(dir, dir, plan).map(|_| ())
}

fn scan_below(top: &Path, base: &Path, plan: &mut FileTree) -> Result<Vec<PathBuf>> {
    let owner = fs_err::symlink_metadata(top)?;
    let epoch = plan.epoch;
    let mut reader = EntryReader::default();
    let mut budget = TreeBudget::of_tree();
    // The prefix itself is an entry too; the root directory is none.
    let place = top.strip_prefix(base)?;
    if !place.as_os_str().is_empty() {
        let mut entry = reader.read(top, &owner, place)?;
        entry.count_as_root((owner.uid(), owner.gid()));
        plan.add(place, Entry { mtime: epoch, ..entry })?;
    }
    // What a run left that was killed is no part of the prefix.
    for found in TreeWalk::below(top).skip_below(|found| publish::is_unfinished(found.name())) {
        let found = found?;
        let path = place.join(found.below());
        let mut entry = reader.read(found.disk(), &found.metadata()?, &path)?;
        entry.count_as_root((owner.uid(), owner.gid()));
        entry.mtime = match entry.kind {
            EntryKind::File(_) | EntryKind::HardLink(_) => entry.mtime.min(epoch),
            EntryKind::Directory | EntryKind::Link(_) => epoch,
        };
        let act = || format!("could not take the tree {}", top.escaped());
        budget.take(&path, &entry).with_context(act)?;
        plan.add(path, entry)?;
    }
    Ok(reader.with_list)
}

/// Reads the unpacked image in `dir` into `plan` without changes. Only the owner is mapped: files
/// that an ordinary user unpacks belong to that user and count as root's.
pub(crate) fn scan_unpacked(dir: &Path, plan: &mut FileTree) -> Result<()> {
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut reader = EntryReader::default();
    let mut root = reader.read(dir, &fs_err::symlink_metadata(dir)?, Path::new(""))?;
    root.count_as_root(owner);
    if !root.is_shared_directory(plan.epoch) {
        bail!("the root directory of the image is not as it should be: {root:?}");
    }
    for found in TreeWalk::below(dir) {
        let found = found?;
        let mut entry = reader.read(found.disk(), &found.metadata()?, found.below())?;
        entry.count_as_root(owner);
        plan.entries.insert(found.below().to_owned(), entry);
    }
    Ok(())
}

/// Reads the tree at `dir` into `plan` as it is on disk, without devices, sockets, pipes and
/// extended attributes. Such a plan serves for lists only.
pub(crate) fn scan_for_lists(dir: &Path, plan: &mut FileTree) -> Result<()> {
    let mut reader = EntryReader::default();
    for found in TreeWalk::below(dir) {
        let found = found?;
        let meta = found.metadata()?;
        if let Some(kind) = reader.kind(found.disk(), &meta, found.below())? {
            plan.entries.insert(found.below().to_owned(), Entry::on_disk(kind, &meta));
        }
    }
    Ok(())
}

/// Lists entries of `root` beside the prefix and its parents: they will not be in the extension.
pub(crate) fn list_outside(eroot: &Path, root: &Path) -> Result<Vec<PathBuf>> {
    let mut outside = Vec::new();
    let mut dir = root.to_owned();
    while dir != eroot {
        let next =
            eroot.strip_prefix(&dir)?.components().next().context("the prefix has no path")?;
        for entry in fs_err::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name() != next.as_os_str() {
                outside.push(entry.path().strip_prefix(root)?.to_owned());
            }
        }
        dir.push(next);
    }
    outside.sort();
    Ok(outside)
}

/// Reader of entries as they are on disk.
#[derive(Default)]
struct EntryReader {
    /// First path of each file with several names, by device and inode.
    names: HashMap<(u64, u64), PathBuf>,
    /// Paths of entries with an access control list.
    with_list: Vec<PathBuf>,
}

impl EntryReader {
    /// Reads the entry at `disk`, which has the path `inside` in the image.
    fn read(&mut self, disk: &Path, meta: &Metadata, inside: &Path) -> Result<Entry> {
        let Some(kind) = self.kind(disk, meta, inside)? else {
            if meta.file_type().is_char_device() && meta.rdev() == 0 {
                bail!(
                    "{} is an overlayfs whiteout: attached, it would hide a file",
                    disk.escaped()
                );
            }
            bail!("{} is a device, a socket or a pipe; an extension holds none", disk.escaped());
        };
        let mut entry = Entry { xattrs: xattrs(disk)?, ..Entry::on_disk(kind, meta) };
        self.leave_list(&mut entry, inside);
        Ok(entry)
    }

    /// Takes the access control lists from `entry`. Its mode has the mask in place of the group's
    /// rights until then.
    fn leave_list(&mut self, entry: &mut Entry, inside: &Path) {
        let lists = [acl::ACCESS, acl::DEFAULT].map(|name| entry.xattrs.remove(OsStr::new(name)));
        if lists.iter().any(Option::is_some) {
            self.with_list.push(inside.to_owned());
        }
        let [access, _] = lists;
        let mode = access.and_then(|list| acl::without_list(entry.mode, &list));
        entry.mode = mode.unwrap_or(entry.mode);
    }

    /// Returns the kind of the entry, or `None` for a device, a socket or a pipe.
    fn kind(&mut self, disk: &Path, meta: &Metadata, inside: &Path) -> Result<Option<EntryKind>> {
        if meta.is_dir() {
            return Ok(Some(EntryKind::Directory));
        }
        if meta.is_symlink() {
            return Ok(Some(EntryKind::Link(fs_err::read_link(disk)?)));
        }
        if !meta.is_file() {
            return Ok(None);
        }
        if meta.nlink() > 1 {
            let identity = (meta.dev(), meta.ino());
            if let Some(first) = self.names.get(&identity) {
                return Ok(Some(EntryKind::HardLink(first.clone())));
            }
            self.names.insert(identity, inside.to_owned());
        }
        let source = ContentSource::Disk(disk.to_owned());
        Ok(Some(EntryKind::File(FileContent::unread(source, meta.len()))))
    }
}

/// Returns the attributes that belong to the file and not to its machine: `user.*`, capabilities,
/// and signatures for IMA; also access control lists, for the mode. Labels and lists belong to the
/// machine.
fn xattrs(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut kept = xattr::read_xattrs(XattrSource::Path(path), |name| {
        let text = name.to_string_lossy();
        if OVERLAY_MARKERS.iter().any(|marker| text.starts_with(marker)) {
            bail!(
                "{} carries {text}, a mark of overlayfs: attached, it would hide what the target \
                 has there",
                path.escaped()
            );
        }
        let others = [capability::NAME, "security.ima", acl::ACCESS, acl::DEFAULT];
        Ok(text.starts_with("user.") || others.contains(&text.as_ref()))
    })?;
    if let Some(value) = kept.get_mut(OsStr::new(capability::NAME)) {
        *value = capability::drop_namespace(value).with_context(|| {
            format!("could not read the extended attributes of {}", path.escaped())
        })?;
    }
    Ok(kept)
}
