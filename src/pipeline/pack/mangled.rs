//! Applies the user's changes to the content of an extension, and reports them to the check.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rustix::fs::FileType;

use crate::base::output::Reporter;
use crate::check::{self, NewEntry, TreeChanges};
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileTree};
use crate::imagefmt::workplace::Workplace;
use crate::pipeline::pack::prepare::Prepared;
use crate::pipeline::pack::request::PackRequest;
use crate::sysext::release;

/// Mangles the prepared content as `request` asks for it. Returns the differences from the tree on
/// disk.
pub(super) fn mangle(
    request: &PackRequest,
    prepared: &mut Prepared,
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<TreeChanges> {
    let mut changes = TreeChanges::default();
    if request.options.mangle.is_empty() {
        return Ok(changes);
    }
    let before: BTreeSet<PathBuf> = prepared.plan.entries.keys().cloned().collect();
    for (index, mangle) in request.options.mangle.iter().enumerate() {
        reporter.step("mangling the content");
        mangle.apply(&mut prepared.plan, &workplace.path(&format!(".mangled-{index}")))?;
    }
    if !prepared.plan.entries.contains_key(&release::path(&request.name)) {
        bail!("mangling took the extension-release file, without which nothing is attached");
    }
    let owner = fs_err::symlink_metadata(request.root.eroot())?;
    let inside = |path: &Path| Path::new("/").join(path);
    for path in before.iter().filter(|path| !prepared.plan.entries.contains_key(*path)) {
        changes.0.insert(inside(path), None);
    }
    for (path, entry) in &prepared.plan.entries {
        let put = put(&prepared.plan, entry, (owner.uid(), owner.gid()));
        changes.0.insert(inside(path), put);
    }
    Ok(changes)
}

/// Adds the removal of the entries `gone` to `changes`.
pub(super) fn remove(changes: &mut TreeChanges, gone: BTreeSet<PathBuf>) {
    changes.0.extend(gone.into_iter().map(|path| (Path::new("/").join(path), None)));
}

/// Adds the new contents of the files at `edited` in `plan` to `changes`, under all of their names.
pub(super) fn replace(
    changes: &mut TreeChanges,
    request: &PackRequest,
    plan: &FileTree,
    edited: &BTreeSet<PathBuf>,
) -> Result<()> {
    let owner = fs_err::symlink_metadata(request.root.eroot())?;
    for (path, entry) in &plan.entries {
        let first = match &entry.kind {
            EntryKind::HardLink(first) => first,
            _ => path,
        };
        if edited.contains(first) {
            let put = put(plan, entry, (owner.uid(), owner.gid()));
            changes.0.insert(Path::new("/").join(path), put);
        }
    }
    Ok(())
}

/// Converts `entry` for the check. In a plan, root owns the files that the owner of the prefix has
/// on disk.
fn put(plan: &FileTree, entry: &Entry, owner: (u32, u32)) -> Option<NewEntry> {
    let (kind, format) = match &entry.kind {
        EntryKind::HardLink(first) => (&plan.entries.get(first)?.kind, FileType::RegularFile),
        EntryKind::File(_) => (&entry.kind, FileType::RegularFile),
        EntryKind::Directory => (&entry.kind, FileType::Directory),
        EntryKind::Link(_) => (&entry.kind, FileType::Symlink),
    };
    let content = match kind {
        EntryKind::File(content) => match &content.source {
            ContentSource::Disk(path) => check::NewContent::Disk(path.clone()),
            ContentSource::Bytes(bytes) => check::NewContent::Bytes(bytes.clone()),
        },
        EntryKind::Directory => check::NewContent::Directory,
        EntryKind::Link(target) => check::NewContent::Link(target.clone()),
        EntryKind::HardLink(_) => return None,
    };
    Some(NewEntry {
        content,
        mode: entry.mode | format.as_raw_mode(),
        owner: (
            if entry.uid == 0 { owner.0 } else { entry.uid },
            if entry.gid == 0 { owner.1 } else { entry.gid },
        ),
        attributes: entry.xattrs.keys().cloned().collect(),
    })
}
