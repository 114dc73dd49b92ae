//! Properties of a btrfs image that its tools neither set nor restore without mounting it: the
//! read-only flag of the top-level subvolume, and hard links.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use crc::{CRC_32_ISCSI, Crc};
use fs_err::File;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::base::escape::Escape;
use crate::fstree::budget::TreeBudget;
use crate::fstree::entries::{EntryKind, FileTree};
use crate::fstree::image_path;
use crate::imagefmt::btrfs::structures::{BtrfsSuperblock, LeafItem, NodeHeader, RootItem};
use crate::imagefmt::image_format::Magic;
use crate::imagefmt::on_disk;

/// Offset of the superblock.
const SUPERBLOCK: u64 = 64 << 10;
/// Magic number, in the superblock.
pub(crate) const MAGIC: Magic = Magic { offset: (64 << 10) + 64, bytes: b"_BHRfS_M" };
/// Number of the top-level subvolume, and type of the item that describes it.
const FS_TREE: u64 = 5;
const ROOT_ITEM: u8 = 132;
/// Without this flag of the inode, the kernel ignores the others
/// (`btrfs_check_and_init_root_item`).
const INODE_ROOT_ITEM_INIT: u64 = 1 << 31;
const SUBVOL_RDONLY: u64 = 1;
/// Sizes of blocks of trees, in bytes.
const NODE_SIZES: std::ops::RangeInclusive<usize> = 4096..=65536;
/// Alignment of blocks of trees.
const SECTOR: usize = 4096;

/// Checksum with which btrfs covers a block after the checksum field.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const CHECKSUM_SIZE: usize = 32;

/// Makes the top-level subvolume of `image` read-only, as `btrfs property set ... ro true` does for
/// a mounted image.
pub(crate) fn make_read_only(image: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(image)?;
    let (at, mut node) = root_tree(&file)
        .with_context(|| format!("{} is no btrfs image with one tree of roots", image.escaped()))?;
    set_read_only(&mut node)
        .with_context(|| format!("{} has no top-level subvolume", image.escaped()))?;
    file.file()
        .write_all_at(&node, at)
        .with_context(|| format!("could not write to {}", image.escaped()))
}

/// Returns the offset in the file and the bytes of the only block of the root tree. The header of
/// each block contains its logical address.
fn root_tree(file: &File) -> Result<(u64, Vec<u8>)> {
    let mut superblock = BtrfsSuperblock::new_zeroed();
    file.file().read_exact_at(superblock.as_mut_bytes(), SUPERBLOCK)?;
    ensure!(superblock.magic == *MAGIC.bytes, "it has no superblock");
    let size = usize::try_from(superblock.node_size.get())?;
    ensure!(NODE_SIZES.contains(&size), "its blocks have {size} bytes");
    let mut node = vec![0; size];
    let end = file.metadata()?.len();
    let mut header = NodeHeader::new_zeroed();
    for at in (0..end).step_by(SECTOR).filter(|at| *at != SUPERBLOCK) {
        if file.file().read_exact_at(header.as_mut_bytes(), at).is_err() {
            break;
        }
        let is_root =
            header.filesystem == superblock.filesystem && header.address == superblock.root;
        if !is_root || file.file().read_exact_at(&mut node, at).is_err() {
            continue;
        }
        // Data may look like a block, except for the checksum.
        if header.checksum.get() == checksum(&node) && header.level == 0 {
            return Ok((at, node));
        }
    }
    bail!("its tree of roots is in no block")
}

/// Sets the flag of the top-level subvolume in the leaf `node` of the root tree.
fn set_read_only(node: &mut [u8]) -> Result<()> {
    let header: &NodeHeader = on_disk::read_at(node, 0)?;
    let count = usize::try_from(header.items.get())?;
    let items: &[LeafItem] = on_disk::read_array_at(node, size_of::<NodeHeader>(), count)?;
    let item = items.iter().find(|item| item.object == FS_TREE && item.kind == ROOT_ITEM);
    let item = item.context("it has no root item")?;
    let start = usize::try_from(item.offset.get())?.checked_add(size_of::<NodeHeader>());
    let end = start.and_then(|start| start.checked_add(usize::try_from(item.size.get()).ok()?));
    let data = start.zip(end).and_then(|(start, end)| node.get_mut(start..end));
    let data = data.context("its root item is outside of its block")?;
    let root = RootItem::mut_from_prefix(data).ok().context("its root item is cut short")?.0;
    root.inode_flags = (root.inode_flags.get() | INODE_ROOT_ITEM_INIT).into();
    root.flags = (root.flags.get() | SUBVOL_RDONLY).into();
    let sum = checksum(node);
    let header = NodeHeader::mut_from_prefix(node).ok().context("its block is cut short")?.0;
    header.checksum = sum.into();
    Ok(())
}

fn checksum(node: &[u8]) -> u32 {
    CRC.checksum(node.get(CHECKSUM_SIZE..).unwrap_or_default())
}

/// Arguments of btrfs that list the inodes of an image.
pub(super) const LISTING: [&str; 4] = ["inspect-internal", "dump-tree", "-t", "5"];

