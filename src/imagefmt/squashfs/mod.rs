//! squashfs images, written by mksquashfs (squashfs-tools 4.5 and newer read tar streams).

pub(crate) mod pseudo;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::hint;
use crate::base::input;
use crate::base::scratch::ScratchDir;
use crate::fstree::budget::TreeBudget;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::entries::FileTree;
use crate::fstree::{image_path, scan, tar_stream};
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::{Compression, Compressor, Levels};
use crate::imagefmt::directory;
use crate::imagefmt::image_format::{ImageFacts, ImageFormat, ImageInput, KernelNeed, Magic};
use crate::sandbox::fake_root;
use crate::sandbox::foreign_tool::{self, ForeignTool};

/// squashfs: every kernel that attaches extensions can mount it.
pub(crate) struct Squashfs;

/// The format.
pub(crate) static FORMAT: Squashfs = Squashfs;

/// Programs that write squashfs.
pub(crate) const TOOLS: &[ExternalTool] = &[tools::MKSQUASHFS];

/// Supported compressors.
pub(crate) const COMPRESSORS: &[(Compressor, Levels)] = &[
    (Compressor::Zstd, Some(1..=22)),
    (Compressor::Lz4, None),
    (Compressor::Xz, None),
    (Compressor::Gzip, Some(1..=9)),
    (Compressor::None, None),
];

impl ImageFormat for Squashfs {
    fn name(&self) -> &'static str {
        "squashfs"
    }

    fn compressors(&self) -> &'static [(Compressor, Levels)] {
        COMPRESSORS
    }

    fn tools(&self) -> &'static [ExternalTool] {
        TOOLS
    }

    fn kernel(&self, compressor: Compressor, _: bool) -> Option<KernelNeed> {
        // CONFIG_SQUASHFS_ZSTD came with 4.14. CONFIG_SQUASHFS_LZ4 came with 3.19, which is older
        // than the kernel that all extensions need.
        let need = KernelNeed { version: (4, 14), reason: "squashfs with zstd" };
        (compressor == Compressor::Zstd).then_some(need)
    }

    fn magic(&self) -> Option<Magic> {
        Some(Magic { offset: 0, bytes: b"hsqs" })
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        compression: Compression,
        output: &Path,
        scratch: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        write(input.tree, compression, output, scratch, progress)
    }

    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>> {
        differences(planned, image, scratch)
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        let tool = ForeignTool::reading(READ, tools::UNSQUASHFS, image)?;
        let about = || format!("{} cannot be read", image.escaped());
        read(&tool.command(), tool.image(), TreeBudget::of_image(image)?, found)
            .with_context(about)?;
        require_one_line_each(&ForeignTool::reading(READ, tools::UNSQUASHFS, image)?, found)
            .with_context(about)
    }

    fn paths(&self, image: &Path, below: &Path) -> Result<Vec<PathBuf>> {
        let tool = ForeignTool::reading("list the image", tools::UNSQUASHFS, image)?;
        let list = tool.command().args(["-no-progress", "-ls"]).arg(tool.image()).arg(below);
        let listing = foreign_tool::read_listing(&list)?;
        let mut paths = Vec::new();
        for line in listing.lines().filter(|line| !line.is_empty() && *line != UNPACKED) {
            // No name has a slash, so what follows a newline within a name cannot begin like this.
            let path = line.strip_prefix(UNPACKED).and_then(|path| path.strip_prefix('/'));
            let path = path.context("a name in it has a newline")?;
            paths.push(image_path::parse(path.as_bytes())?);
        }
        Ok(paths)
    }

    fn overlay_mark(&self, image: &Path) -> Result<Option<String>> {
        if !has_xattrs(image)? {
            return Ok(None);
        }
        // unsquashfs 4.5 lists no attributes. The box has no right to set those of overlayfs, and
        // the error names one.
        let dir = ScratchDir::new()?;
        let Err(error) = self.unpack(image, &dir.path().join("tree")) else { return Ok(None) };
        let text = hint::join_causes(&error);
        let mark = text.split_whitespace().find(|word| word.starts_with(scan::OVERLAY_MARK));
        Ok(mark.map(str::to_owned))
    }

    fn facts(&self, image: &Path) -> Result<ImageFacts> {
        // Documentation/filesystems/squashfs.rst: the second flag means that data is not
        // compressed.
        let compressed = superblock(image)?.get(24).is_none_or(|flags| flags & 0x2 == 0);
        Ok(ImageFacts { compressed, signed: false })
    }

    fn repack_obstacle(&self) -> Option<&'static str> {
        None
    }

    fn unpack(&self, image: &Path, dir: &Path) -> Result<bool> {
        let tool = ForeignTool::reading("list the image", tools::UNSQUASHFS, image)?;
        let list = tool.command().args(["-no-progress", "-lln"]).arg(tool.image());
        check_sizes(&foreign_tool::read_listing(&list)?, TreeBudget::of_image(image)?)
            .with_context(|| format!("{} cannot be unpacked", image.escaped()))?;
        fs_err::create_dir(dir)?;
        let tool = ForeignTool::unpacking("unpack the image", tools::UNSQUASHFS, image, dir)?;
        let command = tool
            .command()
            .args(["-quiet", "-no-progress", "-xattrs", "-force", "-dest"])
            .args([tool.dir(), tool.image()]);
        // The box has one user, to which all entries belong.
        let messages = command.messages("failed to change uid and gids")?;
        let has_foreign = messages.expected > 0 && messages.others.is_empty();
        if messages.status.code() == Some(INCOMPLETE) && has_foreign {
            return Ok(false);
        }
        command.require_success(&messages)?;
        Ok(true)
    }
}

