//! Map of a file: ranges that can move (`movable`), ranges that cannot (`fixed`), and the free
//! space between them.
//!
//! A range is reachable only through headers and dynamic tags, which the planner rewrites with it.
//! Ranges are the interpreter string, the tables of the dynamic section, notes that are found by
//! their program header, and the section header table. Everything else that is referenced stays
//! where it is.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::notes;
use crate::elf::raw::ElfLayout;
use crate::elf::tables::{DT_RELR, DynamicTables, TABLE_TAGS};

/// Role of a range, as far as the planner distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeRole {
    Interpreter,
    Strings,
    /// Any other table of the dynamic section.
    Table,
    ElfNote,
    SectionHeaders,
}

/// A movable range of the file.
#[derive(Clone, Debug)]
pub(crate) struct MovableRange {
    pub role: RangeRole,
    pub offset: u64,
    pub size: u64,
    pub align: u64,
    /// Index of the `PT_LOAD` that loads it.
    pub load: usize,
    /// New size in bytes; the planner sets it.
    pub new_size: u64,
}

impl MovableRange {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.size
    }

    pub(super) fn holds(&self, offset: u64, size: u64) -> bool {
        offset >= self.offset && offset.saturating_add(size) <= self.end()
    }
}

/// A range that stays where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedRange {
    pub start: u64,
    pub end: u64,
}

/// Ranges and fixed, both by offset. No range overlaps another range or a range.
pub(crate) struct FileMap {
    pub movable: Vec<MovableRange>,
    pub fixed: Vec<FixedRange>,
}

impl FileMap {
    pub(super) fn build(layout: &ElfLayout<'_>, tables: Option<&DynamicTables<'_, '_>>) -> FileMap {
        let mut movable = find_movable_ranges(layout, tables);
        movable.sort_by_key(|range| (range.offset, std::cmp::Reverse(range.size)));
        let mut fixed = header_ranges(layout);
        resolve_overlaps(&mut movable, &mut fixed, &referenced_ranges(layout));
        fixed.sort_by_key(|range| (range.start, range.end));
        FileMap { movable, fixed }
    }

    pub(super) fn find_role(&self, role: RangeRole) -> Option<usize> {
        self.movable.iter().position(|range| range.role == role)
    }
}

/// Drops ranges that lie inside another range, and pins ranges that overlap anything only in part.
fn resolve_overlaps(
    movable: &mut Vec<MovableRange>,
    fixed: &mut Vec<FixedRange>,
    referenced: &[FixedRange],
) {
    let mut kept: Vec<MovableRange> = Vec::new();
    for range in movable.drain(..) {
        match kept.last_mut() {
            Some(last) if last.holds(range.offset, range.size) => {
                last.align = last.align.max(range.align);
            }
            _ => kept.push(range),
        }
    }
    loop {
        let pinned = kept.iter().position(|range| {
            let crossed = |start: u64, end: u64| start < range.end() && end > range.offset;
            fixed.iter().any(|fixed| crossed(fixed.start, fixed.end))
                || kept
                    .iter()
                    .any(|other| other.offset != range.offset && crossed(other.offset, other.end()))
                || referenced.iter().any(|part| {
                    crossed(part.start, part.end) && !range.holds(part.start, part.end - part.start)
                })
        });
        let Some(pinned) = pinned else { break };
        let range = kept.remove(pinned);
        fixed.push(FixedRange { start: range.offset, end: range.end() });
    }
    for part in referenced {
        if !kept.iter().any(|range| range.holds(part.start, part.end - part.start)) {
            fixed.push(*part);
        }
    }
    *movable = kept;
}

fn find_movable_ranges(
    layout: &ElfLayout<'_>,
    tables: Option<&DynamicTables<'_, '_>>,
) -> Vec<MovableRange> {
    let mut ranges = Vec::new();
    if let Some(segment) = layout.find_segment(abi::PT_INTERP) {
        ranges.extend(movable_range(
            layout,
            RangeRole::Interpreter,
            segment.p_offset,
            segment.p_filesz,
            1,
        ));
    }
    if let Some(tables) = tables {
        ranges.extend(TABLE_TAGS.iter().filter_map(|&tag| movable_table(tables, tag)));
    }
    ranges.extend(movable_notes(layout));
    if !layout.sections.is_empty() {
        let size = layout.section_size() * layout.sections.len() as u64;
        ranges.extend(movable_range(
            layout,
            RangeRole::SectionHeaders,
            layout.header.e_shoff,
            size,
            8,
        ));
    }
    ranges
}