/// Inodes of an image.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    by_path: HashMap<PathBuf, u64>,
    properties: HashMap<u64, Properties>,
}

/// Properties of an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Properties {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
}

impl Inodes {
    /// Parses the output of dump-tree: `item 1 key (256 DIR_INDEX 2) ...`, `location key (257
    /// INODE_ITEM 0) ...`, `name: usr`; `item 2 key (257 INODE_ITEM 0) ...`, `block group 0 mode
    /// 40755 links 1 uid 0 gid 0 rdev 0`, `mtime 1.0 (...)`; `item 3 key (257 EXTENT_DATA 0) ...`,
    /// `extent data offset 0 nr 4096 ram 4096`. `budget` has to have room for it.
    pub(crate) fn parse(listing: &str, mut budget: TreeBudget) -> Result<Self> {
        let mut below: HashMap<u64, Vec<(u64, Vec<u8>)>> = HashMap::new();
        let mut properties: HashMap<u64, Properties> = HashMap::new();
        let (mut parent, mut inode, mut own) = (None, None, None);
        for line in listing.lines().map(str::trim) {
            let key =
                |text: &str| text.split_once("key (")?.1.split(' ').next()?.parse::<u64>().ok();
            if line.starts_with("item ") {
                parent = line.contains(" DIR_INDEX ").then(|| key(line)).flatten();
                own = line.contains(" INODE_ITEM ").then(|| key(line)).flatten();
                inode = None;
            } else if line.starts_with("location ") {
                inode = key(line);
            } else if let (Some(parent), Some(inode), Some(name)) =
                (parent, inode, line.strip_prefix("name: "))
            {
                let name = unescaped(name);
                image_path::check_name(&name)?;
                below.entry(parent).or_default().push((inode, name));
            } else if line.starts_with("extent data ") {
                // Any number of extents may share their bytes; each of them is unpacked.
                let size = line.split(" nr ").nth(1).and_then(|rest| rest.split(' ').next());
                let size = size.and_then(|size| size.parse().ok()).unwrap_or_default();
                budget.take_content(Path::new("its extents"), size)?;
            } else if let Some(own) = own {
                properties.entry(own).or_default().read(line);
            }
        }
        // The first inode of every tree (BTRFS_FIRST_FREE_OBJECTID) is its root directory.
        let mut ahead = vec![(256, PathBuf::new())];
        let mut by_path = HashMap::new();
        while let Some((directory, path)) = ahead.pop() {
            for (inode, name) in below.remove(&directory).unwrap_or_default() {
                let path = image_path::join(&path, &name)?;
                budget.take_path(&path)?;
                ahead.push((inode, path.clone()));
                by_path.insert(path, inode);
            }
        }
        Ok(Self { by_path, properties })
    }

    /// Gives the entries of `found` the owners, modes and times of their inodes.
    pub(super) fn take_properties(&self, found: &mut FileTree) -> Result<()> {
        for (path, entry) in &mut found.entries {
            let inode = self.find(path)?;
            let listed = self.properties.get(&inode).with_context(|| {
                format!("btrfs does not list the properties of {}", path.escaped())
            })?;
            entry.mode = listed.mode & 0o7777;
            (entry.uid, entry.gid, entry.mtime) = (listed.uid, listed.gid, listed.mtime);
        }
        Ok(())
    }

