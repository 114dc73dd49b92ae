//! Reading a root: what the prefix on disk holds becomes entries of a plan.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use super::capability;
use super::plan::{Content, Entry, Kind, Plan, Source};
use crate::final_root::FinalRoot;

/// Attributes by which overlayfs hides what is below (overlayfs documentation of the kernel,
/// "whiteouts and opaque directories"). An extension that carries one hides the target's files.
const OVERLAY_MARKERS: &[&str] = &["trusted.overlay.", "user.overlay."];

/// Reads all of the prefix in `root` into `plan`.
///
/// Files keep their times, but none is later than the plan's epoch. Directories and links take
/// the epoch: their times on disk say when they were put there, which is no property of the
/// prefix. Whoever owns the prefix is root in the image; other owners are kept.
pub fn survey(root: &FinalRoot, plan: &mut Plan) -> Result<()> {
    let eroot = root.eroot();
    let owner = fs_err::symlink_metadata(&eroot)?;
    let mut seen = HashMap::new();
    let walk = walkdir::WalkDir::new(&eroot).follow_links(false).sort_by_file_name();
    for found in walk {
        let found = found.context("could not read the prefix")?;
        let meta = found.metadata().context("could not read the prefix")?;
        let inside = found.path().strip_prefix(root.path())?.to_owned();
        let kind = kind(found.path(), &meta, &inside, &mut seen)?;
        let entry = Entry {
            mtime: match kind {
                Kind::File(_) | Kind::HardLink(_) => {
                    u64::try_from(meta.mtime()).unwrap_or(0).min(plan.epoch)
                }
                _ => plan.epoch,
            },
            mode: if meta.is_symlink() { 0o777 } else { meta.mode() & 0o7777 },
            uid: if meta.uid() == owner.uid() { 0 } else { meta.uid() },
            gid: if meta.gid() == owner.gid() { 0 } else { meta.gid() },
            xattrs: xattrs(found.path())?,
            kind,
        };
        plan.add(inside, entry)?;
    }
    Ok(())
}

/// What lies in `root` beside the prefix and its parents: it will not be in the extension.
pub fn outside(root: &FinalRoot) -> Result<Vec<PathBuf>> {
    let eroot = root.eroot();
    let mut outside = Vec::new();
    let mut dir = root.path().to_owned();
    while dir != eroot {
        let next =
            eroot.strip_prefix(&dir)?.components().next().context("the prefix has no path")?;
        for entry in fs_err::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name() != next.as_os_str() {
                outside.push(entry.path().strip_prefix(root.path())?.to_owned());
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
) -> Result<Kind> {
    let file_type = meta.file_type();
    if file_type.is_dir() {
        return Ok(Kind::Directory);
    }
    if file_type.is_symlink() {
        return Ok(Kind::Link(fs_err::read_link(path)?));
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
            return Ok(Kind::HardLink(first.clone()));
        }
        seen.insert(identity, inside.to_owned());
    }
    let source = Source::Disk(path.to_owned());
    Ok(Kind::File(Content { source, size: meta.len(), sha256: None }))
}

/// The attributes that belong to the file and not to the machine that it lies on: the user's
/// own, capabilities, and signatures for IMA. Labels and ACLs are the machine's.
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
            value = capability::of_any_user(&value).with_context(act)?;
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
