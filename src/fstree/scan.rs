//! Scan of a root: the prefix on disk becomes entries of a plan.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use crate::fstree::capability;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};

/// Attributes with which overlayfs hides entries of lower layers (kernel documentation of
/// overlayfs, "whiteouts and opaque directories"). An extension that carries one hides the target's
/// files.
const OVERLAY_MARKERS: &[&str] = &["trusted.overlay.", "user.overlay."];

/// Reads the prefix at `eroot`, which lies in the root directory `root`, into `plan`.
///
/// Files keep their times, limited to the plan's epoch. Directories and links get the epoch: their
/// times on disk are those of the installation, which is no property of the prefix. The owner of
/// the prefix becomes root in the image; other owners are kept.
pub(crate) fn scan_prefix(eroot: &Path, root: &Path, plan: &mut FileTree) -> Result<()> {
    normal(eroot, root, plan)
}

/// Reads the tree at `dir`, which will be the root directory, into `plan`, by the same rules.
pub(crate) fn scan_tree(dir: &Path, plan: &mut FileTree) -> Result<()> {
    normal(dir, dir, plan)
}

fn normal(top: &Path, base: &Path, plan: &mut FileTree) -> Result<()> {
    let owner = fs_err::symlink_metadata(top)?;
    let epoch = plan.epoch;
    for (path, mut entry) in read(top, base)? {
        if path.as_os_str().is_empty() {
            continue;
        }
        if entry.uid == owner.uid() {
            entry.uid = 0;
        }
        if entry.gid == owner.gid() {
            entry.gid = 0;
        }
        entry.mtime = match entry.kind {
            EntryKind::File(_) | EntryKind::HardLink(_) => entry.mtime.min(epoch),
            EntryKind::Directory | EntryKind::Link(_) => epoch,
        };
        plan.add(path, entry)?;
    }
    Ok(())
}

/// Reads the unpacked image in `dir` into `plan` without changes. Only the owner is mapped: files
/// that an ordinary user unpacks belong to that user and count as root's.
pub(crate) fn scan_unpacked(dir: &Path, plan: &mut FileTree) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for (path, mut entry) in read(dir, dir)? {
        if entry.uid == uid {
            entry.uid = 0;
        }
        if entry.gid == gid {
            entry.gid = 0;
        }
        if path.as_os_str().is_empty() {
            if !entry.is_shared_directory(plan.epoch) {
                bail!("the root directory of the image is not as it should be: {entry:?}");
            }
            continue;
        }
        plan.entries.insert(path, entry);
    }
    Ok(())
}

/// Returns all entries of the tree at `top` as they are on disk, by path below `base`.
fn read(top: &Path, base: &Path) -> Result<Vec<(PathBuf, Entry)>> {
    let mut entries = Vec::new();
    let mut seen = HashMap::new();
    for found in walkdir::WalkDir::new(top).follow_links(false).sort_by_file_name() {
        let found = found.context("could not read the tree")?;
        let meta = found.metadata().context("could not read the tree")?;
        let inside = found.path().strip_prefix(base)?.to_owned();
        let entry = Entry {
            kind: kind(found.path(), &meta, &inside, &mut seen)?,
            mode: if meta.is_symlink() { 0o777 } else { meta.mode() & 0o7777 },
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: u64::try_from(meta.mtime()).unwrap_or(0),
            xattrs: xattrs(found.path())?,
        };
        entries.push((inside, entry));
    }
    Ok(entries)
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

fn kind(
    path: &Path,
    meta: &Metadata,
    inside: &Path,
    seen: &mut HashMap<(u64, u64), PathBuf>,
) -> Result<EntryKind> {
    let file_type = meta.file_type();
    if file_type.is_dir() {
        return Ok(EntryKind::Directory);
    }
    if file_type.is_symlink() {
        return Ok(EntryKind::Link(fs_err::read_link(path)?));
    }
    if file_type.is_char_device() && meta.rdev() == 0 {
        bail!("{} is an overlayfs whiteout: attached, it would hide a file", path.display());
    }
    if !file_type.is_file() {
        bail!("{} is a device, a socket or a pipe; an extension holds none", path.display());
    }
    if meta.nlink() > 1 {
        let identity = (meta.dev(), meta.ino());
        if let Some(first) = seen.get(&identity) {
            return Ok(EntryKind::HardLink(first.clone()));
        }
        seen.insert(identity, inside.to_owned());
    }
    let source = ContentSource::Disk(path.to_owned());
    Ok(EntryKind::File(FileContent::unread(source, meta.len())))
}

/// Returns the attributes that belong to the file and not to its machine: `user.*`, capabilities,
/// and signatures for IMA. Labels and ACLs belong to the machine.
fn xattrs(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let act = || format!("could not read the extended attributes of {}", path.display());
    let mut kept = BTreeMap::new();
    for name in names(path).with_context(act)? {
        let text = name.to_string_lossy();
        if OVERLAY_MARKERS.iter().any(|marker| text.starts_with(marker)) {
            bail!(
                "{} carries {text}, a mark of overlayfs: attached, it would hide what the target \
                 has there",
                path.display()
            );
        }
        if !(text.starts_with("user.") || text == capability::NAME || text == "security.ima") {
            continue;
        }
        let mut value = Vec::with_capacity(256);
        loop {
            value.clear();
            let spare = rustix::buffer::spare_capacity(&mut value);
            match rustix::fs::lgetxattr(path, &*name, spare) {
                Ok(_) => break,
                Err(Errno::RANGE) => value.reserve(value.capacity() * 2),
                Err(error) => return Err(error).with_context(act),
            }
        }
        if text == capability::NAME {
            value = capability::drop_namespace(&value).with_context(act)?;
        }
        kept.insert(name, value);
    }
    Ok(kept)
}

fn names(path: &Path) -> std::result::Result<Vec<OsString>, Errno> {
    let mut list: Vec<u8> = Vec::with_capacity(256);
    loop {
        list.clear();
        match rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list)) {
            Ok(_) => break,
            Err(Errno::RANGE) => list.reserve(list.capacity() * 2),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
    Ok(list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect())
}
