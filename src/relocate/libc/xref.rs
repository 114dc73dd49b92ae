//! Instructions that compute the address of a string: finds them by the address, and changes the
//! address.
//!
//! glibc passes the path of each of its own files to open(2) from one place in its code. Code that
//! computes the address in another way than those below is not found. The string is then closed in
//! its place.

use std::collections::HashMap;
use std::ops::Range;

use ::elf::ElfBytes;
use ::elf::endian::LittleEndian;
use elf::abi::{EM_AARCH64, EM_X86_64, PF_X, PT_LOAD};

use crate::elf::Patch;

/// Number of instructions after the first of the two aarch64 ones in which the second must occur.
const WINDOW: usize = 16;

/// Code of a file and its load addresses.
pub(super) struct LoadedCode<'a> {
    bytes: &'a [u8],
    machine: u16,
    /// File offset, address, size, and true for code, of each segment.
    segments: Vec<(usize, u64, usize, bool)>,
}

/// Instructions that compute addresses in strings, by the file offset that they lead to.
pub(super) type CodeReferences = HashMap<usize, Vec<CodeReference>>;

/// Instructions that compute an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeReference {
    /// File offset of the displacement in `lea REG, [rip + DISPLACEMENT]`.
    Lea(usize),
    /// File offsets of `adrp REG, PAGE` and `add REG, REG, REST`.
    Page(usize, usize),
}

