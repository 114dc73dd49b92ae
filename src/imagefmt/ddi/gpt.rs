//! GUID partition tables (UEFI Specification 2.10, chapter 5).

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use crc::{CRC_32_ISO_HDLC, Crc};
use fs_err::File;
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::imagefmt::image_format::Magic;

/// Size of a sector, in bytes.
const SECTOR: u64 = 512;
/// Size of the table after the partitions, in bytes: its entries and its header.
pub(super) const BACKUP: u64 = 33 * SECTOR;
/// Magic number, at the start of the header in the second sector.
pub(super) const MAGIC: Magic = Magic { offset: 512, bytes: b"EFI PART" };

const REVISION: u32 = 0x1_0000;
/// Number of entries that a table is written with, the least that is allowed.
const ENTRIES: u32 = 128;
/// Limit of the size of all entries in bytes, so that a damaged image does not exhaust memory.
const ENTRIES_MAX: u64 = 1 << 20;
/// Flag of a read-only partition (Discoverable Partitions Specification, "partition flags").
const READ_ONLY: u64 = 1 << 60;
/// Type of the one partition that a protective MBR has.
const PROTECTIVE: u8 = 0xee;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// First sector of the disk, for programs that know no GPT.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ProtectiveMbr {
    boot_code: [u8; 440],
    disk_signature: U32,
    unknown: U16,
    partitions: [MbrPartition; 4],
    signature: [u8; 2],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct MbrPartition {
    boot_indicator: u8,
    first_cylinder_head_sector: [u8; 3],
    kind: u8,
    last_cylinder_head_sector: [u8; 3],
    first_sector: U32,
    sectors: U32,
}

/// Header of the table.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct GptHeader {
    signature: [u8; 8],
    revision: U32,
    header_size: U32,
    header_crc: U32,
    reserved: U32,
    own_sector: U64,
    other_sector: U64,
    first_usable_sector: U64,
    last_usable_sector: U64,
    disk: [u8; 16],
    entries_sector: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc: U32,
}

/// Entry of the table.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct GptEntry {
    kind: [u8; 16],
    unique: [u8; 16],
    first_sector: U64,
    last_sector: U64,
    attributes: U64,
    name: [U16; 36],
}

/// Sizes of the structures: those of the specification's first revision, and the only ones in use.
const HEADER_SIZE: u32 = 92;
const ENTRY_SIZE: u32 = 128;

const _: () = assert!(size_of::<GptHeader>() == HEADER_SIZE as usize);
const _: () = assert!(size_of::<GptEntry>() == ENTRY_SIZE as usize);
const _: () = assert!(size_of::<ProtectiveMbr>() as u64 == SECTOR);

/// Partition of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskPartition {
    /// Type.
    pub kind: Uuid,
    /// UUID of this partition alone.
    pub unique: Uuid,
    /// Offset of its first byte in the image.
    pub start: u64,
    /// Size in bytes.
    pub size: u64,
}

/// Writes the tables of a disk of `size` bytes. The partitions, with their names, are read-only.
pub(super) fn write_tables(
    file: &mut File,
    disk: Uuid,
    size: u64,
    partitions: &[(DiskPartition, &str)],
) -> Result<()> {
    let mut entries = [GptEntry::new_zeroed(); ENTRIES as usize];
    for (entry, (partition, name)) in entries.iter_mut().zip(partitions) {
        *entry = partition.entry(name);
    }
    let sectors = size / SECTOR;
    let header = GptHeader {
        signature: MAGIC.bytes.try_into()?,
        revision: REVISION.into(),
        header_size: HEADER_SIZE.into(),
        header_crc: 0.into(),
        reserved: 0.into(),
        own_sector: 1.into(),
        other_sector: (sectors - 1).into(),
        first_usable_sector: (1 + BACKUP / SECTOR).into(),
        last_usable_sector: (sectors - BACKUP / SECTOR - 1).into(),
        disk: disk.to_bytes_le(),
        entries_sector: 2.into(),
        entry_count: ENTRIES.into(),
        entry_size: ENTRY_SIZE.into(),
        entries_crc: CRC.checksum(entries.as_bytes()).into(),
    };
    let backup = GptHeader {
        own_sector: header.other_sector,
        other_sector: header.own_sector,
        entries_sector: (sectors - BACKUP / SECTOR).into(),
        ..header
    };
    file.rewind()?;
    file.write_all(ProtectiveMbr::of_disk(sectors).as_bytes())?;
    for header in [header, backup] {
        file.seek(SeekFrom::Start(header.entries_sector.get() * SECTOR))?;
        file.write_all(entries.as_bytes())?;
        file.seek(SeekFrom::Start(header.own_sector.get() * SECTOR))?;
        file.write_all(GptHeader { header_crc: header.crc().into(), ..header }.as_bytes())?;
    }
    Ok(())
}

