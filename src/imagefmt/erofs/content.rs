//! Content of files in an erofs image (Linux, Documentation/filesystems/erofs.rst,
//! `fs/erofs/erofs_fs.h` and `zmap.c`), in the forms that mkfs.erofs writes for fprefix. Any other
//! form is an error in this module, and is left to fsck.erofs.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::imagefmt::erofs::inodes::{Image, Place, u16_at, u32_at};

/// Flags of `h_advise`: 2-byte indices; big physical clusters, for either head; the last extent
/// beside the inode; interlaced plain clusters; the last extent in the packed inode.
const COMPACTED_2B: u16 = 0x01;
const BIG_PCLUSTER: u16 = 0x06;
const INLINE_TAIL: u16 = 0x08;
const INTERLACED: u16 = 0x10;
const FRAGMENT: u16 = 0x20;
const KNOWN_ADVICE: u16 = 0x3f;

/// Types of logical clusters.
const PLAIN: u8 = 0;
const NOT_A_HEAD: u8 = 2;
const SECOND_HEAD: u8 = 3;
/// Flag of a cluster that is no head: its value is the number of blocks of its extent.
const BLOCK_COUNT: u32 = 1 << 11;

const LZ4: u8 = 0;
const ZSTD: u8 = 3;

/// Maximum length of an extent. mkfs.erofs writes none that is longer; the limit protects against
/// images that exhaust memory.
const LONGEST: usize = 16 << 20;

/// Image with the data that its files share.
pub(crate) struct Contents<'a> {
    image: &'a Image<'a>,
    /// Ends of files (the packed inode), decompressed once.
    packed: Option<Mmap>,
}

type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

impl<'a> Contents<'a> {
    /// Decompresses the packed inode of `image`.
    pub(crate) fn open(image: &'a Image<'a>) -> Result<Self> {
        let mut contents = Self { image, packed: None };
        if let Some(number) = image.packed.filter(|number| *number != 0) {
            let place = image.place(number)?;
            let mut file = tempfile::NamedTempFile::new()?;
            if place.size > 0 {
                contents.each_part(&place, &mut |part| Ok(file.write_all(part)?))?;
                contents.packed = Some(crate::base::files::map(file.path())?);
            }
        }
        Ok(contents)
    }

    /// Returns the SHA-256 of the content of the file at `place`.
    pub(crate) fn digest(&self, place: &Place) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        self.each_part(place, &mut |part| {
            hash.update(part);
            Ok(())
        })?;
        Ok(hash.finalize().into())
    }

    /// Returns the target of the symbolic link at `place`.
    pub(crate) fn target(&self, place: &Place) -> Result<Vec<u8>> {
        ensure!(place.size <= LONGEST, "a link is too long");
        let mut target = Vec::new();
        self.each_part(place, &mut |part| {
            target.extend_from_slice(part);
            Ok(())
        })?;
        Ok(target)
    }

    /// Passes all content to `take`, piece by piece.
    fn each_part(&self, place: &Place, take: Take<'_>) -> Result<()> {
        let Image { block, .. } = *self.image;
        match place.layout {
            _ if place.size == 0 => Ok(()),
            0 => take(self.image.slice(place.block * block, place.size)?),
            2 => {
                // The data of the last block follows the inode, even if it is a whole block.
                let before = (place.size - 1) / block * block;
                take(self.image.slice(place.block * block, before)?)?;
                take(self.image.slice(place.tail, place.size - before)?)
            }
            1 | 3 => self.compressed(place, take),
            other => bail!("a file has the layout {other}"),
        }
    }

    fn compressed(&self, place: &Place, take: Take<'_>) -> Result<()> {
        let header = place.tail.next_multiple_of(8);
        let bytes = self.image.bytes;
        let low = u64::from(u32_at(bytes, header)?);
        let bits = *bytes.get(header + 7).context("it ends early")?;
        if bits & 0x80 != 0 {
            // All content is in the packed inode; the header gives its offset.
            let high = u64::from(u32_at(bytes, header + 4)? & 0x7fff_ffff);
            return self.fragment(low | high << 32, place.size, take);
        }
        let advice = u16_at(bytes, header + 4)?;
        ensure!(advice & !KNOWN_ADVICE == 0 && bits & 0x78 == 0, "a file is mapped in a new way");
        let bits = self.image.block.trailing_zeros() + u32::from(bits & 7);
        let map = Map {
            contents: self,
            header,
            fragment: low,
            is_full: place.layout == 1,
            advice,
            algorithms: *bytes.get(header + 6).context("it ends early")?,
            bits,
            clusters: place.size.div_ceil(1 << bits),
            size: place.size,
            inline_size: usize::from(u16_at(bytes, header + 2)?),
        };
        let (mut extents, after) = if map.is_full { map.full()? } else { map.compact()? };
        // The last index may only mark the end of the file.
        extents.retain(|extent| extent.from < place.size);
        map.decode(&extents, after, take)
    }

    fn fragment(&self, from: u64, size: usize, take: Take<'_>) -> Result<()> {
        let from = usize::try_from(from)?;
        let end = from.checked_add(size).context("a fragment ends nowhere")?;
        let packed = self.packed.as_deref().unwrap_or_default();
        take(packed.get(from..end).context("a fragment is outside of the packed inode")?)
    }
}

