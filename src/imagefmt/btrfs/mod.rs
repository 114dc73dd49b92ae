//! btrfs images, by mkfs.btrfs of btrfs-progs 7.3 and newer: the first that writes the same bytes
//! again (mkfs.btrfs(8), "ENVIRONMENT"). Nothing is mounted, and no root is needed.

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

/// The level where none is named: as for squashfs, the image is read more often than written.
const LEVEL: u32 = 15;

/// Writes `plan` as the btrfs image `output`; `dir` is a place for a tree.
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
        // One copy of everything: images are copied whole. The tree that is taken out would keep
        // kernels before 6.1 from mounting it (mkfs.btrfs(8), "block-group-tree").
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

/// How `image` differs from `plan`; `dir` is a place to unpack it to.
pub(crate) fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    fake_root::command("check the btrfs image", tools::BTRFS)?
        .args(["check", "--readonly"])
        .arg(image)
        .run_quiet()?;
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read(image, &mut found, dir)?;
    Ok(compare::compare_trees(plan, &found, Keeps::ALL))
}

/// Reads what `image` holds into `found`; it is unpacked into the new directory `dir`.
pub(crate) fn read(image: &Path, found: &mut FileTree, dir: &Path) -> Result<()> {
    unpack(image, dir)?;
    // The directory of the image is as the image says, of which nothing else is known here.
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
        // It asks whether to go on when a file or a directory is large.
        .run_fed(|answers| {
            while answers.write_all(b"a\n").is_ok() {}
            Ok(())
        })
        .with_context(|| format!("could not read {}", image.display()))
}
