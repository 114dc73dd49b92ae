//! Places for the ranges: unchanged, pushed along in their run, or in a segment at the end.
//!
//! The ranges of one run (see `PlacementRequest::find_runs`) are pushed along or packed anew. A
//! range that then does not fit moves out of the run.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::codec::align_up;
use crate::elf::file_map::{MovableRange, RangeRole};
use crate::elf::raw::{DynamicSection, ElfLayout};
use crate::elf::slack::{PlacementRequest, SlackRun};

/// Places that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// New file offset by range; `None` for the ranges that moved into the overflow.
    pub offsets: Vec<Option<u64>>,
    /// Segment of the ranges that moved out; `None` if none did.
    pub overflow: Option<OverflowSegment>,
}

/// Segment for the ranges that move out: a new one at the end of the file, or an existing one that
/// is made longer.
#[derive(Clone, Debug)]
pub(crate) struct OverflowSegment {
    /// Index of the segment that is made longer; `None` for a new one.
    pub extends: Option<usize>,
    pub offset: u64,
    pub address: u64,
    pub end: u64,
    pub align: u64,
    /// Ranges in the segment, each with its file offset.
    pub ranges: Vec<(usize, u64)>,
    /// File offset and size of a moved dynamic section.
    pub dynamic: Option<(u64, u64)>,
}

impl OverflowSegment {
    pub(super) fn address_of(&self, offset: u64) -> u64 {
        self.address.wrapping_add(offset.wrapping_sub(self.offset))
    }
}

/// Possible start of an overflow: `extends`, `offset`, `address` and `align` as in
/// [`OverflowSegment`].
#[derive(Clone, Copy)]
struct OverflowStart {
    extends: Option<usize>,
    offset: u64,
    address: u64,
    align: u64,
    /// Offset that the overflow must not cross.
    limit: u64,
}

impl PlacementRequest<'_, '_> {
    /// Returns the first placement that works. First, no range moves out. Then some small ranges
    /// move into the padding of a segment. Last, as few as possible move into a segment at the end.
    pub(super) fn place_ranges(&self) -> Option<Placement> {
        if self.dynamic_size.is_none() {
            if let Some(offsets) = self.place_kept(&[], false) {
                return Some(Placement { offsets, overflow: None });
            }
            if let Some(placement) = self.place_in_padding() {
                return Some(placement);
            }
        }
        if self.has_payload {
            return None;
        }
        let start = self.find_overflow_start()?;
        self.eviction_sets().find_map(|evicted| self.place_evicted(start, &evicted))
    }

    /// Moves ranges behind the end of a read-only segment, into the padding up to the next page.
    fn place_in_padding(&self) -> Option<Placement> {
        let segments = self.layout.segments.iter().enumerate();
        let mut paddings: Vec<(u32, OverflowStart)> = segments
            .filter(|(_, load)| load.p_type == abi::PT_LOAD && load.p_flags & abi::PF_W == 0)
            .filter_map(|(index, load)| {
                let end = load.p_offset.checked_add(load.p_filesz)?;
                let limit = self.find_limit(end, index, &[]).min(self.layout.file_size());
                let (offset, address, align) = (load.p_offset, load.p_vaddr, load.p_align);
                let start = OverflowStart { extends: Some(index), offset, address, align, limit };
                (limit > end).then_some((load.p_flags & abi::PF_X, start))
            })
            .collect();
        paddings.sort_by_key(|(executable, _)| *executable);
        let sets = self.small_eviction_sets();
        let tries = paddings.iter().flat_map(|(_, start)| sets.iter().map(move |set| (start, set)));
        tries.into_iter().find_map(|(start, set)| self.place_evicted(*start, set))
    }

    /// Returns sets of ranges to try in padding: the interpreter, the strings, both; then the
    /// smallest tables.
    fn small_eviction_sets(&self) -> Vec<Vec<usize>> {
        let strings = self.map.find_role(RangeRole::Strings);
        let interpreter = self.map.find_role(RangeRole::Interpreter);
        let mut sets: Vec<Vec<usize>> = vec![
            interpreter.into_iter().collect(),
            strings.into_iter().collect(),
            strings.into_iter().chain(interpreter).collect(),
        ];
        let ranges = self.map.movable.iter().enumerate();
        let mut small: Vec<(u64, usize)> = ranges
            .filter(|(_, range)| matches!(range.role, RangeRole::Interpreter | RangeRole::Table))
            .map(|(index, range)| (range.new_size, index))
            .collect();
        small.sort_unstable();
        sets.extend(
            (1..=small.len())
                .map(|count| small.iter().take(count).map(|&(_, index)| index).collect()),
        );
        sets.retain(|set| !set.is_empty());
        sets
    }

