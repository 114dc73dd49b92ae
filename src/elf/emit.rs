//! Turns a placement into bytes: moved contents, headers, dynamic entries, symbols.

use elf::abi;

use crate::elf::Error;
use crate::elf::codec::slice;
use crate::elf::dynamic_edit::{self, DynamicEdit, EntryString, PlannedEntry};
use crate::elf::file_map::{FileMap, MovableRange, RangeRole};
use crate::elf::patch_set::PatchSet;
use crate::elf::placement::Placement;
use crate::elf::placement::dynamic_address;
use crate::elf::raw::{DynamicEntry, ElfLayout};
use crate::elf::strings::StringPlacement;
use crate::elf::tables::{DynamicTables, TABLE_TAGS};
use crate::elf::versions;

/// Everything that the planner has decided.
pub(crate) struct ImageEmitter<'l, 'a> {
    pub layout: &'l ElfLayout<'a>,
    pub tables: Option<&'l DynamicTables<'l, 'a>>,
    pub map: &'l FileMap,
    pub placement: &'l Placement,
    pub edit: &'l DynamicEdit,
    /// New dynamic section, if its entries change.
    pub entries: Option<&'l [PlannedEntry]>,
    pub strings: Option<&'l StringPlacement>,
    /// Version needs by their offset in the table, with the new offset of the file's name.
    pub renamed: &'l [(u64, u64)],
}

impl ImageEmitter<'_, '_> {
    /// Emits all writes; later ones cover earlier ones. Fails if tables contradict each other, or
    /// if a number does not fit the file's class.
    pub(super) fn emit_patches(&self) -> Result<PatchSet, Error> {
        let mut patches = PatchSet::default();
        self.move_contents(&mut patches)?;
        self.write_strings(&mut patches)?;
        self.write_versions(&mut patches)?;
        self.write_segments(&mut patches)?;
        self.write_sections(&mut patches)?;
        self.write_symbols(&mut patches)?;
        self.write_dynamic(&mut patches)?;
        Ok(patches)
    }

    /// Returns the new offset of a range.
    pub(super) fn new_offset(&self, index: usize) -> Result<u64, Error> {
        let kept = self.placement.offsets.get(index).copied().flatten();
        let offset = kept.or_else(|| {
            let overflow = self.placement.overflow.as_ref()?;
            overflow.ranges.iter().find(|(range, _)| *range == index).map(|&(_, offset)| offset)
        });
        offset.ok_or(Error::NoRoom("a table has no place in the new file"))
    }

    pub(super) fn is_moved(&self, index: usize, range: &MovableRange) -> bool {
        self.new_offset(index) != Ok(range.offset)
    }

    /// Returns the address of a byte of a range, from its offset in the new file.
    pub(super) fn new_address(&self, index: usize, range: &MovableRange, offset: u64) -> u64 {
        let overflows = self.placement.offsets.get(index).is_some_and(Option::is_none);
        let segment = self.layout.segments.get(range.load);
        match (&self.placement.overflow, segment) {
            (Some(overflow), _) if overflows => overflow.address_of(offset),
            (_, Some(load)) => load.p_vaddr.wrapping_add(offset.wrapping_sub(load.p_offset)),
            // A map is made from the segments of its file, so that every range has one.
            (_, None) => offset,
        }
    }

    pub(super) fn movable(&self) -> impl Iterator<Item = (usize, &MovableRange)> {
        self.map.movable.iter().enumerate()
    }

    /// Returns the movable range that holds these bytes of the old file.
    pub(super) fn find_movable(&self, offset: u64, size: u64) -> Option<(usize, &MovableRange)> {
        self.movable().find(|(_, range)| range.holds(offset, size))
    }

    /// Returns the offset in the new file of a byte of the old file.
    fn moved_offset(&self, offset: u64) -> Result<u64, Error> {
        match self.find_movable(offset, 1) {
            Some((index, range)) => self.offset_in(index, offset - range.offset),
            None => Ok(offset),
        }
    }

    /// Returns the offset in the new file of the byte at `inside` of a range.
    pub(super) fn offset_in(&self, index: usize, inside: u64) -> Result<u64, Error> {
        let start = self.new_offset(index)?;
        start.checked_add(inside).ok_or(Error::TooLarge { value: start })
    }

    /// Writes over bytes of the old file at their new place.
    fn write_moved(
        &self,
        patches: &mut PatchSet,
        old_offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        patches.put(self.moved_offset(old_offset)?, bytes)
    }

    pub(super) fn write_word(
        &self,
        patches: &mut PatchSet,
        old_offset: u64,
        value: u64,
    ) -> Result<(), Error> {
        let bytes = self.layout.codec.word_bytes(value)?;
        self.write_moved(patches, old_offset, &bytes)
    }

    /// Clears the old places, so that nothing of an old path remains, then writes the contents at
    /// the new places.
    fn move_contents(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let moved = || self.movable().filter(|&(index, range)| self.is_moved(index, range));
        // This comes before any other write, because a range may move to where another one shrinks.
        // Neighbours are cleared in one write: the bytes between the ranges of a run are already
        // zero.
        let mut pending: Option<(u64, u64)> = None;
        for (index, range) in self.movable() {
            let kept = if self.is_moved(index, range) { 0 } else { range.size.min(range.new_size) };
            let (start, end) = (range.offset + kept, range.end());
            pending = match pending {
                Some((first, last)) if self.is_zero(last, start) => Some((first, end)),
                _ => {
                    clear_range(patches, pending)?;
                    Some((start, end))
                }
            };
        }
        clear_range(patches, pending)?;
        for (index, range) in moved() {
            let len = range.size.min(range.new_size);
            let old = slice(self.layout.bytes, range.offset, len);
            let outside = Error::malformed("a table ends outside of the file", range.offset);
            patches.put(self.new_offset(index)?, old.ok_or(outside)?)?;
        }
        Ok(())
    }

