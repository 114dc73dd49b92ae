//! Places for the items: unchanged, pushed along in their run, or in a segment at the end.
//!
//! The items of one run (see `PlacementRequest::runs`) are pushed along or packed anew. An item
//! that then does not fit moves out of the run.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::file_map::{MovableRange, RangeRole};
use crate::elf::raw::{DynamicSection, ElfLayout, align_up};
use crate::elf::slack::{PlacementRequest, SlackRun};

/// Places that were found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// New file offset by item; `None` for the items that moved into the tail.
    pub places: Vec<Option<u64>>,
    /// Segment of the items that moved out; `None` if none did.
    pub tail: Option<OverflowSegment>,
}

/// Segment for the items that move out: a new one at the end of the file, or an existing one that
/// is made longer.
#[derive(Clone, Debug)]
pub(crate) struct OverflowSegment {
    /// Index of the segment that is made longer; `None` for a new one.
    pub extends: Option<usize>,
    pub offset: u64,
    pub address: u64,
    pub end: u64,
    pub align: u64,
    /// Items in the segment, each with its file offset.
    pub items: Vec<(usize, u64)>,
    /// File offset and size of a moved dynamic section.
    pub dynamic: Option<(u64, u64)>,
}

impl OverflowSegment {
    pub(super) fn address_of(&self, offset: u64) -> u64 {
        self.address.wrapping_add(offset.wrapping_sub(self.offset))
    }
}

/// Possible start of a tail: `extends`, `offset`, `address` and `align` as in [`OverflowSegment`].
#[derive(Clone, Copy)]
struct OverflowStart {
    extends: Option<usize>,
    offset: u64,
    address: u64,
    align: u64,
    /// Offset that the tail must not cross.
    limit: u64,
}

impl PlacementRequest<'_, '_> {
    /// Returns the first placement that works. First, no item moves out. Then some small items move
    /// into the padding of a segment. Last, as few as possible move into a segment at the end.
    pub(super) fn arrange(&self) -> Option<Placement> {
        if self.dynamic.is_none() {
            if let Some(places) = self.place(&[], false) {
                return Some(Placement { places, tail: None });
            }
            if let Some(arrangement) = self.use_padding() {
                return Some(arrangement);
            }
        }
        if self.payload {
            return None;
        }
        let start = self.tail_start()?;
        self.evictions().find_map(|evicted| self.move_out(start, &evicted))
    }

    /// Moves items behind the end of a read-only segment, into the padding up to the next page.
    fn use_padding(&self) -> Option<Placement> {
        let segments = self.layout.segments.iter().enumerate();
        let mut paddings: Vec<(u32, OverflowStart)> = segments
            .filter(|(_, load)| load.p_type == abi::PT_LOAD && load.p_flags & abi::PF_W == 0)
            .filter_map(|(index, load)| {
                let end = load.p_offset.checked_add(load.p_filesz)?;
                let limit = self.limit(end, index, &[]).min(self.layout.file_size());
                let (offset, address, align) = (load.p_offset, load.p_vaddr, load.p_align);
                let start = OverflowStart { extends: Some(index), offset, address, align, limit };
                (limit > end).then_some((load.p_flags & abi::PF_X, start))
            })
            .collect();
        paddings.sort_by_key(|(executable, _)| *executable);
        let sets = self.small_evictions();
        let tries = paddings.iter().flat_map(|(_, start)| sets.iter().map(move |set| (start, set)));
        tries.into_iter().find_map(|(start, set)| self.move_out(*start, set))
    }

    /// Returns sets of items to try in padding: the interpreter, the strings, both; then the
    /// smallest tables.
    fn small_evictions(&self) -> Vec<Vec<usize>> {
        let strings = self.ground.position(RangeRole::Strings);
        let interpreter = self.ground.position(RangeRole::Interpreter);
        let mut sets: Vec<Vec<usize>> = vec![
            interpreter.into_iter().collect(),
            strings.into_iter().collect(),
            strings.into_iter().chain(interpreter).collect(),
        ];
        let items = self.ground.items.iter().enumerate();
        let mut small: Vec<(u64, usize)> = items
            .filter(|(_, item)| matches!(item.role, RangeRole::Interpreter | RangeRole::Table))
            .map(|(index, item)| (item.new_size, index))
            .collect();
        small.sort_unstable();
        sets.extend(
            (1..=small.len())
                .map(|count| small.iter().take(count).map(|&(_, index)| index).collect()),
        );
        sets.retain(|set| !set.is_empty());
        sets
    }

