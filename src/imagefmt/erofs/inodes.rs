//! Inodes of an erofs image (Linux, Documentation/filesystems/erofs.rst and `fs/erofs/erofs_fs.h`).
//! No tool of erofs-utils 1.5 shows setuid or hard links, or the content of files without writing
//! all of them to disk.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::base::escape::Escape;
use crate::fstree::budget::TreeBudget;
use crate::fstree::image_path;
use crate::imagefmt::erofs::structures::{
    CompactInode, DirectoryEntry, ErofsSuperblock, ExtendedInode,
};
use crate::imagefmt::image_format::Magic;
use crate::imagefmt::on_disk;

const SUPERBLOCK: usize = 1024;
/// Magic number, `EROFS_SUPER_MAGIC_V1`.
pub(crate) const MAGIC: Magic = Magic { offset: SUPERBLOCK, bytes: &0xe0f5_e1e2_u32.to_le_bytes() };
/// Logarithms of the sizes of blocks, in bytes.
const BLOCK_BITS: std::ops::RangeInclusive<u8> = 9..=16;
/// Unit in which inodes are numbered, and the size of a slot for extended attributes.
const SLOT: usize = 32;
const XATTR_SLOT: usize = 4;
const TYPE: u32 = 0o170_000;
/// Type of directories (inode(7)).
pub(crate) const DIRECTORY: u32 = 0o040_000;
/// Type of regular files.
pub(crate) const FILE: u32 = 0o100_000;
/// Type of symbolic links.
pub(crate) const LINK: u32 = 0o120_000;
/// Type of character devices.
pub(crate) const CHARACTER_DEVICE: u32 = 0o020_000;
/// `EROFS_FEATURE_INCOMPAT_FRAGMENTS`; the same bit stands for deduplicated data.
const FRAGMENTS: u32 = 0x20;
/// `EROFS_FEATURE_INCOMPAT_ZERO_PADDING`, which lz4 sets, and `_COMPR_CFGS`, which others set.
const COMPRESSION: u32 = 0x3;

/// Inode of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    /// Number of the inode.
    pub number: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Link count.
    pub names: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Modification time, in seconds since 1970.
    pub mtime: u64,
    /// True if it has extended attributes.
    pub xattrs: bool,
}

impl Inode {
    /// Returns the type, like `S_IFDIR`.
    pub(crate) fn kind(&self) -> u32 {
        self.mode & TYPE
    }
}

/// Image in memory.
pub(crate) struct Image<'a> {
    /// Bytes of the whole image.
    pub bytes: &'a [u8],
    /// True if files may be compressed.
    pub is_compressed: bool,
    /// Size of a block in bytes.
    pub block: usize,
    inodes: usize,
    root: u64,
    /// First block of the attributes that inodes share.
    pub shared_xattrs: u32,
    /// Inode that holds the ends of files (the packed inode), if the image has one.
    pub packed: Option<u64>,
    time: u64,
}

/// Inode and the location of its data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Other fields of the inode.
    pub inode: Inode,
    /// Layout of the data (`EROFS_INODE_*`).
    pub layout: u16,
    /// Length of the data in bytes.
    pub size: usize,
    /// First block of the data.
    pub block: u32,
    /// Offset of the bytes after the inode and its attributes.
    pub tail: usize,
    /// Length of its attributes in bytes, their header included; or 0.
    pub xattrs: usize,
}

/// Returns the context of an error in the image at `path`.
pub(crate) fn about(path: &Path) -> String {
    format!("{} is an erofs image that is not known", path.escaped())
}

