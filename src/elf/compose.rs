//! From an arrangement to bytes: moved contents, headers, dynamic entries, symbols.

use elf::abi;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use super::arrange::{Arrangement, Tail, spare_header};
use super::items::{Ground, Item, Role};
use super::paint::Canvas;
use super::plan::dynamic_address;
use super::raw::Entry;
use super::raw::{Layout, slice};
use super::strings::Placement;
use super::tables::{TABLE_TAGS, Tables};
use super::versions;
use super::wish::{self, Text, Wanted, Wish};

/// Everything that has been decided.
pub(crate) struct Composition<'l, 'a> {
    pub layout: &'l Layout<'a>,
    pub tables: Option<&'l Tables<'l, 'a>>,
    pub ground: &'l Ground,
    pub arrangement: &'l Arrangement,
    pub wish: &'l Wish,
    /// The dynamic section to be, if its entries change.
    pub entries: Option<&'l [Wanted]>,
    pub placement: Option<&'l Placement>,
    /// Version needs by their place in the table, with the new offset of the file's name.
    pub renamed: &'l [(u64, u64)],
}

impl Composition<'_, '_> {
    /// All writes, painted over each other. `None` where numbers do not fit the file's class.
    pub fn compose(&self) -> Option<Canvas> {
        let mut canvas = Canvas::default();
        self.move_contents(&mut canvas)?;
        self.write_strings(&mut canvas)?;
        self.write_versions(&mut canvas)?;
        self.write_segments(&mut canvas)?;
        self.write_sections(&mut canvas)?;
        self.write_symbols(&mut canvas)?;
        self.write_dynamic(&mut canvas)?;
        Some(canvas)
    }

    /// New offset of an item.
    fn place(&self, index: usize) -> Option<u64> {
        let stays = self.arrangement.places.get(index).copied().flatten();
        stays.or_else(|| {
            let tail = self.arrangement.tail.as_ref()?;
            tail.items.iter().find(|(item, _)| *item == index).map(|&(_, offset)| offset)
        })
    }

    fn is_moved(&self, index: usize, item: &Item) -> bool {
        self.place(index) != Some(item.offset)
    }

    /// Address at the new offset of an item.
    fn address(&self, index: usize, place: u64) -> Option<u64> {
        let in_tail = self.arrangement.places.get(index).is_some_and(Option::is_none);
        match &self.arrangement.tail {
            Some(tail) if in_tail => Some(tail.address_of(place)),
            _ => {
                let load = self.layout.segments.get(self.ground.items.get(index)?.load)?;
                Some(load.p_vaddr.wrapping_add(place.wrapping_sub(load.p_offset)))
            }
        }
    }

    fn items(&self) -> impl Iterator<Item = (usize, &Item)> {
        self.ground.items.iter().enumerate()
    }

    /// The item that holds this range of the old file.
    fn holder(&self, offset: u64, size: u64) -> Option<(usize, &Item)> {
        self.items().find(|(_, item)| item.holds(offset, size))
    }

    /// Where a byte of the old file is in the new one.
    fn moved_offset(&self, offset: u64) -> Option<u64> {
        match self.holder(offset, 1) {
            Some((index, item)) => self.place(index)?.checked_add(offset - item.offset),
            None => Some(offset),
        }
    }

    /// Write over bytes of the old file, wherever they are now.
    fn write(&self, canvas: &mut Canvas, old_offset: u64, bytes: &[u8]) -> Option<()> {
        canvas.paint(self.moved_offset(old_offset)?, bytes)
    }

    fn word(&self, canvas: &mut Canvas, old_offset: u64, value: u64) -> Option<()> {
        let bytes = self.layout.codec.word_bytes(value)?;
        self.write(canvas, old_offset, &bytes)
    }

    /// Old places become zero, so that nothing of an old path remains; then the contents are
    /// written at the new ones.
    fn move_contents(&self, canvas: &mut Canvas) -> Option<()> {
        let moved = || self.items().filter(|&(index, item)| self.is_moved(index, item));
        for (index, item) in self.items() {
            // Before anything is written, as others may move to where this one shrinks.
            let kept = if self.is_moved(index, item) { 0 } else { item.size.min(item.new_size) };
            let left = usize::try_from(item.size - kept).ok()?;
            canvas.paint(item.offset + kept, &vec![0; left])?;
        }
        for (index, item) in moved() {
            let len = item.size.min(item.new_size);
            canvas.paint(self.place(index)?, slice(self.layout.bytes, item.offset, len)?)?;
        }
        Some(())
    }

