//! A plan as a tree on disk: the format `directory`, input for tools that do not read streams, and
//! output of unpacking.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use fs_err::os::unix::fs::OpenOptionsExt;
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::input;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::{digest, scan, tar_stream};
use crate::host::machine;
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::Compression;
use crate::imagefmt::image_format::{ImageFormat, ImageInput, Magic};
use crate::sandbox::fake_root;

/// Directory, which systemd attaches as it is.
pub(crate) struct Directory;

/// Size above which holes are looked for, in bytes. Most files are smaller.
const LARGE: u64 = 1 << 20;

/// The format.
pub(crate) static FORMAT: Directory = Directory;

impl ImageFormat for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn suffix(&self) -> &'static str {
        ""
    }

    fn tools(&self) -> &'static [ExternalTool] {
        &[tools::TAR]
    }

    fn is_file(&self) -> bool {
        false
    }

    fn magic(&self) -> Option<Magic> {
        None
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        _: Compression,
        output: &Path,
        _: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        write(input.tree, output, progress)
    }

    fn differences(&self, planned: &FileTree, image: &Path, _: &Path) -> Result<Vec<String>> {
        compare::compare_unpacked(planned, image, Keeps::ALL)
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        scan::scan_tree(image, found)?;
        digest::hash_contents(found)
    }

    fn paths(&self, image: &Path, below: &Path) -> Result<Vec<PathBuf>> {
        let dir = image.join(below);
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs_err::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.iter().map(|entry| below.join(entry.file_name())).collect())
    }
}

/// Writes `plan` as a tree into the new directory `dir`. An ordinary user owns the files in it, but
/// a tool that runs through [`fake_root::command`] sees root as their owner.
pub(crate) fn write(plan: &FileTree, dir: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    if !machine::is_root() && !plan.is_all_root() {
        let (path, entry) = plan.first_not_of_root();
        bail!(
            "/{} belongs to the user {} and the group {}: only root can write that to disk",
            path.escaped(),
            entry.0,
            entry.1
        );
    }
    fs_err::create_dir(dir)?;
    let is_plain = plan.is_all_root() && plan.entries.values().all(|e| e.xattrs.is_empty());
    if is_plain {
        return lay_out(plan, dir, progress);
    }
    // Setting owners and capabilities needs rights that only the tool gets.
    untar(dir)?.run_fed(|input| tar_stream::write_tar_with_root(plan, input, progress))
}

/// Makes a command that unpacks a tar archive into the directory `dir`.
pub(crate) fn untar(dir: &Path) -> Result<Command> {
    Ok(fake_root::command("unpack the extension", tools::TAR)?
        .args(["--extract", "--preserve-permissions", "--same-owner", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*", "--delay-directory-restore", "--directory"])
        .arg(dir))
}

/// Writes a plan without foreign owners and attributes, on all processors.
fn lay_out(plan: &FileTree, dir: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    let mut directories = vec![(dir.to_owned(), Entry::shared_directory(plan.epoch))];
    let mut files = Vec::new();
    for (path, entry) in &plan.entries {
        let place = dir.join(path);
        match &entry.kind {
            EntryKind::Directory => {
                fs_err::create_dir(&place)?;
                directories.push((place, entry.clone()));
            }
            EntryKind::File(content) => files.push((place, entry, content)),
            EntryKind::Link(target) => {
                fs_err::os::unix::fs::symlink(target, &place)?;
                set_time_of_link(&place, entry.mtime)?;
            }
            EntryKind::HardLink(_) => {}
        }
    }
    write_files(&files, progress)?;
    for (path, entry) in &plan.entries {
        if let EntryKind::HardLink(first) = &entry.kind {
            fs_err::hard_link(dir.join(first), dir.join(path))?;
        }
    }
    // Innermost first: a directory may be read-only, and its time changes with every entry added to
    // it.
    for (place, entry) in directories.iter().rev() {
        fs_err::set_permissions(place, std::fs::Permissions::from_mode(entry.mode))?;
        set_time_of_link(place, entry.mtime)?;
    }
    Ok(())
}

fn write_files(files: &[(PathBuf, &Entry, &FileContent)], progress: &dyn Fn(u64)) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            files.par_iter().try_for_each_with(sender, |sender, (place, entry, content)| {
                write_file(place, entry, content)
                    .with_context(|| format!("could not write {}", place.escaped()))?;
                let _ = sender.send(content.size);
                Ok(())
            })
        });
        receiver.iter().for_each(progress);
        writing.join().unwrap_or_else(|_| bail!("the tree was not written"))
    })
}

fn write_file(place: &Path, entry: &Entry, content: &FileContent) -> Result<()> {
    let mut file =
        fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
    let size = match &content.source {
        ContentSource::Bytes(bytes) => {
            file.write_all(bytes)?;
            bytes.len() as u64
        }
        ContentSource::Disk(path) => copy_file(path, content.size, file.file_mut())?,
    };
    if size != content.size {
        bail!("it was changed while it was packed");
    }
    // Writing to a file clears setuid (chmod(2)) and changes its time, so both are set at the end.
    file.set_permissions(std::fs::Permissions::from_mode(entry.mode))?;
    file.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(entry.mtime))?;
    Ok(())
}

/// Copies the file at `path`, which had `size` bytes, into the new file `to`. Returns the number of
/// bytes that it has now, or a larger number if it grew.
fn copy_file(path: &Path, size: u64, to: &mut std::fs::File) -> Result<u64> {
    let mut from = input::open_walked(path)?;
    if size < LARGE {
        return Ok(std::io::copy(&mut (&mut from).take(size + 1), to)?);
    }
    let now = from.metadata()?.len();
    input::copy_data(from.file(), 0..size.min(now), to, 0)?;
    Ok(now)
}

fn set_time_of_link(path: &Path, seconds: u64) -> Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds)?, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("could not set the time of {}", path.escaped()))
}
