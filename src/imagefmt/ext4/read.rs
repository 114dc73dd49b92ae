//! Reading of an ext4 image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, ensure};
use ext4_view::{Ext4, Ext4Read, Metadata};
use zerocopy::{FromZeros, IntoBytes};

use crate::base::escape::Escape;
use crate::base::input;
use crate::fstree::budget::TreeBudget;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::digest;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::fstree::image_path;
use crate::fstree::scan::SPECIAL;
use crate::imagefmt::ext4::plain::{self, PlainReader};
use crate::imagefmt::ext4::structures::{Ext4Superblock, SUPERBLOCK};

/// Minimum size of an entry of a directory, in bytes (Linux, `fs/ext4/ext4.h`).
const DIRECTORY_ENTRY: u64 = 12;
/// Logarithm of the size of the largest blocks that Linux mounts, 64 KiB, in units of 1024 bytes.
const LOG_BLOCK_SIZE_MAX: u32 = 6;
/// Minimum size of the descriptor of a group of blocks, in bytes, and the largest number of groups:
/// those of 8 TiB in blocks of 4096 bytes.
const GROUP_DESCRIPTOR: u64 = 32;
const GROUPS: u64 = 1 << 16;
/// Limit of the content of all files, as a multiple of the size of the image. Only holes make it
/// larger than the image, and damaged sizes make holes that would take years to read.
const CONTENT_TIMES: u64 = 16;
/// Limit of the bytes of directories that are searched for files. In an image of another form than
/// fprefix writes, each file is found by its path, so a directory of 70,000 files takes as much, and a
/// few minutes.
const SEARCHED: u64 = 128 << 30;

/// Returns the differences of `image`, which fprefix wrote, from `plan`.
pub(super) fn differences(plan: &FileTree, image: &Path) -> Result<Vec<String>> {
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    read_within(image, TreeBudget::of_tree(), &mut found)?;
    found.take_root()?;
    Ok(compare::compare_trees(plan, &found, Keeps::ALL))
}

/// Reads the contents of `image`, which somebody else made, into `found`, with the root directory. Hard
/// links and extended attributes are read from images of the form that fprefix writes.
pub(super) fn read(image: &Path, found: &mut FileTree) -> Result<()> {
    read_within(image, TreeBudget::of_image(image)?, found)
}

fn read_within(image: &Path, budget: TreeBudget, found: &mut FileTree) -> Result<()> {
    let (file, size) = input::open_sized(image)?;
    read_stream(Box::new(file.into_file()), size, budget, found)
        .with_context(|| format!("{} is no whole ext4 image", image.escaped()))
}

/// Reads the image in `bytes` within `budget` into `found`.
pub(crate) fn read_bytes(bytes: &[u8], budget: TreeBudget, found: &mut FileTree) -> Result<()> {
    read_stream(Box::new(bytes.to_owned()), bytes.len() as u64, budget, found)
}

fn read_stream(
    mut stream: Box<dyn Ext4Read>,
    size: u64,
    budget: TreeBudget,
    found: &mut FileTree,
) -> Result<()> {
    let mut superblock = Ext4Superblock::new_zeroed();
    let read = stream.read(SUPERBLOCK, superblock.as_mut_bytes());
    read.map_err(Error::from_boxed).context("it ends early")?;
    let groups = superblock.count_groups(size)?;
    let budget = budget.with_content(size.saturating_mul(CONTENT_TIMES));
    if plain::is_plain(&superblock) {
        return PlainReader::open(stream, &superblock, groups, size, budget)?.read_into(found);
    }
    let opened = Ext4::load(stream)?;
    let mut reader = Ext4Reader { image: &opened, budget, unread: size, searched: SEARCHED };
    reader.read_into(found, size / DIRECTORY_ENTRY)
}

impl Ext4Superblock {
    /// Returns the number of groups of blocks. Fails unless an image of `size` bytes can have them.
    fn count_groups(&self, size: u64) -> Result<usize> {
        let log = self.log_block_size.get();
        ensure!(log <= LOG_BLOCK_SIZE_MAX, "it has blocks of 2^{} bytes", u64::from(log) + 10);
        let blocks = u64::from(self.blocks_high.get()) << 32 | u64::from(self.blocks.get());
        let blocks = blocks.saturating_sub(self.first_data_block.get().into());
        let groups = blocks.div_ceil(self.blocks_per_group.get().max(1).into());
        let fits = groups <= GROUPS && groups <= size / GROUP_DESCRIPTOR;
        ensure!(fits, "it has {groups} groups of blocks, more than its descriptors");
        Ok(usize::try_from(groups)?)
    }
}

