//! Writes a plan as an image, in each format, and reads it back.

use std::path::Path;

use anyhow::{Context, Result};

use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::tar_stream;
use crate::host::tools;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::ddi;
use crate::imagefmt::ddi::verity::{self, Signing};
use crate::imagefmt::format::{Format, FormatKind};
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::{btrfs, directory, erofs, ext4, squashfs};

/// Name of the tree in a workplace from which an image is written, or to which it is unpacked.
const TREE: &str = ".tree";

/// Name of the directory in a workplace for the parts of a DDI.
const PARTS: &str = ".parts";

/// Input of an image, besides its format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageInput<'a> {
    /// Contents of the image.
    pub tree: &'a FileTree,
    /// Architecture of its programs.
    pub architecture: Option<Architecture>,
    /// Key and certificate, for a format that can be signed.
    pub signing: Option<&'a Signing>,
}

/// Fails if the machine cannot write `format`; the error is more useful before the work than after.
pub(crate) fn ready(format: Format) -> Result<()> {
    if format.kind() == FormatKind::Btrfs {
        tools::MKFS_BTRFS.require()?;
    }
    Ok(())
}

/// Writes `input` in `format` under the name `name` of the workplace.
pub(crate) fn write(
    input: ImageInput<'_>,
    format: Format,
    workplace: &Workplace,
    name: &str,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let ImageInput { tree: plan, .. } = input;
    let output = workplace.path(name);
    match format.kind() {
        FormatKind::Squashfs => squashfs::write(plan, format, &output, progress),
        FormatKind::Ddi => write_ddi(input, format, &workplace.path(PARTS), &output, progress),
        FormatKind::Erofs | FormatKind::ErofsTight => {
            erofs::write(plan, format, &output, &workplace.path(TREE), progress)
        }
        FormatKind::Btrfs => btrfs::write(plan, format, &output, &workplace.path(TREE), progress),
        FormatKind::Ext4 => ext4::write(plan, &output, &workplace.path(TREE), progress),
        FormatKind::Directory => directory::write(plan, &output, progress),
        FormatKind::Tar => {
            let mut file = std::io::BufWriter::new(fs_err::File::create(&output)?);
            tar_stream::write_tar_with_root(plan, &mut file, progress)?;
            file.into_inner().context("could not write the archive")?;
            Ok(())
        }
    }
}

fn write_ddi(
    input: ImageInput<'_>,
    format: Format,
    dir: &Path,
    output: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let architecture = input.architecture.context(
        "a DDI has partitions for an architecture, and no program says which one; name it with \
         --architecture",
    )?;
    fs_err::create_dir(dir)?;
    let (data, hashes) = (dir.join(ddi::DATA), dir.join(ddi::HASHES));
    squashfs::write(input.tree, format, &data, progress)?;
    let root = verity::write(input.tree, &data, &hashes)?;
    let signature = input.signing.map(|signing| signing.sign(root, dir)).transpose()?;
    let parts = ddi::Parts { data: &data, hashes: &hashes, signature, root };
    ddi::write(input.tree, architecture, &parts, output)?;
    crate::base::files::remove(dir)
}

/// Unpacks the written image and compares it with `plan`.
pub(crate) fn verify(
    plan: &FileTree,
    format: Format,
    workplace: &Workplace,
    name: &str,
) -> Result<()> {
    let image = workplace.path(name);
    let dir = workplace.path(TREE);
    let differences = match format.kind() {
        FormatKind::Squashfs => squashfs::differences(plan, &image, &dir)?,
        FormatKind::Ddi => {
            let parts = workplace.path(PARTS);
            let root = ddi::take_apart(&image, &parts)?;
            verity::verify(&parts.join(ddi::DATA), &parts.join(ddi::HASHES), root)?;
            let differences = squashfs::differences(plan, &parts.join(ddi::DATA), &dir)?;
            crate::base::files::remove(&parts)?;
            differences
        }
        FormatKind::Erofs | FormatKind::ErofsTight => erofs::differences(plan, &image, &dir)?,
        FormatKind::Btrfs => btrfs::differences(plan, &image, &dir)?,
        FormatKind::Ext4 => ext4::differences(plan, &image, &dir)?,
        FormatKind::Directory => compare::compare_unpacked(plan, &image, Keeps::ALL)?,
        FormatKind::Tar => {
            directory::unpack(&image, &dir)?;
            compare::compare_unpacked(plan, &dir, Keeps::ALL)?
        }
    };
    crate::base::files::remove(&dir)?;
    compare::require_equal(&differences)
}
