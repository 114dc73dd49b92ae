//! Parts of a disk image: the filesystem, its hashes, and their signature. They are found by the
//! types of the partitions; their names have no effect.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use uuid::{Uuid, uuid};

use crate::base::escape::Escape;
use crate::base::input;
use crate::fstree::digest;
use crate::fstree::entries::FileTree;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::ddi::gpt::{self, BACKUP, DiskPartition};
use crate::imagefmt::ddi::verity::RootHash;

/// Offset of the first partition, as with systemd-repart and sfdisk.
const FIRST: u64 = 1 << 20;
/// Alignment of partitions: the block size of hashes and filesystems.
const GRAIN: u64 = 4096;
/// Minimum size of a signature's partition, the same as with systemd-repart.
const SIGNATURE_SIZE: u64 = 16 << 10;
/// Limit of the size of a signature's partition that is read.
const SIGNATURE_MAX: u64 = 1 << 20;

/// Types of the three partitions, by architecture.
const TYPES: &[(Architecture, [Uuid; 3])] = &[
    (
        Architecture::X86_64,
        [
            uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
            uuid!("41092b05-9fc8-4523-994f-2def0408b176"),
        ],
    ),
    (
        Architecture::Arm64,
        [
            uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
            uuid!("df3300ce-d69f-4c92-978c-9bfb0f38d820"),
            uuid!("6db69de6-29f4-4758-a7a5-962190f00ce3"),
        ],
    ),
];

/// Names of the partitions, for people.
const NAMES: [&str; 3] = ["root", "root-verity", "root-verity-sig"];

/// Contents of the partitions that are written.
pub(super) struct DiskParts<'a> {
    /// Path of the filesystem image.
    pub data: &'a Path,
    /// Path of its hashes.
    pub hashes: &'a Path,
    /// Signature of the root hash, if the image is signed.
    pub signature: Option<Vec<u8>>,
    /// Root hash.
    pub root: RootHash,
}

/// Writes the disk image `output`.
pub(super) fn write(
    plan: &FileTree,
    architecture: Architecture,
    parts: &DiskParts<'_>,
    output: &Path,
) -> Result<()> {
    let mut contents: Vec<(Box<dyn Read + '_>, u64, Uuid)> = Vec::new();
    for (path, uuid) in
        [(parts.data, parts.root.data_uuid()), (parts.hashes, parts.root.hashes_uuid())]
    {
        let (file, size) = input::open_sized(path)?;
        contents.push((Box::new(file), size, uuid));
    }
    if let Some(signature) = &parts.signature {
        let size = (signature.len() as u64).max(SIGNATURE_SIZE);
        contents.push((Box::new(signature.as_slice()), size, derived(plan, "signature")));
    }
    let types = TYPES.iter().find(|(known, _)| *known == architecture).map(|(_, types)| types);
    let types = types.context("this architecture has no partition types")?;
    let mut file =
        fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(output)?;
    let mut partitions = Vec::new();
    let mut start = FIRST;
    for (((mut content, size, unique), kind), name) in contents.into_iter().zip(types).zip(NAMES) {
        file.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut content, &mut file)?;
        let size = size.next_multiple_of(GRAIN);
        partitions.push((DiskPartition { kind: *kind, unique, start, size }, name));
        start += size;
    }
    let end = (start + BACKUP).next_multiple_of(GRAIN);
    file.set_len(end)?;
    gpt::write_tables(&mut file, derived(plan, "disk"), end, &partitions)
        .with_context(|| format!("could not write the partition table of {}", output.escaped()))
}

/// Returns a UUID for a part of the image other than the content, derived from the content's UUID.
fn derived(plan: &FileTree, what: &str) -> Uuid {
    let space = digest::tree_uuid(plan).parse().unwrap_or_default();
    Uuid::new_v5(&space, what.as_bytes())
}

/// Opened disk image.
pub(super) struct DiskImage {
    file: fs_err::File,
    data: DiskPartition,
    hashes: Option<DiskPartition>,
    signature: Option<DiskPartition>,
}

impl DiskImage {
    /// Opens the disk image at `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (mut file, size) = input::open_sized(path)?;
        let partitions = gpt::read_table(&mut file, size)
            .with_context(|| format!("{} has no whole partition table", path.escaped()))?;
        let found = |kind: Uuid| {
            let mut found = partitions.iter().filter(move |partition| partition.kind == kind);
            let first = found.next().copied();
            ensure!(found.next().is_none(), "{} has two partitions {kind}", path.escaped());
            Ok(first)
        };
        let mut images = Vec::new();
        for (_, [data, hashes, signature]) in TYPES {
            if let Some(data) = found(*data)? {
                images.push((data, found(*hashes)?, found(*signature)?));
            }
        }
        match images.as_slice() {
            [(data, hashes, signature)] => {
                Ok(Self { file, data: *data, hashes: *hashes, signature: *signature })
            }
            [] => bail!("{} has no root partition", path.escaped()),
            _ => bail!("{} has root partitions for several architectures", path.escaped()),
        }
    }

    /// Copies the filesystem to the file `to`.
    pub(super) fn copy_data(&mut self, to: &Path) -> Result<()> {
        let data = self.data;
        self.copy(data, to)
    }

    /// Copies the hashes to the file `to`. Returns the root hash, of which each half is the UUID
    /// of a partition; `None` if the image has no hashes.
    pub(super) fn copy_hashes(&mut self, to: &Path) -> Result<Option<RootHash>> {
        let Some(hashes) = self.hashes else { return Ok(None) };
        self.copy(hashes, to)?;
        Ok(Some(RootHash::of_uuids(self.data.unique, hashes.unique)))
    }

    /// Returns whether there is a partition with a signature.
    pub(super) fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// Returns the content of the signature's partition; `None` if the image is not signed.
    pub(super) fn signature(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(signature) = self.signature else { return Ok(None) };
        ensure!(signature.size <= SIGNATURE_MAX, "its signature is too large");
        let mut bytes = Vec::new();
        self.reader(signature)?.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn copy(&mut self, partition: DiskPartition, to: &Path) -> Result<()> {
        let part = fs_err::File::create(to)?;
        let range = partition.start..partition.start + partition.size;
        input::copy_data(self.file.file(), range, part.file(), 0)
    }

    fn reader(&mut self, partition: DiskPartition) -> Result<impl Read + '_> {
        self.file.seek(SeekFrom::Start(partition.start))?;
        Ok((&mut self.file).take(partition.size))
    }
}
