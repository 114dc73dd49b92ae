//! Reads the facts about an image that a user supplies, and repacks it without compression.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::{ImageFacts, ImageFormat, ImageInput};
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::writer;
use crate::imagefmt::{registry, signing};

/// Detects the format of the image at `path`, and reads the facts about it.
pub(super) fn examine(path: &Path) -> Result<(&'static dyn ImageFormat, ImageFacts)> {
    if path.is_dir() {
        bail!("{} is a directory; an image gets image files", path.display());
    }
    let act = || format!("could not look into {}", path.display());
    let format = registry::detect(path).with_context(act)?;
    Ok((format, format.facts(path).with_context(act)?))
}

/// Fails if a target with `certificate` would reject an image with these facts.
pub(super) fn trust(facts: &ImageFacts, certificate: Option<&Path>) -> Result<()> {
    match (&facts.signer, certificate) {
        (None, None) => Ok(()),
        (Some(_), None) => bail!(
            "it is signed, and targets accept it only if they have the certificate: name that \
             with --certificate FILE"
        ),
        (None, Some(certificate)) => {
            bail!("it is not signed: leave --certificate {} out", certificate.display())
        }
        (Some(signer), Some(certificate)) => {
            if signing::fingerprint(certificate)? != *signer {
                bail!("it is signed with another certificate than {}", certificate.display());
            }
            Ok(())
        }
    }
}

/// Packs the image at `path` again without compression, below the new directory `dir`. Returns the
/// path of the result. Entries, times and owners are preserved.
pub(super) fn uncompressed(path: &Path, dir: &Path) -> Result<PathBuf> {
    let workplace = Workplace::open(dir)?;
    let tree = workplace.path(".image");
    registry::detect(path)?.unpack(path, &tree)?;
    let epoch = u64::try_from(fs_err::symlink_metadata(&tree)?.mtime()).unwrap_or(0);
    // The prefix path has no effect here, because the plan holds the tree unchanged.
    let mut plan = FileTree::new(&"/usr/local/image".parse()?, epoch);
    scan::scan_unpacked(&tree, &mut plan)?;
    digest::hash_contents(&mut plan)?;
    let format: Format = "squashfs:none".parse()?;
    let input = ImageInput { tree: &plan, architecture: None, signing: None };
    writer::write(input, format, &workplace, "image.raw", &|_| {})?;
    writer::verify(&plan, format, &workplace, "image.raw")?;
    workplace.publish("image.raw", |_| false)
}
