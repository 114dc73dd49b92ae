//! Headers of an ELF file, parsed leniently, and numbers encoded in the file's byte order and word
//! size.
//!
//! The `elf` crate parses the single structures. This module adds the view that the planner needs:
//! every offset is checked once, and nothing is indexed unchecked.

use elf::abi;
use elf::endian::{AnyEndian, EndianParse as _};
use elf::file::{Class, FileHeader};
use elf::parse::ParseAt as _;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use crate::elf::Error;

/// A number in file byte order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncodedNumber {
    bytes: [u8; 8],
    len: usize,
}

impl std::ops::Deref for EncodedNumber {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Word size and byte order of one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec {
    pub class: Class,
    pub endian: AnyEndian,
}

impl Codec {
    /// Returns the size of an address, an offset or a dynamic tag, in bytes.
    pub(super) fn word(self) -> u64 {
        match self.class {
            Class::ELF32 => 4,
            Class::ELF64 => 8,
        }
    }

    /// Returns the largest value that a word holds.
    pub(super) fn word_max(self) -> u64 {
        match self.class {
            Class::ELF32 => u64::from(u32::MAX),
            Class::ELF64 => u64::MAX,
        }
    }

    pub(super) fn is_64(self) -> bool {
        matches!(self.class, Class::ELF64)
    }

    pub(super) fn u16_at(self, bytes: &[u8], offset: u64) -> Option<u16> {
        let mut at = usize::try_from(offset).ok()?;
        self.endian.parse_u16_at(&mut at, bytes).ok()
    }

    pub(super) fn u32_at(self, bytes: &[u8], offset: u64) -> Option<u32> {
        let mut at = usize::try_from(offset).ok()?;
        self.endian.parse_u32_at(&mut at, bytes).ok()
    }

    pub(super) fn u64_at(self, bytes: &[u8], offset: u64) -> Option<u64> {
        let mut at = usize::try_from(offset).ok()?;
        self.endian.parse_u64_at(&mut at, bytes).ok()
    }

    pub(super) fn word_at(self, bytes: &[u8], offset: u64) -> Option<u64> {
        match self.class {
            Class::ELF32 => self.u32_at(bytes, offset).map(u64::from),
            Class::ELF64 => self.u64_at(bytes, offset),
        }
    }

    pub(super) fn u16_bytes(self, value: u16) -> EncodedNumber {
        self.encode(value.into(), 2)
    }

    pub(super) fn u32_bytes(self, value: u32) -> EncodedNumber {
        self.encode(value.into(), 4)
    }

    /// Encodes a word in file byte order. Returns `None` if the value does not fit a 32-bit file.
    pub(super) fn word_bytes(self, value: u64) -> Option<EncodedNumber> {
        match self.class {
            Class::ELF32 => u32::try_from(value).ok().map(|value| self.u32_bytes(value)),
            Class::ELF64 => Some(self.encode(value, 8)),
        }
    }

    fn encode(self, value: u64, len: usize) -> EncodedNumber {
        let mut bytes = value.to_le_bytes();
        if let (AnyEndian::Big, Some(used)) = (self.endian, bytes.get_mut(..len)) {
            used.reverse();
        }
        EncodedNumber { bytes, len }
    }

    /// Encodes one program header in file byte order (gABI, "Program Header": the two classes order
    /// the fields differently).
    pub(super) fn segment_bytes(self, segment: &ProgramHeader, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&self.u32_bytes(segment.p_type));
        if self.is_64() {
            out.extend_from_slice(&self.u32_bytes(segment.p_flags));
        }
        for value in
            [segment.p_offset, segment.p_vaddr, segment.p_paddr, segment.p_filesz, segment.p_memsz]
        {
            out.extend_from_slice(&self.word_bytes(value)?);
        }
        if !self.is_64() {
            out.extend_from_slice(&self.u32_bytes(segment.p_flags));
        }
        out.extend_from_slice(&self.word_bytes(segment.p_align)?);
        Some(())
    }
}

/// Returns `len` bytes at `offset`, if the file has them.
pub(crate) fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// Returns the NUL-terminated string at `offset` of `table`, without the NUL.
pub(crate) fn string_at(table: &[u8], offset: u64) -> Option<&[u8]> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    rest.iter().position(|&byte| byte == 0).and_then(|end| rest.get(..end))
}

/// Rounds `value` up to a multiple of `align`. An `align` of 0 or 1 changes nothing.
pub(crate) fn align_up(value: u64, align: u64) -> Option<u64> {
    if align <= 1 {
        return Some(value);
    }
    match value % align {
        0 => Some(value),
        rest => value.checked_add(align - rest),
    }
}

