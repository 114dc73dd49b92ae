//! Notes: the build-id, the dlopen and package metadata, and which notes may be moved.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::Error;
use crate::elf::codec::{TableBytes, align_up, slice};
use crate::elf::raw::ElfLayout;

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

/// Parses the notes of a `PT_NOTE` segment or note section. Fails if they do not parse to the end.
///
/// Linkers write an alignment of 0, 1 or 4 for notes that are padded to 4. mold writes 8 for a
/// segment that begins with a note padded to 8 and continues with notes padded to 4.
pub(crate) fn parse_notes<'a>(
    layout: &ElfLayout<'a>,
    offset: u64,
    size: u64,
    align: u64,
) -> Result<Vec<ElfNote<'a>>, Error> {
    let outside = Error::malformed("notes end outside of the file", offset);
    let bytes = slice(layout.bytes, offset, size).ok_or(outside)?;
    let truncated = "a note ends outside of its segment or section";
    let table = TableBytes { codec: layout.codec, truncated, offset, bytes };
    if align == 8
        && let Ok(notes) = parse_padded_notes(&table, 8)
    {
        return Ok(notes);
    }
    parse_padded_notes(&table, 4)
}

fn parse_padded_notes<'a>(table: &TableBytes<'a>, align: u64) -> Result<Vec<ElfNote<'a>>, Error> {
    let size = table.bytes.len() as u64;
    let mut notes = Vec::new();
    let mut at = 0_u64;
    while at + 12 <= size {
        let (name_size, content_size) = (table.u32_at(at)?, table.u32_at(at + 4)?);
        let kind = table.codec.u32_at(table.bytes, at + 8).unwrap_or_default();
        let name = table.slice_at(at + 12, name_size)?;
        let padded = |end: u64| align_up(end, align).ok_or_else(|| table.end_error(at));
        let content_at = padded(at + 12 + name_size)?;
        let content = table.slice_at(content_at, content_size)?;
        // Go counts the padding of its name as part of the name.
        let name_end = name.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let name = name.get(..name_end).unwrap_or_default();
        at = padded(content_at + content_size)?;
        notes.push(ElfNote { name, kind, content, end: at });
    }
    let rest = table.slice_at(at.min(size), size - at.min(size))?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(table.end_error(at));
    }
    Ok(notes)
}

/// Returns every note of the file: those of its `PT_NOTE` segments, else of its note sections.
/// Segments that cannot be parsed are skipped: the loader ignores notes that it does not know.
pub(crate) fn collect_notes<'a>(layout: &ElfLayout<'a>) -> Vec<ElfNote<'a>> {
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
        .filter_map(|(offset, size, align)| parse_notes(layout, offset, size, align).ok())
        .flatten()
        .collect()
}

/// Returns the number of bytes that can be removed from the beginning of a `PT_NOTE` segment with
/// notes that must stay. These are the ABI tag, which names the oldest kernel and is not checked
/// any more, and properties, where `PT_GNU_PROPERTY` leads to them as well.
pub(crate) fn detachable_size(layout: &ElfLayout<'_>, segment: &ProgramHeader) -> u64 {
    let (offset, size) = (segment.p_offset, segment.p_filesz);
    let notes = parse_notes(layout, offset, size, segment.p_align).unwrap_or_default();
    if notes.iter().all(ElfNote::is_movable) {
        return 0;
    }
    let properties = layout.find_segment(abi::PT_GNU_PROPERTY).is_some();
    let detachable = |note: &&ElfNote<'_>| {
        let known =
            note.kind == NT_GNU_ABI_TAG || note.kind == NT_GNU_PROPERTY_TYPE_0 && properties;
        note.name == GNU && known
    };
    notes.iter().take_while(detachable).last().map_or(0, |note| note.end.min(size))
}