    /// Returns the sets of items to move into the tail, in the order of trial. The strings come
    /// first in the new segment, because no other segment may begin at its start (llvm-strip).
    fn evictions(&self) -> impl Iterator<Item = Vec<usize>> {
        let strings = self.ground.position(RangeRole::Strings);
        let interpreter = self.ground.position(RangeRole::Interpreter);
        let mut order: Vec<usize> = strings.into_iter().chain(interpreter).collect();
        let rest = |role| {
            let items = self.ground.items.iter().enumerate();
            items.filter(move |(_, item)| item.role == role).map(|(index, _)| index)
        };
        order.extend(rest(RangeRole::Table));
        order.extend(rest(RangeRole::SectionHeaders));
        order.extend(rest(RangeRole::ElfNote));
        let first = usize::from(strings.is_some() || self.dynamic.is_none());
        (first..=order.len()).map(move |count| order.iter().take(count).copied().collect())
    }

    fn move_out(&self, start: OverflowStart, evicted: &[usize]) -> Option<Placement> {
        // Items that are already at the end of the segment only need to be packed anew.
        let last_run = start.extends.and_then(|load| self.last_run(load));
        let at_end = last_run.as_ref().map_or(&[][..], |run| &run.items);
        let evicted: Vec<usize> =
            evicted.iter().copied().filter(|index| !at_end.contains(index)).collect();
        let new_header = start.extends.is_none() && spare_header(self.layout).is_none();
        let places = self.place(&evicted, new_header)?;
        let last = at_end.last().and_then(|&index| self.placed_end(&places, index));
        let tail = self.tail(start, last, &evicted)?;
        Some(Placement { places, tail: Some(tail) })
    }

    /// Returns the run that ends this segment.
    fn last_run(&self, load: usize) -> Option<SlackRun> {
        let segment = self.layout.segments.get(load)?;
        let end = segment.p_offset.checked_add(segment.p_filesz)?;
        self.runs(&[]).into_iter().find(|run| run.load == load && run.limit >= end)
    }

    fn placed_end(&self, places: &[Option<u64>], index: usize) -> Option<u64> {
        let place = places.get(index).copied().flatten()?;
        place.checked_add(self.ground.items.get(index)?.new_size)
    }

    /// Returns the offsets of all items except the evicted ones, or `None` if they do not fit.
    fn place(&self, evicted: &[usize], new_header: bool) -> Option<Vec<Option<u64>>> {
        let mut places: Vec<Option<u64>> =
            self.ground.items.iter().map(|item| Some(item.offset)).collect();
        for &index in evicted {
            *places.get_mut(index)? = None;
        }
        let mut header_fits = !new_header;
        for run in self.runs(evicted) {
            let after_table = run.after_table && new_header;
            header_fits |= after_table;
            let grows = run.items.iter().any(|&index| {
                self.ground.items.get(index).is_some_and(|item| item.new_size > item.size)
            });
            if !grows && !after_table {
                continue;
            }
            let start = if after_table {
                run.start.checked_add(self.layout.segment_size())?
            } else {
                run.start
            };
            let pushed = self.pack(&run, start, false);
            // Room that earlier edits left is used before the file grows.
            let packed = match pushed {
                Some((places, end)) if end <= self.layout.file_size() => places,
                _ => self.pack(&run, start, true)?.0,
            };
            for (&index, place) in run.items.iter().zip(packed) {
                *places.get_mut(index)? = Some(place);
            }
        }
        header_fits.then_some(places)
    }

    /// Places items one after the other and returns their offsets and the end of the last one. Each
    /// item stays or is pushed along as little as possible. With `tight`, all are packed to the
    /// front.
    fn pack(&self, run: &SlackRun, start: u64, tight: bool) -> Option<(Vec<u64>, u64)> {
        let mut places = Vec::with_capacity(run.items.len());
        let mut at = start;
        for &index in &run.items {
            let item = self.ground.items.get(index)?;
            let load = self.layout.segments.get(item.load)?;
            let place = if !tight && item.offset >= at {
                item.offset
            } else {
                aligned(load, at, item.align)?
            };
            places.push(place);
            at = place.checked_add(item.new_size)?;
        }
        (at <= run.limit && start <= run.limit).then_some((places, at))
    }

