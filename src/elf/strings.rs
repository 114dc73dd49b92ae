//! The dynamic string table: its bytes in use, and places for new strings.
//!
//! A replaced string is not simply overwritten, because linkers let strings share their tails: a
//! symbol `ld.so` may be the end of the runpath. A byte is free if no symbol, version or dynamic
//! entry begins a string that covers it.

use elf::abi;

use crate::elf::Error;
use crate::elf::codec::string_at;
use crate::elf::tables::DynamicTables;

/// More strings than any edit of a real file drops. Each one costs a look at every symbol.
const MOST_DROPPED: usize = 1_000;

/// Places of new strings in the table.
#[derive(Debug, Default)]
pub(crate) struct StringPlacement {
    /// Offset of each new string, in the order of the request.
    pub offsets: Vec<u64>,
    /// Bytes that change, by offset in the table. They may lie behind its old end.
    pub changes: Vec<(u64, Vec<u8>)>,
    /// New size of the table, in bytes.
    pub size: u64,
}

/// A free range of the table; `next` is the offset of the next string in it.
struct Hole {
    next: u64,
    end: u64,
}

/// Finds places for `new_strings`. The dynamic section still uses the strings at `kept` and no
/// longer uses those at `dropped`. The version needs at `renamed` (offsets in their table) get a
/// new file name.
pub(crate) fn place_strings(
    tables: &DynamicTables<'_, '_>,
    new_strings: &[Vec<u8>],
    kept: &[u64],
    dropped: &[u64],
    renamed: &[u64],
) -> Result<StringPlacement, Error> {
    let table = tables.strings()?;
    let size = table.len() as u64;
    let is_editable = !has_unknown_user(tables) && dropped.len() <= MOST_DROPPED;
    let holes = if is_editable {
        // A table that cannot be read may use any string, so all of them stay.
        find_holes(tables, table, kept, dropped, renamed).ok()
    } else {
        None
    };
    let mut holes = holes.unwrap_or(Holes { inside: Vec::new(), end: size });
    let mut placement = StringPlacement { offsets: Vec::new(), changes: Vec::new(), size };
    let mut placed: Vec<(&[u8], u64)> =
        kept.iter().filter_map(|&offset| Some((string_at(table, offset)?, offset))).collect();
    for string in new_strings {
        let known = placed.iter().find(|(text, _)| text == string).map(|&(_, offset)| offset);
        let offset = if let Some(offset) = known {
            offset
        } else {
            let mut bytes = string.clone();
            bytes.push(0);
            let offset = holes.allocate(bytes.len() as u64)?;
            placement.changes.push((offset, bytes));
            offset
        };
        placed.push((string, offset));
        placement.offsets.push(offset);
    }
    placement.size = holes.end;
    let inside = holes.inside.iter().map(|hole| (hole.next, hole.end));
    for (start, end) in inside.chain([(holes.end, size)]) {
        let unused = usize::try_from(size.min(end).saturating_sub(start)).unwrap_or(0);
        if unused > 0 {
            placement.changes.push((start, vec![0; unused]));
        }
    }
    Ok(placement)
}

/// Free ranges of the table.
struct Holes {
    /// Ranges between strings in use.
    inside: Vec<Hole>,
    /// End of the last string. Everything behind it is free.
    end: u64,
}

impl Holes {
    /// Takes `size` bytes of the first hole that has room, or the bytes behind the last string.
    fn allocate(&mut self, size: u64) -> Result<u64, Error> {
        let hole = self.inside.iter_mut().find(|hole| hole.end.saturating_sub(hole.next) >= size);
        let next = hole.map_or(&mut self.end, |hole| &mut hole.next);
        let offset = *next;
        *next = offset.checked_add(size).ok_or(Error::TooLarge { value: offset })?;
        Ok(offset)
    }
}

/// Returns the free ranges of the table: around the dropped strings, and behind the last used
/// string. Fails if the uses of the table are unknown.
fn find_holes(
    tables: &DynamicTables<'_, '_>,
    table: &[u8],
    kept: &[u64],
    dropped: &[u64],
    renamed: &[u64],
) -> Result<Holes, Error> {
    let size = table.len() as u64;
    let mut neighbors: Vec<StringNeighbors> =
        dropped.iter().map(|&at| StringNeighbors::new(at)).collect();
    let mut highest = 0_u64;
    let mut visit = |at: u64| {
        highest = highest.max(at);
        for around in &mut neighbors {
            around.add_reference(at);
        }
    };
    for &at in kept {
        visit(at);
    }
    tables.visit_string_references(renamed, &mut visit)?;
    let end_of_string = |at: u64| {
        let what = "an offset leads outside of the string table";
        let string = string_at(table, at).ok_or(Error::malformed(what, tables.dynamic.offset))?;
        Ok(at + string.len() as u64 + 1)
    };
    let mut holes = Holes { inside: Vec::new(), end: end_of_string(highest)? };
    neighbors.sort_by_key(|around| around.at);
    for around in neighbors {
        let before_end = end_of_string(around.before)?;
        let Some(after) = around.after else { continue };
        let start = around.at;
        let is_covered = holes.inside.last().is_some_and(|hole| hole.end > start);
        if around.used || before_end > start || is_covered || after > size {
            continue;
        }
        holes.inside.push(Hole { end: after, next: start });
    }
    holes.inside.retain(|hole| hole.next < holes.end);
    Ok(holes)
}

/// Strings in use around one dropped string.
struct StringNeighbors {
    at: u64,
    used: bool,
    before: u64,
    after: Option<u64>,
}

impl StringNeighbors {
    fn new(at: u64) -> Self {
        StringNeighbors { at, used: false, before: 0, after: None }
    }

    fn add_reference(&mut self, reference: u64) {
        match reference.cmp(&self.at) {
            std::cmp::Ordering::Less => self.before = self.before.max(reference),
            std::cmp::Ordering::Equal => self.used = true,
            std::cmp::Ordering::Greater => {
                self.after = Some(self.after.map_or(reference, |after| after.min(reference)));
            }
        }
    }
}

/// Returns whether the table has an unknown user. A section of an unknown kind may use its strings
/// (prelink's library list). Some linkers keep one table for all purposes.
fn has_unknown_user(tables: &DynamicTables<'_, '_>) -> bool {
    let layout = tables.layout;
    let Some(address) = tables.dynamic.value(abi::DT_STRTAB) else { return true };
    let own = layout.sections.iter().position(|section| {
        section.sh_type == abi::SHT_STRTAB && section.sh_addr == address && address != 0
    });
    let Some(own) = own else { return false };
    let users = layout.sections.iter().filter(|section| {
        usize::try_from(section.sh_link).is_ok_and(|link| link == own)
            && !matches!(
                section.sh_type,
                abi::SHT_DYNSYM
                    | abi::SHT_DYNAMIC
                    | abi::SHT_GNU_VERNEED
                    | abi::SHT_GNU_VERDEF
                    | abi::SHT_NULL
            )
    });
    layout.section_names == Some(own) || users.count() > 0
}