/// Returns whether all notes in this range are of the kinds that may be moved.
pub(crate) fn are_movable(layout: &ElfLayout<'_>, offset: u64, size: u64, align: u64) -> bool {
    parse_notes(layout, offset, size, align)
        .is_ok_and(|notes| notes.iter().all(ElfNote::is_movable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::sample::SampleElf;

    const AT: u64 = 0x200;

    /// Encodes a note that is padded to `align`.
    fn note(name: &[u8], kind: u32, content: &[u8], align: usize) -> Vec<u8> {
        let sizes = [name.len(), content.len()].map(|size| u32::try_from(size).unwrap());
        let mut out: Vec<u8> =
            [sizes[0], sizes[1], kind].iter().flat_map(|word| word.to_le_bytes()).collect();
        for part in [name, content] {
            out.extend_from_slice(part);
            out.resize(out.len().next_multiple_of(align), 0);
        }
        out
    }

    fn sample(notes: &[u8], align: u64) -> Vec<u8> {
        let mut sample = SampleElf::of_size(0x400);
        sample.add_segment(abi::PT_NOTE, AT, notes.len() as u64).p_align = align;
        sample.put(AT, notes);
        sample.build()
    }

    /// Name, kind and content of a note.
    type NoteParts = (Vec<u8>, u32, Vec<u8>);

    fn parse(notes: &[u8], align: u64) -> Result<Vec<NoteParts>, Error> {
        let bytes = sample(notes, align);
        let layout = ElfLayout::parse(&bytes).unwrap();
        let notes = parse_notes(&layout, AT, notes.len() as u64, align)?;
        let own = |note: ElfNote<'_>| (note.name.to_vec(), note.kind, note.content.to_vec());
        Ok(notes.into_iter().map(own).collect())
    }

    #[test]
    fn notes_of_both_paddings_are_parsed() {
        let build_id = (b"GNU".to_vec(), NT_GNU_BUILD_ID, vec![1, 2, 3, 4, 5]);
        let go = (b"Go".to_vec(), NT_GO_BUILD_ID, b"id".to_vec());
        for (align, padding) in [(0, 4), (1, 4), (4, 4), (8, 8), (8, 4)] {
            let bytes = [
                note(b"GNU\0", NT_GNU_BUILD_ID, &[1, 2, 3, 4, 5], padding),
                // Go counts the padding of the name.
                note(b"Go\0\0", NT_GO_BUILD_ID, b"id", padding),
            ]
            .concat();
            let parsed = parse(&bytes, align).unwrap();
            assert_eq!(parsed, [build_id.clone(), go.clone()], "{align} {padding}");
        }
        assert_eq!(parse(&[], 4).unwrap(), []);
        assert_eq!(parse(&note(b"", 7, b"", 4), 4).unwrap(), [(vec![], 7, vec![])]);
    }

    #[test]
    fn truncated_notes_are_errors_with_an_offset() {
        let whole = note(b"GNU\0", NT_GNU_BUILD_ID, &[1, 2, 3, 4], 4);
        let two = [&whole[..], &whole[..]].concat();
        for end in 0..two.len() {
            let parsed = parse(&two[..end], 4);
            // Fewer bytes than a header at the end are padding, if they are zero.
            if end % whole.len() == 0 {
                assert_eq!(parsed.unwrap().len(), end / whole.len());
            } else {
                let Err(Error::Malformed { offset, .. }) = parsed else { panic!("{end}") };
                assert!((AT..=AT + end as u64).contains(&offset), "{end}: {offset:#x}");
            }
        }
        let padded = [&whole[..], &[0; 11]].concat();
        assert_eq!(parse(&padded, 4).unwrap().len(), 1);
        let outside = Error::malformed("notes end outside of the file", AT);
        let bytes = sample(&whole, 4);
        let layout = ElfLayout::parse(&bytes).unwrap();
        assert_eq!(parse_notes(&layout, AT, 0x300, 4).err(), Some(outside));
        assert!(parse_notes(&layout, u64::MAX, 2, 8).is_err());
    }

    #[test]
    fn sizes_that_overflow_are_errors() {
        for sizes in [[u32::MAX, 0], [0, u32::MAX], [u32::MAX, u32::MAX]] {
            let mut bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
            bytes.extend([0; 4]);
            assert!(parse(&bytes, 4).is_err());
            assert!(parse(&bytes, 8).is_err());
        }
    }

    #[test]
    fn notes_that_only_their_header_leads_to_may_move() {
        let movable = |notes: &[u8]| {
            let bytes = sample(notes, 4);
            let layout = ElfLayout::parse(&bytes).unwrap();
            let segment = layout.find_segment(abi::PT_NOTE).unwrap();
            let whole = are_movable(&layout, AT, notes.len() as u64, 4);
            (whole, detachable_size(&layout, segment))
        };
        let build_id = note(b"GNU\0", NT_GNU_BUILD_ID, &[1, 2, 3, 4], 4);
        let abi_tag = note(b"GNU\0", NT_GNU_ABI_TAG, &[0; 16], 4);
        let unknown = note(b"stapsdt\0", 3, &[0; 8], 4);
        assert_eq!(movable(&build_id), (true, 0));
        assert_eq!(movable(&unknown), (false, 0));
        // The tag can be taken from the beginning, and from nowhere else.
        let size = abi_tag.len() as u64;
        assert_eq!(movable(&[&abi_tag[..], &unknown[..]].concat()), (false, size));
        assert_eq!(movable(&[&unknown[..], &abi_tag[..]].concat()), (false, 0));
        // Notes that cannot be parsed stay.
        assert_eq!(movable(&build_id[..15]), (false, 0));
    }
}
