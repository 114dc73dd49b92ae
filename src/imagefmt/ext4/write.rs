//! Writing of an ext4 image.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, EntryKind, FileContent, FileTree};
use crate::host::tools;
use crate::imagefmt::ext4::debugfs::{DebugfsScript, absolute, command};

const BLOCK: u64 = 4096;
const INODE: u64 = 256;
/// Features without those that a mounted image never needs (ext4(5)): a journal, room to grow.
/// Every kernel that attaches extensions knows the remaining ones.
const FEATURES: &str = "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,\
                        huge_file,large_file,sparse_super";

/// Writes `plan` as the ext4 image `output`; `dir` is a path for a temporary directory.
pub(super) fn write(
    plan: &FileTree,
    output: &Path,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    fs_err::create_dir(dir)?;
    let commands = commands(plan, dir)?;
    let uuid = digest::tree_uuid(plan);
    let inodes = plan.entries.len() + 32;
    // The machine's mke2fs.conf(5) must have no effect.
    command("write the ext4 image", tools::MKE2FS, plan)?
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", FEATURES, "-U", &uuid])
        .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string(), "-N", &inodes.to_string()])
        .args(["-E", &format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,nodiscard")])
        .arg(output)
        .arg(blocks(plan).to_string())
        .run_quiet()?;
    let list = dir.join("commands");
    fs_err::write(&list, commands)?;
    let written = command("write the ext4 image", tools::DEBUGFS, plan)?
        .args(["-w", "-f"])
        .arg(&list)
        .arg(output)
        .output()?;
    // debugfs always ends with status 0, and prints its version to stderr.
    let said = String::from_utf8_lossy(&written.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| !line.starts_with("debugfs ")).collect();
    if let Some(first) = errors.first() {
        bail!("debugfs could not write all of it: {first} ({} messages)", errors.len());
    }
    progress(plan.count_totals().bytes);
    Ok(())
}

/// Returns the number of blocks: data, directories, inodes, bitmaps, and a reserve for extent maps.
fn blocks(plan: &FileTree) -> u64 {
    let mut names: BTreeMap<&Path, u64> = BTreeMap::new();
    let mut blocks = 0;
    for (path, entry) in &plan.entries {
        let length = path.file_name().unwrap_or_default().len() as u64;
        *names.entry(path.parent().unwrap_or(path)).or_default() += 12 + length;
        blocks += match &entry.kind {
            EntryKind::File(content) => content.size.div_ceil(BLOCK) + content.size / (64 << 20),
            _ => 1,
        };
        blocks += u64::from(!entry.xattrs.is_empty());
    }
    // A block of a directory may have unused space of nearly the longest name.
    blocks += names.values().map(|bytes| bytes.div_ceil(BLOCK - 264)).sum::<u64>();
    blocks += (plan.entries.len() as u64 + 32) * INODE / BLOCK;
    blocks + blocks / 50 + 256
}

/// Returns the commands for debugfs.
fn commands(plan: &FileTree, dir: &Path) -> Result<Vec<u8>> {
    let of_two_lines = |path: &PathBuf| path.as_os_str().as_bytes().contains(&b'\n');
    if let Some(path) = plan.entries.keys().find(|path| of_two_lines(path)) {
        bail!(
            "an ext4 image cannot have the name {:?}: debugfs, which writes it, takes a line for \
             each name",
            path.escaped()
        );
    }
    let mut text = DebugfsScript::default();
    text.line(&[b"cd", b"/"])?;
    text.line(&[b"rmdir", b"lost+found"])?;
    let mut inside = Path::new("");
    for (index, (path, entry)) in plan.entries.iter().enumerate() {
        let parent = path.parent().unwrap_or(Path::new(""));
        if parent != inside {
            text.line(&[b"cd", &absolute(parent)])?;
            inside = parent;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        let kind = match &entry.kind {
            EntryKind::Directory => {
                text.line(&[b"mkdir", name])?;
                0o040_000
            }
            EntryKind::File(content) => {
                text.line(&[b"write", file(content, dir, index)?.as_os_str().as_bytes(), name])?;
                0o100_000
            }
            EntryKind::Link(target) => {
                text.line(&[b"symlink", name, target.as_os_str().as_bytes()])?;
                0o120_000
            }
            EntryKind::HardLink(first) => {
                text.line(&[b"ln", &absolute(first), name])?;
                continue;
            }
        };
        let mode = format!("0{:o}", kind | entry.mode);
        text.line(&[b"sif", name, b"mode", mode.as_bytes()])?;
        for (field, value) in [("uid", entry.uid), ("gid", entry.gid)] {
            if value != 0 {
                let value = value.to_string();
                text.line(&[b"sif", name, field.as_bytes(), value.as_bytes()])?;
            }
        }
        for (number, (attribute, value)) in entry.xattrs.iter().enumerate() {
            let from = dir.join(format!("{index}-{number}"));
            fs_err::write(&from, value)?;
            let (from, attribute) = (from.as_os_str().as_bytes(), attribute.as_bytes());
            text.line(&[b"ea_set", b"-f", from, name, attribute])?;
        }
    }
    // Times are set last, since a directory gets a new time with every entry added to it.
    for (path, entry) in plan.entries.iter().filter(|(_, entry)| entry.mtime != plan.epoch) {
        if !matches!(entry.kind, EntryKind::HardLink(_)) {
            let time = format!("@{}", entry.mtime);
            text.line(&[b"sif", &absolute(path), b"mtime", time.as_bytes()])?;
        }
    }
    for (path, count) in plan.other_names() {
        let count = (count + 1).to_string();
        text.line(&[b"sif", &absolute(path), b"links_count", count.as_bytes()])?;
    }
    Ok(text.0)
}

/// Returns the path from which debugfs reads the content.
fn file(content: &FileContent, dir: &Path, index: usize) -> Result<PathBuf> {
    Ok(match &content.source {
        ContentSource::Disk(path) => path.clone(),
        ContentSource::Bytes(bytes) => {
            let path = dir.join(index.to_string());
            fs_err::write(&path, bytes)?;
            path
        }
    })
}