impl<'a> Image<'a> {
    /// Reads the superblock of the image in `bytes`.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self> {
        ensure!(MAGIC.is_in(bytes), "it has another magic number");
        let superblock: &ErofsSuperblock = on_disk::read_at(bytes, SUPERBLOCK)?;
        let bits = superblock.block_bits;
        ensure!(BLOCK_BITS.contains(&bits), "it has blocks of 2^{bits} bytes");
        let block = 1 << bits;
        let features = superblock.feature_incompat.get();
        Ok(Self {
            bytes,
            is_compressed: features & COMPRESSION != 0,
            block,
            inodes: offset_of_block(superblock.inodes_block.get(), block)?,
            root: superblock.root.get().into(),
            shared_xattrs: superblock.xattrs_block.get(),
            packed: (features & FRAGMENTS != 0).then(|| superblock.packed.get()),
            time: superblock.build_time.get(),
        })
    }

    /// Returns all inodes by path; the path of the root directory is empty.
    pub(crate) fn tree(&self) -> Result<BTreeMap<PathBuf, Place>> {
        let mut found = BTreeMap::new();
        let mut directories = HashSet::new();
        let mut ahead = vec![(PathBuf::new(), self.root)];
        // Only the number of entries and the length of paths count here.
        let mut budget = TreeBudget::of_tree();
        // In a whole image, no two directories share their bytes.
        let mut unread = self.bytes.len();
        // In a whole image, each name has an entry of its own. In others, directories may share
        // their entries, so that a few bytes stand for any number of names.
        let most = self.bytes.len() / size_of::<DirectoryEntry>();
        while let Some((path, number)) = ahead.pop() {
            let place = self.place(number)?;
            if place.inode.kind() == DIRECTORY {
                ensure!(directories.insert(number), "a directory is in two places");
                let rest = unread.checked_sub(place.size);
                unread = rest.context("its directories are larger than the image")?;
                for (name, number) in self.names(&place)? {
                    let path = image_path::join(&path, name)?;
                    budget.take_path(&path)?;
                    ahead.push((path, number));
                }
            }
            ensure!(found.insert(path, place).is_none(), "a name is there twice");
            ensure!(found.len() + ahead.len() <= most + 1, "it has more names than entries");
        }
        Ok(found)
    }

    /// Returns `length` bytes at `start`; with a length of zero, any `start` is valid.
    pub(crate) fn slice(&self, start: usize, length: usize) -> Result<&'a [u8]> {
        on_disk::slice(self.bytes, start, length)
    }

    /// Returns the offset of the block `number`.
    pub(crate) fn offset_of(&self, number: u32) -> Result<usize> {
        offset_of_block(number, self.block)
    }

    /// Reads the inode `number`.
    pub(crate) fn place(&self, number: u64) -> Result<Place> {
        let start = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_mul(SLOT)?.checked_add(self.inodes))
            .with_context(|| format!("the inode {number} is outside of it"))?;
        let compact: &CompactInode = on_disk::read_at(self.bytes, start)?;
        let xattr_slots = usize::from(compact.xattr_slots.get());
        let mut inode = Inode {
            number,
            mode: compact.mode.get().into(),
            names: compact.links.get().into(),
            owner: (compact.uid.get().into(), compact.gid.get().into()),
            mtime: self.time,
            xattrs: xattr_slots > 0,
        };
        let mut size = u64::from(compact.size.get());
        let mut length = size_of::<CompactInode>();
        let format = compact.format.get();
        if format & 1 == 1 {
            let extended: &ExtendedInode = on_disk::read_at(self.bytes, start)?;
            inode.names = extended.links.get();
            inode.owner = (extended.uid.get(), extended.gid.get());
            inode.mtime = extended.mtime.get();
            size = extended.size.get();
            length = size_of::<ExtendedInode>();
        }
        let xattrs = xattr_slots.checked_sub(1).map_or(0, |more| 12 + XATTR_SLOT * more);
        Ok(Place {
            inode,
            layout: (format >> 1) & 7,
            size: usize::try_from(size)?,
            block: compact.block.get(),
            // The inode is in the image, so this is at most its length and those of the attributes.
            tail: start.checked_add(length + xattrs).context("it ends early")?,
            xattrs,
        })
    }

    /// Returns the names in a directory and their inode numbers.
    fn names(&self, place: &Place) -> Result<Vec<(&'a [u8], u64)>> {
        let mut names = Vec::new();
        let blocks = place.size.div_ceil(self.block);
        for index in 0..blocks {
            let before = index * self.block;
            let start = match place.layout {
                // EROFS_INODE_FLAT_INLINE: the last part follows the inode.
                2 if index + 1 == blocks => place.tail,
                0 | 2 => {
                    self.offset_of(place.block)?.checked_add(before).context("it ends early")?
                }
                other => bail!("a directory has the layout {other}"),
            };
            let data = self.slice(start, self.block.min(place.size - before))?;
            let own = |name: &&[u8]| !matches!(*name, b"." | b"..");
            names.extend(names_in_block(data)?.into_iter().filter(|(name, _)| own(name)));
        }
        Ok(names)
    }
}

fn offset_of_block(number: u32, block: usize) -> Result<usize> {
    let number = usize::try_from(number)?;
    number.checked_mul(block).with_context(|| format!("the block {number} is outside of it"))
}

/// Reads a block of a directory: the entries come first, then their names.
fn names_in_block(data: &[u8]) -> Result<Vec<(&[u8], u64)>> {
    let first: &DirectoryEntry = on_disk::read_at(data, 0)?;
    // The first name begins where the entries end.
    let count = usize::from(first.name.get()) / size_of::<DirectoryEntry>();
    ensure!(count > 0, "a block of a directory has no entries");
    let entries: &[DirectoryEntry] = on_disk::read_array_at(data, 0, count)?;
    let mut names = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let start = usize::from(entry.name.get());
        let name = match entries.get(index + 1) {
            Some(next) => data.get(start..next.name.get().into()),
            // Zeros fill the block after the last name.
            None => data.get(start..).and_then(|rest| rest.split(|byte| *byte == 0).next()),
        };
        names.push((name.context("a name ends early")?, entry.inode.get()));
    }
    Ok(names)
}