    /// Returns whether a short range of the file is zero.
    fn is_zero(&self, start: u64, end: u64) -> bool {
        let len = end.checked_sub(start).filter(|&len| len < 64);
        let bytes = len.and_then(|len| slice(self.layout.bytes, start, len));
        bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
    }

    fn write_strings(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let interpreter = self.map.find_role(RangeRole::Interpreter);
        if let (Some(path), Some(index)) = (&self.edit.interpreter, interpreter) {
            let mut bytes = path.clone();
            bytes.push(0);
            patches.put(self.new_offset(index)?, &bytes)?;
        }
        if let (Some(strings), Some(index)) = (self.strings, self.map.find_role(RangeRole::Strings))
        {
            for (offset, bytes) in &strings.changes {
                // Bytes behind the new end do not belong to the table any more.
                let len = strings.size.saturating_sub(*offset).min(bytes.len() as u64);
                let bytes = slice(bytes, 0, len).unwrap_or_default();
                patches.put(self.offset_in(index, *offset)?, bytes)?;
            }
        }
        Ok(())
    }

    fn write_versions(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let Some(tables) = self.tables else { return Ok(()) };
        for (offset, bytes) in
            versions::collect_writes(tables, self.renamed, &self.edit.removed_needs)?
        {
            self.write_moved(patches, offset, &bytes)?;
        }
        Ok(())
    }

    fn write_dynamic(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let Some(tables) = self.tables else { return Ok(()) };
        let dynamic = tables.dynamic;
        let mut entries = match self.entries {
            Some(entries) => entries.to_vec(),
            None => (0_u64..)
                .zip(&dynamic.entries)
                .map(|(index, &entry)| PlannedEntry {
                    entry,
                    string: EntryString::Kept,
                    old_index: Some(index),
                })
                .collect(),
        };
        let needs = versions::count_remaining(tables, &self.edit.removed_needs)?;
        if needs == Some(0) {
            let gone = [abi::DT_VERNEED, abi::DT_VERNEEDNUM];
            entries.retain(|planned| !gone.contains(&planned.entry.tag));
        }
        for planned in &mut entries {
            self.update_entry(&mut planned.entry, needs)?;
        }
        let overflow = self.placement.overflow.as_ref();
        let moved = overflow.and_then(|overflow| overflow.dynamic);
        let (offset, slots) = match moved {
            Some((offset, size)) => (offset, size / (2 * self.layout.codec.word())),
            None => (dynamic.offset, dynamic.capacity.min(dynamic.entries.len() as u64 + 1)),
        };
        let address = dynamic_address(dynamic, self.placement);
        let codec = self.layout.codec;
        patches.put(
            offset,
            &dynamic_edit::encode_section(codec, dynamic, &entries, slots, address)?,
        )?;
        if moved.is_some() {
            self.write_got(patches, dynamic.address, address)?;
        }
        Ok(())
    }

    /// Updates the addresses of moved tables, the size of the strings, and the number of version
    /// needs.
    fn update_entry(&self, entry: &mut DynamicEntry, needs: Option<u64>) -> Result<(), Error> {
        match entry.tag {
            abi::DT_STRSZ => {
                if let Some(strings) = self.strings {
                    entry.value = strings.size;
                }
            }
            abi::DT_VERNEEDNUM => entry.value = needs.unwrap_or(entry.value),
            tag if TABLE_TAGS.contains(&tag) => {
                let Some(offset) = self.layout.offset_of(entry.value, 1) else { return Ok(()) };
                if let Some((index, range)) = self.find_movable(offset, 1)
                    && self.is_moved(index, range)
                {
                    let offset = self.offset_in(index, offset - range.offset)?;
                    entry.value = self.new_address(index, range, offset);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the address of the dynamic section into the first word of the global offset table.
    /// Many machines keep it there (psABIs, "Global Offset Table").
    fn write_got(&self, patches: &mut PatchSet, old: u64, new: u64) -> Result<(), Error> {
        let codec = self.layout.codec;
        let from_tag = self.tables.and_then(|tables| tables.dynamic.value(abi::DT_PLTGOT));
        let from_tag = from_tag.and_then(|address| self.layout.offset_of(address, codec.word()));
        let from_sections = [b".got".as_slice(), b".got.plt"];
        let from_sections = from_sections
            .iter()
            .filter_map(|name| self.layout.section_named(name))
            .filter(|section| section.sh_type == abi::SHT_PROGBITS)
            .map(|section| section.sh_offset);
        for offset in from_tag.into_iter().chain(from_sections) {
            if codec.word_at(self.layout.bytes, offset) == Some(old) {
                self.write_word(patches, offset, new)?;
            }
        }
        Ok(())
    }
}

/// Writes zeros over a range.
fn clear_range(patches: &mut PatchSet, range: Option<(u64, u64)>) -> Result<(), Error> {
    let Some((start, end)) = range.filter(|(start, end)| start < end) else { return Ok(()) };
    let len = end - start;
    patches.put(start, &vec![0; usize::try_from(len).map_err(|_| Error::TooLarge { value: len })?])
}
