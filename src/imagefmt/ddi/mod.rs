//! A DDI: a disk image with partitions for the filesystem, its hashes and their signature. systemd
//! finds them by the partitions' types (Discoverable Partitions Specification,
//! <https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>). fprefix
//! writes it without systemd-repart, which can do so only since version 255.

pub(crate) mod pkcs11;
pub(crate) mod verity;

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptDisk};
use uuid::Uuid;

use crate::fstree::digest;
use crate::fstree::entries::FileTree;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::ddi::verity::RootHash;

const SECTOR: u64 = 512;
/// Offset of the first partition, as with systemd-repart and sfdisk.
const FIRST: u64 = 1 << 20;
/// Alignment of partitions: the block size of hashes and filesystems.
const GRAIN: u64 = 4096;
/// Minimum size of a signature's partition, the same as with systemd-repart.
const SIGNATURE_SIZE: u64 = 16 << 10;
/// Size of the backup partition table: its entries and its header.
const BACKUP: u64 = 33 * SECTOR;
/// Flag of a read-only partition (the specification, "partition flags").
const READ_ONLY: u64 = 1 << 60;

/// Types of the three partitions, by architecture.
const TYPES: &[(Architecture, [&str; 3])] = &[
    (
        Architecture::X86_64,
        [
            "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
            "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
            "41092b05-9fc8-4523-994f-2def0408b176",
        ],
    ),
    (
        Architecture::Arm64,
        [
            "b921b045-1df0-41c3-af44-4c6f280d3fae",
            "df3300ce-d69f-4c92-978c-9bfb0f38d820",
            "6db69de6-29f4-4758-a7a5-962190f00ce3",
        ],
    ),
];

/// Names of the partitions.
const NAMES: [&str; 3] = ["root", "root-verity", "root-verity-sig"];

/// Contents of the partitions.
pub(crate) struct Parts<'a> {
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
pub(crate) fn write(
    plan: &FileTree,
    architecture: Architecture,
    parts: &Parts<'_>,
    output: &Path,
) -> Result<()> {
    let mut contents: Vec<(Box<dyn Read + '_>, u64, Uuid)> = Vec::new();
    for (path, uuid) in
        [(parts.data, parts.root.data_uuid()), (parts.hashes, parts.root.hashes_uuid())]
    {
        let file = fs_err::File::open(path)?;
        let size = file.metadata()?.len();
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
    let mut partitions = BTreeMap::new();
    let mut start = FIRST;
    for (index, (mut content, size, uuid)) in contents.into_iter().enumerate() {
        file.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut content, &mut file)?;
        let size = size.next_multiple_of(GRAIN);
        let partition = Partition {
            part_type_guid: Type { guid: types[index].parse()?, os: OperatingSystem::Linux },
            part_guid: uuid,
            first_lba: start / SECTOR,
            last_lba: (start + size) / SECTOR - 1,
            flags: READ_ONLY,
            name: NAMES[index].to_owned(),
        };
        partitions.insert(u32::try_from(index + 1)?, partition);
        start += size;
    }
    let end = (start + BACKUP).next_multiple_of(GRAIN);
    file.set_len(end)?;
    write_table(&mut file, derived(plan, "disk"), end, partitions)
        .with_context(|| format!("could not write the partition table of {}", output.display()))
}

fn write_table(
    file: &mut fs_err::File,
    disk: Uuid,
    size: u64,
    partitions: BTreeMap<u32, Partition>,
) -> Result<()> {
    let sectors = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(file.file_mut())?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(file.file_mut(), Some(disk))?;
    table.update_partitions(partitions)?;
    table.write()?.flush()?;
    Ok(())
}

/// Splits the disk image `image` into its partitions: the filesystem image and the hashes are
/// written to files in the directory `dir`. The root hash comes from the partitions' UUIDs.
pub(crate) fn take_apart(image: &Path, dir: &Path) -> Result<RootHash> {
    fs_err::create_dir_all(dir)?;
    let mut file = fs_err::File::open(image)?;
    let config = GptConfig::new().only_valid_headers(true).readonly_backup(true);
    let table: GptDisk<_> = config
        .open_from_device(file.file_mut())
        .with_context(|| format!("{} has no whole partition table", image.display()))?;
    let partitions = table.partitions().clone();
    let mut uuids = Vec::new();
    for partition in partitions.values() {
        file.seek(SeekFrom::Start(partition.first_lba * SECTOR))?;
        let size = (partition.last_lba + 1 - partition.first_lba) * SECTOR;
        let mut part = fs_err::File::create(dir.join(&partition.name))?;
        std::io::copy(&mut (&mut file).take(size), &mut part)?;
        uuids.extend(partition.part_guid.as_bytes());
    }
    match uuids.first_chunk() {
        Some(root) => Ok(RootHash(*root)),
        None => bail!("{} has less than two partitions", image.display()),
    }
}

/// Name of the file that [`take_apart`] writes for the filesystem partition.
pub(crate) const DATA: &str = NAMES[0];
/// Name of the file that [`take_apart`] writes for the partition with the hashes.
pub(crate) const HASHES: &str = NAMES[1];

/// Returns a UUID for a part of the image other than the content, derived from the content's UUID.
fn derived(plan: &FileTree, what: &str) -> Uuid {
    let space = digest::tree_uuid(plan).parse().unwrap_or_default();
    Uuid::new_v5(&space, what.as_bytes())
}
