//! Writing of an ext4 image.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use zerocopy::FromZeros;
use zerocopy::little_endian::U32;

use crate::base::escape::Escape;
use crate::fstree::digest;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::host::tools;
use crate::imagefmt::ext4::content::{self, Mapped};
use crate::imagefmt::ext4::directory::{DirectoryBlocks, NamedKind};
use crate::imagefmt::ext4::space::Ext4Space;
use crate::imagefmt::ext4::structures::{
    BLOCK, DIRECTORY, EXTENTS, EXTRA, Ext4Inode, FILE, INODE, LINK, ROOT, SHORT_LINK,
};
use crate::imagefmt::ext4::xattrs;

/// Features without those that a mounted image never needs (ext4(5)): a journal, room to grow.
/// Every kernel that attaches extensions knows the remaining ones.
const FEATURES: &str = "none,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,\
                        huge_file,large_file,sparse_super";
/// Limits of the names of a file and of the subdirectories that a directory counts (`EXT4_LINK_MAX`).
const LINKS: u32 = 65_000;
/// First time that inodes cannot have: their seconds have 34 bits, the lowest half of them negative.
const TIME_END: u64 = 0x3_8000_0000;

/// Writes `plan` as the ext4 image `output`.
pub(super) fn write(plan: &FileTree, output: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    require_room(plan)?;
    make_empty(plan, output)?;
    let mut filler = Ext4Filler {
        plan,
        others: plan.other_names(),
        firsts: BTreeMap::new(),
        space: Ext4Space::open(output)?,
        open: Vec::new(),
        buffer: Vec::new(),
        progress,
    };
    filler.fill()?;
    filler.space.finish(plan.epoch)
}

/// Fails if ext4 cannot hold an entry of `plan`.
fn require_room(plan: &FileTree) -> Result<()> {
    ensure!(plan.epoch < TIME_END, "an ext4 image cannot have the time {}", plan.epoch);
    for (path, entry) in &plan.entries {
        let fits = || {
            ensure!(entry.mtime < TIME_END, "it has the time {}", entry.mtime);
            xattrs::encode(&entry.xattrs).map(drop)
        };
        fits().with_context(|| format!("an ext4 image cannot hold /{}", path.escaped()))?;
    }
    for (path, count) in plan.other_names() {
        let path = path.escaped();
        ensure!(count < LINKS, "an ext4 image cannot hold /{path}: it has {} names", count + 1);
    }
    Ok(())
}

/// Makes an image with room for `plan`.
fn make_empty(plan: &FileTree, output: &Path) -> Result<()> {
    let uuid = digest::tree_uuid(plan);
    let inodes = plan.entries.len() + 32;
    tools::MKE2FS
        .command("write the ext4 image")?
        // The times that it writes are replaced. 0 would be the current one.
        .env("E2FSPROGS_FAKE_TIME", "1")
        // The machine's mke2fs.conf(5) must have no effect.
        .env("MKE2FS_CONFIG", "/dev/null")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", FEATURES, "-U", &uuid])
        .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string(), "-N", &inodes.to_string()])
        .args(["-E", &format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0,nodiscard")])
        .arg(output)
        .arg(blocks(plan).to_string())
        .run_quiet()
}

/// Returns the number of blocks: data, directories, inodes, bitmaps, and a reserve.
fn blocks(plan: &FileTree) -> u64 {
    let block = BLOCK as u64;
    let mut names: BTreeMap<&Path, u64> = BTreeMap::new();
    let mut blocks = 0;
    for (path, entry) in &plan.entries {
        let length = path.file_name().unwrap_or_default().len() as u64;
        *names.entry(path.parent().unwrap_or(path)).or_default() += 12 + length;
        blocks += match &entry.kind {
            EntryKind::File(content) => {
                content.size.div_ceil(block) + content::tree_blocks(content.size)
            }
            _ => 1,
        };
        blocks += u64::from(!entry.xattrs.is_empty());
    }
    // A block of a directory may have unused space of nearly the longest name.
    blocks += names.values().map(|bytes| bytes.div_ceil(block - 264)).sum::<u64>();
    blocks += (plan.entries.len() + 32).div_ceil(BLOCK / INODE) as u64;
    blocks + blocks / 50 + 256
}

/// Directory whose entries are being written.
struct OpenDirectory {
    path: PathBuf,
    inode: u32,
    blocks: DirectoryBlocks,
    subdirectories: u32,
}

/// Writer of entries in the order of the plan: a directory before its contents, and these before
/// anything else.
struct Ext4Filler<'a> {
    plan: &'a FileTree,
    others: BTreeMap<&'a Path, u32>,
    /// Inodes of files with several names.
    firsts: BTreeMap<&'a Path, u32>,
    space: Ext4Space,
    /// Directories on the path of the next entry.
    open: Vec<OpenDirectory>,
    buffer: Vec<u8>,
    progress: &'a dyn Fn(u64),
}

impl<'a> Ext4Filler<'a> {
    fn fill(&mut self) -> Result<()> {
        self.begin_directory(Path::new(""), ROOT, ROOT);
        let plan = self.plan;
        for (path, entry) in &plan.entries {
            let parent = path.parent().unwrap_or(Path::new(""));
            while self.open.last().is_some_and(|open| open.path != parent) {
                self.end_directory()?;
            }
            self.add(path, entry).with_context(|| format!("could not pack /{}", path.escaped()))?;
        }
        while !self.open.is_empty() {
            self.end_directory()?;
        }
        Ok(())
    }