impl<'a> LoadedCode<'a> {
    /// Parses the 64-bit little-endian file with these bytes.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(bytes).ok()?;
        let segments = elf.segments()?.iter().filter(|segment| segment.p_type == PT_LOAD);
        let segments = segments.filter_map(|segment| {
            let (offset, size) =
                (segment.p_offset.try_into().ok()?, segment.p_filesz.try_into().ok()?);
            Some((offset, segment.p_vaddr, size, segment.p_flags & PF_X != 0))
        });
        Some(Self { bytes, machine: elf.ehdr.e_machine, segments: segments.collect() })
    }

    /// Returns the address of the byte at this file offset.
    pub(super) fn address_of(&self, offset: usize) -> Option<u64> {
        let (start, address, ..) = self.segments.iter().find(|(start, _, size, _)| {
            offset.checked_sub(*start).is_some_and(|inside| inside < *size)
        })?;
        address.checked_add((offset - start) as u64)
    }

    /// Returns the instructions that compute the address of the byte at `offset`.
    pub(super) fn find_references(&self, offset: usize) -> Vec<CodeReference> {
        let string = offset..offset.saturating_add(1);
        self.index_references(&[string]).remove(&offset).unwrap_or_default()
    }

    /// Returns the instructions that compute the address of a byte in one of `strings`, ranges of
    /// file offsets. The code is read once for all of them.
    pub(super) fn index_references(&self, strings: &[Range<usize>]) -> CodeReferences {
        let targets = Targets::new(self, strings);
        let mut found = CodeReferences::new();
        for &(start, _, size, is_code) in &self.segments {
            let Some(code) = self.bytes.get(start..start.saturating_add(size)) else { continue };
            if !is_code || targets.strings.is_empty() {
                continue;
            }
            let mut keep = |target, reference| {
                if let Some(offset) = targets.offset_of(target) {
                    found.entry(offset).or_default().push(reference);
                }
            };
            match self.machine {
                EM_X86_64 => self.find_leas(start, code, &mut keep),
                EM_AARCH64 => self.find_adrp_pairs(start, code, &targets, &mut keep),
                _ => {}
            }
        }
        found
    }

    /// Finds `REX.W 8d` with a `ModRM` byte for an address relative to the next instruction.
    fn find_leas(&self, start: usize, code: &[u8], keep: &mut impl FnMut(u64, CodeReference)) {
        for at in memchr::memchr_iter(0x8d, code) {
            let before = at.checked_sub(1).and_then(|before| code.get(before));
            // Few bytes of this value are an instruction, and only its address costs time.
            let (Some(0x48 | 0x4c), Some(mode)) = (before, code.get(at + 1)) else { continue };
            let displacement = code.get(at + 2..at + 6).and_then(|bytes| bytes.try_into().ok());
            let (0x05, Some(displacement)) = (mode & 0xc7, displacement) else { continue };
            let Some(next) = self.address_of(start + at + 6) else { continue };
            let target = next.wrapping_add_signed(i32::from_le_bytes(displacement).into());
            keep(target, CodeReference::Lea(start + at + 2));
        }
    }

    fn find_adrp_pairs(
        &self,
        start: usize,
        code: &[u8],
        targets: &Targets,
        keep: &mut impl FnMut(u64, CodeReference),
    ) {
        let words: Vec<u32> = code.chunks_exact(4).filter_map(read_word).collect();
        for (index, &first) in words.iter().enumerate() {
            if first & 0x9f00_0000 != 0x9000_0000 {
                continue;
            }
            let at = start + index * 4;
            let Some(here) = self.address_of(at) else { continue };
            let page = adrp_page(here, first);
            if !targets.touch_page(page) {
                continue;
            }
            let register = first & 0x1f;
            let rest = words.iter().enumerate().skip(index + 1).take(WINDOW);
            for (other, &second) in rest {
                if is_add(second, register) {
                    let target = page | u64::from(second >> 10 & 0xfff);
                    keep(target, CodeReference::Page(at, start + other * 4));
                    break;
                }
                if uses_register(second, register) {
                    break;
                }
            }
        }
    }

    /// Returns patches that make `reference` compute the address of the byte at `offset`.
    pub(super) fn retarget(&self, reference: CodeReference, offset: usize) -> Option<Vec<Patch>> {
        let target = self.address_of(offset)?;
        match reference {
            CodeReference::Lea(at) => {
                let distance =
                    target.cast_signed().checked_sub(self.address_of(at + 4)?.cast_signed())?;
                let bytes = i32::try_from(distance).ok()?.to_le_bytes().to_vec();
                Some(vec![Patch { offset: at as u64, bytes }])
            }
            CodeReference::Page(first, second) => {
                let pages =
                    (target >> 12).cast_signed() - (self.address_of(first)? >> 12).cast_signed();
                let pages = u32::try_from(pages & 0x1f_ffff).ok()?;
                let rest = u32::try_from(target & 0xfff).ok()?;
                let adrp = read_word(self.bytes.get(first..first + 4)?)? & 0x9f00_001f
                    | (pages & 3) << 29
                    | (pages >> 2) << 5;
                let add =
                    read_word(self.bytes.get(second..second + 4)?)? & !(0xfff << 10) | rest << 10;
                let patch = |at: usize, word: u32| Patch {
                    offset: at as u64,
                    bytes: word.to_le_bytes().to_vec(),
                };
                Some(vec![patch(first, adrp), patch(second, add)])
            }
        }
    }
}

/// Addresses of strings.
struct Targets {
    /// Address of the first byte, address behind the last one, and file offset of the first, in
    /// order of the addresses.
    strings: Vec<(u64, u64, usize)>,
}

impl Targets {
    fn new(code: &LoadedCode<'_>, strings: &[Range<usize>]) -> Self {
        let strings = strings.iter().filter_map(|string| {
            let address = code.address_of(string.start)?;
            Some((address, address.checked_add(string.len() as u64)?, string.start))
        });
        let mut strings: Vec<_> = strings.collect();
        strings.sort_unstable();
        Self { strings }
    }

    /// Returns the string that holds `address`, or the one before it.
    fn find(&self, address: u64) -> Option<&(u64, u64, usize)> {
        let after = self.strings.partition_point(|(start, ..)| *start <= address);
        self.strings.get(after.checked_sub(1)?)
    }

    /// Returns the file offset of the byte of a string with this address.
    fn offset_of(&self, address: u64) -> Option<usize> {
        let (start, end, offset) = self.find(address)?;
        let inside = usize::try_from(address - start).ok()?;
        (address < *end).then(|| offset.checked_add(inside))?
    }

    /// Returns whether a string lies in the page of memory at `page`, or in a part of it.
    fn touch_page(&self, page: u64) -> bool {
        let last = page | 0xfff;
        self.find(last).is_some_and(|(_, end, _)| *end > page)
    }
}