    /// Builds the segment at the end of the file with the evicted items, behind `last` in a segment
    /// that is made longer. A moved dynamic section comes before the items, so that they can grow
    /// later. Something comes before the section, because no other segment may begin where the new
    /// one does (llvm-strip would align the wrong one).
    fn tail(
        &self,
        start: OverflowStart,
        last: Option<u64>,
        evicted: &[usize],
    ) -> Option<OverflowSegment> {
        let OverflowStart { extends, offset, address, align, limit } = start;
        let mut tail = OverflowSegment {
            extends,
            offset,
            address,
            end: offset,
            align,
            items: vec![],
            dynamic: None,
        };
        let mut at = match extends {
            Some(load) => last.or_else(|| {
                let load = self.layout.segments.get(load)?;
                load.p_offset.checked_add(load.p_filesz)
            })?,
            None => offset,
        };
        let first = evicted.first().and_then(|&index| self.ground.items.get(index));
        let strings_first = first.is_some_and(|item| item.role == RangeRole::Strings);
        if extends.is_none() && (self.dynamic.is_some() || !strings_first) {
            at = at.checked_add(16)?;
        }
        if let Some(size) = self.dynamic {
            at = align_up(at, 16)?;
            tail.dynamic = Some((at, size));
            at = at.checked_add(size)?;
        }
        for &index in evicted {
            let item: &MovableRange = self.ground.items.get(index)?;
            at = align_up(at, item.align.min(align))?;
            tail.items.push((index, at));
            at = at.checked_add(item.new_size)?;
        }
        tail.end = at;
        let end = tail.address.checked_add(at.checked_sub(tail.offset)?)?;
        let changes = self.dynamic.is_some() || !evicted.is_empty();
        (end <= self.layout.codec.word_max() && at <= limit && changes).then_some(tail)
    }

    /// Returns the start of the tail. It is in the last segment if that ends the file and the
    /// memory. Otherwise it is in a new segment, at an address behind all others that is congruent
    /// to its offset.
    fn tail_start(&self) -> Option<OverflowStart> {
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
        let align = self.page_size();
        let offset = align_up(file_size, 16)?;
        let memory = self.layout.loads().map(|load| load.p_vaddr.checked_add(load.p_memsz));
        let end = memory.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let address = align_up(end, align)?.checked_add(offset % align)?;
        Some(OverflowStart { extends: None, offset, address, align, limit: u64::MAX })
    }

    /// Returns the largest page size that a kernel for this machine may use. It keeps segments
    /// apart (the psABIs' maximum page sizes; ld's `-z max-page-size` defaults).
    fn page_size(&self) -> u64 {
        match self.layout.header.e_machine {
            abi::EM_X86_64 | abi::EM_386 | abi::EM_RISCV | abi::EM_S390 => 0x1000,
            _ => 0x1_0000,
        }
    }
}

/// Returns the index of a program header that can be replaced: an unused one, or `PT_PHDR` in a
/// library, where nothing reads it. The loader reads it in programs, to learn their load address.
/// GNU ld does not write it into libraries; lld does.
pub(crate) fn spare_header(layout: &ElfLayout<'_>) -> Option<usize> {
    let position = |kind| layout.segments.iter().position(|segment| segment.p_type == kind);
    let in_library = layout.segment(abi::PT_INTERP).is_none();
    position(abi::PT_NULL).or_else(|| position(abi::PT_PHDR).filter(|_| in_library))
}

/// Returns the next offset with an aligned address in this segment.
fn aligned(load: &ProgramHeader, offset: u64, align: u64) -> Option<u64> {
    let address = load.p_vaddr.checked_add(offset.checked_sub(load.p_offset)?)?;
    offset.checked_add(align_up(address, align)?.checked_sub(address)?)
}

/// Returns the address of the dynamic section after the placement.
pub(crate) fn dynamic_address(dynamic: &DynamicSection, arrangement: &Placement) -> u64 {
    let tail = arrangement.tail.as_ref();
    let moved = tail.and_then(|tail| tail.dynamic.map(|(offset, _)| tail.address_of(offset)));
    moved.unwrap_or(dynamic.address)
}
