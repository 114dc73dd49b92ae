//! Changes one file on disk. A new file is written beside it, with all properties of the old one,
//! and renamed over each of its names.
//!
//! Nothing is flushed to the disk. A rename is atomic for every reader, and for a run that is
//! killed. To survive a power failure, a caller flushes once at the end, as Portage does after a
//! merge.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::base::escape::Escape;
use crate::base::input;
use crate::elf::Patch;
use crate::fstree::xattr;
use crate::relocate::{FileAction, FileChange};

pub(super) fn apply_change(tree: &Path, change: &FileChange) -> Result<()> {
    let on_disk = |path: &PathBuf| tree.join(path.strip_prefix("/").unwrap_or(path));
    let names: Vec<PathBuf> = change.paths.iter().map(on_disk).collect();
    let (first, others) = names.split_first().context("a change without a path")?;
    if let FileAction::Link(target) = &change.action {
        return replace_link(first, target);
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
    let dir = first.parent().context("a file without a directory")?;
    let new = tempfile::Builder::new()
        .prefix(".fprefix-")
        .tempfile_in(dir)
        .with_context(|| format!("could not make a file in {}", dir.escaped()))?;
    write(source.file(), new.as_file())?;
    copy_metadata(source.file(), new.as_file())?;
    new.persist(first).context("could not put the new file in place")?;
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
        FileAction::Contents(contents) => new.write_all(contents)?,
        FileAction::FirstLine { old, new: line } => {
            new.write_all(line)?;
            let rest = *old as u64..source.metadata()?.len();
            input::copy_data(source, rest, new, line.len() as u64)?;
        }
        FileAction::Link(_) => bail!("a link is not written to"),
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

/// Makes the symbolic link at `name` point to `target`, and keeps its owner and times.
fn replace_link(name: &Path, target: &Path) -> Result<()> {
    let meta = fs_err::symlink_metadata(name)?;
    let work = directory_beside(name)?;
    let link = work.path().join("link");
    fs_err::os::unix::fs::symlink(target, &link)?;
    let own = fs_err::symlink_metadata(&link)?;
    if (meta.uid(), meta.gid()) != (own.uid(), own.gid()) {
        std::os::unix::fs::lchown(&link, Some(meta.uid()), Some(meta.gid()))
            .context("could not keep the owner of a link")?;
    }
    rustix::fs::utimensat(CWD, &link, &timestamps(&meta), AtFlags::SYMLINK_NOFOLLOW)
        .context("could not keep the times of a link")?;
    fs_err::rename(&link, name)?;
    Ok(())
}

fn directory_beside(name: &Path) -> Result<tempfile::TempDir> {
    let dir = name.parent().context("a file without a directory")?;
    tempfile::Builder::new()
        .prefix(".fprefix-")
        .tempdir_in(dir)
        .with_context(|| format!("could not make a directory in {}", dir.escaped()))
}

fn timestamps(meta: &std::fs::Metadata) -> Timestamps {
    let time = |seconds, nanoseconds: i64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    }
}

/// Makes `name`, a hard link to the old file, a hard link to the new file.
fn replace_hard_link(first: &Path, name: &Path) -> Result<()> {
    let work = directory_beside(name)?;
    let link = work.path().join("link");
    rustix::fs::linkat(CWD, first, CWD, &link, AtFlags::empty())
        .with_context(|| format!("could not link {}", first.escaped()))?;
    fs_err::rename(&link, name)?;
    Ok(())
}