/// Name of the directory that unsquashfs(1) would unpack to; each path in its listing begins with it.
const UNPACKED: &str = "squashfs-root";

/// Purpose of [`write`].
const WRITE: &str = "write the squashfs image";

/// Purpose of [`read`].
const READ: &str = "read the squashfs image";

/// First time that mksquashfs does not write: it has 31 bits.
const TIME_END: u64 = 1 << 31;

/// Exit status of unsquashfs after errors other than those in the image.
const INCOMPLETE: i32 = 2;

/// Number of names in one directory from which on they are written from a tree on disk. For each
/// entry of a stream, mksquashfs compares the names that its directory has so far (`lookup_entry`
/// in mksquashfs.c), which takes longer than all else from some ten thousand on.
const LARGE_DIRECTORY: usize = 5_000;

/// Writes `plan` as the squashfs image `output`; `dir` is a path for a temporary tree. The image's
/// time is set only by the environment variable, since mksquashfs refuses time options beside it.
fn write(
    plan: &FileTree,
    compression: Compression,
    output: &Path,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    // No entry is newer.
    ensure!(plan.epoch < TIME_END, "a squashfs image cannot have the time {}", plan.epoch);
    // Owners other than root could not be given to files on disk by an ordinary user.
    let from_disk = plan.is_all_root() && has_large_directory(plan);
    let command = if from_disk {
        directory::write(plan, dir, progress)?;
        fake_root::command(WRITE, tools::MKSQUASHFS)?.arg(dir)
    } else {
        tools::MKSQUASHFS.command(WRITE)?.arg("-")
    };
    let command = command
        .arg(output)
        .args((!from_disk).then_some("-tar"))
        .args(["-no-progress", "-quiet", "-exit-on-error", "-noappend"])
        // The root directory is not in the stream: mksquashfs creates it. Version 4.5 gives it to
        // the calling user despite -root-uid; only -all-root has an effect.
        .args(["-root-mode", "755", "-root-uid", "0", "-root-gid", "0"])
        .args(plan.is_all_root().then_some("-all-root"))
        .args(["-root-time", &plan.epoch.to_string()])
        .args(options(compression))
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string());
    if from_disk {
        // Labels that the machine gives to all files are not planned.
        let has_xattrs = plan.entries.values().any(|entry| !entry.xattrs.is_empty());
        return command.args((!has_xattrs).then_some("-no-xattrs")).run_quiet();
    }
    command.run_fed(|input| tar_stream::write_tar(plan, input, progress))
}

/// Returns whether a directory of `plan` has as many names as [`LARGE_DIRECTORY`].
fn has_large_directory(plan: &FileTree) -> bool {
    let mut counts: HashMap<&Path, usize> = HashMap::new();
    plan.entries.keys().filter_map(|path| path.parent()).any(|parent| {
        let count = counts.entry(parent).or_default();
        *count += 1;
        *count == LARGE_DIRECTORY
    })
}

/// Returns the differences of `image` from `plan`; `dir` is a path to unpack it to if necessary.
pub(crate) fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    if !pseudo::can_say(plan) {
        unpack(image, dir)?;
        return compare::compare_unpacked(plan, dir, Keeps::ALL);
    }
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read(&tools::UNSQUASHFS.command(READ)?, image, TreeBudget::of_tree(), &mut found)?;
    found.take_root()?;
    let mut differences = compare::compare_trees(plan, &found, Keeps::ALL);
    if has_xattrs(image)? {
        differences.push("extended attributes were not planned".to_owned());
    }
    Ok(differences)
}

/// Reads the contents of `image` within `budget` into `found` with `unsquashfs`: with the root
/// directory, but without extended attributes.
fn read(
    unsquashfs: &Command,
    image: &Path,
    mut budget: TreeBudget,
    found: &mut FileTree,
) -> Result<()> {
    // If unsquashfs fails, it removes the file that it was to write: not /dev/stdout, which root
    // could remove.
    unsquashfs
        .clone()
        .args(["-quiet", "-no-progress", "-pf", "/proc/self/fd/1"])
        .arg(image)
        .run_read(|stream| pseudo::read(stream, &mut budget, found))
}

