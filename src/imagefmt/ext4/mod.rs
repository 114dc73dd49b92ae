//! ext4 images: mke2fs of e2fsprogs makes an empty file system, and this module fills it, without root
//! and without loop devices.
//!
//! `mke2fs -d` would copy owners and times from the disk. It and debugfs search the whole directory for
//! each entry that they add, so a directory of 60,000 files takes them minutes.

mod content;
mod directory;
mod plain;
pub(crate) mod read;
mod space;
mod structures;
mod write;
mod xattrs;

use std::path::Path;

use anyhow::Result;

use crate::fstree::entries::FileTree;
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::Compression;
use crate::imagefmt::image_format::{ImageFormat, ImageInput, Magic};

/// ext4 without a journal.
pub(crate) struct Ext4Image;

/// The format.
pub(crate) static FORMAT: Ext4Image = Ext4Image;

/// Magic number, `s_magic` of the superblock (Linux, `fs/ext4/ext4.h`).
const MAGIC: Magic = Magic { offset: 1024 + 56, bytes: &0xef53_u16.to_le_bytes() };

impl ImageFormat for Ext4Image {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn tools(&self) -> &'static [ExternalTool] {
        &[tools::MKE2FS]
    }

    fn magic(&self) -> Option<Magic> {
        Some(MAGIC)
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        _: Compression,
        output: &Path,
        _: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        write::write(input.tree, output, progress)
    }

    fn differences(&self, planned: &FileTree, image: &Path, _: &Path) -> Result<Vec<String>> {
        read::differences(planned, image)
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        read::read(image, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstree::compare::{self, Keeps};
    use crate::imagefmt::samples;

    #[test]
    fn an_image_is_read() {
        let planned = samples::tree();
        let found = samples::read(&FORMAT, &samples::image("ext4")).unwrap();
        let mut found =
            FileTree { epoch: planned.epoch, eprefix: planned.eprefix.clone(), ..found };
        found.take_root().unwrap();
        assert!(compare::compare_trees(&planned, &found, Keeps::ALL).is_empty());
    }

    #[test]
    fn damaged_images_are_errors_or_other_trees() {
        let whole = samples::image("ext4");
        let mut refused = 0;
        samples::damage(&whole, 60, |bytes| {
            refused += usize::from(samples::read(&FORMAT, bytes).is_err());
        });
        assert!(refused > 4, "{refused}");
    }

    /// The other reader searches for each path, and knows neither hard links nor attributes.
    #[test]
    fn both_readers_find_the_same() {
        let whole = samples::image("ext4");
        let found = samples::read(&FORMAT, &whole).unwrap();
        let mut other = whole;
        // s_feature_compat: a directory has blocks ahead.
        other[1024 + 0x5c] |= 1;
        let searched = samples::read(&FORMAT, &other).unwrap();
        let keeps = Keeps { hard_links: false, xattrs: false, special_bits: true };
        assert_eq!(compare::compare_trees(&found, &searched, keeps), Vec::<String>::new());
        assert!(found.entries.len() > 20);
    }

    #[test]
    fn numbers_that_take_memory_are_errors() {
        let whole = samples::image("ext4");
        // s_log_block_size, s_blocks_per_group, s_blocks_count_hi.
        for (offset, value, part) in [
            (0x18, 20_u32, "it has blocks of 2^30 bytes"),
            (0x18, u32::MAX, "it has blocks of 2^4294967305 bytes"),
            (0x20, 0, "blocks per group is zero"),
            (0x150, 0x100, "groups of blocks, more than its descriptors"),
        ] {
            let mut bytes = whole.clone();
            bytes[1024 + offset..][..4].copy_from_slice(&value.to_le_bytes());
            let error = samples::read(&FORMAT, &bytes).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{offset:#x}: {error:#}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_errors() {
        let whole = samples::image("ext4");
        for name in samples::HOSTILE {
            assert!(samples::read(&FORMAT, &samples::renamed(&whole, name)).is_err(), "{name:?}");
        }
        assert!(samples::read(&FORMAT, &samples::renamed(&whole, "someother")).is_ok());
    }
}
