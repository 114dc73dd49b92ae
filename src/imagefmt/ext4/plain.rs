//! Reading of an ext4 image of the form that fprefix writes, inode by inode: each block is read once,
//! however many entries a directory has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use ext4_view::Ext4Read;
use zerocopy::{FromZeros, IntoBytes};

use crate::base::escape::Escape;
use crate::fstree::budget::TreeBudget;
use crate::fstree::digest;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::fstree::image_path;
use crate::fstree::scan::{SPECIAL, WHITEOUT};
use crate::imagefmt::ext4::structures::{
    BLOCK, CHARACTER_DEVICE, COMPAT, DIRECTORY, EXTENT_MAGIC, EXTENT_MAX, EXTENTS, EXTRA,
    Ext4DirectoryEntry, Ext4Extent, Ext4Inode, Ext4Superblock, ExtentHeader, ExtentIndex, FILE,
    GroupDescriptor, INCOMPAT, INODE, LINK, RO_COMPAT, ROOT, SHORT_LINK, TYPE,
};
use crate::imagefmt::ext4::xattrs;
use crate::imagefmt::on_disk;

/// Limit of the levels of a tree of extents (Linux, `EXT4_MAX_EXTENT_DEPTH`).
const DEPTH: u16 = 5;

/// Returns whether an image has the form that this module reads.
pub(super) fn is_plain(superblock: &Ext4Superblock) -> bool {
    superblock.log_block_size.get() == 2
        && usize::from(superblock.inode_size.get()) == INODE
        && superblock.compat.get() | COMPAT == COMPAT
        && superblock.incompat.get() | INCOMPAT == INCOMPAT
        && superblock.ro_compat.get() | RO_COMPAT == RO_COMPAT
}

/// Name of an entry, before all names of its inode are known.
struct NamedInode {
    path: PathBuf,
    number: u32,
}

/// File with several names.
struct SharedFile {
    entry: Entry,
    names: Vec<PathBuf>,
    links: u16,
}

/// Image, and what may still be read of it.
pub(super) struct PlainReader {
    stream: Box<dyn Ext4Read>,
    blocks: u64,
    inodes: u32,
    inodes_per_group: u32,
    groups: Vec<GroupDescriptor>,
    budget: TreeBudget,
    /// Blocks of directories, and of trees of extents. In a whole image, no two of them share their
    /// blocks.
    unread: u64,
    shared: HashMap<u32, SharedFile>,
}

impl PlainReader {
    /// Opens the image of `size` bytes in `stream`, which has `groups` groups of blocks.
    pub(super) fn open(
        mut stream: Box<dyn Ext4Read>,
        superblock: &Ext4Superblock,
        groups: usize,
        size: u64,
        budget: TreeBudget,
    ) -> Result<Self> {
        ensure!(superblock.blocks_per_group.get() > 0, "blocks per group is zero");
        let mut groups = vec![GroupDescriptor::new_zeroed(); groups];
        stream.read(BLOCK as u64, groups.as_mut_bytes()).map_err(Error::from_boxed)?;
        let blocks = size / BLOCK as u64;
        let inodes_per_group = superblock.inodes_per_group.get();
        ensure!(inodes_per_group > 0, "inodes per group is zero");
        Ok(Self {
            stream,
            blocks,
            inodes: superblock.inodes.get(),
            inodes_per_group,
            groups,
            budget,
            unread: blocks,
            shared: HashMap::new(),
        })
    }

    /// Reads all entries into `found`, with the root directory, whose path is empty.
    pub(super) fn read_into(mut self, found: &mut FileTree) -> Result<()> {
        let root = self.read_inode(ROOT)?;
        ensure!(root.mode.get() & TYPE == DIRECTORY, "its root directory is none");
        found.entries.insert(PathBuf::new(), self.entry(&root, EntryKind::Directory)?);
        let mut ahead = self.names(&root, Path::new(""))?;
        while let Some(NamedInode { path, number }) = ahead.pop() {
            let inode = self.read_inode(number)?;
            let about = || format!("/{}", path.escaped());
            let Some(entry) = self.read_entry(number, &inode, &path).with_context(about)? else {
                continue;
            };
            if entry.is_directory() {
                ahead.append(&mut self.names(&inode, &path).with_context(about)?);
            }
            ensure!(found.entries.insert(path, entry).is_none(), "a name is in it twice");
        }
        self.add_shared(found)
    }

