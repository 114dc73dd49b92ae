//! Program headers, section headers and symbols of the new file.

use elf::abi;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use crate::elf::Error;
use crate::elf::codec::slice;
use crate::elf::emit::ImageEmitter;
use crate::elf::file_map::{MovableRange, RangeRole};
use crate::elf::patch_set::PatchSet;
use crate::elf::placement::{OverflowSegment, find_spare_header};

impl ImageEmitter<'_, '_> {
    pub(super) fn write_segments(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let mut segments = Vec::with_capacity(self.layout.segments.len() + 1);
        for (index, segment) in self.layout.segments.iter().enumerate() {
            segments.push(self.new_segment(index, segment)?);
        }
        if let Some(overflow) =
            self.placement.overflow.as_ref().filter(|overflow| overflow.extends.is_none())
        {
            self.insert_segment(patches, &mut segments, overflow)?;
        }
        let mut table = Vec::new();
        for segment in &segments {
            self.layout.codec.append_segment(segment, &mut table)?;
        }
        patches.put(self.layout.header.e_phoff, &table)
    }

    /// Returns one program header as it is after the placement.
    fn new_segment(&self, index: usize, old: &ProgramHeader) -> Result<ProgramHeader, Error> {
        let mut new = *old;
        match old.p_type {
            abi::PT_LOAD => {
                let mut end = self.kept_end(index);
                if let Some(overflow) = &self.placement.overflow
                    && overflow.extends == Some(index)
                {
                    end = end.max(overflow.end);
                    new.p_flags |= if overflow.dynamic.is_some() { abi::PF_W } else { 0 };
                }
                if end > old.p_offset.saturating_add(old.p_filesz) {
                    new.p_filesz = end - old.p_offset;
                    new.p_memsz = new.p_filesz.max(old.p_memsz);
                }
            }
            abi::PT_INTERP | abi::PT_NOTE | abi::PT_GNU_PROPERTY => {
                if let Some((index, range)) = self.find_movable(old.p_offset, old.p_filesz.max(1)) {
                    self.shift_header(&mut new, index, range)?;
                    if range.role == RangeRole::Interpreter {
                        new.p_filesz = range.new_size;
                        new.p_memsz = range.new_size;
                    }
                } else if let Some((index, range)) = self.find_movable(old.p_offset, 1) {
                    // These notes were taken out of the beginning of their segment.
                    if self.is_moved(index, range) {
                        self.shorten_header(&mut new, range.size)?;
                    }
                }
            }
            abi::PT_DYNAMIC => {
                let overflow = self.placement.overflow.as_ref();
                let moved = overflow.and_then(|overflow| Some((overflow, overflow.dynamic?)));
                if let Some((overflow, (offset, size))) = moved {
                    let address = overflow.address_of(offset);
                    (new.p_offset, new.p_vaddr, new.p_paddr) = (offset, address, address);
                    (new.p_filesz, new.p_memsz) = (size, size);
                }
            }
            _ => {}
        }
        Ok(new)
    }

    /// Returns the end of the last range that stays in this segment, or 0 if none does.
    fn kept_end(&self, load: usize) -> u64 {
        let placed = self.placement.offsets.iter().zip(&self.map.movable);
        let ends = placed
            .filter(|(_, range)| range.load == load)
            .filter_map(|(offset, range)| (*offset)?.checked_add(range.new_size));
        ends.max().unwrap_or(0)
    }

    /// Takes `size` bytes from the beginning of a segment.
    fn shorten_header(&self, segment: &mut ProgramHeader, size: u64) -> Result<(), Error> {
        let what = "a note segment ends inside of its notes";
        let rest = segment.p_filesz.checked_sub(size);
        segment.p_filesz = rest.ok_or(Error::malformed(what, segment.p_offset))?;
        segment.p_memsz = segment.p_memsz.saturating_sub(size);
        let word_max = self.layout.codec.word_max();
        for start in [&mut segment.p_offset, &mut segment.p_vaddr, &mut segment.p_paddr] {
            *start = start.wrapping_add(size) & word_max;
        }
        Ok(())
    }

    /// Moves a header along with its range.
    fn shift_header(
        &self,
        segment: &mut ProgramHeader,
        index: usize,
        range: &MovableRange,
    ) -> Result<(), Error> {
        if !self.is_moved(index, range) {
            return Ok(());
        }
        let offset = self.offset_in(index, segment.p_offset - range.offset)?;
        let address = self.new_address(index, range, offset);
        let physical = segment.p_paddr.wrapping_add(address.wrapping_sub(segment.p_vaddr));
        segment.p_offset = offset;
        segment.p_vaddr = address;
        segment.p_paddr = physical & self.layout.codec.word_max();
        Ok(())
    }

    /// Inserts the new `PT_LOAD` after the last one: they ascend by address (gABI, "Program
    /// Header").
    fn insert_segment(
        &self,
        patches: &mut PatchSet,
        segments: &mut Vec<ProgramHeader>,
        overflow: &OverflowSegment,
    ) -> Result<(), Error> {
        if let Some(spare) = find_spare_header(self.layout) {
            segments.remove(spare);
        } else {
            let count = u16::try_from(segments.len() + 1).ok().filter(|&n| n < abi::PN_XNUM);
            let count = count.ok_or(Error::NoRoom("the file has 65534 program headers"))?;
            let field = if self.layout.codec.is_64() { 56 } else { 44 };
            patches.put(field, &self.layout.codec.u16_bytes(count))?;
            for table in segments.iter_mut().filter(|s| s.p_type == abi::PT_PHDR) {
                table.p_filesz = table.p_filesz.saturating_add(self.layout.segment_size());
                table.p_memsz = table.p_memsz.saturating_add(self.layout.segment_size());
            }
        }
        let size = overflow.end.saturating_sub(overflow.offset);
        let writable = if overflow.dynamic.is_some() { abi::PF_W } else { 0 };
        let segment = ProgramHeader {
            p_type: abi::PT_LOAD,
            p_offset: overflow.offset,
            p_vaddr: overflow.address,
            p_paddr: overflow.address,
            p_filesz: size,
            p_memsz: size,
            p_flags: abi::PF_R | writable,
            p_align: overflow.align,
        };
        let last = segments.iter().rposition(|s| s.p_type == abi::PT_LOAD);
        segments.insert(last.map_or(0, |last| last + 1), segment);
        Ok(())
    }

