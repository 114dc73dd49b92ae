//! Changes one file on disk. A new file is written beside it, with all properties of the old one,
//! and renamed over each of its names.
//!
//! No file is flushed to the disk by itself, which would cost more than the file, thousands of
//! times. A rename is atomic for every reader, and for a run that is killed. To survive a power
//! failure, a caller flushes the filesystem once at the end (`rewrite`), as Portage does after a
//! merge.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::LIST;
use crate::base::publish::{self, Durability, NewFile};
use crate::elf::Patch;
use crate::fstree::xattr;
use crate::relocate::{FileAction, FileChange, SharedPatch, wheel_record};

pub(super) fn apply_change(tree: &Path, change: &FileChange) -> Result<()> {
    let on_disk = |path: &PathBuf| tree.join(path.strip_prefix("/").unwrap_or(path));
    let names: Vec<PathBuf> = change.paths.iter().map(on_disk).collect();
    let (first, others) = names.split_first().context("a change without a path")?;
    if let FileAction::Link(target) = &change.action {
        return replace_link(first, target);
    }
    if let FileAction::Record(changed) = &change.action {
        let record = change.paths.first().context("a change without a path")?;
        let text = input::read_text(first, LIST)?;
        let text = wheel_record::renew(tree, record, &text, changed)?;
        return replace_file(first, others, |_, mut new| Ok(new.write_all(text.as_bytes())?));
    }
    replace_file(first, others, |source, new| write_action(&change.action, source, new))
}

/// Replaces the file at `first`, which also has the names `others`, by the file that `write` makes
/// of it.
pub(super) fn replace_file(
    first: &Path,
    others: &[PathBuf],
    write: impl FnOnce(&std::fs::File, &std::fs::File) -> Result<()>,
) -> Result<()> {
    let source = input::open_walked(first)?;
    let (dir, name) = place(first)?;
    let new = NewFile::create_in(dir)
        .with_context(|| format!("could not make a file in {}", dir.escaped()))?;
    write(source.file(), new.file())?;
    copy_metadata(source.file(), new.file())?;
    new.publish(name, Durability::Cached).context("could not put the new file in place")?;
    others.iter().try_for_each(|name| replace_hard_link(first, name))
}

fn write_action(
    action: &FileAction,
    source: &std::fs::File,
    mut new: &std::fs::File,
) -> Result<()> {
    match action {
        FileAction::Elf { plan, extra } => {
            plan.write_copy(source, new)?;
            write_patches(new, extra)?;
        }
        FileAction::Seal(patches) => {
            input::copy_data(source, 0..source.metadata()?.len(), new, 0)?;
            write_patches(new, patches)?;
        }
        FileAction::Bytes(patches) => {
            use std::os::unix::fs::FileExt;
            input::copy_data(source, 0..source.metadata()?.len(), new, 0)?;
            let write = |patch: &SharedPatch| new.write_all_at(&patch.bytes, patch.offset);
            patches.iter().try_for_each(write)?;
        }
        FileAction::Contents(contents) => new.write_all(contents)?,
        FileAction::FirstLine { old, new: line } => {
            new.write_all(line)?;
            let rest = *old as u64..source.metadata()?.len();
            input::copy_data(source, rest, new, line.len() as u64)?;
        }
        FileAction::Link(_) | FileAction::Record(_) => bail!("this is written in another way"),
    }
    Ok(())
}

fn write_patches(new: &std::fs::File, patches: &[Patch]) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    patches.iter().try_for_each(|patch| new.write_all_at(&patch.bytes, patch.offset))
}

/// Gives `new` the owner, mode, attributes and times of `old`.
fn copy_metadata(old: &std::fs::File, new: &std::fs::File) -> Result<()> {
    let meta = old.metadata()?;
    let own = new.metadata()?;
    if (meta.uid(), meta.gid()) != (own.uid(), own.gid()) {
        std::os::unix::fs::fchown(new, Some(meta.uid()), Some(meta.gid()))
            .context("could not keep the owner")?;
    }
    xattr::copy(old.as_fd(), new.as_fd())?;
    // The mode comes after the owner and the contents, which both clear setuid.
    new.set_permissions(meta.permissions())?;
    rustix::fs::futimens(new, &timestamps(&meta)).context("could not keep the times")?;
    Ok(())
}

/// Makes the symbolic link at `link` point to `target`, and keeps its owner and times.
pub(super) fn replace_link(link: &Path, target: &Path) -> Result<()> {
    let meta = fs_err::symlink_metadata(link)?;
    let owner = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    let (dir, name) = place(link)?;
    publish::replace_entry(publish::open_directory(dir)?, name, Durability::Cached, |dir, new| {
        rustix::fs::symlinkat(target, dir, new)?;
        let own = rustix::fs::statat(dir, new, AtFlags::SYMLINK_NOFOLLOW)?;
        if (meta.uid(), meta.gid()) != (own.st_uid, own.st_gid) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(dir, new, Some(owner.0), Some(owner.1), flags)?;
        }
        rustix::fs::utimensat(dir, new, &timestamps(&meta), AtFlags::SYMLINK_NOFOLLOW)
    })
    .context("could not put the new link in place")
}

/// Returns the directory of `path`, and the name in it.
fn place(path: &Path) -> Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).context("a file without a directory")
}

fn timestamps(meta: &std::fs::Metadata) -> Timestamps {
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    }
}

/// Makes `link`, a hard link to the old file, a hard link to the new file.
fn replace_hard_link(first: &Path, link: &Path) -> Result<()> {
    let (dir, name) = place(link)?;
    publish::replace_entry(publish::open_directory(dir)?, name, Durability::Cached, |dir, new| {
        rustix::fs::linkat(CWD, first, dir, new, AtFlags::empty())
    })
    .with_context(|| format!("could not link {}", first.escaped()))
}
