//! Changes to the table of needed versions, which has to agree with `DT_NEEDED`.

use elf::abi;

use crate::elf::raw::slice;
use crate::elf::tables::{DynamicTables, Verneed};

/// Returns the number of version needs that remain, or `None` if none is removed.
pub(crate) fn remaining(tables: &DynamicTables<'_, '_>, orphaned: &[u64]) -> Option<u64> {
    if orphaned.is_empty() {
        return None;
    }
    let files = tables.version_needs()?.files;
    Some(files.iter().filter(|file| !orphaned.contains(&file.at)).count() as u64)
}

/// Returns bytes to write, by offset in the old file. These are names of renamed libraries, the
/// chain without the orphaned entries, and symbols that lose their version.
pub(crate) fn edits(
    tables: &DynamicTables<'_, '_>,
    renamed: &[(u64, u64)],
    orphaned: &[u64],
) -> Option<Vec<(u64, Vec<u8>)>> {
    if renamed.is_empty() && orphaned.is_empty() {
        return Some(Vec::new());
    }
    let layout = tables.layout;
    let needs = tables.version_needs()?;
    let address = tables.dynamic.value(abi::DT_VERNEED)?;
    let table = layout.offset_of(address, needs.extent)?;
    let mut edits = Vec::new();
    for &(at, name) in renamed {
        let name = layout.codec.u32_bytes(u32::try_from(name).ok()?);
        edits.push((table + at + 4, name.to_vec()));
    }
    if !orphaned.is_empty() {
        unlink(tables, table, &needs.files, orphaned, &mut edits)?;
        release_symbols(tables, &needs.files, orphaned, &mut edits)?;
    }
    Some(edits)
}

/// Removes entries from the chain. The first entry cannot be skipped, so the first one that remains
/// is written over it.
fn unlink(
    tables: &DynamicTables<'_, '_>,
    table: u64,
    files: &[Verneed],
    orphaned: &[u64],
    edits: &mut Vec<(u64, Vec<u8>)>,
) -> Option<()> {
    let layout = tables.layout;
    let codec = layout.codec;
    let kept: Vec<&Verneed> = files.iter().filter(|file| !orphaned.contains(&file.at)).collect();
    for (position, file) in kept.iter().enumerate() {
        let place = if position == 0 { 0 } else { file.at };
        let next = kept.get(position + 1).map_or(0, |next| next.at - place);
        let old = slice(layout.bytes, table + file.at, 16)?;
        let aux = u64::from(codec.u32_at(old, 8)?) + (file.at - place);
        let mut entry = old.get(..8)?.to_vec();
        if let Some((_, name)) = edits.iter().find(|(offset, _)| *offset == table + file.at + 4) {
            entry.truncate(4);
            entry.extend(name);
        }
        entry.extend_from_slice(&codec.u32_bytes(u32::try_from(aux).ok()?));
        entry.extend_from_slice(&codec.u32_bytes(u32::try_from(next).ok()?));
        edits.push((table + place, entry));
    }
    let section = layout.sections.iter().position(|section| {
        section.sh_type == abi::SHT_GNU_VERNEED
            && Some(section.sh_addr) == tables.dynamic.value(abi::DT_VERNEED)
    });
    if let Some(index) = section {
        let header = layout.header.e_shoff + index as u64 * layout.section_size();
        let field = if codec.is_64() { 44 } else { 28 };
        edits.push((header + field, codec.u32_bytes(u32::try_from(kept.len()).ok()?).to_vec()));
    }
    Some(())
}

/// Releases symbols from versions that no library provides any more, so that they are looked up
/// without one. The loader uses the index in `.gnu.version` for its list of versions unchecked
/// (glibc elf/dl-lookup.c).
fn release_symbols(
    tables: &DynamicTables<'_, '_>,
    files: &[Verneed],
    orphaned: &[u64],
    edits: &mut Vec<(u64, Vec<u8>)>,
) -> Option<()> {
    const GLOBAL: u16 = 1;
    let layout = tables.layout;
    let gone: Vec<u16> = files
        .iter()
        .filter(|file| orphaned.contains(&file.at))
        .flat_map(|file| file.versions.iter().map(|version| version.index & 0x7fff))
        .collect();
    let size = tables.symbol_count().checked_mul(2)?;
    let table = layout.offset_of(tables.dynamic.value(abi::DT_VERSYM)?, size)?;
    for number in 0..tables.symbol_count() {
        let offset = table + 2 * number;
        let index = layout.codec.u16_at(layout.bytes, offset)?;
        if gone.contains(&(index & 0x7fff)) {
            edits.push((offset, layout.codec.u16_bytes(GLOBAL).to_vec()));
        }
    }
    Some(())
}
