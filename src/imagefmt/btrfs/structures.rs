//! Structures of a btrfs image (Linux, `include/uapi/linux/btrfs_tree.h`), up to the last field
//! that is used.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `btrfs_super_block`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct BtrfsSuperblock {
    pub checksum: [u8; 32],
    pub filesystem: [u8; 16],
    pub address: U64,
    pub flags: U64,
    pub magic: [u8; 8],
    pub generation: U64,
    /// Logical address of the root of the tree of roots.
    pub root: U64,
    pub chunk_root: U64,
    pub log_root: U64,
    pub log_root_generation: U64,
    pub total_bytes: U64,
    pub bytes_used: U64,
    pub root_directory: U64,
    pub devices: U64,
    pub sector_size: U32,
    /// Size of a block of a tree, in bytes.
    pub node_size: U32,
}

/// `btrfs_header`, at the start of each block of a tree.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct NodeHeader {
    /// Checksum of the rest of the block. Its first four bytes are used.
    pub checksum: U32,
    pub checksum_rest: [u8; 28],
    pub filesystem: [u8; 16],
    /// Logical address of the block.
    pub address: U64,
    pub flags: U64,
    pub chunk_tree: [u8; 16],
    pub generation: U64,
    pub owner: U64,
    pub items: U32,
    /// 0 for a leaf, which has items.
    pub level: u8,
}

/// `btrfs_item` of a leaf.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct LeafItem {
    pub object: U64,
    pub kind: u8,
    pub key_offset: U64,
    /// Offset of the data, after the header.
    pub offset: U32,
    pub size: U32,
}

/// `btrfs_root_item`, which begins with a `btrfs_inode_item`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RootItem {
    pub inode_start: [u8; 64],
    pub inode_flags: U64,
    pub inode_rest: [u8; 88],
    pub generation: U64,
    pub root_directory: U64,
    pub address: U64,
    pub byte_limit: U64,
    pub bytes_used: U64,
    pub last_snapshot: U64,
    pub flags: U64,
}
