//! Content of files of an ext4 image, and the trees of extents that map it.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use zerocopy::IntoBytes;

use crate::fstree::entries::FileContent;
use crate::imagefmt::ext4::space::{BlockRun, Ext4Space};
use crate::imagefmt::ext4::structures::{
    BLOCK, EXTENT_MAGIC, EXTENT_MAX, Ext4Extent, ExtentHeader, ExtentIndex,
};

/// Bytes that are read at once. If all of them are zeros, they become a hole.
const PIECE: usize = 16 * BLOCK;
/// Extents or indexes in an inode, and in a block.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = BLOCK / size_of::<Ext4Extent>() - 1;

/// Place of the content of an inode.
pub(super) struct Mapped {
    /// Root of the tree of extents, for the inode.
    pub root: [u8; 60],
    /// Number of blocks, those of the tree among them.
    pub blocks: u64,
}

/// Returns the most blocks that the tree of extents of a file of `size` bytes takes. Its extents end
/// at holes, which have the length of a piece.
pub(super) fn tree_blocks(size: u64) -> u64 {
    if size <= (2 * IN_INODE * PIECE) as u64 { 0 } else { size.div_ceil(16 << 20) }
}

/// Extents of a file whose content is being written.
#[derive(Default)]
struct Extents {
    all: Vec<Ext4Extent>,
    blocks: u64,
}

impl Extents {
    /// Adds `run` at the block `logical` of the file.
    fn push(&mut self, logical: u32, run: BlockRun) {
        self.blocks += u64::from(run.length);
        if let Some(last) = self.all.last_mut() {
            let length = u32::from(last.length.get());
            let follows = last.logical.get() + length == logical
                && last.start.get() + length == run.start
                && length + u32::from(run.length) <= u32::from(EXTENT_MAX);
            if follows {
                last.length += run.length;
                return;
            }
        }
        self.all.push(Ext4Extent {
            logical: logical.into(),
            length: run.length.into(),
            start_high: 0.into(),
            start: run.start.into(),
        });
    }

    /// Writes `bytes` to new blocks, from the block `logical` of the file on.
    fn write(&mut self, space: &mut Ext4Space, mut logical: u32, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let run = space.take(u32::try_from(rest.len().div_ceil(BLOCK))?)?;
            let (now, later) = rest.split_at(rest.len().min(usize::from(run.length) * BLOCK));
            space.write_blocks(run.start, now)?;
            self.push(logical, run);
            logical += u32::from(run.length);
            rest = later;
        }
        Ok(())
    }

    /// Writes the levels of the tree that do not fit into the inode.
    fn finish(mut self, space: &mut Ext4Space) -> Result<Mapped> {
        let mut records: Vec<[u8; 12]> = self.all.iter().map(bytes_of).collect();
        let mut depth = 0;
        while records.len() > IN_INODE {
            let mut above = Vec::new();
            for level in records.chunks(IN_BLOCK) {
                let block = space.take(1)?;
                self.blocks += 1;
                let mut bytes = node(level, IN_BLOCK, depth)?;
                bytes.resize(BLOCK, 0);
                space.write_blocks(block.start, &bytes)?;
                let [a, b, c, d, ..] = *level.first().context("a level is empty")?;
                above.push(bytes_of(&ExtentIndex {
                    logical: u32::from_le_bytes([a, b, c, d]).into(),
                    leaf: block.start.into(),
                    leaf_high: 0.into(),
                    unused: 0.into(),
                }));
            }
            records = above;
            depth += 1;
        }
        let mut root = [0; 60];
        let bytes = node(&records, IN_INODE, depth)?;
        root.get_mut(..bytes.len()).context("a root is too long")?.copy_from_slice(&bytes);
        Ok(Mapped { root, blocks: self.blocks })
    }
}

fn bytes_of<T: IntoBytes + zerocopy::Immutable>(record: &T) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().zip(record.as_bytes()) {
        *to = *from;
    }
    bytes
}

/// Returns a node of a tree with `records` and room for `max`.
fn node(records: &[[u8; 12]], max: usize, depth: u16) -> Result<Vec<u8>> {
    let header = ExtentHeader {
        magic: EXTENT_MAGIC.into(),
        entries: u16::try_from(records.len())?.into(),
        max: u16::try_from(max)?.into(),
        depth: depth.into(),
        generation: 0.into(),
    };
    Ok([header.as_bytes(), records.as_flattened()].concat())
}

/// Writes `bytes`, which are not read from anywhere.
pub(super) fn write_bytes(space: &mut Ext4Space, bytes: &[u8]) -> Result<Mapped> {
    let mut extents = Extents::default();
    extents.write(space, 0, bytes)?;
    extents.finish(space)
}

/// Writes the content of a file.
pub(super) fn write_file(
    space: &mut Ext4Space,
    content: &FileContent,
    buffer: &mut Vec<u8>,
    progress: &dyn Fn(u64),
) -> Result<Mapped> {
    let mut extents = Extents::default();
    // One byte more than planned is enough to see a change.
    let mut source = content.source.open()?.take(content.size.saturating_add(1));
    let mut size = 0;
    loop {
        buffer.clear();
        source.by_ref().take(PIECE as u64).read_to_end(buffer)?;
        if buffer.is_empty() {
            break;
        }
        if buffer.iter().any(|byte| *byte != 0) {
            extents.write(space, u32::try_from(size / BLOCK as u64)?, buffer)?;
        }
        size += buffer.len() as u64;
        progress(buffer.len() as u64);
        ensure!(size <= content.size, "it was changed while it was packed");
    }
    ensure!(size == content.size, "it was changed while it was packed");
    extents.finish(space)
}