/// Fails if `budget` has no room for the files in `listing`, which are in the style of `ls -ln`: `MODE
/// UID/GID SIZE DATE TIME PATH`.
pub(crate) fn check_sizes(listing: &str, mut budget: TreeBudget) -> Result<()> {
    for line in listing.lines().filter(|line| line.starts_with('-')) {
        let mut words = line.split_ascii_whitespace();
        let size = words.nth(2).and_then(|size| size.parse().ok());
        let path = words.nth(2).unwrap_or_default().trim_start_matches(UNPACKED);
        let path = Path::new(path.trim_start_matches('/'));
        budget.take_path(path)?;
        budget.take_content(path, size.context("the listing of the image cannot be read")?)?;
    }
    Ok(())
}

/// Fails if the image that `tool` reads has not as many entries as were `found` in the lines of a
/// pseudo file. There, the target of a link can have a newline, and then look like an entry. The
/// short listing has names alone, and in a name nothing that follows a newline can have a slash.
fn require_one_line_each(tool: &ForeignTool, found: &FileTree) -> Result<()> {
    let list = tool.command().args(["-no-progress", "-ls"]).arg(tool.image());
    let count = list.run_read(|output| {
        let (mut output, mut line, mut count) = (BufReader::new(output), Vec::new(), 0);
        while (&mut output).take(pseudo::LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
            let path = line.strip_prefix(UNPACKED.as_bytes());
            count += usize::from(path.is_some_and(|path| path.starts_with(b"/") || path == b"\n"));
            line.clear();
        }
        Ok(count)
    })?;
    ensure!(count == found.entries.len(), "a link in it has a target with a newline");
    Ok(())
}

/// Returns whether an entry of `image` has extended attributes. Without them,
/// `xattr_id_table_start` of the superblock is all ones (`squashfs_fs.h` of Linux).
fn has_xattrs(image: &Path) -> Result<bool> {
    Ok(superblock(image)?.get(56..64) != Some(&[0xff; 8]))
}

fn superblock(image: &Path) -> Result<[u8; 96]> {
    let mut superblock = [0; 96];
    input::open(image)?.read_exact(&mut superblock)?;
    Ok(superblock)
}

/// Unpacks the own `image` into the directory `dir`.
fn unpack(image: &Path, dir: &Path) -> Result<()> {
    fake_root::command("read the squashfs image back", tools::UNSQUASHFS)?
        .args(["-quiet", "-no-progress", "-xattrs", "-dest"])
        .arg(dir)
        .arg(image)
        .run_quiet()
}

fn options(compression: Compression) -> Vec<String> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut options = match compression.compressor {
        Compressor::None => return words(&["-noI", "-noD", "-noF", "-noX"]),
        Compressor::Lz4 => return words(&["-comp", "lz4", "-Xhc"]),
        compressor => vec!["-comp".to_owned(), compressor.to_string()],
    };
    if let Some(level) = compression.level {
        options.extend(["-Xcompression-level".to_owned(), level.to_string()]);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imagefmt::samples;

    #[test]
    fn an_image_is_read() {
        let planned = samples::tree();
        let found = samples::read(&FORMAT, &samples::image("squashfs")).unwrap();
        let mut found =
            FileTree { epoch: planned.epoch, eprefix: planned.eprefix.clone(), ..found };
        found.take_root().unwrap();
        assert!(compare::compare_trees(&planned, &found, Keeps::ALL).is_empty());
    }

    #[test]
    fn sizes_in_a_listing_are_within_the_budget() {
        let small = "squashfs-root\n-rw-r--r-- 0/0   12 1970-01-01 00:00 squashfs-root/a b\n\
                     lrwxrwxrwx 0/0 3 1970-01-01 00:00 squashfs-root/l -> a b\n";
        check_sizes(small, TreeBudget::of_tree()).unwrap();
        let half = "-rw-r--r-- 1000/1000 150000000000 1970-01-01 00:00 squashfs-root/x\n".repeat(2);
        let error = check_sizes(&half, TreeBudget::of_tree()).unwrap_err().to_string();
        assert!(error.starts_with("with the 150000000000 bytes of /x,"), "{error}");
        assert!(check_sizes("-rw-r--r-- 0/0 x\n", TreeBudget::of_tree()).is_err());
    }

    #[test]
    fn images_that_are_cut_off_are_errors() {
        let whole = samples::image("squashfs:none");
        for length in (0..whole.len() - 4096).step_by(whole.len() / 20) {
            assert!(samples::read(&FORMAT, &whole[..length]).is_err(), "{length}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), &whole[..50]).unwrap();
        assert!(FORMAT.facts(file.path()).is_err());
        fs_err::write(file.path(), &whole).unwrap();
        assert!(!FORMAT.facts(file.path()).unwrap().compressed);
    }

    #[test]
    fn names_that_lead_elsewhere_are_errors() {
        let whole = samples::image("squashfs:none");
        for name in samples::HOSTILE {
            assert!(samples::read(&FORMAT, &samples::renamed(&whole, name)).is_err(), "{name:?}");
        }
        assert!(samples::read(&FORMAT, &samples::renamed(&whole, "someother")).is_ok());
    }
}