/// Reads the partitions of the disk image `disk` of `end` bytes, in which they all lie.
///
/// # Errors
///
/// Fails if the first table is damaged. The second one is for repairs, and nothing is repaired.
pub(crate) fn read_table(disk: &mut (impl Read + Seek), end: u64) -> Result<Vec<DiskPartition>> {
    let mut header = GptHeader::new_zeroed();
    disk.seek(SeekFrom::Start(SECTOR))?;
    disk.read_exact(header.as_mut_bytes()).context("its partition table ends early")?;
    ensure!(header.signature == *MAGIC.bytes, "it has no partition table");
    let is_whole = header.header_size == HEADER_SIZE && header.crc() == header.header_crc.get();
    ensure!(is_whole, "the header of its partition table is damaged");
    let entry_size = header.entry_size.get();
    let size = u64::from(entry_size) * u64::from(header.entry_count.get());
    ensure!(
        entry_size >= ENTRY_SIZE && size <= ENTRIES_MAX,
        "its partition table has {} entries of {entry_size} bytes",
        header.entry_count
    );
    let start = header.entries_sector.get().checked_mul(SECTOR);
    disk.seek(SeekFrom::Start(start.context("its partition table is outside of it")?))?;
    let mut entries = vec![0; usize::try_from(size)?];
    disk.read_exact(&mut entries).context("its partition table ends early")?;
    let is_whole = CRC.checksum(&entries) == header.entries_crc.get();
    ensure!(is_whole, "the entries of its partition table are damaged");
    let entries = entries.chunks_exact(usize::try_from(entry_size)?);
    let entries = entries.filter_map(|bytes| Some(GptEntry::read_from_prefix(bytes).ok()?.0));
    entries
        .filter(|entry| entry.kind != [0; 16])
        .map(|entry| DiskPartition::read(&entry, end))
        .collect()
}

impl ProtectiveMbr {
    fn of_disk(sectors: u64) -> Self {
        let mut mbr = Self::new_zeroed();
        mbr.partitions[0] = MbrPartition {
            boot_indicator: 0,
            first_cylinder_head_sector: [0, 2, 0],
            kind: PROTECTIVE,
            last_cylinder_head_sector: [0xff; 3],
            first_sector: 1.into(),
            sectors: u32::try_from(sectors - 1).unwrap_or(u32::MAX).into(),
        };
        mbr.signature = [0x55, 0xaa];
        mbr
    }
}

impl GptHeader {
    /// Returns the checksum of the header, which is made while its own field is zero.
    fn crc(&self) -> u32 {
        CRC.checksum(Self { header_crc: 0.into(), ..*self }.as_bytes())
    }
}

impl DiskPartition {
    fn entry(&self, name: &str) -> GptEntry {
        let mut entry = GptEntry {
            kind: self.kind.to_bytes_le(),
            unique: self.unique.to_bytes_le(),
            first_sector: (self.start / SECTOR).into(),
            last_sector: ((self.start + self.size) / SECTOR - 1).into(),
            attributes: READ_ONLY.into(),
            name: [0.into(); 36],
        };
        for (unit, letter) in entry.name.iter_mut().zip(name.encode_utf16()) {
            *unit = letter.into();
        }
        entry
    }