    /// Adds files with several names. The first of the names is the file.
    fn add_shared(self, found: &mut FileTree) -> Result<()> {
        for SharedFile { entry, mut names, links } in self.shared.into_values() {
            names.sort_unstable();
            let first = names.first().context("a file has no name")?.clone();
            let count = names.len();
            ensure!(
                count == usize::from(links),
                "/{} has {count} names, and {links} are counted",
                first.escaped()
            );
            for name in names {
                let kind = if name == first {
                    entry.kind.clone()
                } else {
                    EntryKind::HardLink(first.clone())
                };
                let entry = Entry { kind, ..entry.clone() };
                ensure!(found.entries.insert(name, entry).is_none(), "a name is in it twice");
            }
        }
        Ok(())
    }

    /// Reads the entry at `path`; returns `None` for a file with several names.
    fn read_entry(&mut self, number: u32, inode: &Ext4Inode, path: &Path) -> Result<Option<Entry>> {
        let links = inode.links.get();
        let is_shared = inode.mode.get() & TYPE == FILE && links > 1;
        if let (true, Some(shared)) = (is_shared, self.shared.get_mut(&number)) {
            self.budget.take_path(path)?;
            shared.names.push(path.to_owned());
            return Ok(None);
        }
        let kind = self.read_kind(inode, path)?;
        let entry = self.entry(inode, kind)?;
        self.budget.take_entry_path(path, &entry)?;
        if is_shared {
            self.shared.insert(number, SharedFile { entry, names: vec![path.to_owned()], links });
            return Ok(None);
        }
        Ok(Some(entry))
    }

    fn entry(&mut self, inode: &Ext4Inode, kind: EntryKind) -> Result<Entry> {
        let mut entry = Entry::shared_directory(0);
        entry.kind = kind;
        entry.mode = u32::from(inode.mode.get() & 0o7777);
        entry.uid = u32::from(inode.uid_high.get()) << 16 | u32::from(inode.uid.get());
        entry.gid = u32::from(inode.gid_high.get()) << 16 | u32::from(inode.gid.get());
        let seconds = i64::from(inode.time.get().cast_signed());
        let seconds = seconds + (i64::from(inode.time_extra.get() & 3) << 32);
        entry.mtime = u64::try_from(seconds).unwrap_or(0);
        if inode.extra.get() == EXTRA {
            entry.xattrs = xattrs::decode_inside(&inode.xattrs_inside)?;
        }
        if inode.xattrs.get() != 0 {
            let block = self.read_block(inode.xattrs.get())?;
            entry.xattrs.append(&mut xattrs::decode(&block)?);
        }
        Ok(entry)
    }

    fn read_kind(&mut self, inode: &Ext4Inode, path: &Path) -> Result<EntryKind> {
        let size = u64::from(inode.size_high.get()) << 32 | u64::from(inode.size.get());
        match inode.mode.get() & TYPE {
            DIRECTORY => Ok(EntryKind::Directory),
            LINK => {
                ensure!(size < image_path::PATH_MAX as u64, "it is longer than a path can be");
                let length = usize::try_from(size)?;
                let target = if length <= SHORT_LINK {
                    on_disk::slice(&inode.map, 0, length)?.to_owned()
                } else {
                    let mut target = Vec::new();
                    self.content(inode, size)?.read_to_end(&mut target)?;
                    target
                };
                Ok(EntryKind::Link(PathBuf::from(OsStr::from_bytes(&target))))
            }
            FILE => {
                self.budget.take_content(path, size)?;
                Ok(EntryKind::File(digest::read_content(path, self.content(inode, size)?)?))
            }
            // An overlayfs whiteout has the number 0:0, which is where others have their map.
            CHARACTER_DEVICE if inode.map.starts_with(&[0; 8]) => bail!(WHITEOUT),
            _ => bail!(SPECIAL),
        }
    }

    /// Returns the entries of the directory at `path`.
    fn names(&mut self, inode: &Ext4Inode, path: &Path) -> Result<Vec<NamedInode>> {
        let size = u64::from(inode.size_high.get()) << 32 | u64::from(inode.size.get());
        self.take_blocks(size / BLOCK as u64)?;
        let mut found = Vec::new();
        let mut content = self.content(inode, size)?;
        let mut block = vec![0; BLOCK];
        for _ in 0..size / BLOCK as u64 {
            content.read_exact(&mut block)?;
            let mut at = 0;
            while at < BLOCK {
                let entry: &Ext4DirectoryEntry = on_disk::read_at(&block, at)?;
                let length = usize::from(entry.length.get());
                ensure!(length >= size_of::<Ext4DirectoryEntry>(), "a directory is damaged");
                let start = at + size_of::<Ext4DirectoryEntry>();
                let name = on_disk::slice(&block, start, entry.name_length.into())?;
                let number = entry.inode.get();
                if number != 0 && !matches!(name, b"." | b"..") {
                    found.push(NamedInode { path: image_path::join(path, name)?, number });
                }
                at += length;
            }
        }
        // They are taken from the end.
        found.reverse();
        Ok(found)
    }