    pub(super) fn write_sections(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let word = self.layout.codec.word();
        let (address_at, offset_at, size_at) = (8 + word, 8 + 2 * word, 8 + 3 * word);
        let header_size = self.layout.section_size();
        self.put_section_headers(patches)?;
        let sections = (0_u64..).zip(&self.layout.sections);
        for (number, section) in sections {
            let header = self.layout.header.e_shoff + number * header_size;
            let Some((address, offset, size)) = self.new_section(section)? else { continue };
            if section.sh_addr != 0 && address != section.sh_addr {
                self.write_word(patches, header + address_at, address)?;
            }
            if offset != section.sh_offset {
                self.write_word(patches, header + offset_at, offset)?;
            }
            if size != section.sh_size {
                self.write_word(patches, header + size_at, size)?;
            }
        }
        if let Some(index) = self.map.find_role(RangeRole::SectionHeaders) {
            let field = if self.layout.codec.is_64() { 40 } else { 32 };
            let bytes = self.layout.codec.word_bytes(self.new_offset(index)?)?;
            patches.put(field, &bytes)?;
        }
        Ok(())
    }

    /// Puts the old section headers first, if they do not move. Fields then change one large
    /// write instead of adding a small one each.
    fn put_section_headers(&self, patches: &mut PatchSet) -> Result<(), Error> {
        if self.map.find_role(RangeRole::SectionHeaders).is_some() {
            return Ok(());
        }
        let size = self.layout.section_size() * self.layout.sections.len() as u64;
        let offset = self.layout.header.e_shoff;
        match slice(self.layout.bytes, offset, size) {
            Some(table) => patches.put(offset, table),
            None => Ok(()),
        }
    }

    /// Returns the new address, offset and size of a section, or `None` if it does not change.
    fn new_section(&self, section: &SectionHeader) -> Result<Option<(u64, u64, u64)>, Error> {
        if matches!(section.sh_type, abi::SHT_NULL | abi::SHT_NOBITS) || section.sh_size == 0 {
            return Ok(None);
        }
        let dynamic = self.tables.map(|tables| tables.dynamic);
        let is_dynamic = section.sh_type == abi::SHT_DYNAMIC
            && dynamic.is_some_and(|dynamic| dynamic.address == section.sh_addr);
        if is_dynamic {
            let overflow = self.placement.overflow.as_ref();
            let moved = overflow.and_then(|overflow| Some((overflow, overflow.dynamic?)));
            return Ok(
                moved.map(|(overflow, (offset, size))| (overflow.address_of(offset), offset, size))
            );
        }
        let holder = self.find_movable(section.sh_offset, section.sh_size);
        let Some((index, range)) =
            holder.filter(|(_, range)| range.role != RangeRole::SectionHeaders)
        else {
            return Ok(None);
        };
        let offset = self.offset_in(index, section.sh_offset - range.offset)?;
        let is_whole = matches!(range.role, RangeRole::Strings | RangeRole::Interpreter)
            && section.sh_offset == range.offset;
        let size = if is_whole { range.new_size } else { section.sh_size };
        Ok(Some((self.new_address(index, range, offset), offset, size)))
    }

    /// Updates symbols that are defined in a moved section (`_DYNAMIC`, `__abi_tag`, section
    /// symbols).
    pub(super) fn write_symbols(&self, patches: &mut PatchSet) -> Result<(), Error> {
        let moved = self.moved_sections()?;
        if moved.is_empty() {
            return Ok(());
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
            let symbols = symbols.chunks_exact(if codec.is_64() { 24 } else { 16 });
            for (number, symbol) in (0_u64..).zip(symbols) {
                let section = codec.u16_at(symbol, section_at).unwrap_or(abi::SHN_UNDEF);
                let Some(&(_, shift, start, end)) =
                    moved.iter().find(|(index, ..)| *index == section)
                else {
                    continue;
                };
                let value = codec.word_at(symbol, value_at).unwrap_or_default();
                if (start..=end).contains(&value) {
                    let value = value.wrapping_add(shift) & codec.word_max();
                    self.write_word(patches, table.sh_offset + number * size + value_at, value)?;
                }
            }
        }
        Ok(())
    }

    /// Returns sections with a new address: index, distance of the move, first and last old
    /// address.
    fn moved_sections(&self) -> Result<Vec<(u16, u64, u64, u64)>, Error> {
        let mut moved = Vec::new();
        for (number, section) in (0_u16..abi::SHN_LORESERVE).zip(&self.layout.sections) {
            let Some((address, ..)) = self.new_section(section)? else { continue };
            let shift = address.wrapping_sub(section.sh_addr);
            let Some(end) = section.sh_addr.checked_add(section.sh_size) else { continue };
            if shift != 0 && section.sh_addr != 0 {
                moved.push((number, shift, section.sh_addr, end));
            }
        }
        Ok(moved)
    }
}
