//! Turns an edit into a plan: the requested changes, their places, and the bytes to write.

use elf::abi;

use crate::elf::Error;
use crate::elf::dynamic_edit::{self, DynamicEdit, EntryString, PlannedEntry};
use crate::elf::edit::{Edit, PatchMethod, PatchPlan, UnchangedReason};
use crate::elf::emit::ImageEmitter;
use crate::elf::file_map::{FileMap, RangeRole};
use crate::elf::image::{self, ObjectKind};
use crate::elf::patch_set::PatchDiff;
use crate::elf::placement::Placement;
use crate::elf::raw::ElfLayout;
use crate::elf::slack::PlacementRequest;
use crate::elf::strings::{self, StringPlacement};
use crate::elf::tables::DynamicTables;

/// Number of spare entries in a dynamic section that had to move, so that it does not have to move
/// again.
const SPARE_ENTRIES: u64 = 6;

/// Plans `edit` for the file `bytes`. Never panics, whatever the bytes are.
///
/// A second plan of the same edit for the result is [`PatchMethod::Unchanged`].
///
/// # Errors
///
/// Fails if the file cannot be read, or if the edit is invalid or has no safe place.
pub fn plan(bytes: &[u8], edit: &Edit) -> Result<PatchPlan, Error> {
    edit.validate()?;
    let layout = ElfLayout::parse(bytes)?;
    let unchanged = |reason| Ok(PatchPlan::unchanged(reason, layout.file_size()));
    let kind = image::detect_kind(&layout);
    if !matches!(
        kind,
        ObjectKind::Executable | ObjectKind::PieExecutable | ObjectKind::SharedObject
    ) {
        return unchanged(UnchangedReason::ObjectKind(kind));
    }
    // Guile's object files have a dynamic section of another kind, without strings.
    let dynamic = layout.dynamic()?.filter(|dynamic| dynamic.value(abi::DT_STRTAB).is_some());
    if dynamic.is_none() && layout.interpreter().is_none() {
        return unchanged(UnchangedReason::NotDynamic);
    }
    let tables = dynamic.as_ref().map(|dynamic| DynamicTables::new(&layout, dynamic));
    let dynamic_edit = DynamicEdit::derive(&layout, tables.as_ref(), edit)?;
    if dynamic_edit.is_empty() {
        return unchanged(UnchangedReason::AlreadySo);
    }
    let planner = EditPlanner { layout: &layout, tables: tables.as_ref() };
    planner.plan_patches(dynamic_edit)
}

/// New strings of the table, and the entry that each is for.
struct PlacedStrings {
    entries: Vec<PlannedEntry>,
    placement: Option<StringPlacement>,
    renamed: Vec<(u64, u64)>,
}

struct EditPlanner<'l, 'a> {
    layout: &'l ElfLayout<'a>,
    tables: Option<&'l DynamicTables<'l, 'a>>,
}

impl EditPlanner<'_, '_> {
    fn plan_patches(&self, mut edit: DynamicEdit) -> Result<PatchPlan, Error> {
        let mut map = FileMap::build(self.layout, self.tables);
        let strings = self.place_strings(&mut edit)?;
        let mut entries = strings.as_ref().map(|strings| strings.entries.clone());
        let slots = self.tables.map_or(0, |tables| tables.dynamic.capacity);
        let fits = entries.as_mut().is_none_or(|entries| dynamic_edit::drop_hints(entries, slots));
        let dynamic_size = match (&entries, fits) {
            (Some(entries), false) => {
                let slots = entries.len() as u64 + SPARE_ENTRIES;
                Some(slots * 2 * self.layout.codec.word())
            }
            _ => None,
        };
        set_new_sizes(&mut map, &edit, strings.as_ref())?;
        let request = PlacementRequest {
            layout: self.layout,
            map: &map,
            dynamic_size,
            has_payload: image::payload_size(self.layout) > 0,
        };
        let placement = request.place_ranges().ok_or_else(|| no_room(request.has_payload))?;
        let emitter = ImageEmitter {
            layout: self.layout,
            tables: self.tables,
            map: &map,
            placement: &placement,
            edit: &edit,
            entries: entries.as_deref(),
            strings: strings.as_ref().and_then(|strings| strings.placement.as_ref()),
            renamed: strings.as_ref().map_or(&[], |strings| &strings.renamed),
        };
        let diff = emitter.emit_patches()?.diff_from(self.layout.bytes);
        Ok(finish_plan(self.layout, &map, &placement, diff))
    }

