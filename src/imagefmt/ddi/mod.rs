//! A DDI: a disk image with partitions for the filesystem, its hashes and their signature. systemd
//! finds them by the partitions' types (Discoverable Partitions Specification,
//! <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>). fprefix
//! writes it without systemd-repart, which can do so only since version 255.

pub(crate) mod gpt;
mod hash_tree;
mod parts;
pub(crate) mod verity;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::scratch::ScratchDir;
use crate::fstree::entries::FileTree;
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::{Compression, Compressor, Levels};
use crate::imagefmt::ddi::parts::{DiskImage, DiskParts};
use crate::imagefmt::ddi::verity::VeritySignature;
use crate::imagefmt::image_format::{ImageFacts, ImageFormat, ImageInput, KernelNeed, Magic};
use crate::imagefmt::{erofs, squashfs};

/// Disk image with a squashfs and the hashes with which kernels verify it.
pub(crate) struct Ddi;

/// The format.
pub(crate) static FORMAT: Ddi = Ddi;

/// Format of the filesystem that is written.
static WRITTEN: &dyn ImageFormat = &squashfs::FORMAT;

/// Formats of filesystems that are read from disk images.
static FILESYSTEMS: &[&dyn ImageFormat] = &[&squashfs::FORMAT, &erofs::FORMAT];

/// Names of the files that the parts of an image are kept in.
const DATA: &str = "data";
const HASHES: &str = "hashes";

impl ImageFormat for Ddi {
    fn name(&self) -> &'static str {
        "ddi"
    }

    fn compressors(&self) -> &'static [(Compressor, Levels)] {
        WRITTEN.compressors()
    }

    fn tools(&self) -> &'static [ExternalTool] {
        &[tools::MKSQUASHFS, tools::VERITYSETUP]
    }

    fn can_be_signed(&self) -> bool {
        true
    }

    fn kernel(&self, compressor: Compressor, signed: bool) -> Option<KernelNeed> {
        // CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG came with 5.4.
        let need = KernelNeed { version: (5, 4), reason: "disk images with signed verity" };
        if signed { Some(need) } else { WRITTEN.kernel(compressor, signed) }
    }

    fn magic(&self) -> Option<Magic> {
        Some(gpt::MAGIC)
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        compression: Compression,
        output: &Path,
        scratch: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let architecture = input.architecture.context(
            "a DDI has partitions for an architecture, and no program says which one; name it \
             with --architecture",
        )?;
        fs_err::create_dir(scratch)?;
        let (data, hashes) = (scratch.join(DATA), scratch.join(HASHES));
        WRITTEN.write(input, compression, &data, &scratch.join("tree"), progress)?;
        let root = verity::write(input.tree, &data, &hashes)?;
        let signature = input.signing.map(|signing| {
            let signature = VeritySignature::make(signing, root, scratch)?;
            anyhow::Ok(serde_json::to_vec(&signature)?)
        });
        let signature = signature.transpose()?;
        let parts = DiskParts { data: &data, hashes: &hashes, signature, root };
        parts::write(input.tree, architecture, &parts, output)
    }

    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>> {
        fs_err::create_dir(scratch)?;
        let (data, hashes) = (scratch.join(DATA), scratch.join(HASHES));
        let mut disk = DiskImage::open(image)?;
        disk.copy_data(&data)?;
        let root = disk.copy_hashes(&hashes)?;
        let root = root.with_context(|| format!("{} has no hashes", image.escaped()))?;
        verity::verify(&data, &hashes, root)?;
        WRITTEN.differences(planned, &data, &scratch.join("tree"))
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        with_filesystem(image, |_, filesystem, data| filesystem.read(data, found))
    }

    fn overlay_mark(&self, image: &Path) -> Result<Option<String>> {
        with_filesystem(image, |_, filesystem, data| filesystem.overlay_mark(data))
    }

    fn paths(&self, image: &Path, below: &Path) -> Result<Vec<PathBuf>> {
        with_filesystem(image, |_, filesystem, data| filesystem.paths(data, below))
    }

    fn facts(&self, image: &Path) -> Result<ImageFacts> {
        with_filesystem(image, |disk, filesystem, data| {
            Ok(ImageFacts { signed: disk.is_signed(), ..filesystem.facts(data)? })
        })
    }

    fn verify(&self, image: &Path, certificate: Option<&Path>) -> Result<()> {
        let dir = ScratchDir::new()?;
        let (data, hashes) = (dir.path().join(DATA), dir.path().join(HASHES));
        let mut disk = DiskImage::open(image)?;
        disk.copy_data(&data)?;
        let root = disk.copy_hashes(&hashes)?;
        if let Some(root) = root {
            verity::verify_anew(&data, &hashes, root)?;
        }
        let Some(certificate) = certificate else { return Ok(()) };
        let signature = disk.signature()?.context("it is not signed")?;
        let root = root.context("it is signed, and has no hashes that the signature is about")?;
        VeritySignature::read(&signature)?.verify(root, certificate)
    }

    fn repack_obstacle(&self) -> Option<&'static str> {
        Some(
            "packing it anew would break its hashes and its signature; pack it with --format \
             ddi:none",
        )
    }
}

/// Copies the filesystem out of the disk image `image`, and passes it to `act` with its format.
fn with_filesystem<T>(
    image: &Path,
    act: impl FnOnce(&mut DiskImage, &'static dyn ImageFormat, &Path) -> Result<T>,
) -> Result<T> {
    let dir = ScratchDir::new()?;
    let data = dir.path().join(DATA);
    let mut disk = DiskImage::open(image)?;
    disk.copy_data(&data)?;
    let bytes = files::map(&data)?;
    let known = FILESYSTEMS.iter().find(|format| format.magic().is_some_and(|m| m.is_in(&bytes)));
    let filesystem = known.with_context(|| {
        let names: Vec<&str> = FILESYSTEMS.iter().map(|format| format.name()).collect();
        format!("the filesystem in {} is neither {}", image.escaped(), names.join(" nor "))
    })?;
    act(&mut disk, *filesystem, &data)
}
