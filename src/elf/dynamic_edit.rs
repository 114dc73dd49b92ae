//! Turns the requested edit into the new dynamic section.

use elf::abi;

use crate::elf::Error;
use crate::elf::edit::{Edit, SearchPathEdit};
use crate::elf::raw::{Codec, DynamicEntry, DynamicSection, ElfLayout, string_at};
use crate::elf::tables::{DynamicTables, STRING_TAGS};

/// Tags that the loader can work without. They are dropped when there is no room for an entry (they
/// count the relative relocations; glibc `elf_dynamic_do_Rela`).
const HINTS: [i64; 2] = [abi::DT_RELACOUNT, abi::DT_RELCOUNT];
const DT_MIPS_RLD_MAP_REL: i64 = 0x7000_0035;

/// Source of an entry's string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryString {
    /// The value is not a string, or the string stays.
    Kept,
    New(Vec<u8>),
}

/// One entry of the new dynamic section; `from` is its index in the old one.
#[derive(Clone, Debug)]
pub(crate) struct PlannedEntry {
    pub entry: DynamicEntry,
    pub text: EntryString,
    pub from: Option<u64>,
}

/// Requested changes, before any place for them is found.
#[derive(Debug, Default)]
pub(crate) struct DynamicEdit {
    pub interpreter: Option<Vec<u8>>,
    /// New dynamic section; `None` if it does not change.
    pub entries: Option<Vec<PlannedEntry>>,
    /// New file names of version needs, by offset of the need in its table.
    pub renamed: Vec<(u64, Vec<u8>)>,
    /// Offsets of version needs that are removed because their library is removed.
    pub orphaned: Vec<u64>,
    /// Offsets of strings that the dynamic section no longer uses.
    pub dropped: Vec<u64>,
}

impl DynamicEdit {
    pub(super) fn is_empty(&self) -> bool {
        self.interpreter.is_none() && self.entries.is_none()
    }

    pub(super) fn derive(
        layout: &ElfLayout<'_>,
        tables: Option<&DynamicTables<'_, '_>>,
        edit: &Edit,
    ) -> Result<DynamicEdit, Error> {
        let mut wish = DynamicEdit::default();
        if let (Some(new), Some(old)) = (&edit.interpreter, layout.interpreter())
            && new.as_slice() != old
        {
            wish.interpreter = Some(new.clone());
        }
        let Some(tables) = tables else { return Ok(wish) };
        if !edit.touches_dynamic() {
            return Ok(wish);
        }
        let strings = tables
            .strings()
            .ok_or(Error::Malformed("DT_STRTAB and DT_STRSZ do not name a string table"))?;
        let old = &tables.dynamic.entries;
        let mut draft = Draft { strings, wanted: wanted(old) };
        draft.apply(edit);
        let changed = draft.wanted.len() != old.len()
            || draft.wanted.iter().zip(old).any(|(wanted, old)| {
                wanted.entry.tag != old.tag
                    || wanted.text != EntryString::Kept
                    || wanted.entry.value != old.value
            });
        if changed {
            wish.dropped = dropped(old, &draft.wanted);
            wish.versions(tables, strings, edit)?;
            wish.entries = Some(draft.wanted);
        }
        Ok(wish)
    }

    /// Makes the version needs follow the libraries: glibc asserts that each names a needed library
    /// (elf/dl-version.c `_dl_check_map_versions`).
    fn versions(
        &mut self,
        tables: &DynamicTables<'_, '_>,
        strings: &[u8],
        edit: &Edit,
    ) -> Result<(), Error> {
        if tables.dynamic.value(abi::DT_VERNEED).is_none() {
            return Ok(());
        }
        let needs = tables.version_needs();
        let needs = needs.ok_or(Error::Malformed("the table of needed versions cannot be read"))?;
        for file in needs.files {
            let Some(name) = string_at(strings, file.file) else { continue };
            if let Some((_, new)) = edit.replace_needed.iter().find(|(old, _)| old == name) {
                if new != name {
                    self.renamed.push((file.at, new.clone()));
                }
            } else if edit.remove_needed.iter().any(|gone| gone == name)
                && !edit.add_needed.iter().any(|added| added == name)
            {
                self.orphaned.push(file.at);
            }
        }
        Ok(())
    }
}

