//! The inodes of an erofs image (Linux, Documentation/filesystems/erofs.rst and
//! `fs/erofs/erofs_fs.h`). No tool of erofs-utils 1.5 tells of setuid or of hard links.

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
const DIRECTORY: u16 = 0o040_000;
const TYPE: u16 = 0o170_000;

/// An inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: u64,
    /// The permission bits.
    pub mode: u32,
    /// How many names it has.
    pub names: u32,
    /// The owner and the group.
    pub owner: (u32, u32),
    /// Whether it has extended attributes.
    pub xattrs: bool,
}

struct Image<'a> {
    bytes: &'a [u8],
    block: usize,
    inodes: usize,
}

/// Where an inode's data is.
struct Place {
    inode: Inode,
    is_directory: bool,
    layout: u16,
    size: usize,
    block: usize,
    tail: usize,
}

/// All inodes of the image at `path` but the root directory's, by path.
pub fn read(path: &Path) -> Result<BTreeMap<PathBuf, Inode>> {
    let map = crate::tree::map(path)?;
    tree(&map).with_context(|| format!("{} is an erofs image that is not known", path.display()))
}

fn tree(bytes: &[u8]) -> Result<BTreeMap<PathBuf, Inode>> {
    let field = |offset| SUPERBLOCK + offset;
    if u32_at(bytes, field(0))? != MAGIC {
        bail!("it has another magic number");
    }
    let bits = *bytes.get(field(12)).context("it ends early")?;
    let block = 1_usize.checked_shl(bits.into()).filter(|block| *block >= 512);
    let block = block.context("it has an odd block size")?;
    let inodes = u32_at(bytes, field(40))? as usize * block;
    let image = Image { bytes, block, inodes };
    let mut found = BTreeMap::new();
    let mut ahead = vec![(PathBuf::new(), u64::from(u16_at(bytes, field(14))?))];
    while let Some((path, number)) = ahead.pop() {
        let place = image.place(number)?;
        if place.is_directory {
            for (name, number) in image.names(&place)? {
                ahead.push((path.join(name), number));
            }
        }
        if !path.as_os_str().is_empty() && found.insert(path, place.inode).is_some() {
            bail!("a name is there twice");
        }
    }
    Ok(found)
}

impl Image<'_> {
    fn place(&self, number: u64) -> Result<Place> {
        let bytes = self.bytes;
        let start = self.inodes + usize::try_from(number)? * SLOT;
        let format = u16_at(bytes, start)?;
        let attributes = usize::from(u16_at(bytes, start + 2)?);
        let mode = u16_at(bytes, start + 4)?;
        let extended = format & 1 == 1;
        let (length, size, names, owner) = if extended {
            let owner = (u32_at(bytes, start + 24)?, u32_at(bytes, start + 28)?);
            let size =
                u64::from(u32_at(bytes, start + 8)?) | u64::from(u32_at(bytes, start + 12)?) << 32;
            (64, size, u32_at(bytes, start + 44)?, owner)
        } else {
            let owner = (u16_at(bytes, start + 24)?.into(), u16_at(bytes, start + 26)?.into());
            (32, u32_at(bytes, start + 8)?.into(), u16_at(bytes, start + 6)?.into(), owner)
        };
        let attributes_length = attributes.checked_sub(1).map_or(0, |more| 12 + 4 * more);
        let xattrs = attributes > 0;
        Ok(Place {
            inode: Inode { number, mode: u32::from(mode & !TYPE), names, owner, xattrs },
            is_directory: mode & TYPE == DIRECTORY,
            layout: (format >> 1) & 7,
            size: usize::try_from(size)?,
            block: u32_at(bytes, start + 16)? as usize,
            tail: start + length + attributes_length,
        })
    }

    /// The names in a directory, and the inodes that they are names of.
    fn names(&self, place: &Place) -> Result<Vec<(&OsStr, u64)>> {
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
    let number = u64::from(u32_at(data, at)?) | u64::from(u32_at(data, at + 4)?) << 32;
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

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u16::from_le_bytes(*field.context("it ends early")?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    let field = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_le_bytes(*field.context("it ends early")?))
}