/// Returns a range that can move, or `None` if no `PT_LOAD` loads all of it.
fn movable_range(
    layout: &ElfLayout<'_>,
    role: RangeRole,
    offset: u64,
    size: u64,
    align: u64,
) -> Option<MovableRange> {
    let end = offset.checked_add(size)?;
    if size == 0 || end > layout.file_size() {
        return None;
    }
    let load = layout.segments.iter().position(|segment| {
        segment.p_type == abi::PT_LOAD
            && segment.p_offset <= offset
            && segment.p_offset.saturating_add(segment.p_filesz) >= end
    })?;
    let section = layout
        .sections
        .iter()
        .filter(|section| section.sh_offset == offset && has_file_contents(section.sh_type));
    let mut align = section.map(|section| section.sh_addralign).fold(align, u64::max);
    while align > 1 && !offset.is_multiple_of(align) {
        align /= 2;
    }
    Some(MovableRange { role, offset, size, align, load, new_size: size })
}

fn movable_table(tables: &DynamicTables<'_, '_>, tag: i64) -> Option<MovableRange> {
    let layout = tables.layout;
    let address = tables.dynamic.value(tag)?;
    // A table of unknown size stays where it is.
    let known = tables.table_size(tag).ok().flatten()?;
    let offset = layout.offset_of(address, known)?;
    let section = layout
        .sections
        .iter()
        .filter(|section| section.sh_addr == address && section.sh_offset == offset)
        .filter(|section| section.sh_flags & u64::from(abi::SHF_ALLOC) != 0)
        .filter(|section| has_file_contents(section.sh_type))
        .map(|section| section.sh_size)
        .max();
    let size = known.max(section.unwrap_or(0));
    let (role, align) = match tag {
        abi::DT_STRTAB => (RangeRole::Strings, 1),
        abi::DT_VERSYM => (RangeRole::Table, 2),
        abi::DT_SYMTAB
        | abi::DT_GNU_HASH
        | abi::DT_RELA
        | abi::DT_REL
        | abi::DT_JMPREL
        | DT_RELR => (RangeRole::Table, layout.codec.word()),
        _ => (RangeRole::Table, 8),
    };
    movable_range(layout, role, offset, size, align)
}

/// Returns the notes, one for each range that headers treat as a whole.
fn movable_notes(layout: &ElfLayout<'_>) -> Vec<MovableRange> {
    let mut ranges: Vec<&ProgramHeader> = layout
        .segments
        .iter()
        .filter(|segment| matches!(segment.p_type, abi::PT_NOTE | abi::PT_GNU_PROPERTY))
        .filter(|segment| segment.p_filesz > 0)
        .collect();
    // Of two ranges that begin at one offset the longer comes first; a property note is also a
    // note.
    ranges.sort_by_key(|segment| (segment.p_offset, std::cmp::Reverse(segment.p_filesz)));
    ranges
        .iter()
        .filter_map(|note| {
            let whole = notes::are_movable(layout, note.p_offset, note.p_filesz, note.p_align);
            let size = if whole { note.p_filesz } else { notes::detachable_size(layout, note) };
            movable_range(layout, RangeRole::ElfNote, note.p_offset, size, note.p_align.clamp(4, 8))
        })
        .collect()
}

/// Returns the ranges that nothing may touch: the ELF header and the program header table.
fn header_ranges(layout: &ElfLayout<'_>) -> Vec<FixedRange> {
    let header = if layout.codec.is_64() { 64 } else { 52 };
    let table = layout.header.e_phoff;
    let size = layout.segment_size() * layout.segments.len() as u64;
    vec![
        FixedRange { start: 0, end: header },
        FixedRange { start: table, end: table.saturating_add(size) },
    ]
}

/// Returns the ranges that headers refer to. Each is part of one movable range, or stays in its
/// place.
fn referenced_ranges(layout: &ElfLayout<'_>) -> Vec<FixedRange> {
    let in_segments = layout.segments.iter().filter(|segment| {
        !matches!(
            segment.p_type,
            abi::PT_NULL | abi::PT_LOAD | abi::PT_PHDR | abi::PT_GNU_STACK | abi::PT_GNU_RELRO
        )
    });
    let in_segments = in_segments.map(|segment| {
        let movable = match segment.p_type {
            abi::PT_NOTE => notes::detachable_size(layout, segment),
            _ => 0,
        };
        (segment.p_offset.saturating_add(movable), segment.p_filesz.saturating_sub(movable))
    });
    let in_sections = layout
        .sections
        .iter()
        .filter(|section| has_file_contents(section.sh_type))
        .map(|section| (section.sh_offset, section.sh_size));
    let headers = (!layout.sections.is_empty())
        .then(|| layout.section_size() * layout.sections.len() as u64)
        .map(|size| (layout.header.e_shoff, size));
    in_segments
        .chain(in_sections)
        .chain(headers)
        .filter(|&(_, size)| size > 0)
        .map(|(start, size)| FixedRange { start, end: start.saturating_add(size) })
        .filter(|range| range.start < layout.file_size())
        .collect()
}

