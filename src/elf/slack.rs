//! Room in a file: runs of ranges, and the free space behind them.
//!
//! A *run* is a sequence of ranges of one `PT_LOAD` with only free space between them. Its ranges
//! can be pushed along up to the next fixed range. They can also pass the end of the segment,
//! through the padding of the file up to the next segment's page.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::codec::slice;
use crate::elf::file_map::FileMap;
use crate::elf::raw::ElfLayout;

/// Number of zero bytes between two tables that count as padding in a file without section headers.
const ALIGNMENT_PADDING: u64 = 16;

/// A sequence of ranges and its space. `after_headers` is true if it begins behind the program
/// headers.
pub(crate) struct SlackRun {
    pub ranges: Vec<usize>,
    pub load: usize,
    pub start: u64,
    pub end: u64,
    pub limit: u64,
    pub after_headers: bool,
}

/// Requirements for the placement.
pub(crate) struct PlacementRequest<'l, 'a> {
    pub layout: &'l ElfLayout<'a>,
    pub map: &'l FileMap,
    /// Number of bytes for a moved dynamic section; `None` if it stays.
    pub dynamic_size: Option<u64>,
    /// True if bytes follow the ELF image, so that nothing may be appended.
    pub has_payload: bool,
}

impl PlacementRequest<'_, '_> {
    /// Returns all runs. A run without ranges is the free space behind the program header table.
    pub(super) fn find_runs(&self, evicted: &[usize]) -> Vec<SlackRun> {
        let table_end = self.table_end();
        let mut runs: Vec<SlackRun> = Vec::new();
        let mut fixed = self.map.fixed.iter().peekable();
        let mut reached = 0_u64;
        let ranges = self.map.movable.iter().enumerate();
        for (index, range) in ranges.filter(|(index, _)| !evicted.contains(index)) {
            while let Some(next) = fixed.next_if(|next| next.start < range.offset) {
                reached = reached.max(next.end);
            }
            let end_of_last = runs.last().map_or(0, |run| run.end);
            let joins = runs.last().is_some_and(|run| run.load == range.load)
                && reached <= end_of_last
                && self.is_free(end_of_last, range.offset, evicted);
            if joins {
                if let Some(run) = runs.last_mut() {
                    run.ranges.push(index);
                    run.end = range.end();
                }
                continue;
            }
            let floor = reached.max(end_of_last).max(self.load_start(range.load));
            let free = self.is_free(floor, range.offset, evicted);
            let start = if free { floor } else { range.offset };
            runs.push(SlackRun {
                ranges: vec![index],
                load: range.load,
                start,
                end: range.end(),
                limit: 0,
                after_headers: start == table_end,
            });
        }
        for run in &mut runs {
            run.limit = self.find_limit(run.end, run.load, evicted);
        }
        if !runs.iter().any(|run| run.after_headers) {
            runs.extend(self.find_empty_run(table_end, evicted));
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

    /// Returns the space behind the program header table if no range follows directly.
    fn find_empty_run(&self, table_end: u64, evicted: &[usize]) -> Option<SlackRun> {
        let load = self.layout.segments.iter().position(|segment| {
            segment.p_type == abi::PT_LOAD
                && segment.p_offset <= table_end
                && segment.p_offset.saturating_add(segment.p_filesz) >= table_end
        })?;
        let limit = self.find_limit(table_end, load, evicted);
        Some(SlackRun {
            ranges: vec![],
            load,
            start: table_end,
            end: table_end,
            limit,
            after_headers: true,
        })
    }

    /// Returns the offset up to which a run that now ends at `end` may grow.
    pub(super) fn find_limit(&self, end: u64, load: usize, evicted: &[usize]) -> u64 {
        let Some(segment) = self.layout.segments.get(load) else { return end };
        let mut limit = self.memory_limit(segment);
        let kept = self.map.movable.iter().enumerate();
        let kept = kept.filter(|(index, _)| !evicted.contains(index));
        let starts = (self.map.fixed.iter().map(|next| (next.start, next.end)))
            .chain(kept.map(|(_, range)| (range.offset, range.end())))
            .chain(
                self.layout.loads().map(|load| (load.p_offset, load.p_offset.saturating_add(1))),
            );
        for (start, fixed_end) in starts {
            if start >= end {
                limit = limit.min(start);
            } else if fixed_end > end && start.saturating_add(1) < fixed_end {
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
        let evicted_ranges = self.map.movable.iter().enumerate();
        for (_, range) in evicted_ranges.filter(|(index, _)| evicted.contains(index)) {
            if range.offset >= at && range.end() <= end {
                if !self.is_padding(at, range.offset) {
                    return false;
                }
                at = range.end();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::file_map::{FixedRange, MovableRange, RangeRole};
    use crate::elf::sample::SampleElf;

    fn table(offset: u64, size: u64, load: usize) -> MovableRange {
        MovableRange { role: RangeRole::Table, offset, size, align: 1, load, new_size: size }
    }

    /// Makes runs of a file of 0x2000 bytes. Its sections account for all zeros.
    fn find_runs(
        sample: &mut SampleElf,
        movable: Vec<MovableRange>,
        fixed: &[(u64, u64)],
    ) -> Vec<SlackRun> {
        sample.add_section(abi::SHT_NULL, 0, 0);
        let bytes = sample.build();
        let layout = ElfLayout::parse(&bytes).unwrap();
        let fixed = fixed.iter().map(|&(start, end)| FixedRange { start, end }).collect();
        let map = FileMap { movable, fixed };
        let request =
            PlacementRequest { layout: &layout, map: &map, dynamic_size: None, has_payload: false };
        request.find_runs(&[])
    }

    fn loaded_sample() -> SampleElf {
        let mut sample = SampleElf::of_size(0x2000);
        sample.add_segment(abi::PT_LOAD, 0, 0x1000);
        sample
    }

    fn bounds(runs: &[SlackRun]) -> Vec<(Vec<usize>, u64, u64, u64)> {
        runs.iter().map(|run| (run.ranges.clone(), run.start, run.end, run.limit)).collect()
    }

    #[test]
    fn ranges_with_only_zeros_between_them_make_one_run() {
        let ranges = vec![table(0x100, 0x10, 0), table(0x110, 0, 0), table(0x140, 0x10, 0)];
        let runs = find_runs(&mut loaded_sample(), ranges, &[(0, 0x78), (0x200, 0x300)]);
        assert_eq!(bounds(&runs), [(vec![0, 1, 2], 0x78, 0x150, 0x200)]);
        assert!(runs[0].after_headers, "it begins behind the one program header");
    }

    #[test]
    fn bytes_in_use_end_a_run() {
        let mut sample = loaded_sample();
        sample.put(0x120, b"x");
        let ranges = vec![table(0x100, 0x10, 0), table(0x140, 0x10, 0)];
        let runs = find_runs(&mut sample, ranges.clone(), &[(0, 0x78), (0x200, 0x300)]);
        // Nothing accounts for the byte, so that neither run may take the space around it.
        assert_eq!(bounds(&runs), [(vec![0], 0x78, 0x110, 0x110), (vec![1], 0x140, 0x150, 0x200)]);
        let fixed = [(0, 0x78), (0x120, 0x121), (0x200, 0x300)];
        let runs = find_runs(&mut sample, ranges, &fixed);
        assert_eq!(bounds(&runs), [(vec![0], 0x78, 0x110, 0x120), (vec![1], 0x121, 0x150, 0x200)]);
    }

    #[test]
    fn a_fixed_range_over_the_end_leaves_no_room() {
        let runs = find_runs(
            &mut loaded_sample(),
            vec![table(0x100, 0x10, 0)],
            &[(0, 0x78), (0x108, 0x180)],
        );
        assert_eq!(runs[0].limit, 0x110);
    }

    #[test]
    fn a_run_grows_up_to_the_page_of_the_next_segment() {
        for (align, address, limit) in [
            (0x1000, 0x3000, 0x2000),
            // The page of the next segment begins with the first one: nothing is between them.
            (0x1_0000, 0x3000, 0x1000),
            (0x1_0000, 0x1_2000, 0x2000),
            // An alignment below a page does not make pages smaller.
            (0x10, 0x1ff8, 0x1000),
        ] {
            let mut sample = loaded_sample();
            sample.segments[0].p_align = align;
            sample.add_segment(abi::PT_LOAD, 0x2000, 0).p_vaddr = address;
            let runs = find_runs(&mut sample, vec![table(0xff0, 0x10, 0)], &[(0, 0xb0)]);
            assert_eq!(runs[0].limit, limit, "{align:#x} {address:#x}");
        }
    }

    #[test]
    fn segments_are_compared_by_address_and_not_by_position() {
        let mut sample = SampleElf::of_size(0x2000);
        sample.add_segment(abi::PT_LOAD, 0x2000, 0).p_vaddr = 0x4000;
        sample.add_segment(abi::PT_LOAD, 0, 0x1000);
        let runs = find_runs(&mut sample, vec![table(0xff0, 0x10, 1)], &[(0, 0xb0)]);
        assert_eq!(runs[0].limit, 0x2000, "the start of the other segment in the file");
    }

    #[test]
    fn a_segment_with_memory_beyond_its_file_contents_cannot_grow() {
        let mut sample = loaded_sample();
        sample.segments[0].p_memsz = 0x1800;
        let runs = find_runs(&mut sample, vec![table(0xff0, 0x10, 0)], &[(0, 0x78)]);
        assert_eq!(runs[0].limit, 0x1000);
    }

    #[test]
    fn a_segment_at_the_end_of_the_address_space_does_not_overflow() {
        let mut sample = loaded_sample();
        sample.segments[0].p_vaddr = u64::MAX - 0xfff;
        let runs = find_runs(&mut sample, vec![table(0xff0, 0x10, 0)], &[(0, 0x78)]);
        assert_eq!(runs[0].limit, 0x1000);
    }

    #[test]
    fn without_section_headers_few_zeros_are_padding() {
        let mut sample = loaded_sample();
        let bytes = sample.build();
        let layout = ElfLayout::parse(&bytes).unwrap();
        let map = FileMap { movable: vec![], fixed: vec![] };
        let request =
            PlacementRequest { layout: &layout, map: &map, dynamic_size: None, has_payload: false };
        assert!(request.is_padding(0x100, 0x10f));
        assert!(!request.is_padding(0x100, 0x110), "a table of zeros may be there");
        assert!(request.is_padding(0x1000, 0x1800), "no segment loads it");
        assert!(!request.is_padding(0x1fff, 0x2001), "it ends outside of the file");
        sample.put(0x108, b"x");
        let bytes = sample.build();
        let layout = ElfLayout::parse(&bytes).unwrap();
        let request = PlacementRequest { layout: &layout, ..request };
        assert!(!request.is_padding(0x100, 0x10f));
    }
}