    fn write_strings(&self, canvas: &mut Canvas) -> Option<()> {
        if let Some(interpreter) = &self.wish.interpreter {
            let mut bytes = interpreter.clone();
            bytes.push(0);
            canvas.paint(self.place(self.ground.position(Role::Interpreter)?)?, &bytes)?;
        }
        if let Some(placement) = self.placement {
            let place = self.place(self.ground.position(Role::Strings)?)?;
            for (offset, bytes) in &placement.changes {
                // What lies behind the new end is no more the table's.
                let room = placement.size.saturating_sub(*offset);
                let len = usize::try_from(room.min(bytes.len() as u64)).ok()?;
                canvas.paint(place.checked_add(*offset)?, bytes.get(..len)?)?;
            }
        }
        Some(())
    }

    fn write_versions(&self, canvas: &mut Canvas) -> Option<()> {
        let Some(tables) = self.tables else { return Some(()) };
        for (offset, bytes) in versions::edits(tables, self.renamed, &self.wish.orphaned)? {
            self.write(canvas, offset, &bytes)?;
        }
        Some(())
    }

    fn write_segments(&self, canvas: &mut Canvas) -> Option<()> {
        let mut segments = Vec::with_capacity(self.layout.segments.len() + 1);
        for (index, segment) in self.layout.segments.iter().enumerate() {
            segments.push(self.segment(index, segment)?);
        }
        if let Some(tail) = self.arrangement.tail.as_ref().filter(|tail| tail.extends.is_none()) {
            self.add_segment(canvas, &mut segments, tail)?;
        }
        let mut table = Vec::new();
        for segment in &segments {
            self.layout.codec.segment_bytes(segment, &mut table)?;
        }
        canvas.paint(self.layout.header.e_phoff, &table)
    }

    /// One program header after the arrangement.
    fn segment(&self, index: usize, old: &ProgramHeader) -> Option<ProgramHeader> {
        let mut new = *old;
        match old.p_type {
            abi::PT_LOAD => {
                let placed = self.arrangement.places.iter().zip(&self.ground.items);
                let ends = placed
                    .filter(|(_, item)| item.load == index)
                    .filter_map(|(place, item)| (*place)?.checked_add(item.new_size));
                let mut end = ends.max().unwrap_or(0);
                if let Some(tail) = &self.arrangement.tail {
                    if tail.extends == Some(index) {
                        end = end.max(tail.end);
                        new.p_flags |= if tail.dynamic.is_some() { abi::PF_W } else { 0 };
                    }
                }
                if end > old.p_offset.checked_add(old.p_filesz)? {
                    new.p_filesz = end - old.p_offset;
                    new.p_memsz = new.p_filesz.max(old.p_memsz);
                }
            }
            abi::PT_INTERP | abi::PT_NOTE | abi::PT_GNU_PROPERTY => {
                if let Some((index, item)) = self.holder(old.p_offset, old.p_filesz.max(1)) {
                    self.shift(&mut new, index, item)?;
                    if item.role == Role::Interpreter {
                        new.p_filesz = item.new_size;
                        new.p_memsz = item.new_size;
                    }
                } else if let Some((index, item)) = self.holder(old.p_offset, 1) {
                    // Notes that were taken out of the beginning of their segment.
                    if self.is_moved(index, item) {
                        let gone = item.size;
                        new.p_offset = old.p_offset.checked_add(gone)?;
                        new.p_vaddr = old.p_vaddr.checked_add(gone)?;
                        new.p_paddr = old.p_paddr.wrapping_add(gone) & self.layout.codec.word_max();
                        new.p_filesz = old.p_filesz.checked_sub(gone)?;
                        new.p_memsz = old.p_memsz.saturating_sub(gone);
                    }
                }
            }
            abi::PT_DYNAMIC => {
                let tail = self.arrangement.tail.as_ref();
                let moved = tail.and_then(|tail| Some((tail, tail.dynamic?)));
                if let Some((tail, (offset, size))) = moved {
                    let address = tail.address_of(offset);
                    (new.p_offset, new.p_vaddr, new.p_paddr) = (offset, address, address);
                    (new.p_filesz, new.p_memsz) = (size, size);
                }
            }
            _ => {}
        }
        Some(new)
    }

