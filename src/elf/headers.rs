//! Program headers, section headers and symbols of the new file.

use elf::abi;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use crate::elf::emit::ImageEmitter;
use crate::elf::file_map::{MovableRange, RangeRole};
use crate::elf::patch_set::PatchSet;
use crate::elf::placement::{OverflowSegment, spare_header};
use crate::elf::raw::slice;

impl ImageEmitter<'_, '_> {
    pub(super) fn write_segments(&self, canvas: &mut PatchSet) -> Option<()> {
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

    /// Returns one program header as it is after the placement.
    fn segment(&self, index: usize, old: &ProgramHeader) -> Option<ProgramHeader> {
        let mut new = *old;
        match old.p_type {
            abi::PT_LOAD => {
                let placed = self.arrangement.places.iter().zip(&self.ground.items);
                let ends = placed
                    .filter(|(_, item)| item.load == index)
                    .filter_map(|(place, item)| (*place)?.checked_add(item.new_size));
                let mut end = ends.max().unwrap_or(0);
                if let Some(tail) = &self.arrangement.tail
                    && tail.extends == Some(index)
                {
                    end = end.max(tail.end);
                    new.p_flags |= if tail.dynamic.is_some() { abi::PF_W } else { 0 };
                }
                if end > old.p_offset.checked_add(old.p_filesz)? {
                    new.p_filesz = end - old.p_offset;
                    new.p_memsz = new.p_filesz.max(old.p_memsz);
                }
            }
            abi::PT_INTERP | abi::PT_NOTE | abi::PT_GNU_PROPERTY => {
                if let Some((index, item)) = self.holder(old.p_offset, old.p_filesz.max(1)) {
                    self.shift(&mut new, index, item)?;
                    if item.role == RangeRole::Interpreter {
                        new.p_filesz = item.new_size;
                        new.p_memsz = item.new_size;
                    }
                } else if let Some((index, item)) = self.holder(old.p_offset, 1) {
                    // These notes were taken out of the beginning of their segment.
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

    /// Moves a header along with its item.
    fn shift(&self, segment: &mut ProgramHeader, index: usize, item: &MovableRange) -> Option<()> {
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

    /// Inserts the new `PT_LOAD` after the last one: they ascend by address (gABI, "Program
    /// Header").
    fn add_segment(
        &self,
        canvas: &mut PatchSet,
        segments: &mut Vec<ProgramHeader>,
        tail: &OverflowSegment,
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

    pub(super) fn write_sections(&self, canvas: &mut PatchSet) -> Option<()> {
        let word = self.layout.codec.word();
        let (address_at, offset_at, size_at) = (8 + word, 8 + 2 * word, 8 + 3 * word);
        let header_size = self.layout.section_size();
        self.paint_section_headers(canvas)?;
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
        if let Some(index) = self.ground.position(RangeRole::SectionHeaders) {
            let field = if self.layout.codec.is_64() { 40 } else { 32 };
            let bytes = self.layout.codec.word_bytes(self.place(index)?)?;
            canvas.paint(field, &bytes)?;
        }
        Some(())
    }

    /// Paints the old section headers first, if they do not move. Fields then change one large
    /// write instead of adding a small one each.
    fn paint_section_headers(&self, canvas: &mut PatchSet) -> Option<()> {
        if self.ground.position(RangeRole::SectionHeaders).is_some() {
            return Some(());
        }
        let size = self.layout.section_size() * self.layout.sections.len() as u64;
        let offset = self.layout.header.e_shoff;
        match slice(self.layout.bytes, offset, size) {
            Some(table) => canvas.paint(offset, table),
            None => Some(()),
        }
    }

    /// Returns the new address, offset and size of a section, or `None` if it does not change.
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
        if item.role == RangeRole::SectionHeaders {
            return None;
        }
        let place = self.place(index)?;
        let offset = place + (section.sh_offset - item.offset);
        let whole = matches!(item.role, RangeRole::Strings | RangeRole::Interpreter)
            && section.sh_offset == item.offset;
        let size = if whole { item.new_size } else { section.sh_size };
        Some((self.address(index, offset)?, offset, size))
    }

    /// Updates symbols that are defined in a moved section (`_DYNAMIC`, `__abi_tag`, section
    /// symbols).
    pub(super) fn write_symbols(&self, canvas: &mut PatchSet) -> Option<()> {
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

    /// Returns sections with a new address: index, distance of the move, first and last old
    /// address.
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
}