/// Part of a file that was compressed as a unit.
#[derive(Debug)]
struct Extent {
    from: usize,
    is_plain: bool,
    second: bool,
    start: usize,
    blocks: usize,
}

/// Map of a compressed file.
struct Map<'a> {
    contents: &'a Contents<'a>,
    header: usize,
    fragment: u64,
    is_full: bool,
    advice: u16,
    algorithms: u8,
    bits: u32,
    clusters: usize,
    size: usize,
    inline_size: usize,
}

impl Map<'_> {
    /// Reads indices of eight bytes each.
    fn full(&self) -> Result<(Vec<Extent>, usize)> {
        let start = self.header + 16;
        let bytes = self.contents.image.bytes;
        let mut extents = Vec::new();
        for cluster in 0..self.clusters {
            let at = start + cluster * 8;
            let advice = u16_at(bytes, at)?;
            let offset = usize::from(u16_at(bytes, at + 2)?);
            let kind = (advice & 3) as u8;
            if kind == NOT_A_HEAD {
                let count = u32::from(u16_at(bytes, at + 4)?);
                count_blocks(&mut extents, count, cluster, self.bits)?;
                continue;
            }
            extents.push(Extent {
                from: (cluster << self.bits) + offset,
                is_plain: kind == PLAIN,
                second: kind == SECOND_HEAD,
                start: u32_at(bytes, at + 4)? as usize,
                blocks: 1,
            });
        }
        Ok((extents, start + self.clusters * 8))
    }

    /// Reads packed indices of four or two bytes each.
    fn compact(&self) -> Result<(Vec<Extent>, usize)> {
        let start = self.header + 8;
        // Four bytes each up to a boundary of 32 bytes, then two if `h_advise` allows them, then
        // four.
        let first = ((32 - start % 32) / 4 % 8).min(self.clusters);
        let two = if self.advice & COMPACTED_2B != 0 && self.clusters > first {
            (self.clusters - first) / 16 * 16
        } else {
            0
        };
        let last = self.clusters - first - two;
        let mut extents = Vec::new();
        let mut at = start;
        let mut cluster = 0;
        for (count, width) in [(first, 4), (two, 2), (last, 4)] {
            let members = if width == 4 { 2 } else { 16 };
            let mut left = count;
            while left > 0 {
                let used = members.min(left);
                self.pack(at, width, members, used, cluster, &mut extents)?;
                at += width * members;
                cluster += used;
                left -= used;
            }
        }
        // The last pack may be half full.
        Ok((extents, at))
    }

    fn pack(
        &self,
        at: usize,
        width: usize,
        members: usize,
        used: usize,
        cluster: usize,
        extents: &mut Vec<Extent>,
    ) -> Result<()> {
        let size = width * members;
        let encoded = (size - 4) * 8 / members;
        let low = self.bits.max(12);
        let base = u32_at(self.contents.image.bytes, at + size - 4)? as usize;
        let is_big = self.advice & BIG_PCLUSTER != 0;
        // Without big clusters, the base is the block before the first extent of the pack.
        let mut blocks = usize::from(!is_big);
        for member in 0..used {
            let bit = encoded * member;
            let value = u32_at(self.contents.image.bytes, at + bit / 8)? >> (bit % 8);
            let kind = (value >> low & 3) as u8;
            let value = value & ((1 << low) - 1);
            let number = cluster + member;
            if kind == NOT_A_HEAD {
                if value & BLOCK_COUNT != 0 && is_big {
                    // The head counted as one block, unless it is in the pack before.
                    let count = (value & !BLOCK_COUNT) as usize;
                    blocks = (blocks + count).saturating_sub(usize::from(member > 0));
                }
                count_blocks(extents, value, number, self.bits)?;
                continue;
            }
            extents.push(Extent {
                from: (number << self.bits) + value as usize,
                is_plain: kind == PLAIN,
                second: kind == SECOND_HEAD,
                start: base + blocks,
                blocks: 1,
            });
            blocks += 1;
        }
        Ok(())
    }

    fn decode(&self, extents: &[Extent], after: usize, take: Take<'_>) -> Result<()> {
        let image = self.contents.image;
        let starts_well = extents.first().is_some_and(|first| first.from == 0);
        ensure!(starts_well, "a file does not begin");
        for (index, extent) in extents.iter().enumerate() {
            let next = extents.get(index + 1);
            let end = next.map_or(self.size, |next| next.from);
            ensure!(end >= extent.from && end - extent.from <= LONGEST, "extents are out of order");
            let length = end - extent.from;
            if next.is_none() && self.advice & FRAGMENT != 0 {
                let high = if self.is_full { (extent.start as u64) << 32 } else { 0 };
                self.contents.fragment(self.fragment | high, length, take)?;
                continue;
            }
            let data = if next.is_none() && self.advice & INLINE_TAIL != 0 {
                image.slice(after, self.inline_size)?
            } else {
                image.slice(extent.start * image.block, extent.blocks * image.block)?
            };
            self.decode_extent(extent, data, length, take)?;
        }
        Ok(())
    }

    fn decode_extent(
        &self,
        extent: &Extent,
        data: &[u8],
        length: usize,
        take: Take<'_>,
    ) -> Result<()> {
        if extent.is_plain {
            let turned = self.advice & INTERLACED != 0;
            let from = if turned { extent.from % self.contents.image.block } else { 0 };
            let first = length.min(data.len().saturating_sub(from));
            take(data.get(from..from + first).context("a plain extent ends early")?)?;
            return take(data.get(..length - first).context("a plain extent ends early")?);
        }
        let algorithm = if extent.second { self.algorithms >> 4 } else { self.algorithms & 15 };
        // Compressed data is aligned to the end of its blocks, so padding comes first.
        let data = data.get(data.iter().position(|byte| *byte != 0).unwrap_or(0)..);
        let data = data.unwrap_or_default();
        let mut out = vec![0; length];
        let given = match algorithm {
            LZ4 => lz4_flex::block::decompress_into(data, &mut out)?,
            ZSTD => zstd::bulk::decompress_to_buffer(data, &mut out)?,
            other => bail!("a file is compressed by the algorithm {other}"),
        };
        ensure!(given == length, "an extent is shorter than it should be");
        take(&out)
    }
}

/// Reads the number of blocks of a large extent from its second cluster.
fn count_blocks(extents: &mut [Extent], value: u32, cluster: usize, bits: u32) -> Result<()> {
    let last = extents.last_mut().context("a file begins in the middle of an extent")?;
    if value & BLOCK_COUNT != 0 && last.from >> bits == cluster - 1 {
        last.blocks = (value & !BLOCK_COUNT) as usize;
    }
    Ok(())
}
