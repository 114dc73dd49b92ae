//! Room in a file: runs of items, and the free space behind them.
//!
//! A *run* is a sequence of items of one `PT_LOAD` with only free space between them. Its items can
//! be pushed along up to the next claim. They can also pass the end of the segment, through the
//! padding of the file up to the next segment's page.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::file_map::FileMap;
use crate::elf::raw::{ElfLayout, slice};

/// Number of zero bytes between two tables that count as padding in a file without section headers.
const ALIGNMENT_PADDING: u64 = 16;

/// A sequence of items and its space. `after_table` is true if it begins behind the program
/// headers.
pub(crate) struct SlackRun {
    pub items: Vec<usize>,
    pub load: usize,
    pub start: u64,
    pub end: u64,
    pub limit: u64,
    pub after_table: bool,
}

/// Requirements for the placement.
pub(crate) struct PlacementRequest<'l, 'a> {
    pub layout: &'l ElfLayout<'a>,
    pub ground: &'l FileMap,
    /// Number of bytes for a moved dynamic section; `None` if it stays.
    pub dynamic: Option<u64>,
    /// True if bytes follow the ELF image, so that nothing may be appended.
    pub payload: bool,
}

impl PlacementRequest<'_, '_> {
    /// Returns all runs. A run without items is the free space behind the program header table.
    pub(super) fn runs(&self, evicted: &[usize]) -> Vec<SlackRun> {
        let table_end = self.table_end();
        let mut runs: Vec<SlackRun> = Vec::new();
        let mut claims = self.ground.claims.iter().peekable();
        let mut reached = 0_u64;
        let items = self.ground.items.iter().enumerate();
        for (index, item) in items.filter(|(index, _)| !evicted.contains(index)) {
            while let Some(claim) = claims.next_if(|claim| claim.start < item.offset) {
                reached = reached.max(claim.end);
            }
            let end_of_last = runs.last().map_or(0, |run| run.end);
            let joins = runs.last().is_some_and(|run| run.load == item.load)
                && reached <= end_of_last
                && self.is_free(end_of_last, item.offset, evicted);
            if joins {
                if let Some(run) = runs.last_mut() {
                    run.items.push(index);
                    run.end = item.end();
                }
                continue;
            }
            let floor = reached.max(end_of_last).max(self.load_start(item.load));
            let free = self.is_free(floor, item.offset, evicted);
            let start = if free { floor } else { item.offset };
            runs.push(SlackRun {
                items: vec![index],
                load: item.load,
                start,
                end: item.end(),
                limit: 0,
                after_table: start == table_end,
            });
        }
        for run in &mut runs {
            run.limit = self.limit(run.end, run.load, evicted);
        }
        if !runs.iter().any(|run| run.after_table) {
            runs.extend(self.empty_run(table_end, evicted));
        }
        runs
    }

    fn table_end(&self) -> u64 {
        let size = self.layout.segment_size() * self.layout.segments.len() as u64;
        self.layout.header.e_phoff.saturating_add(size)
    }

    fn load_start(&self, load: usize) -> u64 {
        self.layout.segments.get(load).map_or(0, |load| load.p_offset)
    }

    /// Returns the space behind the program header table if no item follows directly.
    fn empty_run(&self, table_end: u64, evicted: &[usize]) -> Option<SlackRun> {
        let load = self.layout.segments.iter().position(|segment| {
            segment.p_type == abi::PT_LOAD
                && segment.p_offset <= table_end
                && segment.p_offset.saturating_add(segment.p_filesz) >= table_end
        })?;
        let limit = self.limit(table_end, load, evicted);
        Some(SlackRun {
            items: vec![],
            load,
            start: table_end,
            end: table_end,
            limit,
            after_table: true,
        })
    }

    /// Returns the offset up to which a run that now ends at `end` may grow.
    pub(super) fn limit(&self, end: u64, load: usize, evicted: &[usize]) -> u64 {
        let Some(segment) = self.layout.segments.get(load) else { return end };
        let mut limit = self.memory_limit(segment);
        let kept = self.ground.items.iter().enumerate();
        let kept = kept.filter(|(index, _)| !evicted.contains(index));
        let starts = (self.ground.claims.iter().map(|claim| (claim.start, claim.end)))
            .chain(kept.map(|(_, item)| (item.offset, item.end())))
            .chain(
                self.layout.loads().map(|load| (load.p_offset, load.p_offset.saturating_add(1))),
            );
        for (start, claim_end) in starts {
            if start >= end {
                limit = limit.min(start);
            } else if claim_end > end && start.saturating_add(1) < claim_end {
                return end;
            }
        }
        // Space beyond the end of the file is free.
        if self.is_free(end, limit.min(self.layout.file_size()), evicted) { limit } else { end }
    }

    /// Returns the offset up to which a segment can grow without sharing a memory page with the
    /// next one. A segment with memory that is not in the file cannot grow in the file.
    fn memory_limit(&self, segment: &ProgramHeader) -> u64 {
        let end = segment.p_offset.saturating_add(segment.p_filesz);
        if segment.p_memsz != segment.p_filesz {
            return end;
        }
        let page = segment.p_align.max(0x1000);
        let next = self.layout.loads().map(|load| load.p_vaddr);
        let next = next.filter(|&address| address > segment.p_vaddr).min();
        let room = match next {
            Some(next) => (next - next % page).saturating_sub(segment.p_vaddr),
            None => self.layout.codec.word_max() - segment.p_vaddr,
        };
        end.max(segment.p_offset.saturating_add(room))
    }

    /// Returns whether these bytes are padding: zero, and accounted for. Without section headers,
    /// only a few bytes of alignment and bytes that no segment loads are accounted for.
    fn is_free(&self, start: u64, end: u64, evicted: &[usize]) -> bool {
        let Some(len) = end.checked_sub(start) else { return false };
        let mut at = start;
        let gone = self.ground.items.iter().enumerate();
        for (_, item) in gone.filter(|(index, _)| evicted.contains(index)) {
            if item.offset >= at && item.end() <= end {
                if !self.is_padding(at, item.offset) {
                    return false;
                }
                at = item.end();
            }
        }
        len == 0 || self.is_padding(at, end)
    }

    fn is_padding(&self, start: u64, end: u64) -> bool {
        let len = end.saturating_sub(start);
        let zero = slice(self.layout.bytes, start, len).is_some_and(is_zero);
        let loaded = self.layout.loads().map(|load| {
            let load_end = load.p_offset.saturating_add(load.p_filesz);
            load_end.min(end).saturating_sub(load.p_offset.max(start))
        });
        zero && (!self.layout.sections.is_empty() || loaded.sum::<u64>() < ALIGNMENT_PADDING)
    }
}

/// Returns whether all bytes are zero. Blocks are compared, because compilers make that fast.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}