    /// Finds places for all new strings, and fills in the offsets of the entries.
    fn place_strings(&self, edit: &mut DynamicEdit) -> Result<Option<PlacedStrings>, Error> {
        let (Some(tables), Some(mut entries)) = (self.tables, edit.entries.take()) else {
            return Ok(None);
        };
        let mut texts: Vec<Vec<u8>> = entries
            .iter()
            .filter_map(|planned| match &planned.string {
                EntryString::New(text) => Some(text.clone()),
                EntryString::Kept => None,
            })
            .collect();
        let in_entries = texts.len();
        texts.extend(edit.renamed_needs.iter().map(|(_, name)| name.clone()));
        if texts.is_empty() && edit.dropped_strings.is_empty() {
            return Ok(Some(PlacedStrings { entries, placement: None, renamed: vec![] }));
        }
        let kept = dynamic_edit::collect_kept_strings(&entries);
        let renamed_at: Vec<u64> = edit.renamed_needs.iter().map(|&(at, _)| at).collect();
        let placement =
            strings::place_strings(tables, &texts, &kept, &edit.dropped_strings, &renamed_at)?;
        let (own, versions) = placement.offsets.split_at(in_entries.min(placement.offsets.len()));
        let mut offsets = own.iter();
        for planned in entries.iter_mut().filter(|planned| planned.string != EntryString::Kept) {
            if let Some(&offset) = offsets.next() {
                planned.entry.value = offset;
            }
        }
        let renamed = renamed_at.iter().copied().zip(versions.iter().copied()).collect();
        Ok(Some(PlacedStrings { entries, placement: Some(placement), renamed }))
    }
}

/// Sets the new sizes of the ranges.
fn set_new_sizes(
    map: &mut FileMap,
    edit: &DynamicEdit,
    strings: Option<&PlacedStrings>,
) -> Result<(), Error> {
    if let Some(interpreter) = &edit.interpreter {
        let range = map.movable.iter_mut().find(|range| range.role == RangeRole::Interpreter);
        let range = range.ok_or(Error::NoRoom("the interpreter shares its bytes"))?;
        range.new_size = interpreter.len() as u64 + 1;
    }
    if let Some(placement) = strings.and_then(|strings| strings.placement.as_ref()) {
        let range = map.movable.iter_mut().find(|range| range.role == RangeRole::Strings);
        let range = range.ok_or(Error::NoRoom("the string table shares its bytes"))?;
        range.new_size = placement.size;
    }
    Ok(())
}

fn no_room(payload: bool) -> Error {
    Error::NoRoom(if payload {
        "data follows the ELF image, so nothing can be appended, and its padding is too small"
    } else {
        "nothing behind the program header table can give way to one more entry"
    })
}

fn finish_plan(
    layout: &ElfLayout<'_>,
    map: &FileMap,
    placement: &Placement,
    diff: PatchDiff,
) -> PatchPlan {
    let moved = map.movable.iter().zip(&placement.offsets);
    let moved = moved.filter(|(range, place)| **place != Some(range.offset)).count() > 0;
    let method = if !diff.appended.is_empty() {
        PatchMethod::Append
    } else if moved {
        PatchMethod::Slide
    } else if diff.patches.is_empty() {
        PatchMethod::Unchanged(UnchangedReason::AlreadySo)
    } else {
        PatchMethod::InPlace
    };
    PatchPlan {
        method,
        patches: diff.patches,
        appended: diff.appended,
        source_size: layout.file_size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::edit::SearchPathEdit;
    use crate::elf::sample::{FORMS, SampleElf};

    #[test]
    fn a_file_that_ends_anywhere_or_has_any_byte_changed_does_not_panic() {
        let edit = Edit {
            interpreter: Some(b"/somewhere/else/ld.so".to_vec()),
            search_path: SearchPathEdit::Runpath(vec![b'r'; 200]),
            remove_needed: vec![b"libc.so".to_vec()],
            ..Edit::default()
        };
        for (class, endian) in FORMS {
            let bytes = SampleElf::program(class, endian).build();
            assert!(plan(&bytes, &edit).is_ok(), "{class:?} {endian:?}");
            for end in 0..bytes.len() {
                let _ = image::read(&bytes[..end]);
                let _ = plan(&bytes[..end], &edit);
            }
            for at in 0..bytes.len() {
                for value in [0, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    let _ = image::read(&changed);
                    let _ = plan(&changed, &edit);
                }
            }
        }
    }

    #[test]
    fn a_plan_for_every_form_of_file_does_what_was_requested() {
        let edit = Edit {
            interpreter: Some(b"/somewhere/else/ld.so".to_vec()),
            search_path: SearchPathEdit::Runpath(vec![b'r'; 200]),
            remove_needed: vec![b"libm.so".to_vec()],
            ..Edit::default()
        };
        for (class, endian) in FORMS {
            let bytes = SampleElf::program(class, endian).build();
            let planned = plan(&bytes, &edit).unwrap();
            let new = planned.apply_to_vec(&bytes);
            let image = image::read(&new).unwrap();
            assert_eq!(image.interpreter.as_deref(), Some(&b"/somewhere/else/ld.so"[..]));
            assert_eq!(image.runpath, Some(vec![b'r'; 200]));
            assert_eq!(image.needed, [b"libc.so".to_vec(), b"libz.so".to_vec()]);
            assert_eq!(image.build_id, Some(vec![1, 2, 3, 4]));
            assert!(plan(&new, &edit).unwrap().is_unchanged(), "{class:?} {endian:?}");
        }
    }
}