    /// Returns the sets of ranges to move into the overflow, in the order of trial. The strings
    /// come first in the new segment, because no other segment may begin at its start (llvm-strip).
    fn eviction_sets(&self) -> impl Iterator<Item = Vec<usize>> {
        let strings = self.map.find_role(RangeRole::Strings);
        let interpreter = self.map.find_role(RangeRole::Interpreter);
        let mut order: Vec<usize> = strings.into_iter().chain(interpreter).collect();
        let rest = |role| {
            let ranges = self.map.movable.iter().enumerate();
            ranges.filter(move |(_, range)| range.role == role).map(|(index, _)| index)
        };
        order.extend(rest(RangeRole::Table));
        order.extend(rest(RangeRole::SectionHeaders));
        order.extend(rest(RangeRole::ElfNote));
        let first = usize::from(strings.is_some() || self.dynamic_size.is_none());
        (first..=order.len()).map(move |count| order.iter().take(count).copied().collect())
    }

    fn place_evicted(&self, start: OverflowStart, evicted: &[usize]) -> Option<Placement> {
        // Ranges that are already at the end of the segment only need to be packed anew.
        let last_run = start.extends.and_then(|load| self.find_last_run(load));
        let end_ranges = last_run.as_ref().map_or(&[][..], |run| &run.ranges);
        let evicted: Vec<usize> =
            evicted.iter().copied().filter(|index| !end_ranges.contains(index)).collect();
        let new_header = start.extends.is_none() && find_spare_header(self.layout).is_none();
        let offsets = self.place_kept(&evicted, new_header)?;
        let last = end_ranges.last().and_then(|&index| self.find_placed_end(&offsets, index));
        let overflow = self.build_overflow(start, last, &evicted)?;
        Some(Placement { offsets, overflow: Some(overflow) })
    }

    /// Returns the run that ends this segment.
    fn find_last_run(&self, load: usize) -> Option<SlackRun> {
        let segment = self.layout.segments.get(load)?;
        let end = segment.p_offset.checked_add(segment.p_filesz)?;
        self.find_runs(&[]).into_iter().find(|run| run.load == load && run.limit >= end)
    }

    fn find_placed_end(&self, offsets: &[Option<u64>], index: usize) -> Option<u64> {
        let place = offsets.get(index).copied().flatten()?;
        place.checked_add(self.map.movable.get(index)?.new_size)
    }

    /// Returns the offsets of all ranges except the evicted ones, or `None` if they do not fit.
    fn place_kept(&self, evicted: &[usize], new_header: bool) -> Option<Vec<Option<u64>>> {
        let mut offsets: Vec<Option<u64>> =
            self.map.movable.iter().map(|range| Some(range.offset)).collect();
        for &index in evicted {
            *offsets.get_mut(index)? = None;
        }
        let mut header_fits = !new_header;
        for run in self.find_runs(evicted) {
            let after_headers = run.after_headers && new_header;
            header_fits |= after_headers;
            let grows = run.ranges.iter().any(|&index| {
                self.map.movable.get(index).is_some_and(|range| range.new_size > range.size)
            });
            if !grows && !after_headers {
                continue;
            }
            let start = if after_headers {
                run.start.checked_add(self.layout.segment_size())?
            } else {
                run.start
            };
            let pushed = self.pack_run(&run, start, false);
            // Room that earlier edits left is used before the file grows.
            let packed = match pushed {
                Some((offsets, end)) if end <= self.layout.file_size() => offsets,
                _ => self.pack_run(&run, start, true)?.0,
            };
            for (&index, place) in run.ranges.iter().zip(packed) {
                *offsets.get_mut(index)? = Some(place);
            }
        }
        header_fits.then_some(offsets)
    }

    /// Places ranges one after the other and returns their offsets and the end of the last one.
    /// Each range stays or is pushed along as little as possible. With `tight`, all are packed to
    /// the front.
    fn pack_run(&self, run: &SlackRun, start: u64, tight: bool) -> Option<(Vec<u64>, u64)> {
        let mut offsets = Vec::with_capacity(run.ranges.len());
        let mut at = start;
        for &index in &run.ranges {
            let range = self.map.movable.get(index)?;
            let load = self.layout.segments.get(range.load)?;
            let place = if !tight && range.offset >= at {
                range.offset
            } else {
                align_offset(load, at, range.align)?
            };
            offsets.push(place);
            at = place.checked_add(range.new_size)?;
        }
        (at <= run.limit && start <= run.limit).then_some((offsets, at))
    }

