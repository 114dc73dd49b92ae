//! Properties of a btrfs image that its tools neither set nor restore without mounting it: the
//! read-only flag of the top-level subvolume, and hard links.
//!
//! Structures are those of Linux's `include/uapi/linux/btrfs_tree.h`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fs_err::File;

use crate::fstree::entries::{EntryKind, FileTree};
use crate::host::tools;
use crate::imagefmt::image_format::Magic;
use crate::sandbox::fake_root;

/// Offset and size of the superblock.
const SUPERBLOCK: (u64, usize) = (64 << 10, 4096);
/// Magic number, in the superblock.
pub(crate) const MAGIC: Magic = Magic { offset: (64 << 10) + 64, bytes: b"_BHRfS_M" };
/// Number of the top-level subvolume, and type of the item that describes it.
const FS_TREE: u64 = 5;
const ROOT_ITEM: u8 = 132;
/// Sizes of the headers of a block and of an item in it.
const HEADER: usize = 101;
const ITEM: usize = 25;
/// Offsets in a root item: flags of its inode, its own flags.
const INODE_FLAGS: usize = 64;
const ROOT_FLAGS: usize = 208;
/// Without this flag of the inode, the kernel ignores the others
/// (`btrfs_check_and_init_root_item`).
const INODE_ROOT_ITEM_INIT: u64 = 1 << 31;
const SUBVOL_RDONLY: u64 = 1;

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn small(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
    usize::try_from(number).ok()
}

/// Makes the top-level subvolume of `image` read-only, as `btrfs property set ... ro true` does for
/// a mounted image.
pub(crate) fn make_read_only(image: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(image)?;
    let (at, mut block) = root_tree(&file)
        .with_context(|| format!("{} is no btrfs image with one tree of roots", image.display()))?;
    let item = item_of_top_level(&block)
        .with_context(|| format!("{} has no top-level subvolume", image.display()))?;
    for (field, flag) in [(INODE_FLAGS, INODE_ROOT_ITEM_INIT), (ROOT_FLAGS, SUBVOL_RDONLY)] {
        let flags = number(&block, item + field).context("its root item is cut short")? | flag;
        let place = block.get_mut(item + field..).and_then(<[u8]>::first_chunk_mut::<8>);
        *place.context("its root item is cut short")? = flags.to_le_bytes();
    }
    let sum = crc32c(block.get(32..).unwrap_or_default()).to_le_bytes();
    block.get_mut(..4).context("its block is cut short")?.copy_from_slice(&sum);
    file.file()
        .write_all_at(&block, at)
        .with_context(|| format!("could not write to {}", image.display()))
}

/// Returns the offset in the file and the bytes of the only block of the root tree. The header of
/// each block contains its logical address.
fn root_tree(file: &File) -> Result<(u64, Vec<u8>)> {
    let mut superblock = [0; SUPERBLOCK.1];
    file.file().read_exact_at(&mut superblock, SUPERBLOCK.0)?;
    if superblock.get(0x40..0x48) != Some(MAGIC.bytes) {
        bail!("it has no superblock");
    }
    let root = number(&superblock, 0x50).context("no root")?;
    let size = small(&superblock, 0x94).filter(|size| (4096..=65536).contains(size));
    let mut block = vec![0; size.context("its blocks have no size")?];
    let fsid = superblock.get(0x20..0x30);
    let end = file.metadata()?.len();
    let mut header = [0; HEADER];
    for at in (0..end).step_by(4096).filter(|at| *at != SUPERBLOCK.0) {
        file.file().read_exact_at(&mut header, at)?;
        if header.get(32..48) != fsid || number(&header, 48) != Some(root) {
            continue;
        }
        file.file().read_exact_at(&mut block, at)?;
        let sum = crc32c(block.get(32..).unwrap_or_default());
        // Data may look like a block, except for the checksum.
        if small(&block, 0) == usize::try_from(sum).ok() && header.last() == Some(&0) {
            return Ok((at, block));
        }
    }
    bail!("its tree of roots is in no block")
}

/// Returns the offset in `block` of the root item of the top-level subvolume.
fn item_of_top_level(block: &[u8]) -> Option<usize> {
    let count = small(block, 96)?;
    let items = block.get(HEADER..)?.chunks_exact(ITEM).take(count);
    let found = items
        .into_iter()
        .find(|item| number(item, 0) == Some(FS_TREE) && item.get(8) == Some(&ROOT_ITEM))?;
    let (offset, size) = (small(found, 17)?, small(found, 21)?);
    (size >= ROOT_FLAGS + 8).then_some(HEADER + offset)
}

