//! Small ELF files, built by hand for unit tests.

use elf::abi;
use elf::endian::AnyEndian;
use elf::file::Class;
use elf::section::SectionHeader;
use elf::segment::ProgramHeader;

use crate::elf::codec::Codec;

/// A file in the making. Addresses of its segments are their offsets, unless a test moves them.
pub(crate) struct SampleElf {
    codec: Codec,
    pub machine: u16,
    pub kind: u16,
    pub segments: Vec<ProgramHeader>,
    pub sections: Vec<SectionHeader>,
    contents: Vec<(u64, Vec<u8>)>,
    size: u64,
}

impl SampleElf {
    pub(crate) fn new(class: Class, endian: AnyEndian, size: u64) -> Self {
        SampleElf {
            codec: Codec { class, endian },
            machine: abi::EM_X86_64,
            kind: abi::ET_DYN,
            segments: Vec::new(),
            sections: Vec::new(),
            contents: Vec::new(),
            size,
        }
    }

    /// Returns an empty 64-bit file of x86-64.
    pub(crate) fn of_size(size: u64) -> Self {
        Self::new(Class::ELF64, AnyEndian::Little, size)
    }

    /// Returns a program with an interpreter, notes, two symbols, three needed libraries and a
    /// runpath. One segment loads all of it, and every table has a section header.
    pub(crate) fn program(class: Class, endian: AnyEndian) -> Self {
        let mut sample = Self::new(class, endian, SIZE);
        let word = sample.codec.word();
        sample.add_segment(abi::PT_LOAD, 0, SIZE);
        sample.add_segment(abi::PT_INTERP, INTERPRETER, 11);
        sample.put(INTERPRETER, b"/lib/ld.so\0");
        sample.add_segment(abi::PT_NOTE, NOTES, 20);
        let note = [sample.words(&[4, 4, 3]), b"GNU\0\x01\x02\x03\x04".to_vec()].concat();
        sample.put(NOTES, &note);
        let hash = sample.words(&[1, 2, 1, 0, 0]);
        sample.put(HASH, &hash);
        let symbol_size = if word == 8 { 24 } else { 16 };
        let name = sample.words(&[7]);
        sample.put(SYMBOLS + symbol_size, &name);
        sample.put(STRINGS, b"\0libc.so\0symbol\0libm.so\0libz.so\0/old\0");
        let dynamic = sample.dynamic_bytes(&[
            (abi::DT_NEEDED, 1),
            (abi::DT_NEEDED, 16),
            (abi::DT_NEEDED, 24),
            (abi::DT_RUNPATH, 32),
            (abi::DT_HASH, HASH),
            (abi::DT_STRTAB, STRINGS),
            (abi::DT_STRSZ, 37),
            (abi::DT_SYMTAB, SYMBOLS),
            (abi::DT_NULL, 0),
        ]);
        let dynamic_size = dynamic.len() as u64;
        sample.add_segment(abi::PT_DYNAMIC, DYNAMIC, dynamic_size);
        sample.put(DYNAMIC, &dynamic);
        for (kind, offset, size) in [
            (abi::SHT_PROGBITS, INTERPRETER, 11),
            (abi::SHT_NOTE, NOTES, 20),
            (abi::SHT_HASH, HASH, 20),
            (abi::SHT_DYNSYM, SYMBOLS, 2 * symbol_size),
            (abi::SHT_STRTAB, STRINGS, 37),
            (abi::SHT_DYNAMIC, DYNAMIC, dynamic_size),
        ] {
            sample.add_section(kind, offset, size);
        }
        sample
    }

    pub(crate) fn add_segment(&mut self, kind: u32, offset: u64, size: u64) -> &mut ProgramHeader {
        self.segments.push(ProgramHeader {
            p_type: kind,
            p_offset: offset,
            p_vaddr: offset,
            p_paddr: offset,
            p_filesz: size,
            p_memsz: size,
            p_flags: abi::PF_R,
            p_align: if kind == abi::PT_LOAD { 0x1000 } else { 4 },
        });
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    pub(crate) fn add_section(&mut self, kind: u32, offset: u64, size: u64) {
        self.sections.push(SectionHeader {
            sh_name: 0,
            sh_type: kind,
            sh_flags: abi::SHF_ALLOC.into(),
            sh_addr: offset,
            sh_offset: offset,
            sh_size: size,
            sh_link: 0,
            sh_info: 0,
            sh_addralign: 1,
            sh_entsize: 0,
        });
    }

    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.contents.push((offset, bytes.to_vec()));
    }