fn wanted(old: &[DynamicEntry]) -> Vec<PlannedEntry> {
    let numbered = (0_u64..).zip(old);
    numbered
        .map(|(index, &entry)| PlannedEntry { entry, text: EntryString::Kept, from: Some(index) })
        .collect()
}

/// Returns the offsets of strings that an old entry used and no kept entry uses.
fn dropped(old: &[DynamicEntry], wanted: &[PlannedEntry]) -> Vec<u64> {
    let mut kept = kept_strings(wanted);
    kept.sort_unstable();
    let mut dropped: Vec<u64> = old
        .iter()
        .filter(|entry| STRING_TAGS.contains(&entry.tag))
        .map(|entry| entry.value)
        .filter(|offset| kept.binary_search(offset).is_err())
        .collect();
    dropped.sort_unstable();
    dropped.dedup();
    dropped
}

/// Returns the offsets of the strings that entries keep.
pub(crate) fn kept_strings(wanted: &[PlannedEntry]) -> Vec<u64> {
    let kept = wanted.iter().filter(|wanted| wanted.text == EntryString::Kept);
    kept.map(|wanted| wanted.entry)
        .filter(|entry| STRING_TAGS.contains(&entry.tag))
        .map(|entry| entry.value)
        .collect()
}

/// Entries while the edit is applied to them.
struct Draft<'a> {
    strings: &'a [u8],
    wanted: Vec<PlannedEntry>,
}

impl Draft<'_> {
    fn apply(&mut self, edit: &Edit) {
        match &edit.search {
            SearchPathEdit::Keep => {}
            SearchPathEdit::Runpath(path) => self.search(Some((abi::DT_RUNPATH, path))),
            SearchPathEdit::Rpath(path) => self.search(Some((abi::DT_RPATH, path))),
            SearchPathEdit::Remove => self.search(None),
        }
        if let Some(soname) = &edit.soname {
            self.set(abi::DT_SONAME, &[abi::DT_SONAME], soname);
        }
        for (old, new) in &edit.replace_needed {
            self.replace_needed(old, new);
        }
        for gone in &edit.remove_needed {
            let gone = gone.as_slice();
            let strings = self.strings;
            self.wanted.retain(|wanted| {
                wanted.entry.tag != abi::DT_NEEDED || text(strings, wanted) != Some(gone)
            });
        }
        for added in &edit.add_needed {
            if !self.needs(added) {
                self.push(abi::DT_NEEDED, 0, EntryString::New(added.clone()));
            }
        }
        if edit.no_default_lib {
            self.no_default_lib();
        }
    }

    fn text<'s>(&'s self, wanted: &'s PlannedEntry) -> Option<&'s [u8]> {
        text(self.strings, wanted)
    }

    fn needs(&self, name: &[u8]) -> bool {
        let mut needed = self.wanted.iter().filter(|wanted| wanted.entry.tag == abi::DT_NEEDED);
        needed.any(|wanted| self.text(wanted) == Some(name))
    }

    fn push(&mut self, tag: i64, value: u64, text: EntryString) {
        self.wanted.push(PlannedEntry { entry: DynamicEntry { tag, value }, text, from: None });
    }

    /// Sets the one search path: it replaces the first entry of either kind, and all others are
    /// removed. The loader ignores `DT_RPATH` where there is a `DT_RUNPATH` (gABI, "Shared Object
    /// Dependencies").
    fn search(&mut self, to: Option<(i64, &Vec<u8>)>) {
        let tags = [abi::DT_RPATH, abi::DT_RUNPATH];
        match to {
            None => self.wanted.retain(|wanted| !tags.contains(&wanted.entry.tag)),
            Some((tag, path)) => self.set(tag, &tags, path),
        }
    }

    /// Sets one entry with this tag and string, in place of the first entry that has one of `tags`.
    fn set(&mut self, tag: i64, tags: &[i64], string: &[u8]) {
        let has = |wanted: &PlannedEntry| tags.contains(&wanted.entry.tag);
        // An entry that is already right stays in its place, so that a second run changes nothing.
        let said = self.wanted.iter().position(|wanted| {
            wanted.entry.tag == tag && text(self.strings, wanted) == Some(string)
        });
        let Some(keep) = said.or_else(|| self.wanted.iter().position(has)) else {
            self.push(tag, 0, EntryString::New(string.to_vec()));
            return;
        };
        let mut index = 0;
        self.wanted.retain(|wanted| {
            index += 1;
            index - 1 == keep || !has(wanted)
        });
        let strings = self.strings;
        if let Some(wanted) = self.wanted.iter_mut().find(|wanted| has(wanted)) {
            wanted.entry.tag = tag;
            if text(strings, wanted) != Some(string) {
                wanted.text = EntryString::New(string.to_vec());
            }
        }
    }

    fn replace_needed(&mut self, old: &[u8], new: &[u8]) {
        if old == new {
            return;
        }
        let known = self.needs(new);
        let strings = self.strings;
        let is_old = |wanted: &PlannedEntry| {
            wanted.entry.tag == abi::DT_NEEDED && text(strings, wanted) == Some(old)
        };
        if known {
            self.wanted.retain(|wanted| !is_old(wanted));
        }
        for wanted in self.wanted.iter_mut().filter(|wanted| is_old(wanted)) {
            wanted.text = EntryString::New(new.to_vec());
        }
    }

    fn no_default_lib(&mut self) {
        let flag = abi::DF_1_NODEFLIB.unsigned_abs();
        match self.wanted.iter_mut().find(|wanted| wanted.entry.tag == abi::DT_FLAGS_1) {
            Some(wanted) => wanted.entry.value |= flag,
            None => self.push(abi::DT_FLAGS_1, flag, EntryString::Kept),
        }
    }
}