    /// Builds the segment at the end of the file with the evicted ranges, behind `last` in a
    /// segment that is made longer. A moved dynamic section comes before the ranges, so that they
    /// can grow later. Something comes before the section, because no other segment may begin where
    /// the new one does (llvm-strip would align the wrong one).
    fn build_overflow(
        &self,
        start: OverflowStart,
        last: Option<u64>,
        evicted: &[usize],
    ) -> Option<OverflowSegment> {
        let OverflowStart { extends, offset, address, align, limit } = start;
        let mut overflow = OverflowSegment {
            extends,
            offset,
            address,
            end: offset,
            align,
            ranges: vec![],
            dynamic: None,
        };
        let mut at = match extends {
            Some(load) => last.or_else(|| {
                let load = self.layout.segments.get(load)?;
                load.p_offset.checked_add(load.p_filesz)
            })?,
            None => offset,
        };
        let first = evicted.first().and_then(|&index| self.map.movable.get(index));
        let strings_first = first.is_some_and(|range| range.role == RangeRole::Strings);
        if extends.is_none() && (self.dynamic_size.is_some() || !strings_first) {
            at = at.checked_add(16)?;
        }
        if let Some(size) = self.dynamic_size {
            at = align_up(at, 16)?;
            overflow.dynamic = Some((at, size));
            at = at.checked_add(size)?;
        }
        for &index in evicted {
            let range: &MovableRange = self.map.movable.get(index)?;
            at = align_up(at, range.align.min(align))?;
            overflow.ranges.push((index, at));
            at = at.checked_add(range.new_size)?;
        }
        overflow.end = at;
        let end = overflow.address.checked_add(at.checked_sub(overflow.offset)?)?;
        let changes = self.dynamic_size.is_some() || !evicted.is_empty();
        (end <= self.layout.codec.word_max() && at <= limit && changes).then_some(overflow)
    }

    /// Returns the start of the overflow. It is in the last segment if that ends the file and the
    /// memory. Otherwise it is in a new segment, at an address behind all others that is congruent
    /// to its offset.
    fn find_overflow_start(&self) -> Option<OverflowStart> {
        let segments = self.layout.segments.iter().enumerate();
        let (index, last) = segments
            .filter(|(_, segment)| segment.p_type == abi::PT_LOAD)
            .max_by_key(|(_, segment)| segment.p_vaddr)?;
        let file_size = self.layout.file_size();
        let reusable = last.p_filesz == last.p_memsz
            && last.p_offset.checked_add(last.p_filesz) == Some(file_size)
            && last.p_flags & abi::PF_X == 0
            && last.p_offset > 0;
        if reusable {
            let (offset, address, align) = (last.p_offset, last.p_vaddr, last.p_align);
            return Some(OverflowStart {
                extends: Some(index),
                offset,
                address,
                align,
                limit: u64::MAX,
            });
        }
        let align = self.max_page_size();
        let offset = align_up(file_size, 16)?;
        let memory = self.layout.loads().map(|load| load.p_vaddr.checked_add(load.p_memsz));
        let end = memory.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let address = align_up(end, align)?.checked_add(offset % align)?;
        Some(OverflowStart { extends: None, offset, address, align, limit: u64::MAX })
    }

    /// Returns the largest page size that a kernel for this machine may use. It keeps segments
    /// apart (the psABIs' maximum page sizes; ld's `-z max-page-size` defaults).
    fn max_page_size(&self) -> u64 {
        match self.layout.header.e_machine {
            abi::EM_X86_64 | abi::EM_386 | abi::EM_RISCV | abi::EM_S390 => 0x1000,
            _ => 0x1_0000,
        }
    }
}

/// Returns the index of a program header that can be replaced: an unused one, or `PT_PHDR` in a
/// library, where nothing reads it. The loader reads it in programs, to learn their load address.
/// GNU ld does not write it into libraries; lld does.
pub(crate) fn find_spare_header(layout: &ElfLayout<'_>) -> Option<usize> {
    let position = |kind| layout.segments.iter().position(|segment| segment.p_type == kind);
    let in_library = layout.find_segment(abi::PT_INTERP).is_none();
    position(abi::PT_NULL).or_else(|| position(abi::PT_PHDR).filter(|_| in_library))
}

/// Returns the next offset with an aligned address in this segment.
fn align_offset(load: &ProgramHeader, offset: u64, align: u64) -> Option<u64> {
    let address = load.p_vaddr.checked_add(offset.checked_sub(load.p_offset)?)?;
    offset.checked_add(align_up(address, align)?.checked_sub(address)?)
}

/// Returns the address of the dynamic section after the placement.
pub(crate) fn dynamic_address(dynamic: &DynamicSection, placement: &Placement) -> u64 {
    let overflow = placement.overflow.as_ref();
    let moved = overflow
        .and_then(|overflow| overflow.dynamic.map(|(offset, _)| overflow.address_of(offset)));
    moved.unwrap_or(dynamic.address)
}

#[cfg(test)]
mod tests;
