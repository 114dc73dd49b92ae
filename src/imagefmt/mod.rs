//! Image formats: writing a file tree as an image, and reading an image back.
//!
//! Nothing in this module depends on what makes an image an extension.

pub(crate) mod architecture;
pub(crate) mod btrfs;
pub(crate) mod compression;
pub(crate) mod ddi;
pub(crate) mod directory;
pub(crate) mod erofs;
pub(crate) mod ext4;
pub(crate) mod format;
pub(crate) mod image_format;
pub(crate) mod inspect;
pub(crate) mod on_disk;
pub(crate) mod registry;
#[cfg(test)]
mod samples;
pub(crate) mod signing;
pub(crate) mod squashfs;
pub(crate) mod tar;
pub(crate) mod workplace;
pub(crate) mod writer;
