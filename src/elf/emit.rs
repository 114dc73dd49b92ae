//! Turns a placement into bytes: moved contents, headers, dynamic entries, symbols.

use elf::abi;

use crate::elf::dynamic_edit::{self, DynamicEdit, EntryString, PlannedEntry};
use crate::elf::file_map::{FileMap, MovableRange, RangeRole};
use crate::elf::patch_set::PatchSet;
use crate::elf::placement::Placement;
use crate::elf::placement::dynamic_address;
use crate::elf::raw::{DynamicEntry, ElfLayout, slice};
use crate::elf::strings::StringPlacement;
use crate::elf::tables::{DynamicTables, TABLE_TAGS};
use crate::elf::versions;

/// Everything that the planner has decided.
pub(crate) struct ImageEmitter<'l, 'a> {
    pub layout: &'l ElfLayout<'a>,
    pub tables: Option<&'l DynamicTables<'l, 'a>>,
    pub ground: &'l FileMap,
    pub arrangement: &'l Placement,
    pub wish: &'l DynamicEdit,
    /// New dynamic section, if its entries change.
    pub entries: Option<&'l [PlannedEntry]>,
    pub placement: Option<&'l StringPlacement>,
    /// Version needs by their offset in the table, with the new offset of the file's name.
    pub renamed: &'l [(u64, u64)],
}

impl ImageEmitter<'_, '_> {
    /// Composes all writes; later ones cover earlier ones. Returns `None` if a number does not fit
    /// the file's class.
    pub(super) fn compose(&self) -> Option<PatchSet> {
        let mut canvas = PatchSet::default();
        self.move_contents(&mut canvas)?;
        self.write_strings(&mut canvas)?;
        self.write_versions(&mut canvas)?;
        self.write_segments(&mut canvas)?;
        self.write_sections(&mut canvas)?;
        self.write_symbols(&mut canvas)?;
        self.write_dynamic(&mut canvas)?;
        Some(canvas)
    }

    /// Returns the new offset of an item.
    pub(super) fn place(&self, index: usize) -> Option<u64> {
        let stays = self.arrangement.places.get(index).copied().flatten();
        stays.or_else(|| {
            let tail = self.arrangement.tail.as_ref()?;
            tail.items.iter().find(|(item, _)| *item == index).map(|&(_, offset)| offset)
        })
    }

    pub(super) fn is_moved(&self, index: usize, item: &MovableRange) -> bool {
        self.place(index) != Some(item.offset)
    }