fn has_file_contents(kind: u32) -> bool {
    !matches!(kind, abi::SHT_NULL | abi::SHT_NOBITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::sample::{
        DYNAMIC, FORMS, HASH, INTERPRETER, NOTES, SIZE, STRINGS, SYMBOLS, SampleElf,
    };
    use elf::endian::AnyEndian;
    use elf::file::Class;

    fn build(sample: &SampleElf) -> FileMap {
        let bytes = sample.build();
        let layout = ElfLayout::parse(&bytes).unwrap();
        let dynamic = layout.dynamic().unwrap();
        let tables = dynamic.as_ref().map(|dynamic| DynamicTables::new(&layout, dynamic));
        FileMap::build(&layout, tables.as_ref())
    }

    fn program() -> SampleElf {
        SampleElf::program(Class::ELF64, AnyEndian::Little)
    }

    fn offsets(map: &FileMap) -> Vec<(RangeRole, u64, u64)> {
        map.movable.iter().map(|range| (range.role, range.offset, range.size)).collect()
    }

    #[test]
    fn tables_move_and_headers_stay() {
        for (class, endian) in FORMS {
            let map = build(&SampleElf::program(class, endian));
            let symbols = if class == Class::ELF64 { 48 } else { 32 };
            assert_eq!(
                offsets(&map),
                [
                    (RangeRole::Interpreter, INTERPRETER, 11),
                    (RangeRole::ElfNote, NOTES, 20),
                    (RangeRole::Table, HASH, 20),
                    (RangeRole::Table, SYMBOLS, symbols),
                    (RangeRole::Strings, STRINGS, 37),
                ]
            );
            let fixed = |start| map.fixed.iter().any(|range| range.start == start);
            assert!(fixed(0) && fixed(DYNAMIC) && fixed(SIZE), "{class:?} {endian:?}");
            assert!(map.fixed.is_sorted_by_key(|range| range.start));
        }
    }

    #[test]
    fn ranges_that_overlap_in_part_stay() {
        let mut sample = program();
        // A section of unknown contents reaches from the symbols into the strings.
        sample.add_section(abi::SHT_PROGBITS, SYMBOLS + 40, STRINGS + 4 - SYMBOLS - 40);
        let map = build(&sample);
        assert_eq!(map.find_role(RangeRole::Strings), None);
        let tables: Vec<u64> = map.movable.iter().map(|range| range.offset).collect();
        assert_eq!(tables, [INTERPRETER, NOTES, HASH]);
        let is_fixed = |start, size| {
            map.fixed.iter().any(|range| (range.start, range.end) == (start, start + size))
        };
        assert!(is_fixed(SYMBOLS, 48) && is_fixed(STRINGS, 37));
    }

    #[test]
    fn a_range_inside_another_one_moves_with_it() {
        let mut sample = program();
        sample.segments[1].p_offset = STRINGS + 8;
        sample.segments[1].p_filesz = 7;
        sample.sections.remove(0);
        let map = build(&sample);
        assert_eq!(map.find_role(RangeRole::Interpreter), None);
        assert!(map.find_role(RangeRole::Strings).is_some());
    }

    #[test]
    fn sizes_of_zero_and_parts_outside_of_the_file_are_no_ranges() {
        for (offset, size) in [(INTERPRETER, 0), (SIZE - 4, 400), (u64::MAX - 4, 8), (SIZE + 4, 4)]
        {
            let mut sample = program();
            sample.segments[1].p_offset = offset;
            sample.segments[1].p_filesz = size;
            sample.sections.remove(0);
            let map = build(&sample);
            assert_eq!(map.find_role(RangeRole::Interpreter), None, "{offset:#x} {size:#x}");
        }
    }

    #[test]
    fn a_range_that_no_single_segment_loads_stays() {
        let mut sample = program();
        sample.segments[0].p_filesz = STRINGS + 10;
        sample.add_segment(abi::PT_LOAD, STRINGS + 10, SIZE - STRINGS - 10);
        let map = build(&sample);
        assert_eq!(map.find_role(RangeRole::Strings), None);
        assert!(map.find_role(RangeRole::Interpreter).is_some());
    }

    #[test]
    fn segments_out_of_order_hold_their_ranges() {
        let mut sample = program();
        sample.segments[0].p_filesz = HASH;
        sample.add_segment(abi::PT_LOAD, HASH, SIZE - HASH);
        let last = sample.segments.pop().unwrap();
        sample.segments.insert(0, last);
        let map = build(&sample);
        let loads: Vec<usize> = map.movable.iter().map(|range| range.load).collect();
        assert_eq!(loads, [1, 1, 0, 0, 0]);
    }

    #[test]
    fn alignment_is_no_more_than_the_place_has() {
        let mut sample = program();
        sample.sections[4].sh_addralign = 1 << 16;
        let map = build(&sample);
        let strings = map.find_role(RangeRole::Strings).unwrap();
        assert_eq!(map.movable[strings].align, 0x20, "its offset is 0x2a0");
    }

    #[test]
    fn a_table_of_unknown_size_stays() {
        let mut sample = program();
        // The hash table states more symbols than there is memory.
        let counts = sample.words(&[u32::MAX, u32::MAX]);
        sample.put(HASH, &counts);
        let map = build(&sample);
        assert!(map.movable.iter().all(|range| range.offset != HASH));
        assert!(map.fixed.iter().any(|range| range.start == HASH));
    }
}
