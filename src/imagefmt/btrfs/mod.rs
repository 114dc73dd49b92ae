//! btrfs images, written by mkfs.btrfs of btrfs-progs 7.3 and newer, the first version with
//! reproducible output (mkfs.btrfs(8), "ENVIRONMENT"). Nothing is mounted, and no root is needed.

mod structures;
pub(crate) mod trees;

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::scratch::ScratchDir;
use crate::fstree::budget::TreeBudget;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::{Compression, Compressor, Levels};
use crate::imagefmt::directory;
use crate::imagefmt::image_format::{ImageFormat, ImageInput, KernelNeed, Magic};
use crate::sandbox::fake_root;
use crate::sandbox::foreign_tool::{self, ForeignTool};

/// btrfs with a read-only top-level subvolume.
pub(crate) struct Btrfs;

/// The format.
pub(crate) static FORMAT: Btrfs = Btrfs;

const COMPRESSORS: &[(Compressor, Levels)] =
    &[(Compressor::Zstd, Some(1..=15)), (Compressor::None, None)];

/// Default level: as for squashfs, the image is read more often than written.
const LEVEL: u32 = 15;

impl ImageFormat for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn compressors(&self) -> &'static [(Compressor, Levels)] {
        COMPRESSORS
    }

    fn tools(&self) -> &'static [ExternalTool] {
        &[tools::MKFS_BTRFS]
    }

    fn kernel(&self, compressor: Compressor, _: bool) -> Option<KernelNeed> {
        // The kernel's btrfs reads zstd since 4.14.
        let need = KernelNeed { version: (4, 14), reason: "btrfs with zstd" };
        (compressor == Compressor::Zstd).then_some(need)
    }

    fn magic(&self) -> Option<Magic> {
        Some(trees::MAGIC)
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        compression: Compression,
        output: &Path,
        scratch: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        directory::write(input.tree, scratch, progress)?;
        write(input.tree, compression, output, scratch)
    }

    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>> {
        fake_root::command("check the btrfs image", tools::BTRFS)?
            .args(["check", "--readonly"])
            .arg(image)
            .run_quiet()?;
        let mut found = FileTree::new(&planned.eprefix, planned.epoch);
        let list = fake_root::command(LIST, tools::BTRFS)?.args(trees::LISTING).arg(image);
        let inodes = trees::Inodes::parse(&list.read()?, TreeBudget::of_tree())?;
        fs_err::create_dir(scratch)?;
        let restore = fake_root::command(RESTORE, tools::BTRFS)?
            .args(["restore", "--metadata", "--symlink", "--xattr"])
            .args([image, scratch]);
        unpack(&restore)?;
        scan_restored(scratch, &mut found)?;
        inodes.join_names(&mut found)?;
        digest::hash_contents(&mut found)?;
        Ok(compare::compare_trees(planned, &found, Keeps::ALL))
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        let dir = ScratchDir::new()?;
        let about = || format!("{} cannot be read", image.escaped());
        // The list comes first: nothing is unpacked under a name that leads out of the directory.
        let tool = ForeignTool::reading(LIST, tools::BTRFS, image)?;
        let list = tool.command().args(trees::LISTING).arg(tool.image());
        let listing = foreign_tool::read_listing(&list).with_context(about)?;
        let inodes =
            trees::Inodes::parse(&listing, TreeBudget::of_image(image)?).with_context(about)?;
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree)?;
        fs_err::set_permissions(&tree, Permissions::from_mode(0o755))?;
        let tool = ForeignTool::unpacking(RESTORE, tools::BTRFS, image, &tree)?;
        // The box has one user, so owners and with them all other properties come from the listing.
        let restore =
            tool.command().args(["restore", "--symlink"]).args([tool.image(), tool.dir()]);
        unpack(&restore).with_context(about)?;
        scan_restored(&tree, found)?;
        inodes.take_properties(found).with_context(about)?;
        inodes.join_names(found).with_context(about)?;
        digest::hash_contents(found)?;
        digest::keep_releases(found)
    }
}

/// Writes the tree in the directory `dir`, which holds `plan`, as the btrfs image `output`.
fn write(plan: &FileTree, compression: Compression, output: &Path, dir: &Path) -> Result<()> {
    fs_err::File::create(output)?;
    fake_root::command("write the btrfs image", tools::MKFS_BTRFS)?
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
        .env("DETERMINISTIC_SEED", "1")
        .args(["--quiet", "--uuid", &digest::tree_uuid(plan), "--shrink"])
        // One copy of all data and metadata, since images are copied whole. Kernels before 6.1
        // cannot mount an image with the block group tree (mkfs.btrfs(8), "block-group-tree").
        .args(["--metadata", "single", "--data", "single", "--features", "^block-group-tree"])
        .args(options(compression))
        .arg("--rootdir")
        .arg(dir)
        .arg(output)
        .run_quiet()?;
    trees::make_read_only(output)
}

fn options(compression: Compression) -> Vec<String> {
    match compression.compressor {
        Compressor::None => Vec::new(),
        compressor => {
            let level = compression.level.unwrap_or(LEVEL);
            vec!["--compress".to_owned(), format!("{compressor}:{level}")]
        }
    }
}

/// Purposes of the commands that read an image.
const RESTORE: &str = "read the btrfs image";
const LIST: &str = "list the btrfs image";

/// Reads the restored tree in `dir` into `found`.
fn scan_restored(dir: &Path, found: &mut FileTree) -> Result<()> {
    // The epoch of the image is known only from the time of its root directory.
    found.epoch = u64::try_from(fs_err::metadata(dir)?.mtime()).unwrap_or(0);
    scan::scan_unpacked(dir, found)
}

/// Unpacks an image with `restore`.
fn unpack(restore: &Command) -> Result<()> {
    restore
        // For a large file or directory, btrfs asks whether to continue.
        .run_fed(|answers| {
            while answers.write_all(b"a\n").is_ok() {}
            Ok(())
        })
}