/// One entry of the dynamic section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DynamicEntry {
    pub tag: i64,
    pub value: u64,
}

/// Dynamic section as `PT_DYNAMIC` describes it.
#[derive(Clone, Debug)]
pub(crate) struct DynamicSection {
    pub offset: u64,
    pub address: u64,
    /// Number of entries that fit into its space, the terminating `DT_NULL` included.
    pub capacity: u64,
    /// Entries before the first `DT_NULL`.
    pub entries: Vec<DynamicEntry>,
}

impl DynamicSection {
    /// Returns the value of the first entry with this tag.
    pub(super) fn value(&self, tag: i64) -> Option<u64> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.value)
    }
}

/// A parsed file: header, segments and sections.
pub(crate) struct ElfLayout<'a> {
    pub bytes: &'a [u8],
    pub codec: Codec,
    pub header: FileHeader<AnyEndian>,
    pub segments: Vec<ProgramHeader>,
    /// Section headers; empty if the file has no section header table, or none that can be read.
    pub sections: Vec<SectionHeader>,
    /// Index of the section that holds the section names.
    pub section_names: Option<usize>,
}

impl<'a> ElfLayout<'a> {
    /// Parses the headers. Sections that make no sense are dropped; such segments are an error.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if !crate::elf::is_elf(bytes) {
            return Err(Error::NotElf);
        }
        let ident = bytes
            .get(..abi::EI_NIDENT)
            .ok_or(Error::Malformed("the file ends inside the ELF header"))?;
        let ident = elf::file::parse_ident::<AnyEndian>(ident)
            .map_err(|_| Error::Unsupported("unknown class, byte order or version in e_ident"))?;
        let codec = Codec { class: ident.1, endian: ident.0 };
        let size: usize = if codec.is_64() { 64 } else { 52 };
        let tail = bytes
            .get(abi::EI_NIDENT..size)
            .ok_or(Error::Malformed("the file ends inside the ELF header"))?;
        let header = FileHeader::parse_tail(ident, tail)
            .map_err(|_| Error::Malformed("the ELF header cannot be read"))?;
        let segments = parse_segments(bytes, codec, &header)?;
        let (sections, section_names) =
            parse_sections(bytes, codec, &header).unwrap_or((Vec::new(), None));
        Ok(ElfLayout { bytes, codec, header, segments, sections, section_names })
    }

    /// Returns the size of one program header in this class, in bytes.
    pub(super) fn segment_size(&self) -> u64 {
        if self.codec.is_64() { 56 } else { 32 }
    }

    /// Returns the size of one section header, in bytes.
    pub(super) fn section_size(&self) -> u64 {
        if self.codec.is_64() { 64 } else { 40 }
    }

    /// Returns the size of one symbol, in bytes.
    pub(super) fn symbol_size(&self) -> u64 {
        if self.codec.is_64() { 24 } else { 16 }
    }

    pub(super) fn file_size(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|segment| segment.p_type == abi::PT_LOAD)
    }

    pub(super) fn segment(&self, kind: u32) -> Option<&ProgramHeader> {
        self.segments.iter().find(|segment| segment.p_type == kind)
    }

    /// Returns the file offset of `len` bytes at `address`, if one `PT_LOAD` loads them from the
    /// file.
    pub(super) fn offset_of(&self, address: u64, len: u64) -> Option<u64> {
        self.loads().find_map(|load| {
            let inside = address.checked_sub(load.p_vaddr)?;
            if inside.checked_add(len)? > load.p_filesz {
                return None;
            }
            let offset = load.p_offset.checked_add(inside)?;
            (offset.checked_add(len)? <= self.file_size()).then_some(offset)
        })
    }

    /// Returns the bytes from `address` to the end of the file contents of its `PT_LOAD`.
    pub(super) fn rest_at(&self, address: u64) -> Option<&'a [u8]> {
        self.loads().find_map(|load| {
            let inside = address.checked_sub(load.p_vaddr)?;
            let len = load.p_filesz.checked_sub(inside)?;
            let offset = load.p_offset.checked_add(inside)?;
            slice(self.bytes, offset, len.min(self.file_size().saturating_sub(offset)))
        })
    }

    pub(super) fn section_name(&self, section: &SectionHeader) -> Option<&'a [u8]> {
        let table = self.sections.get(self.section_names?)?;
        string_at(slice(self.bytes, table.sh_offset, table.sh_size)?, section.sh_name.into())
    }

    /// Returns the section with this name.
    pub(super) fn section_named(&self, name: &[u8]) -> Option<&SectionHeader> {
        self.sections.iter().find(|section| self.section_name(section) == Some(name))
    }

    /// Returns the path in `PT_INTERP`, without its NUL.
    pub(super) fn interpreter(&self) -> Option<&'a [u8]> {
        let segment = self.segment(abi::PT_INTERP)?;
        let bytes = slice(self.bytes, segment.p_offset, segment.p_filesz)?;
        Some(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    /// Parses the dynamic section. Returns `None` if there is no `PT_DYNAMIC`.
    pub(super) fn dynamic(&self) -> Result<Option<DynamicSection>, Error> {
        let Some(segment) = self.segment(abi::PT_DYNAMIC) else { return Ok(None) };
        let table = slice(self.bytes, segment.p_offset, segment.p_filesz)
            .ok_or(Error::Malformed("PT_DYNAMIC lies outside the file"))?;
        let word = self.codec.word();
        let capacity = segment.p_filesz / (2 * word);
        let mut entries = Vec::new();
        for index in 0..capacity {
            let at = index * 2 * word;
            let (Some(tag), Some(value)) =
                (self.codec.word_at(table, at), self.codec.word_at(table, at + word))
            else {
                break;
            };
            let tag = i64::from_ne_bytes(tag.to_ne_bytes());
            if tag == abi::DT_NULL {
                break;
            }
            entries.push(DynamicEntry { tag, value });
        }
        // Without spare tags GNU ld writes no DT_NULL; the bytes that follow happen to serve as
        // one.
        let (offset, address) = (segment.p_offset, segment.p_vaddr);
        Ok(Some(DynamicSection { offset, address, capacity, entries }))
    }
}