    /// Returns the address at the new offset of an item.
    pub(super) fn address(&self, index: usize, place: u64) -> Option<u64> {
        let in_tail = self.arrangement.places.get(index).is_some_and(Option::is_none);
        match &self.arrangement.tail {
            Some(tail) if in_tail => Some(tail.address_of(place)),
            _ => {
                let load = self.layout.segments.get(self.ground.items.get(index)?.load)?;
                Some(load.p_vaddr.wrapping_add(place.wrapping_sub(load.p_offset)))
            }
        }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (usize, &MovableRange)> {
        self.ground.items.iter().enumerate()
    }

    /// Returns the item that holds this range of the old file.
    pub(super) fn holder(&self, offset: u64, size: u64) -> Option<(usize, &MovableRange)> {
        self.items().find(|(_, item)| item.holds(offset, size))
    }

    /// Returns the offset in the new file of a byte of the old file.
    fn moved_offset(&self, offset: u64) -> Option<u64> {
        match self.holder(offset, 1) {
            Some((index, item)) => self.place(index)?.checked_add(offset - item.offset),
            None => Some(offset),
        }
    }

    /// Writes over bytes of the old file at their new place.
    fn write(&self, canvas: &mut PatchSet, old_offset: u64, bytes: &[u8]) -> Option<()> {
        canvas.paint(self.moved_offset(old_offset)?, bytes)
    }

    pub(super) fn word(&self, canvas: &mut PatchSet, old_offset: u64, value: u64) -> Option<()> {
        let bytes = self.layout.codec.word_bytes(value)?;
        self.write(canvas, old_offset, &bytes)
    }

    /// Clears the old places, so that nothing of an old path remains, then writes the contents at
    /// the new places.
    fn move_contents(&self, canvas: &mut PatchSet) -> Option<()> {
        let moved = || self.items().filter(|&(index, item)| self.is_moved(index, item));
        // This comes before any other write, because an item may move to where another one shrinks.
        // Neighbours are cleared in one write: the bytes between the items of a run are already
        // zero.
        let mut open: Option<(u64, u64)> = None;
        for (index, item) in self.items() {
            let kept = if self.is_moved(index, item) { 0 } else { item.size.min(item.new_size) };
            let (start, end) = (item.offset + kept, item.end());
            open = match open {
                Some((first, last)) if self.is_zero(last, start) => Some((first, end)),
                _ => {
                    vacate(canvas, open)?;
                    Some((start, end))
                }
            };
        }
        vacate(canvas, open)?;
        for (index, item) in moved() {
            let len = item.size.min(item.new_size);
            canvas.paint(self.place(index)?, slice(self.layout.bytes, item.offset, len)?)?;
        }
        Some(())
    }

    /// Returns whether a short range of the file is zero.
    fn is_zero(&self, start: u64, end: u64) -> bool {
        let len = end.checked_sub(start).filter(|&len| len < 64);
        let bytes = len.and_then(|len| slice(self.layout.bytes, start, len));
        bytes.is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0))
    }

    fn write_strings(&self, canvas: &mut PatchSet) -> Option<()> {
        if let Some(interpreter) = &self.wish.interpreter {
            let mut bytes = interpreter.clone();
            bytes.push(0);
            canvas.paint(self.place(self.ground.position(RangeRole::Interpreter)?)?, &bytes)?;
        }
        if let Some(placement) = self.placement {
            let place = self.place(self.ground.position(RangeRole::Strings)?)?;
            for (offset, bytes) in &placement.changes {
                // Bytes behind the new end do not belong to the table any more.
                let room = placement.size.saturating_sub(*offset);
                let len = usize::try_from(room.min(bytes.len() as u64)).ok()?;
                canvas.paint(place.checked_add(*offset)?, bytes.get(..len)?)?;
            }
        }
        Some(())
    }

    fn write_versions(&self, canvas: &mut PatchSet) -> Option<()> {
        let Some(tables) = self.tables else { return Some(()) };
        for (offset, bytes) in versions::edits(tables, self.renamed, &self.wish.orphaned)? {
            self.write(canvas, offset, &bytes)?;
        }
        Some(())
    }

    fn write_dynamic(&self, canvas: &mut PatchSet) -> Option<()> {
        let Some(tables) = self.tables else { return Some(()) };
        let dynamic = tables.dynamic;
        let mut entries = match self.entries {
            Some(entries) => entries.to_vec(),
            None => (0_u64..)
                .zip(&dynamic.entries)
                .map(|(index, &entry)| PlannedEntry {
                    entry,
                    text: EntryString::Kept,
                    from: Some(index),
                })
                .collect(),
        };
        let needs = versions::remaining(tables, &self.wish.orphaned);
        if needs == Some(0) {
            let gone = [abi::DT_VERNEED, abi::DT_VERNEEDNUM];
            entries.retain(|wanted| !gone.contains(&wanted.entry.tag));
        }
        for wanted in &mut entries {
            self.update(&mut wanted.entry, needs)?;
        }
        let tail = self.arrangement.tail.as_ref();
        let moved = tail.and_then(|tail| tail.dynamic);
        let (offset, slots) = match moved {
            Some((offset, size)) => (offset, size / (2 * self.layout.codec.word())),
            None => (dynamic.offset, dynamic.capacity.min(dynamic.entries.len() as u64 + 1)),
        };
        let address = dynamic_address(dynamic, self.arrangement);
        let codec = self.layout.codec;
        canvas.paint(offset, &dynamic_edit::encode(codec, dynamic, &entries, slots, address)?)?;
        if moved.is_some() {
            self.write_got(canvas, dynamic.address, address)?;
        }
        Some(())
    }

    /// Updates the addresses of moved tables, the size of the strings, and the number of version
    /// needs.
    fn update(&self, entry: &mut DynamicEntry, needs: Option<u64>) -> Option<()> {
        match entry.tag {
            abi::DT_STRSZ => {
                if let Some(placement) = self.placement {
                    entry.value = placement.size;
                }
            }
            abi::DT_VERNEEDNUM => entry.value = needs.unwrap_or(entry.value),
            tag if TABLE_TAGS.contains(&tag) => {
                let Some(offset) = self.layout.offset_of(entry.value, 1) else { return Some(()) };
                if let Some((index, item)) = self.holder(offset, 1)
                    && self.is_moved(index, item)
                {
                    let place = self.place(index)? + (offset - item.offset);
                    entry.value = self.address(index, place)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Writes the address of the dynamic section into the first word of the global offset table.
    /// Many machines keep it there (psABIs, "Global Offset Table").
    fn write_got(&self, canvas: &mut PatchSet, old: u64, new: u64) -> Option<()> {
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
                self.word(canvas, offset, new)?;
            }
        }
        Some(())
    }
}

/// Paints a range with zeros.
fn vacate(canvas: &mut PatchSet, range: Option<(u64, u64)>) -> Option<()> {
    let Some((start, end)) = range.filter(|(start, end)| start < end) else { return Some(()) };
    canvas.paint(start, &vec![0; usize::try_from(end - start).ok()?])
}
