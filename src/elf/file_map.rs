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