    /// Makes hard links in `found` of the names that share an inode: btrfs restore writes a separate
    /// file for every name.
    pub(super) fn join_names(&self, found: &mut FileTree) -> Result<()> {
        let mut firsts: HashMap<u64, &PathBuf> = HashMap::new();
        for (path, entry) in &mut found.entries {
            if !matches!(entry.kind, EntryKind::File(_)) {
                continue;
            }
            match firsts.entry(self.find(path)?) {
                Entry::Occupied(first) => entry.kind = EntryKind::HardLink((*first.get()).clone()),
                Entry::Vacant(place) => drop(place.insert(path)),
            }
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> Result<u64> {
        self.by_path
            .get(path)
            .copied()
            .with_context(|| format!("{} was unpacked and is not listed by btrfs", path.escaped()))
    }
}

impl Properties {
    /// Reads a line about an inode.
    fn read(&mut self, line: &str) {
        let mut words = line.split(' ');
        while let Some(word) = words.next() {
            match word {
                "mode" => {
                    let mode = words.next().and_then(|mode| u32::from_str_radix(mode, 8).ok());
                    self.mode = mode.unwrap_or_default();
                }
                "uid" => self.uid = next_number(&mut words),
                "gid" => self.gid = next_number(&mut words),
                "mtime" => {
                    let time = words.next().and_then(|time| time.split('.').next()?.parse().ok());
                    self.mtime = time.unwrap_or_default();
                }
                _ => {}
            }
        }
    }
}

fn next_number(words: &mut std::str::Split<'_, char>) -> u32 {
    words.next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Returns a name without the escapes of unprintable characters: `\ `, `\n`, `\303`.
fn unescaped(text: &str) -> Vec<u8> {
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
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_they_are_printed() {
        let name = unescaped;
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
                       \t\tlocation key (258 INODE_ITEM 0) type FILE\n\t\tname: a\\ b\n\
                       \titem 6 key (258 INODE_ITEM 0) itemoff 1 itemsize 160\n\
                       \t\tgeneration 7 transid 0 size 6 nbytes 0\n\
                       \t\tblock group 0 mode 104755 links 1 uid 7 gid 8 rdev 0\n\
                       \t\tatime 1.0 (1970-01-01 00:00:01)\n\t\tmtime 2.5 (1970-01-01 00:00:02)\n";
        let inodes = Inodes::parse(listing, TreeBudget::of_tree()).unwrap();
        assert_eq!(inodes.by_path.len(), 2, "{inodes:?}");
        assert_eq!(inodes.find(Path::new("d/a b")).unwrap(), 258);
        let listed = Properties { mode: 0o104_755, uid: 7, gid: 8, mtime: 2 };
        assert_eq!(inodes.properties, HashMap::from([(258, listed)]));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["..", ".", "", "../x", "a/b", r"\056.", r"a\000b", r"\057etc"] {
            // The directory has no name itself, so that nothing is unpacked below it.
            let listing = format!(
                "item 3 key (999 DIR_INDEX 2)\nlocation key (257 INODE_ITEM 0)\nname: {name}\n"
            );
            assert_eq!(
                Inodes::parse(&listing, TreeBudget::of_tree()).is_err(),
                !name.is_empty(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_directory_in_itself_ends() {
        let listing = "item 3 key (256 DIR_INDEX 2)\nlocation key (256 INODE_ITEM 0)\nname: a\n";
        assert_eq!(Inodes::parse(listing, TreeBudget::of_tree()).unwrap().by_path.len(), 1);
    }

    const NODE: usize = 96 << 10;

    /// An image with a superblock and the block of the root tree.
    fn image() -> Vec<u8> {
        let mut superblock = BtrfsSuperblock::new_zeroed();
        superblock.magic.copy_from_slice(MAGIC.bytes);
        superblock.filesystem = [7; 16];
        superblock.root = 123.into();
        superblock.node_size = 4096.into();
        let mut header = NodeHeader::new_zeroed();
        header.filesystem = [7; 16];
        header.address = 123.into();
        header.items = 2.into();
        let mut items = [LeafItem::new_zeroed(), LeafItem::new_zeroed()];
        items[1].object = FS_TREE.into();
        items[1].kind = ROOT_ITEM;
        items[1].offset = 1000.into();
        items[1].size = 439.into();
        let mut bytes = vec![0; NODE + 4096];
        let superblock = superblock.as_bytes();
        bytes[64 << 10..][..superblock.len()].copy_from_slice(superblock);
        let node = &mut bytes[NODE..];
        let [header, items] = [header.as_bytes(), items.as_bytes()];
        node[header.len()..][..items.len()].copy_from_slice(items);
        node[..header.len()].copy_from_slice(header);
        with_checksum(bytes)
    }

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&bytes[NODE..]).to_le_bytes();
        bytes[NODE..][..4].copy_from_slice(&sum);
        bytes
    }

    fn made_read_only(bytes: &[u8]) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), bytes).unwrap();
        make_read_only(file.path()).map(|()| fs_err::read(file.path()).unwrap())
    }

    #[test]
    fn the_subvolume_is_made_read_only() {
        let made = made_read_only(&image()).unwrap();
        assert_eq!(made, with_checksum(made.clone()));
        let root = NODE + size_of::<NodeHeader>() + 1000;
        assert_eq!(made[root + 208], 1);
        assert_eq!(made[root + 64..root + 68], [0, 0, 0, 0x80]);
        let changed = image().iter().zip(&made).filter(|(old, new)| old != new).count();
        assert!(changed <= 6, "{changed}");
    }

    #[test]
    fn a_damaged_image_is_an_error() {
        let whole = image();
        for length in [0, 64 << 10, (64 << 10) + 100, NODE, NODE + 101, NODE + 4095] {
            assert!(made_read_only(&whole[..length]).is_err(), "{length}");
        }
        let error = format!("{:#}", made_read_only(&vec![0; 128 << 10]).unwrap_err());
        assert!(error.contains("it has no superblock"), "{error}");
        // Bytes that a checksum has and does not cover have no use.
        for at in (0..4).chain(32..160) {
            let mut bytes = whole.clone();
            bytes[NODE + at] ^= 0x80;
            assert!(made_read_only(&bytes).is_err(), "{at}");
        }
        // With a checksum that is right: the number of items, and the place and size of the item.
        let item = NODE + size_of::<NodeHeader>() + size_of::<LeafItem>();
        for (at, value) in [(NODE + 96, u32::MAX), (NODE + 96, 1), (item + 17, u32::MAX)] {
            let mut bytes = whole.clone();
            bytes[at..][..4].copy_from_slice(&value.to_le_bytes());
            assert!(made_read_only(&with_checksum(bytes)).is_err(), "{at}");
        }
        for size in [0_u32, 215, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[item + 21..][..4].copy_from_slice(&size.to_le_bytes());
            assert!(made_read_only(&with_checksum(bytes)).is_err(), "{size}");
        }
    }
}
