//! Symbols that strip(1) removes from a file, and a check that the rest is the same program.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::image::{ObjectKind, detect_kind, payload_size, read};
use crate::elf::raw::ElfLayout;
use crate::elf::{Error, notes};

/// Prefixes of the names of debug sections (DWARF, its compressed form before `SHF_COMPRESSED`, and
/// stabs).
const DEBUG: &[&[u8]] = &[b".debug_", b".zdebug_", b".stab", b".gdb_index"];

/// Parts of a program or a library that only debuggers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugSymbols {
    /// `e_machine` (an EM_ number).
    pub machine: u16,
    /// The `NT_GNU_BUILD_ID` note.
    pub build_id: Option<Vec<u8>>,
    /// Reason to leave the symbols in the file; `None` if they can be removed.
    pub obstacle: Option<&'static str>,
}

/// Finds the debug symbols of a program or a library. Returns `None` if it has none, or if the file
/// is of another kind. Only headers and notes are read.
///
/// # Errors
///
/// Fails if the headers cannot be read.
pub fn find_debug_symbols(bytes: &[u8]) -> Result<Option<DebugSymbols>, Error> {
    let layout = ElfLayout::parse(bytes)?;
    let is_for_debuggers = |name: &[u8]| DEBUG.iter().any(|start| name.starts_with(start));
    let has_some = layout.sections.iter().any(|section| {
        section.sh_type == abi::SHT_SYMTAB
            || layout.section_name(section).is_some_and(is_for_debuggers)
    });
    if !has_some {
        return Ok(None);
    }
    let obstacle = match detect_kind(&layout) {
        ObjectKind::Executable
        | ObjectKind::PieExecutable
        | ObjectKind::SharedObject
        | ObjectKind::StaticExecutable
        | ObjectKind::StaticPie => {
            (payload_size(&layout) > 0).then_some("something is appended to it")
        }
        // valgrind and debuggers look up functions of the loader by name.
        ObjectKind::Loader => Some("it is the loader"),
        _ => return Ok(None),
    };
    let build_id = notes::collect_notes(&layout).into_iter().find(notes::ElfNote::is_build_id);
    Ok(Some(DebugSymbols {
        machine: layout.header.e_machine,
        build_id: build_id.map(|note| note.content.to_vec()),
        obstacle,
    }))
}

/// Returns whether two files are the same to the kernel and the loader. Their properties and every
/// loaded byte must be equal, except bytes that hold file offsets.
///
/// # Errors
///
/// Fails if one of the files cannot be read (see [`read`]).
pub fn loads_alike(before: &[u8], after: &[u8]) -> Result<bool, Error> {
    if read(before)? != read(after)? {
        let (mut one, mut other) = (read(before)?, read(after)?);
        // These two fields describe the file, not the loaded bytes.
        (one.has_sections, other.has_sections) = (true, true);
        (one.payload, other.payload) = (0, 0);
        if one != other {
            return Ok(false);
        }
    }
    let (before, after) = (ElfLayout::parse(before)?, ElfLayout::parse(after)?);
    let (one, other): (Vec<_>, Vec<_>) = (before.loads().collect(), after.loads().collect());
    let same_place = |one: &ProgramHeader, other: &ProgramHeader| {
        (one.p_vaddr, one.p_memsz, one.p_filesz, one.p_flags)
            == (other.p_vaddr, other.p_memsz, other.p_filesz, other.p_flags)
    };
    Ok(before.header.e_entry == after.header.e_entry
        && before.header.e_phoff == after.header.e_phoff
        && before.segments.len() == after.segments.len()
        && one.len() == other.len()
        && one.iter().zip(&other).all(|(one, other)| {
            same_place(one, other) && loaded_bytes(&before, one) == loaded_bytes(&after, other)
        }))
}

/// Returns the bytes of a segment, without the headers at the beginning of the file.
fn loaded_bytes<'a>(layout: &ElfLayout<'a>, segment: &ProgramHeader) -> Option<&'a [u8]> {
    let tables = layout.segment_size() * layout.segments.len() as u64;
    let headers = layout.header.e_phoff.checked_add(tables)?;
    let begins_the_file = segment.p_offset < headers;
    let start = if begins_the_file { headers } else { segment.p_offset };
    let end = segment.p_offset.checked_add(segment.p_filesz)?.max(start);
    layout.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}