    /// Move a header along with its item.
    fn shift(&self, segment: &mut ProgramHeader, index: usize, item: &Item) -> Option<()> {
        let place = self.place(index)?;
        if place == item.offset {
            return Some(());
        }
        let offset = place.checked_add(segment.p_offset - item.offset)?;
        let address = self.address(index, offset)?;
        let physical = segment.p_paddr.wrapping_add(address.wrapping_sub(segment.p_vaddr));
        segment.p_offset = offset;
        segment.p_vaddr = address;
        segment.p_paddr = physical & self.layout.codec.word_max();
        Some(())
    }

    /// The new `PT_LOAD` comes after the last one: they ascend by address (gABI, "Program Header").
    fn add_segment(
        &self,
        canvas: &mut Canvas,
        segments: &mut Vec<ProgramHeader>,
        tail: &Tail,
    ) -> Option<()> {
        if let Some(spare) = spare_header(self.layout) {
            segments.remove(spare);
        } else {
            let count = u16::try_from(segments.len() + 1).ok().filter(|&n| n < abi::PN_XNUM)?;
            let field = if self.layout.codec.is_64() { 56 } else { 44 };
            canvas.paint(field, &self.layout.codec.u16_bytes(count))?;
            for table in segments.iter_mut().filter(|s| s.p_type == abi::PT_PHDR) {
                table.p_filesz = table.p_filesz.checked_add(self.layout.segment_size())?;
                table.p_memsz = table.p_memsz.checked_add(self.layout.segment_size())?;
            }
        }
        let size = tail.end.checked_sub(tail.offset)?;
        let writable = if tail.dynamic.is_some() { abi::PF_W } else { 0 };
        let segment = ProgramHeader {
            p_type: abi::PT_LOAD,
            p_offset: tail.offset,
            p_vaddr: tail.address,
            p_paddr: tail.address,
            p_filesz: size,
            p_memsz: size,
            p_flags: abi::PF_R | writable,
            p_align: tail.align,
        };
        let last = segments.iter().rposition(|s| s.p_type == abi::PT_LOAD)?;
        segments.insert(last + 1, segment);
        Some(())
    }

    fn write_sections(&self, canvas: &mut Canvas) -> Option<()> {
        let word = self.layout.codec.word();
        let (address_at, offset_at, size_at) = (8 + word, 8 + 2 * word, 8 + 3 * word);
        let header_size = self.layout.section_size();
        let sections = (0_u64..).zip(&self.layout.sections);
        for (number, section) in sections {
            let header = self.layout.header.e_shoff + number * header_size;
            let Some((address, offset, size)) = self.section(section) else { continue };
            if section.sh_addr != 0 && address != section.sh_addr {
                self.word(canvas, header + address_at, address)?;
            }
            if offset != section.sh_offset {
                self.word(canvas, header + offset_at, offset)?;
            }
            if size != section.sh_size {
                self.word(canvas, header + size_at, size)?;
            }
        }
        if let Some(index) = self.ground.position(Role::SectionHeaders) {
            let field = if self.layout.codec.is_64() { 40 } else { 32 };
            let bytes = self.layout.codec.word_bytes(self.place(index)?)?;
            canvas.paint(field, &bytes)?;
        }
        Some(())
    }

    /// Address, offset and size that a section then has, if it is concerned.
    fn section(&self, section: &SectionHeader) -> Option<(u64, u64, u64)> {
        if matches!(section.sh_type, abi::SHT_NULL | abi::SHT_NOBITS) || section.sh_size == 0 {
            return None;
        }
        let dynamic = self.tables.map(|tables| tables.dynamic);
        let is_dynamic = section.sh_type == abi::SHT_DYNAMIC
            && dynamic.is_some_and(|dynamic| dynamic.address == section.sh_addr);
        if is_dynamic {
            let tail = self.arrangement.tail.as_ref()?;
            let (offset, size) = tail.dynamic?;
            return Some((tail.address_of(offset), offset, size));
        }
        let (index, item) = self.holder(section.sh_offset, section.sh_size)?;
        if item.role == Role::SectionHeaders {
            return None;
        }
        let place = self.place(index)?;
        let offset = place + (section.sh_offset - item.offset);
        let whole = matches!(item.role, Role::Strings | Role::Interpreter)
            && section.sh_offset == item.offset;
        let size = if whole { item.new_size } else { section.sh_size };
        Some((self.address(index, offset)?, offset, size))
    }

