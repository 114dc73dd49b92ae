//! Structures of an erofs image (Linux, `fs/erofs/erofs_fs.h`).

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `erofs_super_block`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ErofsSuperblock {
    pub magic: U32,
    pub checksum: U32,
    pub feature_compat: U32,
    /// Logarithm of the size of a block in bytes.
    pub block_bits: u8,
    pub extension_slots: u8,
    /// Number of the root directory's inode.
    pub root: U16,
    pub inodes: U64,
    /// Time of all compact inodes, in seconds since 1970.
    pub build_time: U64,
    pub build_time_nanoseconds: U32,
    pub blocks: U32,
    /// First block of the inodes.
    pub inodes_block: U32,
    pub xattrs_block: U32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: U32,
    pub compression_algorithms: U16,
    pub extra_devices: U16,
    pub device_table_slot: U16,
    pub directory_block_bits: u8,
    pub xattr_prefixes: u8,
    pub xattr_prefixes_start: U32,
    /// Number of the inode that holds the ends of files.
    pub packed: U64,
    pub reserved: [u8; 24],
}

/// `erofs_inode_compact`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct CompactInode {
    /// Lowest bit: the form of the inode; the next three: the layout of its data.
    pub format: U16,
    /// Number of slots for extended attributes, with one for their header; or 0.
    pub xattr_slots: U16,
    pub mode: U16,
    pub links: U16,
    pub size: U32,
    pub reserved: U32,
    pub block: U32,
    pub number: U32,
    pub uid: U16,
    pub gid: U16,
    pub reserved_2: U32,
}

/// `erofs_inode_extended`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ExtendedInode {
    pub format: U16,
    pub xattr_slots: U16,
    pub mode: U16,
    pub reserved: U16,
    pub size: U64,
    pub block: U32,
    pub number: U32,
    pub uid: U32,
    pub gid: U32,
    pub mtime: U64,
    pub mtime_nanoseconds: U32,
    pub links: U32,
    pub reserved_2: [u8; 16],
}

/// `erofs_dirent`. The entries of a directory's block come first, then their names.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DirectoryEntry {
    /// Number of the inode.
    pub inode: U64,
    /// Offset of the name in the block.
    pub name: U16,
    pub kind: u8,
    pub reserved: u8,
}

/// `z_erofs_map_header`, before the indices of a compressed file.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct MapHeader {
    /// Offset of the file's end in the packed inode. Its upper half is the size of an end that is
    /// beside the inode.
    pub fragment: U32,
    /// Flags of the map.
    pub advice: U16,
    /// Algorithms, four bits for either kind of head.
    pub algorithms: u8,
    /// Lowest three bits: the logarithm of the size of a cluster, in blocks. Highest bit: all
    /// content is in the packed inode.
    pub cluster_bits: u8,
}

impl MapHeader {
    /// Returns the size of the last extent, which is beside the inode.
    pub(super) fn inline_size(&self) -> usize {
        (self.fragment.get() >> 16) as usize
    }
}

/// `z_erofs_lcluster_index`, a full index.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FullIndex {
    /// Lowest two bits: the type of the cluster.
    pub advice: U16,
    /// Offset of the extent's start in the cluster.
    pub offset: U16,
    /// First block; if the cluster is no head, the distances to the heads before and after it.
    pub value: U32,
}
