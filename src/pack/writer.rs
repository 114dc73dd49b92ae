//! A plan as bytes, in each format, and back again.

use anyhow::{Context, Result};

use super::compare::{self, Keeps};
use super::format::{Format, FormatKind};
use super::plan::Plan;
use super::workplace::Workplace;
use super::{erofs, squashfs, stream, tree};

/// The name of the tree in a workplace that is written from, or unpacked to.
const TREE: &str = ".tree";

/// Writes `plan` in `format` under the name `name` of the workplace.
pub fn write(
    plan: &Plan,
    format: Format,
    workplace: &Workplace,
    name: &str,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let output = workplace.path(name);
    match format.kind() {
        FormatKind::Squashfs => squashfs::write(plan, format, &output, progress),
        FormatKind::Erofs | FormatKind::ErofsTight => {
            erofs::write(plan, format, &output, &workplace.path(TREE), progress)
        }
        FormatKind::Directory => tree::write(plan, &output, progress),
        FormatKind::Tar => {
            let mut file = std::io::BufWriter::new(fs_err::File::create(&output)?);
            stream::write_all(plan, &mut file, progress)?;
            file.into_inner().context("could not write the archive")?;
            Ok(())
        }
    }
}

/// Unpacks what was written and compares it with `plan`.
pub fn verify(plan: &Plan, format: Format, workplace: &Workplace, name: &str) -> Result<()> {
    let image = workplace.path(name);
    let dir = workplace.path(TREE);
    let differences = match format.kind() {
        FormatKind::Squashfs => {
            squashfs::unpack(&image, &dir)?;
            compare::with_tree(plan, &dir, Keeps::ALL)?
        }
        FormatKind::Erofs | FormatKind::ErofsTight => {
            erofs::unpack(&image, &dir)?;
            let keeps = Keeps { hard_links: false, xattrs: false, special_bits: false };
            let mut differences = compare::with_tree(plan, &dir, keeps)?;
            differences.extend(erofs::inodes(plan, &image)?);
            differences
        }
        FormatKind::Directory => compare::with_tree(plan, &image, Keeps::ALL)?,
        FormatKind::Tar => {
            tree::unpack(&image, &dir)?;
            compare::with_tree(plan, &dir, Keeps::ALL)?
        }
    };
    crate::tree::remove(&dir)?;
    compare::judge(&differences)
}