/// Image, and what may still be read of it.
struct Ext4Reader<'a> {
    image: &'a Ext4,
    budget: TreeBudget,
    /// Bytes of directories. In a whole image, no two of them share their blocks.
    unread: u64,
    /// Bytes of directories that are searched for files.
    searched: u64,
}

/// Directory that is not read yet.
struct AheadDirectory {
    path: PathBuf,
    /// Sizes of all directories on its path, itself included, in bytes.
    search: u64,
}

/// Returns the path that the reader takes for an entry.
fn absolute(path: &Path) -> Vec<u8> {
    [b"/", path.as_os_str().as_bytes()].concat()
}

impl Ext4Reader<'_> {
    /// Reads all entries. In a whole image, each name has an entry of its own, so there are at most
    /// `most` names. In others, directories may share their entries, so that a few bytes stand for
    /// any number of names.
    fn read_into(&mut self, found: &mut FileTree, most: u64) -> Result<()> {
        let meta = self.image.symlink_metadata("/")?;
        ensure!(meta.is_dir(), "its root directory is none");
        found.entries.insert(PathBuf::new(), self.entry(&meta, Path::new(""), 0)?);
        let search = self.take_directory(&meta, 0)?;
        let mut ahead = vec![AheadDirectory { path: PathBuf::new(), search }];
        while let Some(AheadDirectory { path: inside, search }) = ahead.pop() {
            for item in self.image.read_dir(&absolute(&inside)[..])? {
                let item = item?;
                let name = item.file_name().as_ref().to_owned();
                if matches!(name.as_slice(), b"." | b"..") {
                    continue;
                }
                let path = image_path::join(&inside, &name)?;
                let meta = item.metadata()?;
                let entry = self.entry(&meta, &path, search)?;
                if entry.is_directory() {
                    let search = self.take_directory(&meta, search)?;
                    ahead.push(AheadDirectory { path: path.clone(), search });
                }
                ensure!(found.entries.insert(path, entry).is_none(), "a name is in it twice");
                ensure!(found.entries.len() as u64 <= most, "it has more names than entries");
            }
        }
        Ok(())
    }

    /// Takes a directory, and returns the sizes of all directories on its path.
    fn take_directory(&mut self, meta: &Metadata, above: u64) -> Result<u64> {
        let unread = self.unread.checked_sub(meta.len());
        self.unread = unread.context("its directories are larger than the image")?;
        // The size is at most that of the image, so the sum of all of them is, too.
        Ok(above + meta.len())
    }

    /// Reads an entry without the properties that the reader does not support: extended attributes
    /// and hard links. `search` is the number of bytes that are searched for its path.
    fn entry(&mut self, meta: &Metadata, path: &Path, search: u64) -> Result<Entry> {
        let mut entry = Entry {
            kind: EntryKind::Directory,
            mode: meta.mode().into(),
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: u64::try_from(meta.modified().seconds()).unwrap_or(0),
            xattrs: BTreeMap::new(),
        };
        if !meta.is_dir() {
            let searched = self.searched.checked_sub(search);
            self.searched = searched.context("its directories are too large for their files")?;
            entry.kind = self.kind(meta, path)?;
        }
        self.budget.take_entry_path(path, &entry)?;
        Ok(entry)
    }

    fn kind(&mut self, meta: &Metadata, path: &Path) -> Result<EntryKind> {
        let place = absolute(path);
        if meta.is_symlink() {
            let fits = meta.len() < image_path::PATH_MAX as u64;
            ensure!(fits, "the link /{} is longer than a path can be", path.escaped());
            let target = self.image.read_link(&place[..])?;
            return Ok(EntryKind::Link(PathBuf::from(OsStr::from_bytes(target.as_ref()))));
        }
        let is_file = meta.file_type().is_regular_file();
        ensure!(is_file, "/{}: {SPECIAL}", path.escaped());
        self.budget.take_content(path, meta.len())?;
        Ok(EntryKind::File(digest::read_content(path, self.image.open(&place[..])?)?))
    }
}