    /// Reads an entry of a disk of `end` bytes. Its name is text for people, and is left out.
    fn read(entry: &GptEntry, end: u64) -> Result<Self> {
        let (first, last) = (entry.first_sector.get(), entry.last_sector.get());
        let range = || {
            let start = first.checked_mul(SECTOR)?;
            let after = last.checked_add(1)?.checked_mul(SECTOR)?;
            Some((start, after.checked_sub(start)?)).filter(|_| after <= end)
        };
        let Some((start, size)) = range() else {
            bail!("a partition has the sectors {first} to {last}, which are not in the image");
        };
        let [kind, unique] = [entry.kind, entry.unique].map(Uuid::from_bytes_le);
        Ok(Self { kind, unique, start, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 20;

    fn disk() -> (tempfile::NamedTempFile, Vec<DiskPartition>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let partitions: Vec<DiskPartition> = (1..3)
            .map(|number| DiskPartition {
                kind: Uuid::from_u128(number),
                unique: Uuid::from_u128(number << 100),
                start: u64::try_from(number).unwrap() * 0x10000,
                size: 0x8000,
            })
            .collect();
        let named: Vec<_> = partitions.iter().map(|partition| (*partition, "../x")).collect();
        let mut opened = File::create(file.path()).unwrap();
        opened.set_len(SIZE).unwrap();
        write_tables(&mut opened, Uuid::from_u128(5), SIZE, &named).unwrap();
        (file, partitions)
    }

    fn read(bytes: &[u8]) -> Result<Vec<DiskPartition>> {
        read_table(&mut std::io::Cursor::new(bytes), bytes.len() as u64)
    }

    /// Changes the table and makes its checksums right.
    fn changed(change: impl Fn(&mut GptHeader, &mut [GptEntry])) -> Vec<u8> {
        let mut bytes = fs_err::read(disk().0.path()).unwrap();
        let (mut header, _) = GptHeader::read_from_prefix(&bytes[512..]).unwrap();
        let (entries, _) =
            <[GptEntry]>::mut_from_prefix_with_elems(&mut bytes[1024..], ENTRIES as usize).unwrap();
        change(&mut header, entries);
        header.entries_crc = CRC.checksum(entries.as_bytes()).into();
        header.header_crc = header.crc().into();
        bytes[512..512 + HEADER_SIZE as usize].copy_from_slice(header.as_bytes());
        bytes
    }

    #[test]
    fn partitions_that_were_written_are_read() {
        let (file, partitions) = disk();
        assert_eq!(read(&fs_err::read(file.path()).unwrap()).unwrap(), partitions);
        assert_eq!(read(&changed(|_, _| ())).unwrap(), partitions);
    }

    #[test]
    fn a_damaged_table_is_an_error() {
        let bytes = fs_err::read(disk().0.path()).unwrap();
        for length in [0, 511, 512, 600, 603, 1024, 17407] {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        for at in (512..604).chain([1024, 1040, 1060, 17407]) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            assert!(read(&bytes).is_err(), "{at}");
        }
    }

    #[test]
    fn numbers_that_lead_out_of_the_image_are_errors() {
        let far = u64::MAX;
        assert!(read(&changed(|header, _| header.entries_sector = far.into())).is_err());
        assert!(read(&changed(|header, _| header.entries_sector = (1 << 30).into())).is_err());
        assert!(read(&changed(|header, _| header.entry_count = u32::MAX.into())).is_err());
        assert!(read(&changed(|header, _| header.entry_size = 0.into())).is_err());
        assert!(read(&changed(|header, _| header.entry_size = u32::MAX.into())).is_err());
        for (first, last) in [(0, far), (far, far), (far, 0), (9, 7), (0, SIZE / SECTOR)] {
            let bytes = changed(|_, entries| {
                entries[0].first_sector = first.into();
                entries[0].last_sector = last.into();
            });
            assert!(read(&bytes).is_err(), "{first} {last}");
        }
    }
}
