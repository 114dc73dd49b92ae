//! Inspection of extensions that users supply: the name is in the extension, not in its file name.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::host::tools;
use crate::imagefmt::erofs::{self, inodes};
use crate::imagefmt::{btrfs, ddi, ext4, squashfs};
use crate::sandbox::fake_root;

/// Directory of extension-release files, and the start of their names.
const RELEASES: &str = "usr/lib/extension-release.d";
const RELEASE: &str = "extension-release.";

/// Returns the name of the extension in the image or directory at `path`: the end of the name of
/// its only extension-release file.
pub(crate) fn name(path: &Path) -> Result<String> {
    let names =
        releases(path).with_context(|| format!("could not look into {}", path.display()))?;
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => bail!("{} is no extension: it has no {RELEASES}/{RELEASE}NAME", path.display()),
        _ => bail!("{} has several names: {}", path.display(), names.join(", ")),
    }
}

/// Reads the image or directory at `path`; extended attributes of images are left out.
pub(crate) fn read(path: &Path) -> Result<FileTree> {
    // Only the entries of this plan are used, so EPREFIX and epoch are arbitrary.
    let mut found = FileTree::new(&"/opt/any".parse()?, 0);
    if path.is_dir() {
        scan::scan_tree(path, &mut found)?;
        digest::hash_contents(&mut found)?;
        return Ok(found);
    }
    match form(path)? {
        Form::Squashfs => squashfs::read(path, &mut found)?,
        Form::Erofs => erofs::read(path, &mut found)?,
        Form::Ext4 => ext4::read(path, &mut found)?,
        Form::Btrfs => {
            let dir = tempfile::tempdir()?;
            btrfs::read(path, &mut found, &dir.path().join("tree"))?;
            found.entries.values_mut().for_each(|entry| entry.xattrs.clear());
        }
        Form::Ddi => {
            let dir = tempfile::tempdir()?;
            ddi::take_apart(path, dir.path())?;
            squashfs::read(&dir.path().join(ddi::DATA), &mut found)?;
        }
    }
    found.entries.remove(Path::new(""));
    Ok(found)
}

/// Format of an image, detected by its magic number.
enum Form {
    Squashfs,
    Erofs,
    Ext4,
    Btrfs,
    Ddi,
}

/// Offset and value of the magic number of btrfs.
const BTRFS: (usize, &[u8]) = ((64 << 10) + 64, b"_BHRfS_M");

fn form(path: &Path) -> Result<Form> {
    let mut head = Vec::new();
    fs_err::File::open(path)?.take(BTRFS.0 as u64 + 8).read_to_end(&mut head)?;
    let is_at =
        |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|m| m.starts_with(magic));
    if is_at(0, b"hsqs") {
        return Ok(Form::Squashfs);
    }
    if is_at(1024, &0xe0f5_e1e2_u32.to_le_bytes()) {
        return Ok(Form::Erofs);
    }
    if is_at(512, b"EFI PART") {
        return Ok(Form::Ddi);
    }
    if is_at(1024 + 56, &0xef53_u16.to_le_bytes()) {
        return Ok(Form::Ext4);
    }
    if is_at(BTRFS.0, BTRFS.1) {
        return Ok(Form::Btrfs);
    }
    bail!("it is neither squashfs nor erofs nor ext4 nor btrfs nor a disk image with a squashfs")
}

fn releases(path: &Path) -> Result<Vec<String>> {
    if path.is_dir() {
        let dir = path.join(RELEASES);
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs_err::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        return Ok(names.filter_map(|name| Some(name.strip_prefix(RELEASE)?.to_owned())).collect());
    }
    let inside = |paths: Vec<PathBuf>| {
        let below = paths.into_iter().filter_map(|path| {
            let name = path.strip_prefix(RELEASES).ok()?.to_str()?.strip_prefix(RELEASE)?;
            Some(name.to_owned())
        });
        below.collect::<Vec<_>>()
    };
    match form(path)? {
        Form::Squashfs => in_squashfs(path),
        Form::Erofs => Ok(inside(inodes::paths(path)?)),
        Form::Ext4 => {
            let mut found = FileTree::new(&"/opt/any".parse()?, 0);
            ext4::read(path, &mut found)?;
            Ok(inside(found.entries.into_keys().collect()))
        }
        Form::Btrfs => Ok(inside(read(path)?.entries.into_keys().collect())),
        Form::Ddi => {
            let dir = tempfile::tempdir()?;
            ddi::take_apart(path, dir.path())?;
            in_squashfs(&dir.path().join(ddi::DATA))
        }
    }
}

fn in_squashfs(image: &Path) -> Result<Vec<String>> {
    let listing = fake_root::command("list the image", tools::UNSQUASHFS)?
        .args(["-no-progress", "-ls"])
        .arg(image)
        .arg(RELEASES)
        .read()?;
    let start = format!("/{RELEASES}/{RELEASE}");
    Ok(listing.lines().filter_map(|line| Some(line.split_once(&start)?.1.to_owned())).collect())
}
