use elf::endian::AnyEndian;
use elf::file::Class;

use super::*;
use crate::elf::file_map::{FileMap, FixedRange};
use crate::elf::sample::SampleElf;

/// A range of this role; it may grow to `new_size`.
fn range(role: RangeRole, offset: u64, size: u64, new_size: u64) -> MovableRange {
    MovableRange { role, offset, size, align: 8, load: 0, new_size }
}

struct Request {
    sample: SampleElf,
    movable: Vec<MovableRange>,
    fixed: Vec<FixedRange>,
    dynamic_size: Option<u64>,
    has_payload: bool,
}

impl Request {
    /// A file with a segment of 0x1000 bytes. The string table at 0x400 is to grow by 0x20 bytes.
    fn new(fixed: &[(u64, u64)]) -> Self {
        let mut sample = SampleElf::of_size(0x1000);
        sample.add_segment(abi::PT_LOAD, 0, 0x1000);
        sample.add_section(abi::SHT_NULL, 0, 0);
        Request {
            sample,
            movable: vec![range(RangeRole::Strings, 0x400, 0x40, 0x60)],
            fixed: fixed.iter().map(|&(start, end)| FixedRange { start, end }).collect(),
            dynamic_size: None,
            has_payload: false,
        }
    }

    fn place(&self) -> Option<Placement> {
        let bytes = self.sample.build();
        let layout = ElfLayout::parse(&bytes).unwrap();
        let map = FileMap { movable: self.movable.clone(), fixed: self.fixed.clone() };
        let request = PlacementRequest {
            layout: &layout,
            map: &map,
            dynamic_size: self.dynamic_size,
            has_payload: self.has_payload,
        };
        request.place_ranges()
    }
}

#[test]
fn a_range_grows_in_place_into_zeros() {
    let placement = Request::new(&[(0, 0x400), (0x460, 0x1000)]).place().unwrap();
    assert_eq!(placement.offsets, [Some(0x400)]);
    assert!(placement.overflow.is_none());
}

#[test]
fn the_next_range_is_pushed_along_to_its_alignment() {
    let mut request = Request::new(&[(0, 0x400), (0x500, 0x1000)]);
    request.movable[0].new_size = 0x43;
    request.movable.push(range(RangeRole::Table, 0x440, 0x40, 0x40));
    let placement = request.place().unwrap();
    assert_eq!(placement.offsets, [Some(0x400), Some(0x448)]);
    assert!(placement.overflow.is_none());
}

#[test]
fn alignment_is_that_of_addresses() {
    let mut request = Request::new(&[(0, 0x400), (0x500, 0x1000)]);
    request.sample.segments[0].p_vaddr = 0x1_0004;
    request.movable[0].new_size = 0x42;
    request.movable.push(range(RangeRole::Table, 0x440, 0x40, 0x40));
    let placement = request.place().unwrap();
    assert_eq!(placement.offsets, [Some(0x400), Some(0x444)], "its address is 0x10448");
}

#[test]
fn a_run_without_room_behind_it_uses_the_room_before_it() {
    let placement = Request::new(&[(0, 0x3e0), (0x440, 0x1000)]).place().unwrap();
    assert_eq!(placement.offsets, [Some(0x3e0)]);
}

#[test]
fn a_new_segment_is_appended_when_nothing_else_has_room() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    // A segment with memory beyond the file cannot be made longer.
    request.sample.segments[0].p_memsz = 0x1_2345;
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    let overflow = request.place().unwrap().overflow.unwrap();
    assert_eq!(overflow.extends, None);
    assert_eq!(overflow.offset, 0x1040, "the section header is behind the contents");
    assert_eq!(overflow.ranges, [(0, 0x1040)]);
    assert_eq!((overflow.end, overflow.align), (0x10a0, 0x1000));
    assert_eq!(overflow.address, 0x1_3040, "it is congruent to the offset");
}

#[test]
fn pages_of_64_kib_keep_segments_apart() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.machine = abi::EM_AARCH64;
    request.sample.segments[0].p_align = 0x1_0000;
    request.sample.segments[0].p_memsz = 0x2_0001;
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    let overflow = request.place().unwrap().overflow.unwrap();
    assert_eq!(overflow.address, 0x3_1040);
    assert_eq!((overflow.address - overflow.offset) % 0x1_0000, 0);
    assert_eq!(overflow.align, 0x1_0000);
}