fn text<'s>(strings: &'s [u8], wanted: &'s PlannedEntry) -> Option<&'s [u8]> {
    match &wanted.text {
        EntryString::New(bytes) => Some(bytes),
        EntryString::Kept if STRING_TAGS.contains(&wanted.entry.tag) => {
            string_at(strings, wanted.entry.value)
        }
        EntryString::Kept => None,
    }
}

/// Drops hints until `entries` and their `DT_NULL` fit into `capacity` entries. Returns true if
/// they do.
pub(crate) fn fit(entries: &mut Vec<PlannedEntry>, capacity: u64) -> bool {
    while entries.len() as u64 >= capacity {
        let hint = entries.iter().position(|wanted| HINTS.contains(&wanted.entry.tag));
        let Some(hint) = hint else { return false };
        entries.remove(hint);
    }
    true
}

/// Encodes the dynamic section for `address` in file byte order, filled up with `DT_NULL` to
/// `slots` entries.
pub(crate) fn encode(
    codec: Codec,
    dynamic: &DynamicSection,
    entries: &[PlannedEntry],
    slots: u64,
    address: u64,
) -> Option<Vec<u8>> {
    let size = 2 * codec.word();
    let mut out = Vec::new();
    for (index, wanted) in (0_u64..).zip(entries) {
        let mut value = wanted.entry.value;
        if let (DT_MIPS_RLD_MAP_REL, Some(from)) = (wanted.entry.tag, wanted.from) {
            // The value is relative to the address of the entry itself.
            let old = dynamic.address.wrapping_add(from * size);
            let new = address.wrapping_add(index * size);
            value = value.wrapping_add(old).wrapping_sub(new) & codec.word_max();
        }
        let tag = u64::from_ne_bytes(wanted.entry.tag.to_ne_bytes());
        out.extend_from_slice(&codec.word_bytes(tag)?);
        out.extend_from_slice(&codec.word_bytes(value)?);
    }
    out.resize(usize::try_from(slots.max(entries.len() as u64) * size).ok()?, 0);
    Some(out)
}
