//! Reads the facts about an image that a user supplies, and repacks it without compression.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::{ImageFacts, ImageFormat, ImageInput};
use crate::imagefmt::registry;
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::writer;

/// Detects the format of the image at `path`, and reads the facts about it.
pub(super) fn examine(path: &Path) -> Result<(&'static dyn ImageFormat, ImageFacts)> {
    if path.is_dir() {
        bail!("{} is a directory; an image gets image files", path.escaped());
    }
    let act = || format!("could not look into {}", path.escaped());
    let format = registry::detect(path).with_context(act)?;
    Ok((format, format.facts(path).with_context(act)?))
}

/// Fails if a target with `certificate` would reject the image at `path`, which has these facts.
pub(super) fn verify(
    path: &Path,
    format: &dyn ImageFormat,
    facts: &ImageFacts,
    certificate: Option<&Path>,
) -> Result<()> {
    match (facts.signed, certificate) {
        (true, None) => bail!(
            "it is signed, and targets accept it only if they have the certificate: name that \
             with --certificate FILE"
        ),
        (false, Some(certificate)) => {
            bail!("it is not signed: leave --certificate {} out", certificate.escaped())
        }
        (true, Some(_)) | (false, None) => format.verify(path, certificate),
    }
}

/// Packs the image at `path` again without compression, below the new directory `dir`. Returns the
/// path of the result. Entries, times and owners are preserved.
pub(super) fn uncompressed(path: &Path, dir: &Path) -> Result<PathBuf> {
    let workplace = Workplace::open(dir)?;
    let tree = workplace.path(".image");
    let image = registry::detect(path)?;
    let has_owners = image.unpack(path, &tree)?;
    let epoch = u64::try_from(fs_err::symlink_metadata(&tree)?.mtime()).unwrap_or(0);
    // The prefix path has no effect here, because the plan holds the tree unchanged.
    let mut plan = FileTree::new(&"/usr/local/image".parse()?, epoch);
    scan::scan_unpacked(&tree, &mut plan)?;
    digest::hash_contents(&mut plan)?;
    if !has_owners {
        take_owners(&mut plan, image, path)?;
    }
    let format: Format = "squashfs:none".parse()?;
    let input = ImageInput { tree: &plan, architecture: None, signing: None };
    writer::write(input, format, &workplace, "image.raw", &|_| {})?;
    writer::verify(&plan, format, &workplace, "image.raw")?;
    workplace.publish("image.raw", |_| false)
}

/// Gives the entries of `plan`, which `image` was unpacked to, the owners that they have in it.
fn take_owners(plan: &mut FileTree, format: &dyn ImageFormat, image: &Path) -> Result<()> {
    let mut listed = FileTree::new(&plan.eprefix, plan.epoch);
    format.read(image, &mut listed)?;
    listed.entries.remove(Path::new(""));
    for (path, entry) in &mut plan.entries {
        if let Some(found) = listed.entries.get(path) {
            // Without its owner, a file loses setuid.
            (entry.uid, entry.gid, entry.mode) = (found.uid, found.gid, found.mode);
        }
    }
    let keeps = Keeps { xattrs: false, ..Keeps::ALL };
    compare::require_equal(&compare::compare_trees(&listed, plan, keeps))
        .with_context(|| format!("{} was not unpacked as it is", image.escaped()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstree::entries::{Entry, EntryKind};

    #[test]
    fn owners_modes_and_times_are_preserved() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = FileTree::new(&"/usr/local/image".parse().unwrap(), 1000);
        for (path, owner, mode) in
            [("usr/bin/mine", 0, 0o755), ("usr/bin/other", 7, 0o4755), ("usr/share/both", 8, 0o600)]
        {
            let entry = Entry::generated(path.as_bytes().to_vec(), 900);
            plan.add(path, Entry { uid: owner, gid: owner, mode, ..entry }).unwrap();
        }
        let link = Entry {
            kind: EntryKind::Link("mine".into()),
            mode: 0o777,
            ..plan.entries[Path::new("usr/bin/mine")].clone()
        };
        plan.add("usr/bin/link", link).unwrap();
        digest::hash_contents(&mut plan).unwrap();
        let squashfs = registry::find("squashfs").unwrap();
        let image = dir.path().join("x.raw");
        let input = ImageInput { tree: &plan, architecture: None, signing: None };
        let format: Format = "squashfs:gzip".parse().unwrap();
        let workplace = Workplace::open(&dir.path().join("made")).unwrap();
        writer::write(input, format, &workplace, "x.raw", &|_| {}).unwrap();
        fs_err::copy(workplace.path("x.raw"), &image).unwrap();
        assert!(squashfs.facts(&image).unwrap().compressed);
        let packed = uncompressed(&image, &dir.path().join("again")).unwrap();
        assert!(!squashfs.facts(&packed).unwrap().compressed);
        let mut found = FileTree::new(&plan.eprefix, plan.epoch);
        squashfs.read(&packed, &mut found).unwrap();
        found.take_root().unwrap();
        assert_eq!(compare::compare_trees(&plan, &found, Keeps::ALL), [""; 0]);
    }
}
