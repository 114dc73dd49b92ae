//! Structures of an ext4 image (Linux, `fs/ext4/ext4.h`, `ext4_extents.h` and `xattr.h`).

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Offset of the superblock.
pub(super) const SUPERBLOCK: u64 = 1024;
/// Size of a block of images that fprefix writes, in bytes.
pub(super) const BLOCK: usize = 4096;
/// Size of their inodes.
pub(super) const INODE: usize = 256;
/// Number of the root directory's inode.
pub(super) const ROOT: u32 = 2;
/// First inode that is not reserved. mke2fs uses it for `lost+found`.
pub(super) const FIRST_INODE: u32 = 11;
/// Bytes that follow the inode of the first revision (`i_extra_isize`).
pub(super) const EXTRA: u16 = 32;
/// Bytes of a link's target that its inode holds; one more is a NUL.
pub(super) const SHORT_LINK: usize = 59;

/// Bits of `i_mode`.
pub(super) const TYPE: u16 = 0o170_000;
pub(super) const DIRECTORY: u16 = 0o040_000;
pub(super) const FILE: u16 = 0o100_000;
pub(super) const LINK: u16 = 0o120_000;
pub(super) const CHARACTER_DEVICE: u16 = 0o020_000;
/// `EXT4_EXTENTS_FL`: extents, and no list of blocks.
pub(super) const EXTENTS: u32 = 0x8_0000;

/// Features of images that fprefix writes. Readers must know the incompatible ones: `filetype`,
/// `extents` and `flex_bg`. The compatible journal and the read-only `metadata_csum`, among others,
/// add to what writers have to do.
pub(super) const INCOMPAT: u32 = 0x2 | 0x40 | 0x200;
pub(super) const COMPAT: u32 = 0x8 | 0x20;
pub(super) const RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40;

/// `ext4_super_block`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Ext4Superblock {
    pub inodes: U32,
    pub blocks: U32,
    pub reserved_blocks: U32,
    pub free_blocks: U32,
    pub free_inodes: U32,
    pub first_data_block: U32,
    /// Logarithm of the size of a block, in units of 1024 bytes.
    pub log_block_size: U32,
    pub log_cluster_size: U32,
    pub blocks_per_group: U32,
    pub clusters_per_group: U32,
    pub inodes_per_group: U32,
    pub mount_time: U32,
    pub write_time: U32,
    pub mounts: [U16; 2],
    pub magic: U16,
    pub state: [U16; 3],
    pub check_time: U32,
    pub others: [U32; 4],
    pub first_inode: U32,
    pub inode_size: U16,
    /// Number of the group that holds this copy.
    pub group: U16,
    pub compat: U32,
    pub incompat: U32,
    pub ro_compat: U32,
    pub names: [u8; 0x108 - 0x68],
    pub make_time: U32,
    pub journal_copy: [U32; 17],
    pub blocks_high: U32,
    pub others_2: [U32; 3],
    /// Lowest bit: hashes of names take their bytes as signed.
    pub flags: U32,
    pub others_3: [u8; 0x274 - 0x164],
    /// Bits 32 to 39 of the times: written, mounted, made, checked.
    pub high_times: [u8; 4],
    pub others_4: [u8; 0x400 - 0x278],
}

/// `ext4_group_desc` of a file system without 64-bit block numbers.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct GroupDescriptor {
    pub block_bitmap: U32,
    pub inode_bitmap: U32,
    pub inode_table: U32,
    pub free_blocks: U16,
    pub free_inodes: U16,
    pub directories: U16,
    pub others: [u8; 14],
}

/// `ext4_inode`, and the rest of its 256 bytes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Ext4Inode {
    pub mode: U16,
    pub uid: U16,
    pub size: U32,
    pub access_time: U32,
    pub change_time: U32,
    pub time: U32,
    pub deletion_time: U32,
    pub gid: U16,
    pub links: U16,
    /// Number of its blocks, in units of 512 bytes.
    pub sectors: U32,
    pub flags: U32,
    pub version: U32,
    /// Root of the tree of extents, or the target of a short link.
    pub map: [u8; 60],
    pub generation: U32,
    /// Block of extended attributes, or 0.
    pub xattrs: U32,
    pub size_high: U32,
    pub fragment: U32,
    pub sectors_high: U16,
    pub xattrs_high: U16,
    pub uid_high: U16,
    pub gid_high: U16,
    pub checksum: U32,
    pub extra: U16,
    pub checksum_high: U16,
    /// Bits 32 and 33 of the times, below the nanoseconds.
    pub change_time_extra: U32,
    pub time_extra: U32,
    pub access_time_extra: U32,
    pub creation_time: U32,
    pub creation_time_extra: U32,
    pub version_high: U32,
    pub project: U32,
    /// Magic number and extended attributes. fprefix writes them to a block.
    pub xattrs_inside: [u8; INODE - 128 - EXTRA as usize],
}

/// `ext4_extent_header`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ExtentHeader {
    pub magic: U16,
    pub entries: U16,
    pub max: U16,
    /// Levels below this one; 0 for one of extents.
    pub depth: U16,
    pub generation: U32,
}

/// Magic number of an extent header.
pub(super) const EXTENT_MAGIC: u16 = 0xf30a;
/// Longest extent, in blocks. Above are extents that are not written yet.
pub(super) const EXTENT_MAX: u16 = 1 << 15;

/// `ext4_extent`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Ext4Extent {
    /// First block of the file.
    pub logical: U32,
    pub length: U16,
    pub start_high: U16,
    /// First block of the image.
    pub start: U32,
}

/// `ext4_extent_idx`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ExtentIndex {
    pub logical: U32,
    /// Block of the next level.
    pub leaf: U32,
    pub leaf_high: U16,
    pub unused: U16,
}

/// `ext4_dir_entry_2` without the name that follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Ext4DirectoryEntry {
    /// 0 for space that is free.
    pub inode: U32,
    /// Offset of the next entry from this one.
    pub length: U16,
    pub name_length: u8,
    pub kind: u8,
}

/// `ext4_xattr_header`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Ext4XattrHeader {
    pub magic: U32,
    /// Number of inodes that share the block.
    pub references: U32,
    pub blocks: U32,
    pub hash: U32,
    pub checksum: U32,
    pub reserved: [U32; 3],
}

/// Magic number of a block of extended attributes.
pub(super) const XATTR_MAGIC: u32 = 0xea02_0000;

/// `ext4_xattr_entry` without the name that follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Ext4XattrEntry {
    pub name_length: u8,
    /// Prefix that the name lacks.
    pub index: u8,
    /// Offset of the value in the block.
    pub offset: U16,
    pub inode: U32,
    pub size: U32,
    pub hash: U32,
}
