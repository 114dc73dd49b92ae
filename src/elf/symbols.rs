//! What strip(1) takes from a file, and whether what it left is the same program.

use elf::abi;
use elf::segment::ProgramHeader;

use crate::elf::image::{ObjectKind, kind, payload, read};
use crate::elf::raw::ElfLayout;
use crate::elf::{Error, notes};

/// How the names of sections with debugging information begin (DWARF, its compressed form before
/// `SHF_COMPRESSED`, and stabs).
const DEBUG: &[&[u8]] = &[b".debug_", b".zdebug_", b".stab", b".gdb_index"];

/// What a program or a library has for debuggers alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugSymbols {
    /// EM_ number.
    pub machine: u16,
    /// The `NT_GNU_BUILD_ID` note.
    pub build_id: Option<Vec<u8>>,
    /// Why they are better left where they are.
    pub obstacle: Option<&'static str>,
}

/// The symbols of a program or a library; none where there are none, or where the file is
/// anything else. Only headers and notes are looked at.
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
    let obstacle = match kind(&layout) {
        ObjectKind::Executable
        | ObjectKind::PieExecutable
        | ObjectKind::SharedObject
        | ObjectKind::StaticExecutable
        | ObjectKind::StaticPie => (payload(&layout) > 0).then_some("something is appended to it"),
        // valgrind and debuggers look for functions of the loader by name.
        ObjectKind::Loader => Some("it is the loader"),
        _ => return Ok(None),
    };
    let build_id = notes::all(&layout).into_iter().find(notes::ElfNote::is_build_id);
    Ok(Some(DebugSymbols {
        machine: layout.header.e_machine,
        build_id: build_id.map(|note| note.content.to_vec()),
        obstacle,
    }))
}

/// Whether two files are the same to the kernel and the loader: what they say of themselves, and
/// every byte that is loaded but for those that say where in the file things are.
pub fn loads_alike(before: &[u8], after: &[u8]) -> Result<bool, Error> {
    if read(before)? != read(after)? {
        let (mut one, mut other) = (read(before)?, read(after)?);
        // Those two are about the file and not about what is loaded.
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
            same_place(one, other) && loaded(&before, one) == loaded(&after, other)
        }))
}

/// The bytes of a segment in two parts, without the headers that the file begins with.
fn loaded<'a>(layout: &ElfLayout<'a>, segment: &ProgramHeader) -> Option<&'a [u8]> {
    let tables = layout.segment_size() * layout.segments.len() as u64;
    let headers = layout.header.e_phoff.checked_add(tables)?;
    let begins_the_file = segment.p_offset < headers;
    let start = if begins_the_file { headers } else { segment.p_offset };
    let end = segment.p_offset.checked_add(segment.p_filesz)?.max(start);
    layout.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}