fn parse_segments(
    bytes: &[u8],
    codec: Codec,
    header: &FileHeader<AnyEndian>,
) -> Result<Vec<ProgramHeader>, Error> {
    if header.e_phnum == 0 || header.e_phoff == 0 {
        return Ok(Vec::new());
    }
    if header.e_phnum == abi::PN_XNUM {
        return Err(Error::Unsupported("more than 65534 program headers"));
    }
    let size = ProgramHeader::size_for(codec.class);
    if usize::from(header.e_phentsize) != size {
        return Err(Error::Malformed("e_phentsize is not the size of a program header"));
    }
    let len = u64::from(header.e_phnum) * u64::from(header.e_phentsize);
    let table = slice(bytes, header.e_phoff, len)
        .ok_or(Error::Malformed("the program header table lies outside the file"))?;
    let mut segments = Vec::with_capacity(usize::from(header.e_phnum));
    let mut at = 0;
    while at < table.len() {
        let segment = ProgramHeader::parse_at(codec.endian, codec.class, &mut at, table)
            .map_err(|_| Error::Malformed("a program header cannot be read"))?;
        segments.push(segment);
    }
    Ok(segments)
}

type Sections = (Vec<SectionHeader>, Option<usize>);

/// Parses the section header table, with the extended numbering of the gABI ("Sections"). A zero
/// `e_shnum` means that the count is in `sh_size` of entry 0. `SHN_XINDEX` means that the index is
/// in its `sh_link`.
fn parse_sections(bytes: &[u8], codec: Codec, header: &FileHeader<AnyEndian>) -> Option<Sections> {
    let size = SectionHeader::size_for(codec.class);
    if header.e_shoff == 0 || usize::from(header.e_shentsize) != size {
        return None;
    }
    let size = size as u64;
    let first = slice(bytes, header.e_shoff, size)?;
    let first = SectionHeader::parse_at(codec.endian, codec.class, &mut 0, first).ok()?;
    let count = if header.e_shnum == 0 { first.sh_size } else { header.e_shnum.into() };
    let table = slice(bytes, header.e_shoff, count.checked_mul(size)?)?;
    let names = if header.e_shstrndx == abi::SHN_XINDEX {
        usize::try_from(first.sh_link).ok()?
    } else {
        usize::from(header.e_shstrndx)
    };
    let mut sections = Vec::with_capacity(usize::try_from(count).ok()?);
    let mut at = 0;
    while at < table.len() {
        sections.push(SectionHeader::parse_at(codec.endian, codec.class, &mut at, table).ok()?);
    }
    Some((sections, (names != 0 && names < usize::try_from(count).ok()?).then_some(names)))
}
