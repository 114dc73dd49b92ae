//! The dynamic string table: its bytes in use, and places for new strings.
//!
//! A replaced string is not simply overwritten, because linkers let strings share their tails: a
//! symbol `ld.so` may be the end of the runpath. A byte is free if no symbol, version or dynamic
//! entry begins a string that covers it.

use elf::abi;

use crate::elf::raw::string_at;
use crate::elf::tables::DynamicTables;

/// More strings than any edit of a real file drops. Each one costs a look at every symbol.
const MOST_DROPPED: usize = 1_000;

/// Places of new strings in the table.
#[derive(Debug, Default)]
pub(crate) struct StringPlacement {
    /// Offset of each wanted string, in the order of the request.
    pub offsets: Vec<u64>,
    /// Bytes that change, by offset in the table. They may lie behind its old end.
    pub changes: Vec<(u64, Vec<u8>)>,
    /// New size of the table, in bytes.
    pub size: u64,
}

/// A free range of the table; `next` is the offset of the next string in it.
struct Hole {
    start: u64,
    end: u64,
    next: u64,
}

/// Finds places for `wanted`. The dynamic section still uses the strings at `kept` and no longer
/// uses those at `dropped`. The version needs at `renamed` (offsets in their table) get a new file
/// name.
pub(crate) fn place(
    tables: &DynamicTables<'_, '_>,
    wanted: &[Vec<u8>],
    kept: &[u64],
    dropped: &[u64],
    renamed: &[u64],
) -> Option<StringPlacement> {
    let table = tables.strings()?;
    let size = table.len() as u64;
    let mut holes = holes(tables, table, kept, dropped, renamed).unwrap_or_else(|| {
        // Something uses the table in an unknown way, so all of it stays.
        vec![Hole { start: size, end: size, next: size }]
    });
    let mut placement = StringPlacement { offsets: Vec::new(), changes: Vec::new(), size };
    let mut placed: Vec<(&[u8], u64)> =
        kept.iter().filter_map(|&offset| Some((string_at(table, offset)?, offset))).collect();
    for string in wanted {
        let known = placed.iter().find(|(text, _)| text == string).map(|&(_, offset)| offset);
        let offset = known.or_else(|| put(&mut holes, string))?;
        if known.is_none() {
            let mut bytes = string.clone();
            bytes.push(0);
            placement.changes.push((offset, bytes));
        }
        placed.push((string, offset));
        placement.offsets.push(offset);
    }
    let tail = holes.pop()?;
    placement.size = tail.next;
    for hole in holes.iter().chain(std::iter::once(&tail)) {
        let unused = size.min(hole.end).saturating_sub(hole.next);
        if unused > 0 {
            placement.changes.push((hole.next, vec![0; usize::try_from(unused).ok()?]));
        }
    }
    Some(placement)
}

/// Puts a string into the first hole that has room. The last hole, behind all others, always has
/// room.
fn put(holes: &mut [Hole], string: &[u8]) -> Option<u64> {
    let need = (string.len() as u64).checked_add(1)?;
    let last = holes.len().checked_sub(1)?;
    let (_, hole) = holes
        .iter_mut()
        .enumerate()
        .find(|(index, hole)| *index == last || hole.end.saturating_sub(hole.next) >= need)?;
    let offset = hole.next;
    hole.next = offset.checked_add(need)?;
    Some(offset)
}

/// Returns the free ranges of the table: around the dropped strings, and behind the last used
/// string.
fn holes(
    tables: &DynamicTables<'_, '_>,
    table: &[u8],
    kept: &[u64],
    dropped: &[u64],
    renamed: &[u64],
) -> Option<Vec<Hole>> {
    if has_unknown_user(tables) || dropped.len() > MOST_DROPPED {
        return None;
    }
    let size = table.len() as u64;
    let mut around: Vec<StringNeighbors> =
        dropped.iter().map(|&at| StringNeighbors::new(at)).collect();
    let mut highest = 0_u64;
    let mut visit = |at: u64| {
        highest = highest.max(at);
        for around in &mut around {
            around.see(at);
        }
    };
    for &at in kept {
        visit(at);
    }
    tables.visit_string_references(renamed, &mut visit)?;
    let used_end = highest.checked_add(string_at(table, highest)?.len() as u64 + 1)?;
    let mut holes: Vec<Hole> = Vec::new();
    around.sort_by_key(|around| around.at);
    for around in around {
        let before_end = around.before + string_at(table, around.before)?.len() as u64 + 1;
        let Some(after) = around.after else { continue };
        let start = around.at;
        let seen = holes.last().is_some_and(|hole| hole.end > start);
        if around.used || before_end > start || seen || after > size {
            continue;
        }
        holes.push(Hole { start, end: after, next: start });
    }
    holes.retain(|hole| hole.start < used_end);
    holes.push(Hole { start: used_end, end: u64::MAX, next: used_end });
    Some(holes)
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

    fn see(&mut self, reference: u64) {
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
