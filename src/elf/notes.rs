//! Notes: the build-id, the dlopen and package metadata, and which notes may be moved.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::raw::{ElfLayout, align_up, slice};

/// Owners and types of the notes, as their projects define them.
const GNU: &[u8] = b"GNU";
const FDO: &[u8] = b"FDO";
const GO: &[u8] = b"Go";
pub(crate) const NT_GNU_BUILD_ID: u32 = 3;
const NT_GNU_ABI_TAG: u32 = 1;
const NT_GNU_GOLD_VERSION: u32 = 4;
const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
const NT_GO_BUILD_ID: u32 = 4;
/// <https://systemd.io/ELF_PACKAGE_METADATA/>
const NT_FDO_PACKAGING_METADATA: u32 = 0xcafe_1a7e;
/// <https://systemd.io/ELF_DLOPEN_METADATA/>
const NT_FDO_DLOPEN_METADATA: u32 = 0x407c_0c0a;

/// One note.
pub(crate) struct ElfNote<'a> {
    pub name: &'a [u8],
    pub kind: u32,
    pub content: &'a [u8],
    /// Offset of the next note, relative to the first.
    end: u64,
}

impl ElfNote<'_> {
    pub(super) fn is_build_id(&self) -> bool {
        self.name == GNU && self.kind == NT_GNU_BUILD_ID
    }

    pub(super) fn is_dlopen(&self) -> bool {
        self.name == FDO && self.kind == NT_FDO_DLOPEN_METADATA
    }

    pub(super) fn is_package(&self) -> bool {
        self.name == FDO && self.kind == NT_FDO_PACKAGING_METADATA
    }

    /// Returns whether the note is only found through its header, so that it can be moved.
    fn is_movable(&self) -> bool {
        match self.name {
            GNU => matches!(
                self.kind,
                NT_GNU_ABI_TAG | NT_GNU_BUILD_ID | NT_GNU_GOLD_VERSION | NT_GNU_PROPERTY_TYPE_0
            ),
            GO => self.kind == NT_GO_BUILD_ID,
            FDO => self.is_dlopen() || self.is_package(),
            _ => false,
        }
    }
}

/// Parses the notes of a `PT_NOTE` segment or note section. Returns `None` if they do not parse to
/// the end.
///
/// Linkers write an alignment of 0, 1 or 4 for notes that are padded to 4. mold writes 8 for a
/// segment that begins with a note padded to 8 and continues with notes padded to 4.
pub(crate) fn parse<'a>(
    layout: &ElfLayout<'a>,
    offset: u64,
    size: u64,
    align: u64,
) -> Option<Vec<ElfNote<'a>>> {
    let padded = (align == 8).then(|| parse_padded(layout, offset, size, 8)).flatten();
    padded.or_else(|| parse_padded(layout, offset, size, 4))
}

fn parse_padded<'a>(
    layout: &ElfLayout<'a>,
    offset: u64,
    size: u64,
    align: u64,
) -> Option<Vec<ElfNote<'a>>> {
    let bytes = slice(layout.bytes, offset, size)?;
    let mut notes = Vec::new();
    let mut at = 0_u64;
    while at.checked_add(12)? <= size {
        let name_size: u64 = layout.codec.u32_at(bytes, at)?.into();
        let content_size: u64 = layout.codec.u32_at(bytes, at + 4)?.into();
        let kind = layout.codec.u32_at(bytes, at + 8)?;
        let name = slice(bytes, at + 12, name_size)?;
        let content_at = align_up(at + 12 + name_size, align)?;
        let content = slice(bytes, content_at, content_size)?;
        // Go counts the padding of its name as part of the name.
        let name_end = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let name = name.get(..name_end).unwrap_or_default();
        at = align_up(content_at + content_size, align)?;
        notes.push(ElfNote { name, kind, content, end: at });
    }
    bytes.get(usize::try_from(at.min(size)).ok()?..)?.iter().all(|&byte| byte == 0).then_some(notes)
}

/// Returns every note of the file: those of its `PT_NOTE` segments, else of its note sections.
pub(crate) fn all<'a>(layout: &ElfLayout<'a>) -> Vec<ElfNote<'a>> {
    let in_segments = layout
        .segments
        .iter()
        .filter(|segment| segment.p_type == abi::PT_NOTE)
        .map(|segment| (segment.p_offset, segment.p_filesz, segment.p_align));
    let in_sections = layout
        .sections
        .iter()
        .filter(|section| section.sh_type == abi::SHT_NOTE)
        .map(|section| (section.sh_offset, section.sh_size, section.sh_addralign));
    in_segments
        .chain(in_sections.filter(|_| layout.segments.is_empty()))
        .filter_map(|(offset, size, align)| parse(layout, offset, size, align))
        .flatten()
        .collect()
}

/// Number of bytes that can be removed from the beginning of a `PT_NOTE` segment with notes that
/// must stay. These are the ABI tag, which names the oldest kernel and is not checked any more, and
/// properties, where `PT_GNU_PROPERTY` leads to them as well.
pub(crate) fn detachable(layout: &ElfLayout<'_>, segment: &ProgramHeader) -> u64 {
    let (offset, size) = (segment.p_offset, segment.p_filesz);
    let notes = parse(layout, offset, size, segment.p_align).unwrap_or_default();
    if notes.iter().all(ElfNote::is_movable) {
        return 0;
    }
    let properties = layout.segment(abi::PT_GNU_PROPERTY).is_some();
    let detachable = |note: &&ElfNote<'_>| {
        let known =
            note.kind == NT_GNU_ABI_TAG || note.kind == NT_GNU_PROPERTY_TYPE_0 && properties;
        note.name == GNU && known
    };
    notes.iter().take_while(detachable).last().map_or(0, |note| note.end.min(size))
}

/// Returns whether all notes in this range are of the kinds that may be moved.
pub(crate) fn all_movable(layout: &ElfLayout<'_>, offset: u64, size: u64, align: u64) -> bool {
    parse(layout, offset, size, align).is_some_and(|notes| notes.iter().all(ElfNote::is_movable))
}
