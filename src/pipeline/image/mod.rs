//! Adds extension images to an OS root, and builds them for it.

mod build;
mod cleanup;
mod combined;
mod repack;
mod request;
mod together;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::base::escape::Escape;
use crate::base::scratch::ScratchDir;
use crate::imagefmt::{architecture, inspect};
use crate::os_image::{Extension, FileState, ImageChange, InstallMethod, OsRoot};
pub(crate) use crate::pipeline::image::build::{ImageBuildOutcome, build};
pub(crate) use crate::pipeline::image::request::ImageRequest;
pub(crate) use crate::pipeline::image::together::{examine_added, examine_present};

/// Plans to add the extensions in `files` to `root`. Signed extensions are verified against
/// `certificate`.
pub(crate) fn plan_add(
    root: &OsRoot,
    files: &[PathBuf],
    method: InstallMethod,
    certificate: Option<&Path>,
) -> Result<Vec<ImageChange>> {
    let mut extensions = Vec::new();
    for file in files {
        let (format, facts) = repack::examine(file)?;
        let verified = FileState::read(file)?;
        let act = || format!("could not add {}", file.escaped());
        repack::verify(file, format, &facts, certificate).with_context(act)?;
        extensions.push(Extension {
            file: file.clone(),
            name: inspect::name(file)?,
            architectures: architecture::names(),
            compressed: facts.compressed,
            verified,
        });
    }
    let changes = root.add(&extensions, method, certificate)?;
    for change in &changes {
        if let ImageChange::Copy { from, uncompressed: true, .. } = change
            && let Some(reason) = repack::examine(from)?.0.repack_obstacle()
        {
            bail!("{} is compressed, and so is where it goes: {reason}", from.escaped());
        }
    }
    Ok(changes)
}

/// Applies `changes` to `root`.
pub(crate) fn apply(root: &OsRoot, changes: &[ImageChange]) -> Result<()> {
    let work = ScratchDir::new()?;
    let mut ready = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let mut change = change.clone();
        if let ImageChange::Copy { from, uncompressed: uncompressed @ true, verified, .. } =
            &mut change
        {
            let dir = work.path().join(index.to_string());
            let act = || format!("could not pack {} uncompressed", from.escaped());
            let packed = repack::uncompressed(from, &dir).with_context(act)?;
            if let Some(then) = verified.take() {
                let is_same = FileState::read(from)? == then;
                ensure!(is_same, "{} was changed after it was examined", from.escaped());
            }
            *from = packed;
            *uncompressed = false;
        }
        ready.push(change);
    }
    root.apply(&ready)
}