    fn take_blocks(&mut self, blocks: u64) -> Result<()> {
        let unread = self.unread.checked_sub(blocks);
        self.unread = unread.context("its directories are larger than the image")?;
        Ok(())
    }

    fn read_inode(&mut self, number: u32) -> Result<Ext4Inode> {
        ensure!(number > 0 && number <= self.inodes, "it has no inode {number}");
        let (group, index) =
            ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let table = self.groups.get(group as usize).context("it has too few groups")?.inode_table;
        let offset = u64::from(table.get()) * BLOCK as u64 + u64::from(index) * INODE as u64;
        let mut inode = Ext4Inode::new_zeroed();
        self.stream.read(offset, inode.as_mut_bytes()).map_err(Error::from_boxed)?;
        Ok(inode)
    }

    fn read_block(&mut self, block: u32) -> Result<Vec<u8>> {
        let mut bytes = vec![0; BLOCK];
        let offset = u64::from(block) * BLOCK as u64;
        self.stream.read(offset, &mut bytes).map_err(Error::from_boxed)?;
        Ok(bytes)
    }

    /// Returns a reader of the `size` bytes of an inode.
    fn content(&mut self, inode: &Ext4Inode, size: u64) -> Result<ExtentReader<'_>> {
        ensure!(inode.flags.get() & EXTENTS != 0, "its blocks are not listed as extents");
        let mut extents = Vec::new();
        self.read_node(&inode.map, DEPTH, &mut extents)?;
        extents.reverse();
        Ok(ExtentReader { stream: &mut *self.stream, ahead: extents, at: 0, size })
    }

    /// Adds the extents below a node of a tree, which has at most `depth` levels below it. They are in
    /// ascending order, and none overlap.
    fn read_node(&mut self, node: &[u8], depth: u16, extents: &mut Vec<Ext4Extent>) -> Result<()> {
        let header: &ExtentHeader = on_disk::read_at(node, 0)?;
        ensure!(header.magic.get() == EXTENT_MAGIC, "a list of extents is damaged");
        ensure!(header.depth.get() <= depth, "a tree of extents has too many levels");
        let (start, count) = (size_of::<ExtentHeader>(), usize::from(header.entries.get()));
        if header.depth.get() > 0 {
            for index in on_disk::read_array_at::<ExtentIndex>(node, start, count)? {
                self.take_blocks(1)?;
                let below = self.read_block(index.leaf.get())?;
                self.read_node(&below, header.depth.get() - 1, extents)?;
            }
            return Ok(());
        }
        for extent in on_disk::read_array_at::<Ext4Extent>(node, start, count)? {
            let end = extents.last().map_or(0, Ext4Extent::end);
            let is_next = extent.logical.get() >= end && extent.length.get() <= EXTENT_MAX;
            ensure!(is_next && extents.len() as u64 <= self.blocks, "its extents are damaged");
            extents.push(*extent);
        }
        Ok(())
    }
}

impl Ext4Extent {
    /// Returns the block of the file that follows.
    fn end(&self) -> u32 {
        self.logical.get().saturating_add(self.length.get().into())
    }
}

/// Reader of the content of an inode. Between extents, it is zeros.
struct ExtentReader<'a> {
    stream: &'a mut dyn Ext4Read,
    /// Extents, the next one at the end.
    ahead: Vec<Ext4Extent>,
    at: u64,
    size: u64,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let block = BLOCK as u64;
        while self.ahead.last().is_some_and(|extent| u64::from(extent.end()) * block <= self.at) {
            self.ahead.pop();
        }
        let mut most = (self.size - self.at).min(buffer.len() as u64);
        let mut from = None;
        if let Some(extent) = self.ahead.last() {
            let start = u64::from(extent.logical.get()) * block;
            let end = if self.at < start { start } else { u64::from(extent.end()) * block };
            most = most.min(end - self.at);
            let place = u64::from(extent.start.get()) * block;
            from = (self.at >= start).then(|| place + (self.at - start));
        }
        let length = usize::try_from(most).unwrap_or(0).min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        match from {
            Some(offset) if !part.is_empty() => {
                self.stream.read(offset, part).map_err(io::Error::other)?;
            }
            _ => part.fill(0),
        }
        self.at += most;
        Ok(length)
    }
}
