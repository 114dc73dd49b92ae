//! squashfs images, written by mksquashfs (squashfs-tools 4.5 and newer read tar streams).

pub(crate) mod pseudo;

use std::io::Read;
use std::path::Path;

use anyhow::Result;

use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::tar_stream;
use crate::host::tools;
use crate::imagefmt::format::{Compressor, Format};
use crate::sandbox::fake_root;

/// Writes `plan` as the squashfs image `output`. Its time is set only by the environment variable,
/// since mksquashfs refuses time options beside it.
pub(crate) fn write(
    plan: &FileTree,
    format: Format,
    output: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    tools::MKSQUASHFS
        .command("write the squashfs image")?
        .arg("-")
        .arg(output)
        .args(["-tar", "-no-progress", "-quiet", "-exit-on-error", "-noappend"])
        // The root directory is not in the stream: mksquashfs creates it. Version 4.5 gives it to
        // the calling user despite -root-uid; only -all-root has an effect.
        .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .args(plan.is_all_root().then_some("-all-root"))
        .args(["-root-time", &plan.epoch.to_string()])
        .args(compression(format))
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
        .run_fed(|input| tar_stream::write_tar(plan, input, progress))
}

/// Returns the differences of `image` from `plan`; `dir` is a path to unpack it to if necessary.
pub(crate) fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    if !pseudo::can_say(plan) {
        unpack(image, dir)?;
        return compare::compare_unpacked(plan, dir, Keeps::ALL);
    }
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read(image, &mut found)?;
    found.take_root()?;
    let mut differences = compare::compare_trees(plan, &found, Keeps::ALL);
    if has_xattrs(image)? {
        differences.push("extended attributes were not planned".to_owned());
    }
    Ok(differences)
}

/// Reads the contents of `image` into `found`, with the root directory, but without extended
/// attributes.
pub(crate) fn read(image: &Path, found: &mut FileTree) -> Result<()> {
    // If unsquashfs fails, it removes the file that it was to write: not /dev/stdout, which root
    // could remove.
    tools::UNSQUASHFS
        .command("read the squashfs image")?
        .args(["-quiet", "-no-progress", "-pf", "/proc/self/fd/1"])
        .arg(image)
        .run_read(|stream| pseudo::read(stream, found))
}

/// Returns whether an entry of `image` has extended attributes. Without them,
/// `xattr_id_table_start` of the superblock is all ones (`squashfs_fs.h` of Linux).
fn has_xattrs(image: &Path) -> Result<bool> {
    let mut superblock = [0; 96];
    fs_err::File::open(image)?.read_exact(&mut superblock)?;
    Ok(superblock.get(56..64) != Some(&[0xff; 8]))
}

/// Unpacks `image` into the directory `dir`.
pub(crate) fn unpack(image: &Path, dir: &Path) -> Result<()> {
    fake_root::command("read the squashfs image back", tools::UNSQUASHFS)?
        .args(["-quiet", "-no-progress", "-xattrs", "-dest"])
        .arg(dir)
        .arg(image)
        .run_quiet()
}

fn compression(format: Format) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut options = match format.compressor() {
        Compressor::None => return words(&["-noI", "-noD", "-noF", "-noX"]),
        Compressor::Lz4 => return words(&["-comp", "lz4", "-Xhc"]),
        compressor => vec!["-comp".to_owned(), compressor.to_string()],
    };
    if let Some(level) = format.level() {
        options.extend(["-Xcompression-level".to_owned(), level.to_string()]);
    }
    options
}