    /// Encodes numbers of 32 bits.
    pub(crate) fn words(&self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|&word| self.codec.u32_bytes(word).to_vec()).collect()
    }

    /// Encodes dynamic entries.
    pub(crate) fn dynamic_bytes(&self, entries: &[(i64, u64)]) -> Vec<u8> {
        let words = entries.iter().flat_map(|&(tag, value)| [u64::try_from(tag).unwrap(), value]);
        words.flat_map(|word| self.codec.word_bytes(word).unwrap().to_vec()).collect()
    }

    /// Returns the bytes of the file. Section headers follow the contents.
    pub(crate) fn build(&self) -> Vec<u8> {
        let codec = self.codec;
        let is_64 = codec.is_64();
        let (header_size, segment_size) = if is_64 { (64_u16, 56_u16) } else { (52, 32) };
        let section_size: u16 = if is_64 { 64 } else { 40 };
        let section_offset = if self.sections.is_empty() { 0 } else { self.size };
        let mut out = b"\x7fELF".to_vec();
        out.push(if is_64 { 2 } else { 1 });
        out.push(if codec.endian == AnyEndian::Little { 1 } else { 2 });
        out.push(1);
        out.resize(16, 0);
        for half in [self.kind, self.machine] {
            out.extend_from_slice(&codec.u16_bytes(half));
        }
        out.extend_from_slice(&codec.u32_bytes(1));
        for word in [0, header_size.into(), section_offset] {
            out.extend_from_slice(&codec.word_bytes(word).unwrap());
        }
        out.extend_from_slice(&codec.u32_bytes(0));
        let segments = u16::try_from(self.segments.len()).unwrap();
        let sections = u16::try_from(self.sections.len()).unwrap();
        for half in [header_size, segment_size, segments, section_size, sections, 0] {
            out.extend_from_slice(&codec.u16_bytes(half));
        }
        for segment in &self.segments {
            codec.append_segment(segment, &mut out).unwrap();
        }
        assert!(self.size >= out.len() as u64, "the sample is too small for its headers");
        out.resize(usize::try_from(self.size).unwrap(), 0);
        for (offset, bytes) in &self.contents {
            let start = usize::try_from(*offset).unwrap();
            out[start..start + bytes.len()].copy_from_slice(bytes);
        }
        for section in &self.sections {
            self.append_section(section, &mut out);
        }
        out
    }

    fn append_section(&self, section: &SectionHeader, out: &mut Vec<u8>) {
        let codec = self.codec;
        for field in [section.sh_name, section.sh_type] {
            out.extend_from_slice(&codec.u32_bytes(field));
        }
        for field in [section.sh_flags, section.sh_addr, section.sh_offset, section.sh_size] {
            out.extend_from_slice(&codec.word_bytes(field).unwrap());
        }
        for field in [section.sh_link, section.sh_info] {
            out.extend_from_slice(&codec.u32_bytes(field));
        }
        for field in [section.sh_addralign, section.sh_entsize] {
            out.extend_from_slice(&codec.word_bytes(field).unwrap());
        }
    }
}

/// Offsets of the parts of [`SampleElf::program`].
pub(crate) const INTERPRETER: u64 = 0x200;
pub(crate) const NOTES: u64 = 0x220;
pub(crate) const HASH: u64 = 0x240;
pub(crate) const SYMBOLS: u64 = 0x260;
pub(crate) const STRINGS: u64 = 0x2a0;
pub(crate) const DYNAMIC: u64 = 0x2e0;
pub(crate) const SIZE: u64 = 0x400;

/// Every word size with every byte order.
pub(crate) const FORMS: [(Class, AnyEndian); 4] = [
    (Class::ELF64, AnyEndian::Little),
    (Class::ELF64, AnyEndian::Big),
    (Class::ELF32, AnyEndian::Little),
    (Class::ELF32, AnyEndian::Big),
];
