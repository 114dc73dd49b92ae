//! A plan as a tree on disk: the format `directory`, what tools read that take no stream, and
//! what images are unpacked to.

use std::path::Path;

use anyhow::{Result, bail};

use super::as_root;
use super::plan::Plan;
use super::stream;
use crate::machine;

/// Writes `plan` as a tree into the directory `dir`, which it makes. An ordinary user owns what
/// is in it, and a tool that is run through [`as_root`] sees it as root's.
pub fn write(plan: &Plan, dir: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    if !machine::is_root() && !plan.is_all_root() {
        let (path, entry) = plan.first_not_of_root();
        bail!(
            "/{} belongs to the user {} and the group {}: only root can write that to disk",
            path.display(),
            entry.0,
            entry.1
        );
    }
    fs_err::create_dir(dir)?;
    untar(dir)?.run_fed(|input| stream::write_all(plan, input, progress))
}

/// Unpacks the tar archive `archive` into the new directory `dir`.
pub fn unpack(archive: &Path, dir: &Path) -> Result<()> {
    fs_err::create_dir(dir)?;
    untar(dir)?.arg("--file").arg(archive).run_quiet()
}

fn untar(dir: &Path) -> Result<crate::command::Command> {
    Ok(as_root::command("unpack the extension", "tar", "tar")?
        .args(["--extract", "--preserve-permissions", "--same-owner", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*", "--delay-directory-restore", "--directory"])
        .arg(dir))
}
