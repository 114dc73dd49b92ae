//! Where each item goes: as it is, pushed along in its run, or into a segment at the end.
//!
//! Items of one run (see `runs`) are pushed along or packed anew; what then does not fit moves
//! out of it.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::file_map::{MovableRange, RangeRole};
use crate::elf::raw::{DynamicSection, ElfLayout, align_up};
use crate::elf::slack::{PlacementRequest, SlackRun};

/// The places found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// New file offset by item; `None` for the items that went into the tail.
    pub places: Vec<Option<u64>>,
    /// Where the others went.
    pub tail: Option<OverflowSegment>,
}

/// The segment that takes what moves out: a new one at the end of the file, or one made longer.
#[derive(Clone, Debug)]
pub(crate) struct OverflowSegment {
    /// Index of the segment that is made longer.
    pub extends: Option<usize>,
    pub offset: u64,
    pub address: u64,
    pub end: u64,
    pub align: u64,
    /// Offset of each item in it.
    pub items: Vec<(usize, u64)>,
    /// Where a moved dynamic section goes, and its size.
    pub dynamic: Option<(u64, u64)>,
}

impl OverflowSegment {
    pub(super) fn address_of(&self, offset: u64) -> u64 {
        self.address.wrapping_add(offset.wrapping_sub(self.offset))
    }
}

/// Where a tail may be: `extends`, `offset`, `address` and `align` as in [`OverflowSegment`].
#[derive(Clone, Copy)]
struct OverflowStart {
    extends: Option<usize>,
    offset: u64,
    address: u64,
    align: u64,
    /// The offset that it must not reach beyond.
    limit: u64,
}

impl PlacementRequest<'_, '_> {
    /// The first of the arrangements that works: nothing moved out, some small items moved into
    /// the padding of a segment, as little as will do moved into a segment at the end.
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

    /// Move items behind the end of a read-only segment, into the padding up to the next page.
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

    /// What may go into padding: the interpreter, the strings, both; else the smallest tables.
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

    /// Which items to move into the tail, in the order of trial: the strings come first in the
    /// new segment, because no other segment may begin where it begins (llvm-strip).
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
        // What is at the end of the segment already only needs to be packed anew.
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

    /// The run that ends this segment.
    fn last_run(&self, load: usize) -> Option<SlackRun> {
        let segment = self.layout.segments.get(load)?;
        let end = segment.p_offset.checked_add(segment.p_filesz)?;
        self.runs(&[]).into_iter().find(|run| run.load == load && run.limit >= end)
    }

    fn placed_end(&self, places: &[Option<u64>], index: usize) -> Option<u64> {
        let place = places.get(index).copied().flatten()?;
        place.checked_add(self.ground.items.get(index)?.new_size)
    }

    /// Offsets of all items but the evicted, or `None` if they do not fit.
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
            // Before the file grows, room that earlier edits left is used up.
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

    /// Items one after the other: each where it is or pushed along as little as will do, or
    /// (`tight`) all of them as far to the front as they go. The places, and where they end.
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

    /// The segment at the end of the file, with the evicted items in it: behind `last` in a
    /// segment that is made longer. A moved dynamic section comes before the items, so that
    /// these can grow later; and something comes before it, because no other segment may begin
    /// where the new one does (llvm-strip would align the wrong one).
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

    /// Where the tail begins: in the last segment if that ends the file and the memory, else in
    /// a segment of its own at an address behind all others, congruent to its offset.
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

    /// The largest page that a kernel for this machine may use, and so what keeps segments
    /// apart (the psABIs' maximum page sizes; ld's `-z max-page-size` defaults).
    fn page_size(&self) -> u64 {
        match self.layout.header.e_machine {
            abi::EM_X86_64 | abi::EM_386 | abi::EM_RISCV | abi::EM_S390 => 0x1000,
            _ => 0x1_0000,
        }
    }
}

/// Index of a program header that can be given up for another one: one that is unused, or
/// `PT_PHDR` in a library, where it tells nobody anything. (The loader wants it of programs, to
/// learn where they were loaded. GNU ld does not even write it into libraries, lld does.)
pub(crate) fn spare_header(layout: &ElfLayout<'_>) -> Option<usize> {
    let position = |kind| layout.segments.iter().position(|segment| segment.p_type == kind);
    let in_library = layout.segment(abi::PT_INTERP).is_none();
    position(abi::PT_NULL).or_else(|| position(abi::PT_PHDR).filter(|_| in_library))
}

/// The next offset whose address in this segment is aligned.
fn aligned(load: &ProgramHeader, offset: u64, align: u64) -> Option<u64> {
    let address = load.p_vaddr.checked_add(offset.checked_sub(load.p_offset)?)?;
    offset.checked_add(align_up(address, align)?.checked_sub(address)?)
}

/// Address of the dynamic section after the arrangement.
pub(crate) fn dynamic_address(dynamic: &DynamicSection, arrangement: &Placement) -> u64 {
    let tail = arrangement.tail.as_ref();
    let moved = tail.and_then(|tail| tail.dynamic.map(|(offset, _)| tail.address_of(offset)));
    moved.unwrap_or(dynamic.address)
}
