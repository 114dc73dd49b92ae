//! Inodes of an erofs image (Linux, Documentation/filesystems/erofs.rst and `fs/erofs/erofs_fs.h`).
//! No tool of erofs-utils 1.5 shows setuid or hard links, or the content of files without writing
//! all of them to disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::imagefmt::image_format::Magic;

const SUPERBLOCK: usize = 1024;
/// Magic number, `EROFS_SUPER_MAGIC_V1`.
pub(crate) const MAGIC: Magic = Magic { offset: SUPERBLOCK, bytes: &0xe0f5_e1e2_u32.to_le_bytes() };
/// Unit in which inodes are numbered.
const SLOT: usize = 32;
const DIRECTORY_ENTRY: usize = 12;
const TYPE: u32 = 0o170_000;
/// Type of directories (inode(7)).
pub(crate) const DIRECTORY: u32 = 0o040_000;
/// Type of regular files.
pub(crate) const FILE: u32 = 0o100_000;
/// Type of symbolic links.
pub(crate) const LINK: u32 = 0o120_000;
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
    pub block: usize,
    /// Offset of the bytes after the inode and its attributes.
    pub tail: usize,
}

/// Returns the context of an error in the image at `path`.
pub(crate) fn about(path: &Path) -> String {
    format!("{} is an erofs image that is not known", path.display())
}

impl<'a> Image<'a> {
    /// Reads the superblock of the image in `bytes`.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self> {
        let field = |offset| SUPERBLOCK + offset;
        if !MAGIC.is_in(bytes) {
            bail!("it has another magic number");
        }
        let bits = *bytes.get(field(12)).context("it ends early")?;
        let block = 1_usize.checked_shl(bits.into()).filter(|block| *block >= 512);
        let block = block.context("it has an odd block size")?;
        let features = u32_at(bytes, field(80))?;
        let packs = features & FRAGMENTS != 0;
        Ok(Self {
            is_compressed: features & COMPRESSION != 0,
            bytes,
            block,
            inodes: u32_at(bytes, field(40))? as usize * block,
            root: u64::from(u16_at(bytes, field(14))?),
            packed: if packs { Some(u64_at(bytes, field(96))?) } else { None },
            time: u64_at(bytes, field(24))?,
        })
    }

    /// Returns all inodes by path; the path of the root directory is empty.
    pub(crate) fn tree(&self) -> Result<BTreeMap<PathBuf, Place>> {
        let mut found = BTreeMap::new();
        let mut ahead = vec![(PathBuf::new(), self.root)];
        while let Some((path, number)) = ahead.pop() {
            let place = self.place(number)?;
            if place.inode.kind() == DIRECTORY {
                for (name, number) in self.names(&place)? {
                    ahead.push((path.join(name), number));
                }
            }
            if found.insert(path, place).is_some() {
                bail!("a name is there twice");
            }
        }
        Ok(found)
    }

    /// Returns `length` bytes at `start`; with a length of zero, any `start` is valid.
    pub(crate) fn slice(&self, start: usize, length: usize) -> Result<&'a [u8]> {
        if length == 0 {
            return Ok(&[]);
        }
        let end = start.checked_add(length).context("it has no end")?;
        self.bytes.get(start..end).context("it ends early")
    }

    /// Reads the inode `number`.
    pub(crate) fn place(&self, number: u64) -> Result<Place> {
        let bytes = self.bytes;
        let start = self.inodes + usize::try_from(number)? * SLOT;
        let format = u16_at(bytes, start)?;
        let attributes = usize::from(u16_at(bytes, start + 2)?);
        let mode = u16_at(bytes, start + 4)?;
        let extended = format & 1 == 1;
        let (length, size, names, owner, mtime) = if extended {
            let owner = (u32_at(bytes, start + 24)?, u32_at(bytes, start + 28)?);
            let names = u32_at(bytes, start + 44)?;
            (64, u64_at(bytes, start + 8)?, names, owner, u64_at(bytes, start + 32)?)
        } else {
            let owner = (u16_at(bytes, start + 24)?.into(), u16_at(bytes, start + 26)?.into());
            let names = u16_at(bytes, start + 6)?.into();
            (32, u32_at(bytes, start + 8)?.into(), names, owner, self.time)
        };
        let attributes_length = attributes.checked_sub(1).map_or(0, |more| 12 + 4 * more);
        let xattrs = attributes > 0;
        Ok(Place {
            inode: Inode { number, mode: u32::from(mode), names, owner, mtime, xattrs },
            layout: (format >> 1) & 7,
            size: usize::try_from(size)?,
            block: u32_at(bytes, start + 16)? as usize,
            tail: start + length + attributes_length,
        })
    }

    /// Returns the names in a directory and their inode numbers.
    fn names(&self, place: &Place) -> Result<Vec<(&'a OsStr, u64)>> {
        let mut names = Vec::new();
        let blocks = place.size.div_ceil(self.block);
        for index in 0..blocks {
            let length = self.block.min(place.size - index * self.block);
            let start = match place.layout {
                // EROFS_INODE_FLAT_INLINE: the last part follows the inode.
                2 if index + 1 == blocks => place.tail,
                0 | 2 => (place.block + index) * self.block,
                other => bail!("a directory has the layout {other}"),
            };
            let data = self.bytes.get(start..start + length).context("it ends early")?;
            let count = usize::from(u16_at(data, 8)?) / DIRECTORY_ENTRY;
            for entry in 0..count {
                let (name, number) = name(data, entry, count)?;
                if !matches!(name.as_bytes(), b"." | b"..") {
                    names.push((name, number));
                }
            }
        }
        Ok(names)
    }
}

/// Reads one entry of a directory's block: the entries come first, then their names.
fn name(data: &[u8], entry: usize, count: usize) -> Result<(&OsStr, u64)> {
    let at = entry * DIRECTORY_ENTRY;
    let number = u64_at(data, at)?;
    let from = usize::from(u16_at(data, at + 8)?);
    let to = if entry + 1 < count {
        usize::from(u16_at(data, at + DIRECTORY_ENTRY + 8)?)
    } else {
        data.len()
    };
    let name = data.get(from..to).context("a name ends early")?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok((OsStr::from_bytes(name), number))
}

/// Returns the little-endian number at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*field.context("it ends early")?))
}

/// Returns the little-endian number at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*field.context("it ends early")?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    Ok(u64::from(u32_at(bytes, offset)?) | u64::from(u32_at(bytes, offset + 4)?) << 32)
}
