//! ext4 images, written by mke2fs and debugfs of e2fsprogs: without root and without loop devices.
//!
//! `mke2fs -d` would copy the access and change times from the disk. debugfs writes exactly the
//! entries that it is given, in the given order, with the time in `E2FSPROGS_FAKE_TIME`.

mod debugfs;
mod read;
mod write;

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
        &[tools::MKE2FS, tools::DEBUGFS]
    }

    fn magic(&self) -> Option<Magic> {
        Some(MAGIC)
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        _: Compression,
        output: &Path,
        scratch: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        write::write(input.tree, output, scratch, progress)
    }

    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>> {
        read::differences(planned, image, scratch)
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        read::read(image, found)
    }
}
