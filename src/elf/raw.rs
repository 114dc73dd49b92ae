//! Headers of an ELF file, parsed leniently.
//!
//! The `elf` crate parses the single structures. This module adds the view that the planner needs:
//! every offset is checked once, and nothing is indexed unchecked.

use elf::abi;
use elf::endian::AnyEndian;
use elf::file::FileHeader;
use elf::parse::ParseAt as _;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use crate::elf::codec::{Codec, TableBytes, slice, string_at};
use crate::elf::{Error, LARGEST};

/// Limit of the number of sections. A hole has any number of them. An object file with a section for
/// each function has some hundred thousand.
const SECTIONS: u64 = 4 << 20;

/// Limit of the length of a section name, so that tables which share a name are not read for each of
/// its sections. Names of functions of C++ are the longest.
const SECTION_NAME: u64 = 16 << 10;

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
    /// Parses the headers. A section header table that makes no sense is ignored, because no kernel
    /// and no loader reads it. Such segments are an error.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if !crate::elf::is_elf(bytes) {
            return Err(Error::NotElf);
        }
        if bytes.len() as u64 > LARGEST {
            return Err(Error::TOO_LARGE);
        }
        let truncated =
            || Error::malformed("the file ends inside the ELF header", bytes.len() as u64);
        let ident = bytes.get(..abi::EI_NIDENT).ok_or_else(truncated)?;
        let ident = elf::file::parse_ident::<AnyEndian>(ident)
            .map_err(|_| Error::Unsupported("unknown class, byte order or version in e_ident"))?;
        let codec = Codec { class: ident.1, endian: ident.0 };
        let size: usize = if codec.is_64() { 64 } else { 52 };
        let rest = bytes.get(abi::EI_NIDENT..size).ok_or_else(truncated)?;
        let header = FileHeader::parse_tail(ident, rest).map_err(|_| truncated())?;
        let segments = parse_segments(bytes, codec, &header)?;
        let (sections, section_names) = parse_sections(bytes, codec, &header).unwrap_or_default();
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

    pub(super) fn find_segment(&self, kind: u32) -> Option<&ProgramHeader> {
        self.segments.iter().find(|segment| segment.p_type == kind)
    }

    /// Returns the file offset of `len` bytes at `address`. Returns `None` if no `PT_LOAD` loads
    /// all of them from the file.
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

    /// Returns the bytes from `address` to the end of the file contents of its `PT_LOAD`, as a
    /// table of unknown length. `truncated` describes a table that ends too early. Returns `None`
    /// if nothing is loaded there.
    pub(super) fn table_from(
        &self,
        address: u64,
        truncated: &'static str,
    ) -> Option<TableBytes<'a>> {
        self.loads().find_map(|load| {
            let inside = address.checked_sub(load.p_vaddr)?;
            let len = load.p_filesz.checked_sub(inside)?;
            let offset = load.p_offset.checked_add(inside)?;
            let len = len.min(self.file_size().saturating_sub(offset));
            let bytes = slice(self.bytes, offset, len)?;
            Some(TableBytes { codec: self.codec, truncated, offset, bytes })
        })
    }

    /// Returns the name of a section, or `None` if the file has no table of names or no such name.
    pub(super) fn section_name(&self, section: &SectionHeader) -> Option<&'a [u8]> {
        let table = self.sections.get(self.section_names?)?;
        let name = u64::from(section.sh_name);
        let rest = table.sh_size.checked_sub(name)?;
        let start = table.sh_offset.checked_add(name)?;
        string_at(slice(self.bytes, start, rest.min(SECTION_NAME))?, 0)
    }

    /// Returns the section with this name.
    pub(super) fn section_named(&self, name: &[u8]) -> Option<&SectionHeader> {
        self.sections.iter().find(|section| self.section_name(section) == Some(name))
    }

    /// Returns the path in `PT_INTERP`, without its NUL. Returns `None` if there is none in the
    /// file.
    pub(super) fn interpreter(&self) -> Option<&'a [u8]> {
        let segment = self.find_segment(abi::PT_INTERP)?;
        let bytes = slice(self.bytes, segment.p_offset, segment.p_filesz)?;
        Some(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
    }

    /// Parses the dynamic section. Returns `None` if there is no `PT_DYNAMIC`.
    pub(super) fn dynamic(&self) -> Result<Option<DynamicSection>, Error> {
        let Some(segment) = self.find_segment(abi::PT_DYNAMIC) else { return Ok(None) };
        let table = slice(self.bytes, segment.p_offset, segment.p_filesz)
            .ok_or(Error::malformed("PT_DYNAMIC lies outside of the file", segment.p_offset))?;
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
        let field = if codec.is_64() { 54 } else { 42 };
        return Err(Error::malformed("e_phentsize is not the size of a program header", field));
    }
    let len = u64::from(header.e_phnum) * u64::from(header.e_phentsize);
    let outside =
        Error::malformed("the program header table lies outside of the file", header.e_phoff);
    let table = slice(bytes, header.e_phoff, len).ok_or(outside)?;
    let mut segments = Vec::with_capacity(usize::from(header.e_phnum));
    let mut at = 0;
    while at < table.len() {
        let segment = ProgramHeader::parse_at(codec.endian, codec.class, &mut at, table)
            .map_err(|_| outside)?;
        segments.push(segment);
    }
    Ok(segments)
}

type Sections = (Vec<SectionHeader>, Option<usize>);

/// Parses the section header table, with the extended numbering of the gABI ("Sections"). A zero
/// `e_shnum` means that the count is in `sh_size` of entry 0. `SHN_XINDEX` means that the index is
/// in its `sh_link`.
fn parse_sections(
    bytes: &[u8],
    codec: Codec,
    header: &FileHeader<AnyEndian>,
) -> Result<Sections, Error> {
    let size = SectionHeader::size_for(codec.class);
    if header.e_shoff == 0 {
        return Ok((Vec::new(), None));
    }
    if usize::from(header.e_shentsize) != size {
        let field = if codec.is_64() { 58 } else { 46 };
        return Err(Error::malformed("e_shentsize is not the size of a section header", field));
    }
    let size = size as u64;
    let outside =
        || Error::malformed("the section header table lies outside of the file", header.e_shoff);
    let parse = |table: &[u8], at: &mut usize| {
        SectionHeader::parse_at(codec.endian, codec.class, at, table).map_err(|_| outside())
    };
    let first = slice(bytes, header.e_shoff, size).ok_or_else(outside)?;
    let first = parse(first, &mut 0)?;
    let count = if header.e_shnum == 0 { first.sh_size } else { header.e_shnum.into() };
    if count > SECTIONS {
        return Err(Error::LimitExceeded("it has more than 4,194,304 sections"));
    }
    let len = count.checked_mul(size).ok_or_else(outside)?;
    let table = slice(bytes, header.e_shoff, len).ok_or_else(outside)?;
    let names =
        if header.e_shstrndx == abi::SHN_XINDEX { first.sh_link } else { header.e_shstrndx.into() };
    let mut sections = Vec::with_capacity(table.len() / SectionHeader::size_for(codec.class));
    let mut at = 0;
    while at < table.len() {
        sections.push(parse(table, &mut at)?);
    }
    let names = usize::try_from(names).ok().filter(|&names| names != 0 && names < sections.len());
    Ok((sections, names))
}
