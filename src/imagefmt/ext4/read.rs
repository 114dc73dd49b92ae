//! Reading of an ext4 image.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ext4_view::Ext4;

use crate::base::escape::Escape;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::image_path;
use crate::host::tools;
use crate::imagefmt::ext4::debugfs::{DebugfsScript, absolute, command};

/// Minimum size of an entry of a directory, in bytes (Linux, `fs/ext4/ext4.h`).
const DIRECTORY_ENTRY: u64 = 12;
/// Limit of the content of all files, as a multiple of the size of the image. Only holes make it
/// larger than the image, and damaged sizes make holes that would take years to read.
const CONTENT_TIMES: u64 = 16;

/// Returns the differences of `image` from `plan`; `dir` is a path for a temporary directory.
pub(super) fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read(image, &mut found)?;
    found.take_root()?;
    let mut differences = ask(plan, image, dir, &mut found)?;
    differences.extend(compare::compare_trees(plan, &found, Keeps::ALL));
    Ok(differences)
}

/// Reads the contents of `image` into `found`, with the root directory. Neither hard links nor
/// extended attributes are read.
pub(super) fn read(image: &Path, found: &mut FileTree) -> Result<()> {
    let opened = Ext4::load_from_path(image)
        .with_context(|| format!("{} is no whole ext4 image", image.escaped()))?;
    let size = fs_err::metadata(image)?.len();
    let mut left = size.saturating_mul(CONTENT_TIMES);
    found.entries.insert(PathBuf::new(), entry(&opened, b"/", &mut left)?);
    // In a whole image, each name has an entry of its own. In others, directories may share their
    // entries, so that a few bytes stand for any number of names.
    let most = size / DIRECTORY_ENTRY;
    let mut ahead = vec![PathBuf::new()];
    while let Some(inside) = ahead.pop() {
        for name in opened.read_dir(&absolute(&inside)[..])? {
            let name = name?.file_name().as_ref().to_owned();
            if matches!(name.as_slice(), b"." | b"..") {
                continue;
            }
            let path = image_path::join(&inside, &name)?;
            let entry = entry(&opened, &absolute(&path), &mut left)?;
            if entry.is_directory() {
                ahead.push(path.clone());
            }
            if found.entries.insert(path, entry).is_some() {
                bail!("a name is in {} twice", image.escaped());
            }
            if found.entries.len() as u64 > most {
                bail!("{} has more names than entries", image.escaped());
            }
        }
    }
    Ok(())
}

/// Reads an entry without the properties that the reader does not support: extended attributes and
/// hard links. The size of a file is taken from `left`, the number of bytes that may still be read.
fn entry(image: &Ext4, path: &[u8], left: &mut u64) -> Result<Entry> {
    let meta = image.symlink_metadata(path)?;
    let kind = if meta.is_dir() {
        EntryKind::Directory
    } else if meta.is_symlink() {
        let target = image.read_link(path)?;
        EntryKind::Link(PathBuf::from(std::ffi::OsStr::from_bytes(target.as_ref())))
    } else {
        let rest = left.checked_sub(meta.len());
        *left = rest.context("its files are much larger than the image")?;
        let (sha256, size) = digest::hash_reader(image.open(path)?)?;
        EntryKind::File(FileContent {
            sha256: Some(sha256),
            ..FileContent::unread(ContentSource::Bytes(Vec::new()), size)
        })
    };
    Ok(Entry {
        kind,
        mode: meta.mode().into(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime: u64::try_from(meta.modified().seconds()).unwrap_or(0),
        xattrs: BTreeMap::new(),
    })
}

/// Asks debugfs for the inodes of planned hard links, and for extended attributes.
fn ask(plan: &FileTree, image: &Path, dir: &Path, found: &mut FileTree) -> Result<Vec<String>> {
    let others = plan.other_names();
    let names: Vec<&Path> = plan
        .entries
        .iter()
        .filter(|(path, entry)| {
            matches!(entry.kind, EntryKind::HardLink(_)) || others.contains_key(path.as_path())
        })
        .map(|(path, _)| path.as_path())
        .collect();
    let mut text = DebugfsScript::default();
    for path in &names {
        text.line(&[b"stat", &absolute(path)])?;
    }
    fs_err::create_dir(dir)?;
    let mut attributes = Vec::new();
    for (path, entry) in
        plan.entries.iter().filter(|(_, e)| !matches!(e.kind, EntryKind::HardLink(_)))
    {
        for name in entry.xattrs.keys() {
            let to = dir.join(attributes.len().to_string());
            let (to_bytes, name_bytes) = (to.as_os_str().as_bytes(), name.as_bytes());
            text.line(&[b"ea_get", b"-f", to_bytes, &absolute(path), name_bytes])?;
            attributes.push((path, name, to.clone()));
        }
    }
    if text.0.is_empty() {
        return Ok(Vec::new());
    }
    let list = dir.join("commands");
    fs_err::write(&list, text.0)?;
    let told = command("read the ext4 image back", tools::DEBUGFS, plan)?
        .arg("-f")
        .arg(&list)
        .arg(image)
        .output()?;
    for (path, name, file) in attributes {
        let value = fs_err::read(file).unwrap_or_default();
        if let Some(entry) = found.entries.get_mut(path) {
            entry.xattrs.insert(name.clone(), value);
        }
    }
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let inodes: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("Inode: ")?.split_whitespace().next())
        .collect();
    let links: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("Links: ")).collect();
    let mut firsts: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut differences = Vec::new();
    for (index, path) in names.iter().enumerate() {
        let (Some(inode), Some(links)) = (inodes.get(index), links.get(index)) else {
            bail!("debugfs does not tell of /{}", path.escaped());
        };
        let first = *firsts.entry(inode).or_insert(path);
        let count = others.get(first).map_or(1, |count| count + 1).to_string();
        if links.split_whitespace().next() != Some(&count) {
            differences.push(format!("/{} has {links} names and not {count}", path.escaped()));
        }
        if let (true, Some(entry)) = (first != *path, found.entries.get_mut(*path)) {
            entry.kind = EntryKind::HardLink(first.to_owned());
        }
    }
    Ok(differences)
}