/// CRC-32C (RFC 3720, appendix B.4), with which btrfs covers a block after the checksum field.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |mut sum: u32, byte| {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
        sum
    })
}

/// Makes hard links in `found` of the names that share an inode in `image`: btrfs restore writes a
/// separate file for every name.
pub(crate) fn join_names(found: &mut FileTree, image: &Path) -> Result<()> {
    let listing = fake_root::command("list the btrfs image", tools::BTRFS)?
        .args(["inspect-internal", "dump-tree", "-t", "5"])
        .arg(image)
        .read()?;
    let inodes = inodes(&listing);
    let mut firsts: HashMap<u64, &PathBuf> = HashMap::new();
    for (path, entry) in &mut found.entries {
        if !matches!(entry.kind, EntryKind::File(_)) {
            continue;
        }
        let inode = inodes.get(path).with_context(|| {
            format!("{} was unpacked and is not listed by btrfs", path.display())
        })?;
        match firsts.entry(*inode) {
            Entry::Occupied(first) => entry.kind = EntryKind::HardLink((*first.get()).clone()),
            Entry::Vacant(place) => drop(place.insert(path)),
        }
    }
    Ok(())
}

/// Parses the inodes by path from the output of dump-tree: `item 1 key (256 DIR_INDEX 2) ...`,
/// `location key (257 INODE_ITEM 0) ...`, `name: usr`.
fn inodes(listing: &str) -> HashMap<PathBuf, u64> {
    let mut below: HashMap<u64, Vec<(u64, OsString)>> = HashMap::new();
    let (mut parent, mut inode) = (None, None);
    for line in listing.lines().map(str::trim) {
        let key = |text: &str| text.split_once("key (")?.1.split(' ').next()?.parse::<u64>().ok();
        if line.starts_with("item ") {
            parent = line.contains(" DIR_INDEX ").then(|| key(line)).flatten();
            inode = None;
        } else if line.starts_with("location ") {
            inode = key(line);
        } else if let (Some(parent), Some(inode), Some(name)) =
            (parent, inode, line.strip_prefix("name: "))
        {
            below.entry(parent).or_default().push((inode, unescaped(name)));
        }
    }
    // The first inode of every tree (BTRFS_FIRST_FREE_OBJECTID) is its root directory.
    let mut ahead = vec![(256, PathBuf::new())];
    let mut found = HashMap::new();
    while let Some((directory, path)) = ahead.pop() {
        for (inode, name) in below.remove(&directory).unwrap_or_default() {
            let path = path.join(name);
            ahead.push((inode, path.clone()));
            found.insert(path, inode);
        }
    }
    found
}

/// Returns a name without the escapes of unprintable characters: `\ `, `\n`, `\303`.
fn unescaped(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let Some(next) = rest.next() else { break };
        bytes.push(match next {
            b'0'..=b'7' => {
                let mut value = u32::from(next - b'0');
                for _ in 0..2 {
                    if let Some(digit) = rest.next_if(|digit| (b'0'..=b'7').contains(digit)) {
                        value = value * 8 + u32::from(digit - b'0');
                    }
                }
                u8::try_from(value & 0xff).unwrap_or_default()
            }
            b'a' => 7,
            b'b' => 8,
            b't' => b'\t',
            b'n' => b'\n',
            b'v' => 11,
            b'f' => 12,
            b'r' => b'\r',
            other => other,
        });
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn names_as_they_are_printed() {
        let name = |text: &str| unescaped(text).into_vec();
        assert_eq!(name(r#"na\ me\ '\303\251'\ "x""#), "na me 'é' \"x\"".as_bytes());
        assert_eq!(name(r"back\\slash\t\n\"), b"back\\slash\t\n");
    }

    #[test]
    fn inodes_by_path() {
        let listing = "\titem 3 key (256 DIR_INDEX 2) itemoff 1 itemsize 3\n\
                       \t\tlocation key (257 INODE_ITEM 0) type DIR\n\t\ttransid 6\n\t\tname: d\n\
                       \titem 4 key (257 DIR_ITEM 77) itemoff 1 itemsize 3\n\
                       \t\tlocation key (258 INODE_ITEM 0) type FILE\n\t\tname: x\n\
                       \titem 5 key (257 DIR_INDEX 2) itemoff 1 itemsize 3\n\
                       \t\tlocation key (258 INODE_ITEM 0) type FILE\n\t\tname: a\\ b\n";
        let found = inodes(listing);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[Path::new("d/a b")], 258);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), vec![0; 128 << 10]).unwrap();
        let error = format!("{:#}", make_read_only(file.path()).unwrap_err());
        assert!(error.contains("it has no superblock"), "{error}");
    }
}