#[test]
fn the_last_segment_is_the_one_with_the_highest_address() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.sections.clear();
    let high = request.sample.add_segment(abi::PT_LOAD, 0x800, 0x800);
    high.p_vaddr = 0x7_0800;
    request.sample.segments.swap(0, 1);
    request.movable[0].load = 1;
    // It ends the file and the memory, so that it is made longer.
    let overflow = request.place().unwrap().overflow.unwrap();
    assert_eq!((overflow.extends, overflow.offset, overflow.address), (Some(0), 0x800, 0x7_0800));
    assert_eq!(overflow.ranges, [(0, 0x1000)]);
    assert_eq!(overflow.address_of(0x1000), 0x7_1000);
}

#[test]
fn a_code_segment_is_never_made_longer_for_data() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.sections.clear();
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    let code = request.sample.add_segment(abi::PT_LOAD, 0x800, 0x800);
    code.p_flags |= abi::PF_X;
    let overflow = request.place().unwrap().overflow.unwrap();
    assert_eq!(overflow.extends, None);
}

#[test]
fn nothing_is_appended_behind_a_payload() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.segments[0].p_memsz = 0x2000;
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    assert!(request.place().is_some());
    request.has_payload = true;
    assert!(request.place().is_none());
}

#[test]
fn no_room_is_found_for_one_more_program_header() {
    // Fixed bytes follow the program headers, and there is no header to replace.
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.kind = abi::ET_EXEC;
    request.sample.segments[0].p_memsz = 0x2000;
    assert!(request.place().is_none());
    // A table behind the headers gives way.
    request.fixed =
        vec![FixedRange { start: 0, end: 0x78 }, FixedRange { start: 0xc0, end: 0x400 }];
    request.fixed.push(FixedRange { start: 0x440, end: 0x1000 });
    request.movable.insert(0, range(RangeRole::Table, 0x78, 0x10, 0x10));
    let placement = request.place().unwrap();
    assert_eq!(placement.offsets, [Some(0xb0), None]);
}

#[test]
fn addresses_stay_within_32_bits() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample = SampleElf::new(Class::ELF32, AnyEndian::Little, 0x1000);
    request.sample.add_segment(abi::PT_LOAD, 0, 0x1000).p_memsz = 0x1800;
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    request.sample.segments[0].p_vaddr = 0xffff_0000;
    assert!(request.place().is_some());
    request.sample.segments[0].p_vaddr = 0xffff_e000;
    assert!(request.place().is_none());
}

#[test]
fn an_address_space_that_overflows_has_no_room() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    request.sample.segments[0].p_vaddr = u64::MAX - 0x10;
    request.sample.segments[0].p_memsz = 0x1001;
    assert!(request.place().is_none());
}

#[test]
fn a_moved_dynamic_section_comes_before_the_strings() {
    let mut request = Request::new(&[(0, 0x400), (0x440, 0x1000)]);
    request.sample.segments[0].p_memsz = 0x2000;
    request.sample.add_segment(abi::PT_NULL, 0, 0);
    request.dynamic_size = Some(0x100);
    let overflow = request.place().unwrap().overflow.unwrap();
    assert_eq!(overflow.offset, 0x1040);
    assert_eq!(overflow.dynamic, Some((0x1050, 0x100)), "no segment begins where the new one does");
    assert_eq!(overflow.ranges, [(0, 0x1150)]);
}

#[test]
fn the_header_of_the_program_headers_is_spare_in_libraries_alone() {
    let spare = |sample: &SampleElf| {
        let bytes = sample.build();
        find_spare_header(&ElfLayout::parse(&bytes).unwrap())
    };
    let mut sample = SampleElf::of_size(0x1000);
    sample.add_segment(abi::PT_LOAD, 0, 0x1000);
    assert_eq!(spare(&sample), None);
    sample.add_segment(abi::PT_PHDR, 64, 56);
    assert_eq!(spare(&sample), Some(1));
    sample.add_segment(abi::PT_INTERP, 0x400, 8);
    assert_eq!(spare(&sample), None);
    sample.add_segment(abi::PT_NULL, 0, 0);
    assert_eq!(spare(&sample), Some(3));
}