fn read_word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Returns the page that the `adrp` at `here` computes.
fn adrp_page(here: u64, adrp: u32) -> u64 {
    let pages = (adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3;
    // The number is sign-extended from 21 bits.
    let pages = i64::from((pages << 11).cast_signed() >> 11);
    (here & !0xfff).wrapping_add_signed(pages << 12)
}

/// Returns whether the instruction is `add REGISTER, REGISTER, #NUMBER`.
fn is_add(word: u32, register: u32) -> bool {
    word & 0xffc0_0000 == 0x9100_0000 && word & 0x1f == register && word >> 5 & 0x1f == register
}

/// Returns whether the instruction may read or write `register`: any of its fields names it. Moves
/// of constants have only the first field.
fn uses_register(word: u32, register: u32) -> bool {
    let is_constant = word & 0x1f80_0000 == 0x1280_0000;
    let fields: &[u32] = if is_constant { &[0] } else { &[0, 5, 10, 16] };
    fields.iter().any(|shift| word >> shift & 0x1f == register)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(machine: u16, bytes: &[u8]) -> LoadedCode<'_> {
        LoadedCode { bytes, machine, segments: vec![(0, 0x10_0000, bytes.len(), true)] }
    }

    #[test]
    fn x86_64() {
        // lea rdi,[rip+5]; int3
        let bytes = b"\x48\x8d\x3d\x05\0\0\0\xcc\xcc\xcc\xcc\xccabc\0def\0";
        let code = code(EM_X86_64, bytes);
        assert_eq!(code.find_references(12), [CodeReference::Lea(3)]);
        assert_eq!(code.find_references(16), []);
        let patch = code.retarget(CodeReference::Lea(3), 16).unwrap();
        assert_eq!(patch, [Patch { offset: 3, bytes: vec![9, 0, 0, 0] }]);
    }

    #[test]
    fn aarch64() {
        // adrp x0, 0x101000; mov w2, #0; add x0, x0, #0xb60
        let words: [u32; 3] = [0xb000_0000, 0x5280_0002, 0x912d_8000];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(0x4000, 0);
        let code = code(EM_AARCH64, &bytes);
        assert_eq!(code.find_references(0x1b60), [CodeReference::Page(0, 8)]);
        let mut moved = bytes.clone();
        for patch in code.retarget(CodeReference::Page(0, 8), 0x3123).unwrap() {
            let at = usize::try_from(patch.offset).unwrap();
            moved[at..at + 4].copy_from_slice(&patch.bytes);
        }
        let moved = crate::relocate::libc::xref::tests::code(EM_AARCH64, &moved);
        assert_eq!(moved.find_references(0x3123), [CodeReference::Page(0, 8)]);
        assert_eq!(moved.find_references(0x1b60), []);
    }

    #[test]
    fn only_the_two_forms_of_lea_are_references() {
        for (bytes, is_reference) in [
            (b"\x48\x8d\x3d\x01\0\0\0\xccabc\0", true),
            (b"\x4c\x8d\x3d\x01\0\0\0\xccabc\0", true),
            // Without REX.W, with another addressing mode, and another instruction.
            (b"\x40\x8d\x3d\x01\0\0\0\xccabc\0", false),
            (b"\x48\x8d\x7d\x01\0\0\0\xccabc\0", false),
            (b"\x48\x8b\x3d\x01\0\0\0\xccabc\0", false),
        ] {
            assert_eq!(!code(EM_X86_64, bytes).find_references(8).is_empty(), is_reference);
        }
        // The displacement is at the end of the code, or cut off by it.
        assert_eq!(code(EM_X86_64, b"\x48\x8d\x3d\xf9\xff\xff\xff").find_references(0), []);
        assert_eq!(
            code(EM_X86_64, b"\x48\x8d\x3d\xf9\xff\xff\xff\xcc").find_references(0),
            [CodeReference::Lea(3)]
        );
        assert_eq!(code(EM_X86_64, b"\x8d").find_references(0), []);
    }

    #[test]
    fn a_distance_beyond_31_bits_has_no_patch() {
        let bytes = [0; 32];
        let far = LoadedCode {
            bytes: &bytes,
            machine: EM_X86_64,
            segments: vec![(0, 0x1000, 16, true), (16, 0x9000_0000, 16, false)],
        };
        assert_eq!(far.retarget(CodeReference::Lea(4), 16), None);
        assert!(far.retarget(CodeReference::Lea(4), 8).is_some());
        assert_eq!(far.retarget(CodeReference::Lea(4), 32), None, "no segment loads it");
        assert_eq!(far.retarget(CodeReference::Lea(14), 8), None, "it ends outside of the code");
    }

    /// Encodes `adrp x0` to the next page, `between`, and `add x0, x0, #0xb60`.
    fn pair(between: &[u32]) -> Vec<u8> {
        let words = [&[0xb000_0000], between, &[0x912d_8000]].concat();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(0x4000, 0);
        bytes
    }

    #[test]
    fn the_second_instruction_must_be_near_and_the_register_unchanged() {
        let found =
            |between: &[u32]| !code(EM_AARCH64, &pair(between)).find_references(0x1b60).is_empty();
        assert!(found(&[0x5280_0041]), "mov w1, #2 has no other field");
        assert!(!found(&[0xf940_0001]), "ldr x1, [x0] reads the page");
        assert!(!found(&[0x5280_0040]), "mov w0, #2 ends its use");
        let others = vec![0x5280_0041; WINDOW];
        assert!(found(&others[1..]));
        assert!(!found(&others));
    }

    #[test]
    fn pages_below_the_code_are_negative() {
        let mut bytes = pair(&[]);
        bytes.rotate_right(0x2000);
        let moved = code(EM_AARCH64, &bytes);
        assert_eq!(moved.find_references(0x3b60), [CodeReference::Page(0x2000, 0x2004)]);
        let mut back = bytes.clone();
        for patch in moved.retarget(CodeReference::Page(0x2000, 0x2004), 0x10).unwrap() {
            let at = usize::try_from(patch.offset).unwrap();
            back[at..at + 4].copy_from_slice(&patch.bytes);
        }
        let back = code(EM_AARCH64, &back);
        assert_eq!(back.find_references(0x10), [CodeReference::Page(0x2000, 0x2004)]);
    }

    #[test]
    fn addresses_are_those_of_the_segment_in_any_order() {
        let bytes = [0; 64];
        let segments = vec![
            (32, 0x2000, 32, false),
            // A segment without contents loads nothing, and one overlaps it.
            (16, 0x9000, 0, true),
            (0, 0x1000, 32, true),
            (8, u64::MAX - 4, 64, true),
        ];
        let code = LoadedCode { bytes: &bytes, machine: EM_X86_64, segments };
        assert_eq!(code.address_of(16), Some(0x1010), "the first segment that holds it");
        assert_eq!(code.address_of(40), Some(0x2008));
        assert_eq!(code.address_of(64), None, "the address would overflow");
        assert_eq!(code.address_of(72), None);
        assert_eq!(code.find_references(16), []);
    }

    #[test]
    fn a_file_that_ends_anywhere_does_not_panic() {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        for (at, value) in [(18, 62), (32, 64), (52, 64), (54, 56), (56, 1)] {
            file[at] = value;
        }
        // One segment of code loads all of the file.
        let mut segment = [0; 56];
        for (at, value) in [(0, 1), (4, 5), (17, 0x10), (32, 132), (40, 132)] {
            segment[at] = value;
        }
        file.extend(segment);
        file.extend(b"\x48\x8d\x3d\x01\0\0\0\xccabc\0");
        assert_eq!(
            LoadedCode::parse(&file).unwrap().find_references(128),
            [CodeReference::Lea(123)]
        );
        for end in 0..file.len() {
            if let Some(code) = LoadedCode::parse(&file[..end]) {
                let _ = code.find_references(128);
                let _ = code.retarget(CodeReference::Page(120, 124), 128);
            }
        }
    }
}
