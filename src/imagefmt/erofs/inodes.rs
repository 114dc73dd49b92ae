//! The inodes of an erofs image (Linux, Documentation/filesystems/erofs.rst and
//! `fs/erofs/erofs_fs.h`). No tool of erofs-utils 1.5 tells of setuid or of hard links, or gives
//! the content of files without writing all of them to disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const SUPERBLOCK: usize = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
/// The unit in which inodes are numbered.
const SLOT: usize = 32;
const DIRECTORY_ENTRY: usize = 12;
const TYPE: u32 = 0o170_000;
/// The type of directories (inode(7)).
pub(crate) const DIRECTORY: u32 = 0o040_000;
/// The type of regular files.
pub(crate) const FILE: u32 = 0o100_000;
/// The type of symbolic links.
pub(crate) const LINK: u32 = 0o120_000;
/// `EROFS_FEATURE_INCOMPAT_FRAGMENTS`; the same bit says that data is there once only.
const FRAGMENTS: u32 = 0x20;

/// An inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    /// Its number.
    pub number: u64,
    /// The type and the permission bits.
    pub mode: u32,
    /// How many names it has.
    pub names: u32,
    /// The owner and the group.
    pub owner: (u32, u32),
    /// The time of its last change, in seconds since 1970.
    pub mtime: u64,
    /// Whether it has extended attributes.
    pub xattrs: bool,
}

impl Inode {
    /// Its type, like `S_IFDIR`.
    pub(crate) fn kind(&self) -> u32 {
        self.mode & TYPE
    }
}

/// An image in memory.
pub(crate) struct Image<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// The size of a block.
    pub block: usize,
    inodes: usize,
    root: u64,
    /// The inode that holds the ends of files, where that is done.
    pub packed: Option<u64>,
    time: u64,
}

/// Where an inode's data is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// What the inode says besides.
    pub inode: Inode,
    /// How the data is laid out.
    pub layout: u16,
    /// How long it is.
    pub size: usize,
    /// Its first block.
    pub block: usize,
    /// What follows the inode.
    pub tail: usize,
}

/// The paths of all inodes in the image at `path`.
pub(crate) fn paths(path: &Path) -> Result<Vec<PathBuf>> {
    let map = crate::base::files::map(path)?;
    let tree = Image::open(&map).and_then(|image| image.tree());
    Ok(tree.with_context(|| about(path))?.into_keys().collect())
}

/// Completes the sentence that something is wrong.
pub(crate) fn about(path: &Path) -> String {
    format!("{} is an erofs image that is not known", path.display())
}

impl<'a> Image<'a> {
    /// Looks at the image in `bytes`.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self> {
        let field = |offset| SUPERBLOCK + offset;
        if u32_at(bytes, field(0))? != MAGIC {
            bail!("it has another magic number");
        }
        let bits = *bytes.get(field(12)).context("it ends early")?;
        let block = 1_usize.checked_shl(bits.into()).filter(|block| *block >= 512);
        let block = block.context("it has an odd block size")?;
        let packs = u32_at(bytes, field(80))? & FRAGMENTS != 0;
        Ok(Self {
            bytes,
            block,
            inodes: u32_at(bytes, field(40))? as usize * block,
            root: u64::from(u16_at(bytes, field(14))?),
            packed: if packs { Some(u64_at(bytes, field(96))?) } else { None },
            time: u64_at(bytes, field(24))?,
        })
    }

    /// All inodes by path; that of the root directory has an empty one.
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

    /// So many bytes at `start`, which is anywhere where they are none.
    pub(crate) fn slice(&self, start: usize, length: usize) -> Result<&'a [u8]> {
        if length == 0 {
            return Ok(&[]);
        }
        let end = start.checked_add(length).context("it has no end")?;
        self.bytes.get(start..end).context("it ends early")
    }

    /// Where the inode `number` is.
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

    /// The names in a directory, and the inodes that they are names of.
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

/// One entry of a directory's block: the entries come first, then their names.
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

/// The number at `offset`.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*field.context("it ends early")?))
}

/// The number at `offset`.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*field.context("it ends early")?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    Ok(u64::from(u32_at(bytes, offset)?) | u64::from(u32_at(bytes, offset + 4)?) << 32)
}
