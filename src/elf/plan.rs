//! From an edit to a plan: what is wished, where it finds room, which bytes that makes.

use elf::abi;

use crate::elf::Error;
use crate::elf::dynamic_edit::{self, Text, Wanted, Wish};
use crate::elf::edit::{Edit, Method, Plan, Reason};
use crate::elf::emit::Composition;
use crate::elf::file_map::{Ground, Role};
use crate::elf::image::{self, Kind};
use crate::elf::patch_set::Settled;
use crate::elf::placement::Arrangement;
use crate::elf::raw::Layout;
use crate::elf::slack::Demand;
use crate::elf::strings::{self, Placement};
use crate::elf::tables::Tables;

/// Spare entries of a dynamic section that had to move, so that it never has to again.
const SPARE_ENTRIES: u64 = 6;

/// How to make `edit` of the file `bytes`. Never panics, whatever the bytes are.
///
/// Planning the same edit for the result gives [`Method::Unchanged`].
pub fn plan(bytes: &[u8], edit: &Edit) -> Result<Plan, Error> {
    edit.validate()?;
    let layout = Layout::parse(bytes)?;
    let unchanged = |reason| Ok(Plan::unchanged(reason, layout.file_size()));
    let kind = image::kind(&layout);
    if !matches!(kind, Kind::Executable | Kind::PieExecutable | Kind::SharedObject) {
        return unchanged(Reason::Kind(kind));
    }
    // Guile's object files have a dynamic section of their own kind, with no strings.
    let dynamic = layout.dynamic()?.filter(|dynamic| dynamic.value(abi::DT_STRTAB).is_some());
    if dynamic.is_none() && layout.interpreter().is_none() {
        return unchanged(Reason::NotDynamic);
    }
    let tables = dynamic.as_ref().map(|dynamic| Tables::new(&layout, dynamic));
    let wish = Wish::derive(&layout, tables.as_ref(), edit)?;
    if wish.is_empty() {
        return unchanged(Reason::AlreadySo);
    }
    let work = Work { layout: &layout, tables: tables.as_ref() };
    work.plan(wish)
}

/// The strings that go into the table, and which entry each is for.
struct Strings {
    wanted: Vec<Wanted>,
    placement: Option<Placement>,
    renamed: Vec<(u64, u64)>,
}

struct Work<'l, 'a> {
    layout: &'l Layout<'a>,
    tables: Option<&'l Tables<'l, 'a>>,
}

impl Work<'_, '_> {
    fn plan(&self, mut wish: Wish) -> Result<Plan, Error> {
        let mut ground = Ground::survey(self.layout, self.tables);
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
        let demand = Demand {
            layout: self.layout,
            ground: &ground,
            dynamic: dynamic_size,
            payload: image::payload(self.layout) > 0,
        };
        let arrangement = demand.arrange().ok_or_else(|| no_room(demand.payload))?;
        let composition = Composition {
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

    /// Places for all new strings, and the entries with their offsets filled in.
    fn place_strings(&self, wish: &mut Wish) -> Result<Option<Strings>, Error> {
        let (Some(tables), Some(entries)) = (self.tables, wish.entries.take()) else {
            return Ok(None);
        };
        let mut texts: Vec<Vec<u8>> = entries
            .iter()
            .filter_map(|wanted| match &wanted.text {
                Text::New(text) => Some(text.clone()),
                Text::Kept => None,
            })
            .collect();
        let in_entries = texts.len();
        texts.extend(wish.renamed.iter().map(|(_, name)| name.clone()));
        if texts.is_empty() && wish.dropped.is_empty() {
            return Ok(Some(Strings { wanted: entries, placement: None, renamed: vec![] }));
        }
        let kept = dynamic_edit::kept_strings(&entries);
        let renamed_at: Vec<u64> = wish.renamed.iter().map(|&(at, _)| at).collect();
        let placement = strings::place(tables, &texts, &kept, &wish.dropped, &renamed_at)
            .ok_or(Error::Malformed("the string table cannot be read"))?;
        let (own, versions) = placement.offsets.split_at(in_entries.min(placement.offsets.len()));
        let mut offsets = own.iter();
        let mut wanted = entries;
        for wanted in wanted.iter_mut().filter(|wanted| wanted.text != Text::Kept) {
            if let Some(&offset) = offsets.next() {
                wanted.entry.value = offset;
            }
        }
        let renamed = renamed_at.iter().copied().zip(versions.iter().copied()).collect();
        Ok(Some(Strings { wanted, placement: Some(placement), renamed }))
    }
}

/// Tell the items their new sizes.
fn resize(ground: &mut Ground, wish: &Wish, strings: Option<&Strings>) -> Result<(), Error> {
    if let Some(interpreter) = &wish.interpreter {
        let item = ground.items.iter_mut().find(|item| item.role == Role::Interpreter);
        let item = item.ok_or(Error::NoRoom("the interpreter shares its bytes"))?;
        item.new_size = interpreter.len() as u64 + 1;
    }
    if let Some(placement) = strings.and_then(|strings| strings.placement.as_ref()) {
        let item = ground.items.iter_mut().find(|item| item.role == Role::Strings);
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
    layout: &Layout<'_>,
    ground: &Ground,
    arrangement: &Arrangement,
    patches: Settled,
) -> Plan {
    let moved = ground.items.iter().zip(&arrangement.places);
    let moved = moved.filter(|(item, place)| **place != Some(item.offset)).count() > 0;
    let method = if !patches.tail.is_empty() {
        Method::Append
    } else if moved {
        Method::Slide
    } else if patches.patches.is_empty() {
        Method::Unchanged(Reason::AlreadySo)
    } else {
        Method::InPlace
    };
    Plan { method, patches: patches.patches, tail: patches.tail, source_size: layout.file_size() }
}
