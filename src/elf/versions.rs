//! Changes to the table of needed versions, which has to agree with `DT_NEEDED`.

use elf::abi;

use crate::elf::Error;
use crate::elf::codec::slice;
use crate::elf::tables::DynamicTables;
use crate::elf::version_tables::VerneedTable;

/// Returns the number of version needs that remain, or `None` if none is removed.
pub(crate) fn count_remaining(
    tables: &DynamicTables<'_, '_>,
    removed: &[u64],
) -> Result<Option<u64>, Error> {
    if removed.is_empty() {
        return Ok(None);
    }
    let files = tables.parse_version_needs()?.files;
    Ok(Some(files.iter().filter(|file| !removed.contains(&file.at)).count() as u64))
}

/// Bytes to write, by offset in the old file.
type OldOffsetWrites = Vec<(u64, Vec<u8>)>;

/// Returns bytes to write. These are names of renamed libraries, the chain without the removed
/// entries, and symbols that lose their version.
pub(crate) fn collect_writes(
    tables: &DynamicTables<'_, '_>,
    renamed: &[(u64, u64)],
    removed: &[u64],
) -> Result<OldOffsetWrites, Error> {
    let mut writes = Vec::new();
    if renamed.is_empty() && removed.is_empty() {
        return Ok(writes);
    }
    let codec = tables.layout.codec;
    let needs = tables.parse_version_needs()?;
    for &(at, name) in renamed {
        writes.push((needs.offset + at + 4, codec.u32_field(name)?.to_vec()));
    }
    if !removed.is_empty() {
        unlink_needs(tables, &needs, removed, &mut writes)?;
        release_symbols(tables, &needs, removed, &mut writes)?;
    }
    Ok(writes)
}

/// Removes entries from the chain. The first entry cannot be skipped, so the first one that remains
/// is written over it.
fn unlink_needs(
    tables: &DynamicTables<'_, '_>,
    needs: &VerneedTable,
    removed: &[u64],
    writes: &mut OldOffsetWrites,
) -> Result<(), Error> {
    let layout = tables.layout;
    let codec = layout.codec;
    let kept: Vec<_> = needs.files.iter().filter(|file| !removed.contains(&file.at)).collect();
    for (position, file) in kept.iter().enumerate() {
        let old_offset = needs.offset + file.at;
        let new_at = if position == 0 { 0 } else { file.at };
        let next = kept.get(position + 1).map_or(0, |next| next.at - new_at);
        let outside =
            Error::malformed("an entry of DT_VERNEED ends outside of the file", old_offset);
        let old = slice(layout.bytes, old_offset, 12).ok_or(outside)?;
        let aux = codec.u32_at(old, 8).map(u64::from).ok_or(outside)? + (file.at - new_at);
        let mut entry = old.get(..8).unwrap_or_default().to_vec();
        if let Some((_, name)) = writes.iter().find(|(offset, _)| *offset == old_offset + 4) {
            entry.truncate(4);
            entry.extend(name);
        }
        entry.extend_from_slice(&codec.u32_field(aux)?);
        entry.extend_from_slice(&codec.u32_field(next)?);
        writes.push((needs.offset + new_at, entry));
    }
    let section = layout.sections.iter().position(|section| {
        section.sh_type == abi::SHT_GNU_VERNEED
            && Some(section.sh_addr) == tables.dynamic.value(abi::DT_VERNEED)
    });
    if let Some(index) = section {
        let header = layout.header.e_shoff + index as u64 * layout.section_size();
        let field = if codec.is_64() { 44 } else { 28 };
        writes.push((header + field, codec.u32_field(kept.len() as u64)?.to_vec()));
    }
    Ok(())
}

/// Releases symbols from versions that no library provides any more, so that they are looked up
/// without one. The loader uses the index in `.gnu.version` for its list of versions unchecked
/// (glibc elf/dl-lookup.c).
fn release_symbols(
    tables: &DynamicTables<'_, '_>,
    needs: &VerneedTable,
    removed: &[u64],
    writes: &mut OldOffsetWrites,
) -> Result<(), Error> {
    const GLOBAL: u16 = 1;
    let removed_files = needs.files.iter().filter(|file| removed.contains(&file.at));
    let removed_versions: Vec<u16> = removed_files
        .flat_map(|file| file.versions.iter().map(|version| version.index & 0x7fff))
        .collect();
    let table = tables.table_bytes(abi::DT_VERSYM, "DT_VERSYM ends outside of its segment")?;
    for number in 0..tables.symbol_count() {
        let at = table.advance(number, number)?;
        if removed_versions.contains(&(table.u16_at(at)? & 0x7fff)) {
            writes.push((table.offset + at, table.codec.u16_bytes(GLOBAL).to_vec()));
        }
    }
    Ok(())
}
