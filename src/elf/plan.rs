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
    let kind = image::kind(&layout);
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
    let wish = DynamicEdit::derive(&layout, tables.as_ref(), edit)?;
    if wish.is_empty() {
        return unchanged(UnchangedReason::AlreadySo);
    }
    let work = EditPlanner { layout: &layout, tables: tables.as_ref() };
    work.plan(wish)
}

/// New strings of the table, and the entry that each is for.
struct PlacedStrings {
    wanted: Vec<PlannedEntry>,
    placement: Option<StringPlacement>,
    renamed: Vec<(u64, u64)>,
}

struct EditPlanner<'l, 'a> {
    layout: &'l ElfLayout<'a>,
    tables: Option<&'l DynamicTables<'l, 'a>>,
}

impl EditPlanner<'_, '_> {
    fn plan(&self, mut wish: DynamicEdit) -> Result<PatchPlan, Error> {
        let mut ground = FileMap::survey(self.layout, self.tables);
        let strings = self.place_strings(&mut wish)?;
        let mut wanted = strings.as_ref().map(|strings| strings.wanted.clone());
        let slots = self.tables.map_or(0, |tables| tables.dynamic.capacity);
        let fits = wanted.as_mut().is_none_or(|wanted| dynamic_edit::fit(wanted, slots));
        let dynamic_size = match (&wanted, fits) {
            (Some(wanted), false) => {
                let slots = wanted.len() as u64 + SPARE_ENTRIES;
                Some(slots * 2 * self.layout.codec.word())
            }
            _ => None,
        };
        resize(&mut ground, &wish, strings.as_ref())?;
        let demand = PlacementRequest {
            layout: self.layout,
            ground: &ground,
            dynamic: dynamic_size,
            payload: image::payload(self.layout) > 0,
        };
        let arrangement = demand.arrange().ok_or_else(|| no_room(demand.payload))?;
        let composition = ImageEmitter {
            layout: self.layout,
            tables: self.tables,
            ground: &ground,
            arrangement: &arrangement,
            wish: &wish,
            entries: wanted.as_deref(),
            placement: strings.as_ref().and_then(|strings| strings.placement.as_ref()),
            renamed: strings.as_ref().map_or(&[], |strings| &strings.renamed),
        };
        let image = composition
            .compose()
            .ok_or(Error::Malformed("its tables contradict each other or do not fit its class"))?;
        let patches =
            image.settle(self.layout.bytes).ok_or(Error::Malformed("its tables overlap"))?;
        Ok(finish(self.layout, &ground, &arrangement, patches))
    }

    /// Finds places for all new strings, and fills in the offsets of the entries.
    fn place_strings(&self, wish: &mut DynamicEdit) -> Result<Option<PlacedStrings>, Error> {
        let (Some(tables), Some(entries)) = (self.tables, wish.entries.take()) else {
            return Ok(None);
        };
        let mut texts: Vec<Vec<u8>> = entries
            .iter()
            .filter_map(|wanted| match &wanted.text {
                EntryString::New(text) => Some(text.clone()),
                EntryString::Kept => None,
            })
            .collect();
        let in_entries = texts.len();
        texts.extend(wish.renamed.iter().map(|(_, name)| name.clone()));
        if texts.is_empty() && wish.dropped.is_empty() {
            return Ok(Some(PlacedStrings { wanted: entries, placement: None, renamed: vec![] }));
        }
        let kept = dynamic_edit::kept_strings(&entries);
        let renamed_at: Vec<u64> = wish.renamed.iter().map(|&(at, _)| at).collect();
        let placement = strings::place(tables, &texts, &kept, &wish.dropped, &renamed_at)
            .ok_or(Error::Malformed("the string table cannot be read"))?;
        let (own, versions) = placement.offsets.split_at(in_entries.min(placement.offsets.len()));
        let mut offsets = own.iter();
        let mut wanted = entries;
        for wanted in wanted.iter_mut().filter(|wanted| wanted.text != EntryString::Kept) {
            if let Some(&offset) = offsets.next() {
                wanted.entry.value = offset;
            }
        }
        let renamed = renamed_at.iter().copied().zip(versions.iter().copied()).collect();
        Ok(Some(PlacedStrings { wanted, placement: Some(placement), renamed }))
    }
}

/// Sets the new sizes of the items.
fn resize(
    ground: &mut FileMap,
    wish: &DynamicEdit,
    strings: Option<&PlacedStrings>,
) -> Result<(), Error> {
    if let Some(interpreter) = &wish.interpreter {
        let item = ground.items.iter_mut().find(|item| item.role == RangeRole::Interpreter);
        let item = item.ok_or(Error::NoRoom("the interpreter shares its bytes"))?;
        item.new_size = interpreter.len() as u64 + 1;
    }
    if let Some(placement) = strings.and_then(|strings| strings.placement.as_ref()) {
        let item = ground.items.iter_mut().find(|item| item.role == RangeRole::Strings);
        let item = item.ok_or(Error::NoRoom("the string table shares its bytes"))?;
        item.new_size = placement.size;
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

fn finish(
    layout: &ElfLayout<'_>,
    ground: &FileMap,
    arrangement: &Placement,
    patches: PatchDiff,
) -> PatchPlan {
    let moved = ground.items.iter().zip(&arrangement.places);
    let moved = moved.filter(|(item, place)| **place != Some(item.offset)).count() > 0;
    let method = if !patches.tail.is_empty() {
        PatchMethod::Append
    } else if moved {
        PatchMethod::Slide
    } else if patches.patches.is_empty() {
        PatchMethod::Unchanged(UnchangedReason::AlreadySo)
    } else {
        PatchMethod::InPlace
    };
    PatchPlan {
        method,
        patches: patches.patches,
        tail: patches.tail,
        source_size: layout.file_size(),
    }
}