    /// Symbols that are defined in a section that moved go along (`_DYNAMIC`, `__abi_tag`,
    /// section symbols).
    fn write_symbols(&self, canvas: &mut Canvas) -> Option<()> {
        let moved = self.moved_sections();
        if moved.is_empty() {
            return Some(());
        }
        let size = self.layout.symbol_size();
        let codec = self.layout.codec;
        let (section_at, value_at) = if codec.is_64() { (6, 8) } else { (14, 4) };
        let tables = self.layout.sections.iter();
        let tables =
            tables.filter(|table| matches!(table.sh_type, abi::SHT_SYMTAB | abi::SHT_DYNSYM));
        for table in tables {
            let Some(symbols) = slice(self.layout.bytes, table.sh_offset, table.sh_size) else {
                continue;
            };
            let symbols = symbols.chunks_exact(usize::try_from(size).ok()?);
            for (number, symbol) in (0_u64..).zip(symbols) {
                let section = codec.u16_at(symbol, section_at)?;
                let Some(&(_, shift, start, end)) =
                    moved.iter().find(|(index, ..)| *index == section)
                else {
                    continue;
                };
                let value = codec.word_at(symbol, value_at)?;
                if (start..=end).contains(&value) {
                    let value = value.wrapping_add(shift) & codec.word_max();
                    self.word(canvas, table.sh_offset + number * size + value_at, value)?;
                }
            }
        }
        Some(())
    }

    /// Sections with a new address: index, by how much it moves, first and last old address.
    fn moved_sections(&self) -> Vec<(u16, u64, u64, u64)> {
        let numbered = (0_u16..abi::SHN_LORESERVE).zip(&self.layout.sections);
        numbered
            .filter_map(|(number, section)| {
                let (address, ..) = self.section(section)?;
                let shift = address.wrapping_sub(section.sh_addr);
                let end = section.sh_addr.checked_add(section.sh_size)?;
                (shift != 0 && section.sh_addr != 0).then_some((
                    number,
                    shift,
                    section.sh_addr,
                    end,
                ))
            })
            .collect()
    }

    fn write_dynamic(&self, canvas: &mut Canvas) -> Option<()> {
        let Some(tables) = self.tables else { return Some(()) };
        let dynamic = tables.dynamic;
        let mut entries = match self.entries {
            Some(entries) => entries.to_vec(),
            None => (0_u64..)
                .zip(&dynamic.entries)
                .map(|(index, &entry)| Wanted { entry, text: Text::Kept, from: Some(index) })
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
        canvas.paint(offset, &wish::encode(codec, dynamic, &entries, slots, address)?)?;
        if moved.is_some() {
            self.write_got(canvas, dynamic.address, address)?;
        }
        Some(())
    }

    /// Addresses of moved tables, the size of the strings, the number of version needs.
    fn update(&self, entry: &mut Entry, needs: Option<u64>) -> Option<()> {
        match entry.tag {
            abi::DT_STRSZ => {
                if let Some(placement) = self.placement {
                    entry.value = placement.size;
                }
            }
            abi::DT_VERNEEDNUM => entry.value = needs.unwrap_or(entry.value),
            tag if TABLE_TAGS.contains(&tag) => {
                let Some(offset) = self.layout.offset_of(entry.value, 1) else { return Some(()) };
                if let Some((index, item)) = self.holder(offset, 1) {
                    if self.is_moved(index, item) {
                        let place = self.place(index)? + (offset - item.offset);
                        entry.value = self.address(index, place)?;
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    /// The first word of the global offset table is the address of the dynamic section on many
    /// machines (psABIs, "Global Offset Table").
    fn write_got(&self, canvas: &mut Canvas, old: u64, new: u64) -> Option<()> {
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
