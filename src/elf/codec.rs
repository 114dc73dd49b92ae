//! Numbers in the byte order and word size of a file, and tables whose every read is checked.

use elf::endian::{AnyEndian, EndianParse as _};
use elf::file::Class;
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

    /// Encodes a word in file byte order. Fails if the value does not fit a 32-bit file.
    pub(super) fn word_bytes(self, value: u64) -> Result<EncodedNumber, Error> {
        match self.class {
            Class::ELF32 => self.u32_field(value),
            Class::ELF64 => Ok(self.encode(value, 8)),
        }
    }

    /// Encodes a value for a field of 32 bits.
    pub(super) fn u32_field(self, value: u64) -> Result<EncodedNumber, Error> {
        let narrow = u32::try_from(value).map_err(|_| Error::TooLarge { value })?;
        Ok(self.u32_bytes(narrow))
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
    pub(super) fn append_segment(
        self,
        segment: &ProgramHeader,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
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
        Ok(())
    }
}

/// Bytes of one table. An error names the table and the offset in the file.
#[derive(Clone, Copy)]
pub(crate) struct TableBytes<'a> {
    pub codec: Codec,
    /// Error of a table that ends too early.
    pub truncated: &'static str,
    /// File offset of the first byte.
    pub offset: u64,
    pub bytes: &'a [u8],
}

impl<'a> TableBytes<'a> {
    pub(super) fn u16_at(&self, at: u64) -> Result<u16, Error> {
        self.codec.u16_at(self.bytes, at).ok_or_else(|| self.end_error(at))
    }

    /// Returns a field of 32 bits, widened for arithmetic.
    pub(super) fn u32_at(&self, at: u64) -> Result<u64, Error> {
        self.codec.u32_at(self.bytes, at).map(u64::from).ok_or_else(|| self.end_error(at))
    }

    pub(super) fn u64_at(&self, at: u64) -> Result<u64, Error> {
        self.codec.u64_at(self.bytes, at).ok_or_else(|| self.end_error(at))
    }

    pub(super) fn slice_at(&self, at: u64, len: u64) -> Result<&'a [u8], Error> {
        slice(self.bytes, at, len).ok_or_else(|| self.end_error(at))
    }

    /// Adds to an offset in the table. A sum that overflows is behind its end.
    pub(super) fn advance(&self, at: u64, by: u64) -> Result<u64, Error> {
        at.checked_add(by).ok_or_else(|| self.end_error(at))
    }

    /// Returns the error of a table with nothing at this offset.
    pub(super) fn end_error(&self, at: u64) -> Error {
        Error::Malformed { what: self.truncated, offset: self.offset.saturating_add(at) }
    }
}

/// Returns `len` bytes at `offset`, or `None` if there are fewer.
pub(crate) fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(len)?).ok()?;
    bytes.get(start..end)
}

/// Returns the NUL-terminated string at `offset` of `table`, without the NUL. Returns `None` if
/// there is no NUL.
pub(crate) fn string_at(table: &[u8], offset: u64) -> Option<&[u8]> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    rest.iter().position(|&byte| byte == 0).and_then(|end| rest.get(..end))
}

/// Rounds `value` up to a multiple of `align`. An `align` of 0 or 1 changes nothing.
/// Returns `None` if there is no such number.
pub(crate) fn align_up(value: u64, align: u64) -> Option<u64> {
    if align <= 1 {
        return Some(value);
    }
    match value % align {
        0 => Some(value),
        rest => value.checked_add(align - rest),
    }
}
