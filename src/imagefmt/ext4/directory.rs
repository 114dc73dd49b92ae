//! Blocks of directories of an ext4 image.

use zerocopy::IntoBytes;

use crate::imagefmt::ext4::structures::{BLOCK, Ext4DirectoryEntry};

/// Kind of an entry (`EXT4_FT_*`).
#[derive(Clone, Copy, Debug)]
pub(super) enum NamedKind {
    File = 1,
    Directory = 2,
    Link = 7,
}

/// Blocks of a directory to which entries are added.
#[derive(Default)]
pub(super) struct DirectoryBlocks {
    bytes: Vec<u8>,
    /// Offset of the last entry.
    last: usize,
}

impl DirectoryBlocks {
    /// Makes the blocks of the directory `own` in `parent`.
    pub(super) fn new(own: u32, parent: u32) -> Self {
        let mut blocks = Self::default();
        blocks.add(b".", own, NamedKind::Directory);
        blocks.add(b"..", parent, NamedKind::Directory);
        blocks
    }

    /// Adds an entry, whose name has at most 255 bytes.
    pub(super) fn add(&mut self, name: &[u8], inode: u32, kind: NamedKind) {
        let length = size_of::<Ext4DirectoryEntry>() + name.len().next_multiple_of(4);
        if self.bytes.len() % BLOCK + length > BLOCK {
            self.end_block();
        }
        self.last = self.bytes.len();
        let entry = Ext4DirectoryEntry {
            inode: inode.into(),
            length: u16::try_from(length).unwrap_or(0).into(),
            name_length: u8::try_from(name.len()).unwrap_or(0),
            kind: kind as u8,
        };
        self.bytes.extend_from_slice(entry.as_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.resize(self.last + length, 0);
    }

    /// Lets the last entry end at the end of its block.
    fn end_block(&mut self) {
        let end = self.bytes.len().next_multiple_of(BLOCK);
        let length = u16::try_from(end - self.last).unwrap_or(0).to_le_bytes();
        if let Some(place) = self.bytes.get_mut(self.last + 4..self.last + 6) {
            place.copy_from_slice(&length);
        }
        self.bytes.resize(end, 0);
    }

    /// Returns the whole blocks.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.end_block();
        self.bytes
    }
}
