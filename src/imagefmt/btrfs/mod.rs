//! btrfs images, written by mkfs.btrfs of btrfs-progs 7.3 and newer, the first version with
//! reproducible output (mkfs.btrfs(8), "ENVIRONMENT"). Nothing is mounted, and no root is needed.

pub(crate) mod trees;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::host::tools;
use crate::imagefmt::directory;
use crate::imagefmt::format::{Compressor, Format};
use crate::sandbox::fake_root;

/// Default level: as for squashfs, the image is read more often than written.
const LEVEL: u32 = 15;

/// Writes `plan` as the btrfs image `output`; `dir` is a path for a temporary tree.
pub(crate) fn write(
    plan: &FileTree,
    format: Format,
    output: &Path,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    directory::write(plan, dir, progress)?;
    fs_err::File::create(output)?;
    let written = fake_root::command("write the btrfs image", tools::MKFS_BTRFS)?
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
        .env("DETERMINISTIC_SEED", "1")
        .args(["--quiet", "--uuid", &digest::tree_uuid(plan), "--shrink"])
        // One copy of all data and metadata, since images are copied whole. Kernels before 6.1
        // cannot mount an image with the block group tree (mkfs.btrfs(8), "block-group-tree").
        .args(["--metadata", "single", "--data", "single", "--features", "^block-group-tree"])
        .args(compression(format))
        .arg("--rootdir")
        .arg(dir)
        .arg(output)
        .run_quiet();
    crate::base::files::remove(dir)?;
    written?;
    trees::make_read_only(output)
}

fn compression(format: Format) -> Vec<String> {
    match format.compressor() {
        Compressor::None => Vec::new(),
        compressor => {
            let level = format.level().unwrap_or(LEVEL);
            vec!["--compress".to_owned(), format!("{compressor}:{level}")]
        }
    }
}

/// Returns the differences of `image` from `plan`; `dir` is a path to unpack it to.
pub(crate) fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    fake_root::command("check the btrfs image", tools::BTRFS)?
        .args(["check", "--readonly"])
        .arg(image)
        .run_quiet()?;
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read(image, &mut found, dir)?;
    Ok(compare::compare_trees(plan, &found, Keeps::ALL))
}

/// Reads the contents of `image` into `found`; the image is unpacked into the new directory `dir`.
pub(crate) fn read(image: &Path, found: &mut FileTree, dir: &Path) -> Result<()> {
    unpack(image, dir)?;
    // The epoch of the image is known only from the time of its root directory.
    found.epoch = u64::try_from(fs_err::metadata(dir)?.mtime()).unwrap_or(0);
    scan::scan_unpacked(dir, found)?;
    trees::join_names(found, image)?;
    digest::hash_contents(found)
}

/// Unpacks `image` into the new directory `dir`.
fn unpack(image: &Path, dir: &Path) -> Result<()> {
    fs_err::create_dir(dir)?;
    fake_root::command("read the btrfs image back", tools::BTRFS)?
        .args(["restore", "--metadata", "--symlink", "--xattr"])
        .arg(image)
        .arg(dir)
        // For a large file or directory, btrfs asks whether to continue.
        .run_fed(|answers| {
            while answers.write_all(b"a\n").is_ok() {}
            Ok(())
        })
        .with_context(|| format!("could not read {}", image.display()))
}
