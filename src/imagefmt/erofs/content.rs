//! Content of files in an erofs image (Linux, Documentation/filesystems/erofs.rst,
//! `fs/erofs/erofs_fs.h` and `zmap.c`), in the forms that mkfs.erofs writes for fprefix. Any other
//! form is an error in this module, and is left to fsck.erofs.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use zerocopy::little_endian::{U32, U64};

use crate::base::files;
use crate::base::limits::TEXT;
use crate::fstree::budget::TreeBudget;
use crate::fstree::image_path;
use crate::imagefmt::erofs::inodes::{Image, Place};
use crate::imagefmt::erofs::structures::{FullIndex, MapHeader};
use crate::imagefmt::on_disk;

/// Flags of `h_advise`: 2-byte indices; big physical clusters, for either head; the last extent
/// beside the inode; interlaced plain clusters; the last extent in the packed inode.
const COMPACTED_2B: u16 = 0x01;
const BIG_PCLUSTER: u16 = 0x06;
const INLINE_TAIL: u16 = 0x08;
const INTERLACED: u16 = 0x10;
const FRAGMENT: u16 = 0x20;
const KNOWN_ADVICE: u16 = 0x3f;

/// Parts of `h_clusterbits`: the logarithm of the size of a cluster in blocks; all content is in
/// the packed inode.
const CLUSTER_BITS: u8 = 0x07;
const ALL_IN_PACKED: u8 = 0x80;

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
    /// Decompresses the packed inode of `image`, within `budget`.
    pub(crate) fn open(image: &'a Image<'a>, budget: &mut TreeBudget) -> Result<Self> {
        let mut contents = Self { image, packed: None };
        if let Some(number) = image.packed.filter(|number| *number != 0) {
            let place = image.place(number)?;
            budget.take_content(Path::new("the packed inode"), place.size as u64)?;
            let mut file = tempfile::tempfile()?;
            if place.size > 0 {
                contents.each_part(&place, &mut |part| Ok(file.write_all(part)?))?;
                contents.packed = Some(files::map_unnamed(&file)?);
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
        ensure!(place.size < image_path::PATH_MAX, "a link is longer than a path can be");
        self.bytes(place)
    }

    /// Returns the content of the text at `place`.
    pub(crate) fn text(&self, place: &Place) -> Result<Vec<u8>> {
        ensure!(place.size as u64 <= TEXT.bytes, "a text has more than {} MiB", TEXT.bytes >> 20);
        self.bytes(place)
    }

    fn bytes(&self, place: &Place) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.each_part(place, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Passes all content to `take`, piece by piece.
    fn each_part(&self, place: &Place, take: Take<'_>) -> Result<()> {
        let image = self.image;
        match place.layout {
            _ if place.size == 0 => Ok(()),
            0 => take(image.slice(image.offset_of(place.block)?, place.size)?),
            2 => {
                // The data of the last block follows the inode, even if it is a whole block.
                let before = (place.size - 1) / image.block * image.block;
                if before > 0 {
                    take(image.slice(image.offset_of(place.block)?, before)?)?;
                }
                take(image.slice(place.tail, place.size - before)?)
            }
            1 | 3 => self.compressed(place, take),
            other => bail!("a file has the layout {other}"),
        }
    }

    fn compressed(&self, place: &Place, take: Take<'_>) -> Result<()> {
        let start = place.tail.checked_next_multiple_of(8).context("it ends early")?;
        let header: MapHeader = *on_disk::read_at(self.image.bytes, start)?;
        if header.cluster_bits & ALL_IN_PACKED != 0 {
            // All eight bytes are the offset.
            let bytes: &U64 = on_disk::read_at(self.image.bytes, start)?;
            return self.fragment(bytes.get() & !(1 << 63), place.size, take);
        }
        let advice = header.advice.get();
        let is_known = advice & !KNOWN_ADVICE == 0 && header.cluster_bits & !CLUSTER_BITS == 0;
        ensure!(is_known, "a file is mapped in a new way");
        let bits = self.image.block.trailing_zeros() + u32::from(header.cluster_bits);
        let map = Map {
            contents: self,
            indices: start.checked_add(size_of::<MapHeader>()).context("it ends early")?,
            header,
            is_full: place.layout == 1,
            advice,
            bits,
            clusters: place.size.div_ceil(1 << bits),
            size: place.size,
        };
        let (mut extents, after) = if map.is_full { map.full()? } else { map.compact()? };
        // The last index may only mark the end of the file.
        extents.retain(|extent| extent.from < place.size);
        map.decode(&extents, after, take)
    }

    fn fragment(&self, from: u64, size: usize, take: Take<'_>) -> Result<()> {
        let from = usize::try_from(from)?;
        let packed = self.packed.as_deref().unwrap_or_default();
        let part = on_disk::slice(packed, from, size);
        take(part.context("a fragment is outside of the packed inode")?)
    }
}

/// Part of a file that was compressed as a unit.
#[derive(Debug)]
struct Extent {
    from: usize,
    is_plain: bool,
    second: bool,
    start: u32,
    blocks: u32,
}

/// Map of a compressed file.
struct Map<'a> {
    contents: &'a Contents<'a>,
    /// Offset of the bytes after the header.
    indices: usize,
    header: MapHeader,
    is_full: bool,
    advice: u16,
    /// Logarithm of the size of a cluster in bytes.
    bits: u32,
    clusters: usize,
    size: usize,
}

impl Map<'_> {
    /// Reads indices of eight bytes each. Returns the extents and the offset after the indices.
    fn full(&self) -> Result<(Vec<Extent>, usize)> {
        let bytes = self.contents.image.bytes;
        // Eight bytes that have no use (`Z_EROFS_FULL_INDEX_ALIGN`) come first.
        let start = self.indices.checked_add(8).context("it ends early")?;
        let indices: &[FullIndex] = on_disk::read_array_at(bytes, start, self.clusters)?;
        let mut extents = Vec::new();
        for (cluster, index) in indices.iter().enumerate() {
            let value = index.value.get();
            let kind = (index.advice.get() & 3) as u8;
            if kind == NOT_A_HEAD {
                count_blocks(&mut extents, value & 0xffff, cluster, self.bits)?;
                continue;
            }
            extents.push(self.extent(cluster, index.offset.get().into(), kind, value)?);
        }
        // The indices are in the image, so their end is in it, too.
        Ok((extents, start + size_of_val(indices)))
    }

    /// Reads packed indices of four or two bytes each. Returns the extents and the offset after
    /// the indices.
    fn compact(&self) -> Result<(Vec<Extent>, usize)> {
        let bytes = self.contents.image.bytes;
        // Four bytes each up to a boundary of 32 bytes, then two if `h_advise` allows them, then
        // four.
        let first = ((32 - self.indices % 32) / 4 % 8).min(self.clusters);
        let two =
            if self.advice & COMPACTED_2B != 0 { (self.clusters - first) / 16 * 16 } else { 0 };
        let last = self.clusters - first - two;
        let mut extents = Vec::new();
        let mut at = self.indices;
        let mut cluster = 0;
        for (count, width) in [(first, 4), (two, 2), (last, 4)] {
            let members = if width == 4 { 2 } else { 16 };
            let mut left = count;
            while left > 0 {
                let used = members.min(left);
                let pack = on_disk::slice(bytes, at, width * members)?;
                self.pack(pack, members, used, cluster, &mut extents)?;
                // The pack is in the image, so its end is in it, too.
                at += pack.len();
                cluster += used;
                left -= used;
            }
        }
        // The last pack may be half full.
        Ok((extents, at))
    }

    /// Reads the first `used` of the `members` of a pack: their bits one after the other, then the
    /// block that they count from.
    fn pack(
        &self,
        pack: &[u8],
        members: usize,
        used: usize,
        cluster: usize,
        extents: &mut Vec<Extent>,
    ) -> Result<()> {
        let encoded = (pack.len() - 4) * 8 / members;
        let low = self.bits.max(12);
        let base: &U32 = on_disk::read_at(pack, pack.len() - 4)?;
        let is_big = self.advice & BIG_PCLUSTER != 0;
        // Without big clusters, the base is the block before the first extent of the pack.
        let mut blocks = u32::from(!is_big);
        for member in 0..used {
            let bit = encoded * member;
            let value: &U32 = on_disk::read_at(pack, bit / 8)?;
            let value = value.get() >> (bit % 8);
            let kind = (value.checked_shr(low).unwrap_or_default() & 3) as u8;
            let value = value & ((1 << low) - 1);
            let number = cluster + member;
            if kind == NOT_A_HEAD {
                if value & BLOCK_COUNT != 0 && is_big {
                    // The head counted as one block, unless it is in the pack before.
                    let count = value & !BLOCK_COUNT;
                    blocks = (blocks + count).saturating_sub(u32::from(member > 0));
                }
                count_blocks(extents, value, number, self.bits)?;
                continue;
            }
            let start = base.get().checked_add(blocks).context("an extent is outside of it")?;
            extents.push(self.extent(number, value as usize, kind, start)?);
            blocks += 1;
        }
        Ok(())
    }

    /// Makes the extent that begins `offset` bytes after the start of the cluster `cluster`, and at
    /// the block `start` of the image.
    fn extent(&self, cluster: usize, offset: usize, kind: u8, start: u32) -> Result<Extent> {
        // All clusters but the last are in the file, so the shift loses nothing.
        let from = (cluster << self.bits).checked_add(offset).context("an extent has no start")?;
        let (is_plain, second) = (kind == PLAIN, kind == SECOND_HEAD);
        Ok(Extent { from, is_plain, second, start, blocks: 1 })
    }

    fn decode(&self, extents: &[Extent], after: usize, take: Take<'_>) -> Result<()> {
        let image = self.contents.image;
        let starts_well = extents.first().is_some_and(|first| first.from == 0);
        ensure!(starts_well, "a file does not begin");
        for (index, extent) in extents.iter().enumerate() {
            let next = extents.get(index + 1);
            let end = next.map_or(self.size, |next| next.from);
            let length = end.checked_sub(extent.from).filter(|length| *length <= LONGEST);
            let length = length.context("extents are out of order")?;
            if next.is_none() && self.advice & FRAGMENT != 0 {
                let high = if self.is_full { u64::from(extent.start) << 32 } else { 0 };
                let from = u64::from(self.header.fragment.get()) | high;
                self.contents.fragment(from, length, take)?;
                continue;
            }
            let data = if next.is_none() && self.advice & INLINE_TAIL != 0 {
                image.slice(after, self.header.inline_size())?
            } else {
                image.slice(image.offset_of(extent.start)?, image.offset_of(extent.blocks)?)?
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
            take(on_disk::slice(data, from, first).context("a plain extent ends early")?)?;
            return take(data.get(..length - first).context("a plain extent ends early")?);
        }
        let algorithms = self.header.algorithms;
        let algorithm = if extent.second { algorithms >> 4 } else { algorithms & 15 };
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
    if value & BLOCK_COUNT != 0 && Some(last.from >> bits) == cluster.checked_sub(1) {
        last.blocks = value & !BLOCK_COUNT;
    }
    Ok(())
}
