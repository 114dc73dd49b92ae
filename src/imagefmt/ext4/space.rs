//! Blocks and inodes of an empty file system of mke2fs, which are taken in ascending order.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::imagefmt::ext4::structures::{
    BLOCK, EXTENT_MAX, Ext4Extent, Ext4Inode, Ext4Superblock, ExtentHeader, FIRST_INODE,
    GroupDescriptor, INODE, ROOT, SUPERBLOCK,
};

/// Consecutive blocks of the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockRun {
    /// First block.
    pub start: u32,
    /// Number of blocks.
    pub length: u16,
}

/// File system that is being filled. Only the bitmap of one group is in memory.
pub(super) struct Ext4Space {
    file: fs_err::File,
    superblock: Ext4Superblock,
    groups: Vec<GroupDescriptor>,
    /// Group of the next block, its bitmap, and the next block in it.
    group: usize,
    bitmap: Vec<u8>,
    next: u32,
    last_inode: u32,
}

impl Ext4Space {
    /// Opens the file system at `path`, and removes its `lost+found` and the content of its root.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = fs_err::OpenOptions::new().read(true).write(true).open(path)?;
        let mut superblock = Ext4Superblock::new_zeroed();
        file.file().read_exact_at(superblock.as_mut_bytes(), SUPERBLOCK)?;
        let count = superblock.blocks.get().div_ceil(superblock.blocks_per_group.get().max(1));
        let mut groups = vec![GroupDescriptor::new_zeroed(); count as usize];
        file.file().read_exact_at(groups.as_mut_bytes(), BLOCK as u64)?;
        let mut space =
            Self { file, superblock, groups, group: 0, bitmap: Vec::new(), next: 0, last_inode: 0 };
        space.last_inode = FIRST_INODE - 1;
        for inode in [ROOT, FIRST_INODE] {
            space.remove_content(inode)?;
        }
        // The root directory remains, without its content.
        space.descriptor(0)?.directories -= 1;
        space.bitmap = space.read_bitmap(0)?;
        Ok(space)
    }

    /// Frees the blocks of a directory of mke2fs, whose extents are all in its inode.
    fn remove_content(&mut self, inode: u32) -> Result<()> {
        let mut read = Ext4Inode::new_zeroed();
        self.file.file().read_exact_at(read.as_mut_bytes(), self.inode_offset(inode)?)?;
        let (header, extents) = read.map.split_at(size_of::<ExtentHeader>());
        let header = ExtentHeader::ref_from_bytes(header).ok().context("no header")?;
        let extents = <[Ext4Extent]>::ref_from_bytes(extents).ok().context("no extents")?;
        ensure!(header.depth == 0, "mke2fs gave inode {inode} a tree of extents");
        for extent in extents.iter().take(header.entries.get().into()) {
            for block in extent.start.get()..extent.start.get() + u32::from(extent.length.get()) {
                self.free(block)?;
            }
        }
        Ok(())
    }

    fn free(&mut self, block: u32) -> Result<()> {
        let per_group = self.superblock.blocks_per_group.get();
        let (group, bit) = ((block / per_group) as usize, block % per_group);
        let mut bitmap = self.read_bitmap(group)?;
        *bitmap.get_mut(bit as usize / 8).context("a bitmap is short")? &= !(1 << (bit % 8));
        self.write_bitmap(group, &bitmap)?;
        self.superblock.free_blocks += 1;
        self.descriptor(group)?.free_blocks += 1;
        Ok(())
    }

    fn descriptor(&mut self, group: usize) -> Result<&mut GroupDescriptor> {
        self.groups.get_mut(group).context("the image has too few groups")
    }

    fn read_bitmap(&self, group: usize) -> Result<Vec<u8>> {
        let descriptor = self.groups.get(group).context("the image has too few blocks")?;
        let mut bitmap = vec![0; BLOCK];
        let offset = block_offset(descriptor.block_bitmap.get());
        self.file.file().read_exact_at(&mut bitmap, offset)?;
        Ok(bitmap)
    }

    fn write_bitmap(&mut self, group: usize, bitmap: &[u8]) -> Result<()> {
        let block = self.descriptor(group)?.block_bitmap.get();
        self.write_at(block_offset(block), bitmap)
    }

    /// Takes consecutive blocks: as many as `wanted`, or fewer.
    pub(super) fn take(&mut self, wanted: u32) -> Result<BlockRun> {
        let per_group = self.superblock.blocks_per_group.get();
        loop {
            if let Some(first) = self.next_free(per_group) {
                let most = wanted.min(EXTENT_MAX.into()).min(per_group - first);
                let length = (first..first + most).take_while(|bit| self.is_free(*bit)).count();
                let length = u16::try_from(length)?;
                for bit in first..first + u32::from(length) {
                    if let Some(byte) = self.bitmap.get_mut(bit as usize / 8) {
                        *byte |= 1 << (bit % 8);
                    }
                }
                self.next = first + u32::from(length);
                self.superblock.free_blocks -= u32::from(length);
                self.descriptor(self.group)?.free_blocks -= length;
                return Ok(BlockRun {
                    start: u32::try_from(self.group)? * per_group + first,
                    length,
                });
            }
            self.write_bitmap(self.group, &self.bitmap.clone())?;
            self.group += 1;
            self.next = 0;
            self.bitmap = self.read_bitmap(self.group)?;
        }
    }

    fn next_free(&self, end: u32) -> Option<u32> {
        (self.next..end).find(|bit| self.is_free(*bit))
    }

    fn is_free(&self, bit: u32) -> bool {
        self.bitmap.get(bit as usize / 8).is_some_and(|byte| byte & 1 << (bit % 8) == 0)
    }

    /// Takes the next inode and returns its number.
    pub(super) fn take_inode(&mut self) -> u32 {
        self.last_inode += 1;
        self.last_inode
    }

    fn inode_offset(&self, inode: u32) -> Result<u64> {
        let per_group = self.superblock.inodes_per_group.get().max(1);
        let group = self.groups.get(((inode - 1) / per_group) as usize);
        let table = group.context("the image has too few inodes")?.inode_table.get();
        Ok(block_offset(table) + u64::from((inode - 1) % per_group) * INODE as u64)
    }

    /// Writes the inode with this number.
    pub(super) fn write_inode(&mut self, number: u32, inode: &Ext4Inode) -> Result<()> {
        self.write_at(self.inode_offset(number)?, inode.as_bytes())
    }

    /// Counts the inode `number` as that of a directory.
    pub(super) fn count_directory(&mut self, number: u32) -> Result<()> {
        let group = (number - 1) / self.superblock.inodes_per_group.get().max(1);
        self.descriptor(group as usize)?.directories += 1;
        Ok(())
    }

    /// Writes `bytes` from the block `block` on.
    pub(super) fn write_blocks(&self, block: u32, bytes: &[u8]) -> Result<()> {
        self.write_at(block_offset(block), bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.file().write_all_at(bytes, offset);
        written.context("could not write the image")
    }

    /// Writes the bitmaps, the counts and the time `epoch`, with all copies.
    pub(super) fn finish(mut self, epoch: u64) -> Result<()> {
        self.write_bitmap(self.group, &self.bitmap.clone())?;
        self.write_inode_bitmaps()?;
        let [low @ .., high, _, _, _] = epoch.to_le_bytes();
        let superblock = &mut self.superblock;
        for time in
            [&mut superblock.write_time, &mut superblock.check_time, &mut superblock.make_time]
        {
            *time = U32::from_bytes(low);
        }
        superblock.high_times = [high, 0, high, high];
        // Otherwise it depends on the machine (mke2fs, `signed_directory_hash`).
        superblock.flags = U32::new(1);
        for group in 0..u16::try_from(self.groups.len())? {
            if !has_copy(group) {
                continue;
            }
            let first = u32::from(group) * self.superblock.blocks_per_group.get();
            let at = if group == 0 { SUPERBLOCK } else { block_offset(first) };
            self.superblock.group = group.into();
            self.write_at(at, self.superblock.as_bytes())?;
            self.write_blocks(first + 1, self.groups.as_bytes())?;
        }
        Ok(())
    }

    /// Inodes are taken in ascending order: all up to the last one are in use, and no others.
    fn write_inode_bitmaps(&mut self) -> Result<()> {
        let per_group = self.superblock.inodes_per_group.get();
        let mut free = 0;
        let mut before = 0;
        for group in 0..self.groups.len() {
            let used = self.last_inode.saturating_sub(before).min(per_group);
            before += per_group;
            free += per_group - used;
            let mut bitmap = vec![0xff; BLOCK];
            for bit in used..per_group {
                if let Some(byte) = bitmap.get_mut(bit as usize / 8) {
                    *byte &= !(1 << (bit % 8));
                }
            }
            let descriptor = self.descriptor(group)?;
            descriptor.free_inodes = u16::try_from(per_group - used)?.into();
            let block = descriptor.inode_bitmap.get();
            self.write_blocks(block, &bitmap)?;
        }
        self.superblock.free_inodes = free.into();
        Ok(())
    }
}

fn block_offset(block: u32) -> u64 {
    u64::from(block) * BLOCK as u64
}

/// Returns whether a group has a copy of the superblock and of the descriptors: the first two, and
/// powers of 3, 5 and 7 (`sparse_super`).
fn has_copy(group: u16) -> bool {
    let is_power = |base: u16| {
        let mut rest = group;
        while rest > 1 && rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group < 2 || [3, 5, 7].into_iter().any(is_power)
}