    fn add(&mut self, path: &'a Path, entry: &'a Entry) -> Result<()> {
        let (inode, kind) = match &entry.kind {
            EntryKind::HardLink(first) => {
                let known = self.firsts.get(first.as_path());
                (*known.context("its first name comes later")?, NamedKind::File)
            }
            EntryKind::Directory => (self.space.take_inode(), NamedKind::Directory),
            EntryKind::File(_) => (self.space.take_inode(), NamedKind::File),
            EntryKind::Link(_) => (self.space.take_inode(), NamedKind::Link),
        };
        let parent = self.open.last_mut().context("its directory is missing")?;
        parent.blocks.add(path.file_name().unwrap_or_default().as_bytes(), inode, kind);
        match &entry.kind {
            EntryKind::Directory => {
                parent.subdirectories += 1;
                let parent = parent.inode;
                self.begin_directory(path, inode, parent);
            }
            EntryKind::File(file) => {
                let mapped =
                    content::write_file(&mut self.space, file, &mut self.buffer, self.progress)?;
                let others = self.others.get(path).copied();
                if others.is_some() {
                    self.firsts.insert(path, inode);
                }
                let links = 1 + others.unwrap_or(0);
                self.write_inode(inode, entry, FILE, links, file.size, &mapped)?;
            }
            EntryKind::Link(target) => {
                self.write_link(inode, entry, target.as_os_str().as_bytes())?;
            }
            EntryKind::HardLink(_) => {}
        }
        Ok(())
    }

    fn begin_directory(&mut self, path: &Path, inode: u32, parent: u32) {
        let blocks = DirectoryBlocks::new(inode, parent);
        self.open.push(OpenDirectory { path: path.to_owned(), inode, blocks, subdirectories: 0 });
    }

    /// Writes the directory that was opened last.
    fn end_directory(&mut self) -> Result<()> {
        let Some(directory) = self.open.pop() else { bail!("no directory is open") };
        let bytes = directory.blocks.finish();
        let mapped = content::write_bytes(&mut self.space, &bytes)?;
        let root = Entry::shared_directory(self.plan.epoch);
        let entry = self.plan.entries.get(&directory.path).unwrap_or(&root);
        // With more, it counts as 1 (dir_nlink).
        let links = directory.subdirectories + 2;
        let links = if links < LINKS { links } else { 1 };
        let (inode, size) = (directory.inode, bytes.len() as u64);
        if inode != ROOT {
            self.space.count_directory(inode)?;
        }
        self.write_inode(inode, entry, DIRECTORY, links, size, &mapped)
    }

    fn write_link(&mut self, inode: u32, entry: &Entry, target: &[u8]) -> Result<()> {
        let size = target.len() as u64;
        if target.len() > SHORT_LINK {
            let mapped = content::write_bytes(&mut self.space, target)?;
            return self.write_inode(inode, entry, LINK, 1, size, &mapped);
        }
        let mut root = [0; 60];
        for (to, from) in root.iter_mut().zip(target) {
            *to = *from;
        }
        self.write_inode(inode, entry, LINK, 1, size, &Mapped { root, blocks: 0 })
    }

    fn write_inode(
        &mut self,
        number: u32,
        entry: &Entry,
        kind: u16,
        links: u32,
        size: u64,
        mapped: &Mapped,
    ) -> Result<()> {
        let mut inode = Ext4Inode::new_zeroed();
        let mut blocks = mapped.blocks;
        if !entry.xattrs.is_empty() {
            let block = self.space.take(1)?.start;
            self.space.write_blocks(block, &xattrs::encode(&entry.xattrs)?)?;
            inode.xattrs = block.into();
            blocks += 1;
        }
        let is_short = kind == LINK && size <= SHORT_LINK as u64;
        inode.flags = if is_short { 0 } else { EXTENTS }.into();
        inode.map = mapped.root;
        inode.mode = (kind | u16::try_from(entry.mode & 0o7777)?).into();
        inode.links = u16::try_from(links)?.into();
        (inode.size, inode.size_high) = halves(size);
        inode.sectors = u32::try_from(blocks * (BLOCK as u64 / 512))?.into();
        set_owner(&mut inode, entry);
        set_times(&mut inode, entry.mtime, self.plan.epoch);
        self.space.write_inode(number, &inode)
    }
}

fn set_owner(inode: &mut Ext4Inode, entry: &Entry) {
    let half = |number: u32| u16::try_from(number & 0xffff).unwrap_or(0).into();
    (inode.uid, inode.uid_high) = (half(entry.uid), half(entry.uid >> 16));
    (inode.gid, inode.gid_high) = (half(entry.gid), half(entry.gid >> 16));
}

/// Sets the time of the content, and all others to `epoch`.
fn set_times(inode: &mut Ext4Inode, time: u64, epoch: u64) {
    inode.extra = EXTRA.into();
    (inode.time, inode.time_extra) = time_halves(time);
    let (low, high) = time_halves(epoch);
    (inode.access_time, inode.access_time_extra) = (low, high);
    (inode.change_time, inode.change_time_extra) = (low, high);
    (inode.creation_time, inode.creation_time_extra) = (low, high);
}

fn halves(number: u64) -> (U32, U32) {
    let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0).into();
    (half(number), half(number >> 32))
}

/// Returns the lower half, which is signed, and what is to be added to it, in units of 2^32.
fn time_halves(time: u64) -> (U32, U32) {
    (halves(time).0, halves(time + (1 << 31)).1)
}
