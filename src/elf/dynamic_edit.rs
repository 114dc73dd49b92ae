//! Turns the requested edit into the new dynamic section.

use elf::abi;

use crate::elf::codec::{Codec, string_at};
use crate::elf::edit::{Edit, SearchPathEdit};
use crate::elf::raw::{DynamicEntry, DynamicSection, ElfLayout};
use crate::elf::tables::{DynamicTables, STRING_TAGS};
use crate::elf::{Error, LibraryTag};

/// Tags that the loader can work without. They are dropped when there is no room for an
/// entry (they count the relative relocations; glibc `elf_dynamic_do_Rela`).
const HINTS: [i64; 2] = [abi::DT_RELACOUNT, abi::DT_RELCOUNT];
const DT_MIPS_RLD_MAP_REL: i64 = 0x7000_0035;

/// Source of an entry's string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryString {
    /// The value is not a string, or the string stays.
    Kept,
    New(Vec<u8>),
}

/// One entry of the new dynamic section; `old_index` is its index in the old one.
#[derive(Clone, Debug)]
pub(crate) struct PlannedEntry {
    pub entry: DynamicEntry,
    pub string: EntryString,
    pub old_index: Option<u64>,
}

/// Requested changes, before any place for them is found.
#[derive(Debug, Default)]
pub(crate) struct DynamicEdit {
    pub interpreter: Option<Vec<u8>>,
    /// New dynamic section; `None` if it does not change.
    pub entries: Option<Vec<PlannedEntry>>,
    /// New file names of version needs, by offset of the need in its table.
    pub renamed_needs: Vec<(u64, Vec<u8>)>,
    /// Offsets of version needs that are removed because their library is removed.
    pub removed_needs: Vec<u64>,
    /// Offsets of strings that the dynamic section no longer uses.
    pub dropped_strings: Vec<u64>,
}

impl DynamicEdit {
    pub(super) fn is_empty(&self) -> bool {
        self.interpreter.is_none() && self.entries.is_none()
    }

    /// Compares the requested edit with the file.
    ///
    /// # Errors
    ///
    /// Fails if the string table or the table of needed versions cannot be read.
    pub(super) fn derive(
        layout: &ElfLayout<'_>,
        tables: Option<&DynamicTables<'_, '_>>,
        edit: &Edit,
    ) -> Result<DynamicEdit, Error> {
        let mut dynamic_edit = DynamicEdit::default();
        if let (Some(new), Some(old)) = (&edit.interpreter, layout.interpreter())
            && new.as_slice() != old
        {
            dynamic_edit.interpreter = Some(new.clone());
        }
        let Some(tables) = tables else { return Ok(dynamic_edit) };
        if !edit.touches_dynamic() {
            return Ok(dynamic_edit);
        }
        let strings = tables.strings()?;
        let old = &tables.dynamic.entries;
        let mut editor = EntryEditor { strings, entries: keep_entries(old) };
        editor.apply_edit(edit);
        let changed = editor.entries.len() != old.len()
            || editor.entries.iter().zip(old).any(|(planned, old)| {
                planned.entry.tag != old.tag
                    || planned.string != EntryString::Kept
                    || planned.entry.value != old.value
            });
        if changed {
            dynamic_edit.dropped_strings = find_dropped_strings(old, &editor.entries);
            dynamic_edit.plan_versions(tables, strings, edit)?;
            dynamic_edit.entries = Some(editor.entries);
        }
        Ok(dynamic_edit)
    }

    /// Makes the version needs follow the libraries: glibc asserts that each names a needed library
    /// (elf/dl-version.c `_dl_check_map_versions`).
    fn plan_versions(
        &mut self,
        tables: &DynamicTables<'_, '_>,
        strings: &[u8],
        edit: &Edit,
    ) -> Result<(), Error> {
        if tables.dynamic.value(abi::DT_VERNEED).is_none() {
            return Ok(());
        }
        for file in tables.parse_version_needs()?.files {
            let Some(name) = string_at(strings, file.file) else { continue };
            if let Some((_, new)) = edit.replace_needed.iter().find(|(old, _)| old == name) {
                if new != name {
                    self.renamed_needs.push((file.at, new.clone()));
                }
            } else if edit.remove_needed.iter().any(|gone| gone == name)
                && !edit.add_needed.iter().any(|added| added == name)
            {
                self.removed_needs.push(file.at);
            }
        }
        Ok(())
    }
}

fn keep_entries(old: &[DynamicEntry]) -> Vec<PlannedEntry> {
    let numbered = (0_u64..).zip(old);
    numbered
        .map(|(index, &entry)| PlannedEntry {
            entry,
            string: EntryString::Kept,
            old_index: Some(index),
        })
        .collect()
}

/// Returns the offsets of strings that an old entry used and no kept entry uses.
fn find_dropped_strings(old: &[DynamicEntry], entries: &[PlannedEntry]) -> Vec<u64> {
    let mut kept = collect_kept_strings(entries);
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
pub(crate) fn collect_kept_strings(entries: &[PlannedEntry]) -> Vec<u64> {
    let kept = entries.iter().filter(|planned| planned.string == EntryString::Kept);
    kept.map(|planned| planned.entry)
        .filter(|entry| STRING_TAGS.contains(&entry.tag))
        .map(|entry| entry.value)
        .collect()
}

/// Entries while the edit is applied to them.
struct EntryEditor<'a> {
    strings: &'a [u8],
    entries: Vec<PlannedEntry>,
}

impl EntryEditor<'_> {
    fn apply_edit(&mut self, edit: &Edit) {
        match &edit.search_path {
            SearchPathEdit::Keep => {}
            SearchPathEdit::Runpath(path) => self.set_search_path(Some((abi::DT_RUNPATH, path))),
            SearchPathEdit::Rpath(path) => self.set_search_path(Some((abi::DT_RPATH, path))),
            SearchPathEdit::Remove => self.set_search_path(None),
        }
        if let Some(soname) = &edit.soname {
            self.set_string(abi::DT_SONAME, &[abi::DT_SONAME], soname);
        }
        for (old, new) in &edit.replace_needed {
            self.replace_needed(old, new);
        }
        for gone in &edit.remove_needed {
            let gone = gone.as_slice();
            let strings = self.strings;
            self.entries.retain(|planned| {
                planned.entry.tag != abi::DT_NEEDED || entry_string(strings, planned) != Some(gone)
            });
        }
        self.edit_others(edit);
        for added in &edit.add_needed {
            if !self.has_needed(added) {
                self.push_entry(abi::DT_NEEDED, 0, EntryString::New(added.clone()));
            }
        }
        if edit.no_default_lib {
            self.set_no_default_lib();
        }
    }

    fn string<'s>(&'s self, planned: &'s PlannedEntry) -> Option<&'s [u8]> {
        entry_string(self.strings, planned)
    }

    fn has_needed(&self, name: &[u8]) -> bool {
        let mut needed = self.entries.iter().filter(|planned| planned.entry.tag == abi::DT_NEEDED);
        needed.any(|planned| self.string(planned) == Some(name))
    }

    fn push_entry(&mut self, tag: i64, value: u64, string: EntryString) {
        self.entries.push(PlannedEntry {
            entry: DynamicEntry { tag, value },
            string,
            old_index: None,
        });
    }

    /// Sets the one search path: it replaces the first entry of either kind, and all others are
    /// removed. The loader ignores `DT_RPATH` where there is a `DT_RUNPATH` (gABI, "Shared Object
    /// Dependencies").
    fn set_search_path(&mut self, to: Option<(i64, &Vec<u8>)>) {
        let tags = [abi::DT_RPATH, abi::DT_RUNPATH];
        match to {
            None => self.entries.retain(|planned| !tags.contains(&planned.entry.tag)),
            Some((tag, path)) => self.set_string(tag, &tags, path),
        }
    }

    /// Sets one entry with this tag and string, in place of the first entry that has one of `tags`.
    fn set_string(&mut self, tag: i64, tags: &[i64], string: &[u8]) {
        let has = |planned: &PlannedEntry| tags.contains(&planned.entry.tag);
        // An entry that is already right stays in its place, so that a second run changes nothing.
        let unchanged = self.entries.iter().position(|planned| {
            planned.entry.tag == tag && entry_string(self.strings, planned) == Some(string)
        });
        let Some(keep) = unchanged.or_else(|| self.entries.iter().position(has)) else {
            self.push_entry(tag, 0, EntryString::New(string.to_vec()));
            return;
        };
        let mut index = 0;
        self.entries.retain(|planned| {
            index += 1;
            index - 1 == keep || !has(planned)
        });
        let strings = self.strings;
        if let Some(planned) = self.entries.iter_mut().find(|planned| has(planned)) {
            planned.entry.tag = tag;
            if entry_string(strings, planned) != Some(string) {
                planned.string = EntryString::New(string.to_vec());
            }
        }
    }

    fn replace_needed(&mut self, old: &[u8], new: &[u8]) {
        if old == new {
            return;
        }
        let known = self.has_needed(new);
        let strings = self.strings;
        let is_old = |planned: &PlannedEntry| {
            planned.entry.tag == abi::DT_NEEDED && entry_string(strings, planned) == Some(old)
        };
        if known {
            self.entries.retain(|planned| !is_old(planned));
        }
        for planned in self.entries.iter_mut().filter(|planned| is_old(planned)) {
            planned.string = EntryString::New(new.to_vec());
        }
    }

    /// Renames and removes libraries under the tags besides `DT_NEEDED`.
    fn edit_others(&mut self, edit: &Edit) {
        let strings = self.strings;
        for tag in LibraryTag::ALL {
            let new_name = |name: &[u8]| {
                let removed = |(of, gone): &(LibraryTag, Vec<u8>)| *of == tag && gone == name;
                if edit.remove_others.iter().any(removed) {
                    return None;
                }
                let renamed = edit.replace_needed.iter().find(|(old, _)| old == name);
                Some(renamed.map_or(name, |(_, new)| new).to_vec())
            };
            self.entries.retain_mut(|planned| {
                if planned.entry.tag != tag.number() {
                    return true;
                }
                let Some(text) = entry_string(strings, planned) else { return true };
                let new: Vec<_> = tag.names(text).filter_map(new_name).collect();
                // A text that stays as it is keeps its colons.
                if !tag.names(text).eq(new.iter().map(Vec::as_slice)) {
                    planned.string = EntryString::New(new.join(b":".as_slice()));
                }
                planned.string == EntryString::Kept || !new.is_empty()
            });
        }
    }

    fn set_no_default_lib(&mut self) {
        let flag = abi::DF_1_NODEFLIB.unsigned_abs();
        match self.entries.iter_mut().find(|planned| planned.entry.tag == abi::DT_FLAGS_1) {
            Some(planned) => planned.entry.value |= flag,
            None => self.push_entry(abi::DT_FLAGS_1, flag, EntryString::Kept),
        }
    }
}

fn entry_string<'s>(strings: &'s [u8], planned: &'s PlannedEntry) -> Option<&'s [u8]> {
    match &planned.string {
        EntryString::New(bytes) => Some(bytes),
        EntryString::Kept if STRING_TAGS.contains(&planned.entry.tag) => {
            string_at(strings, planned.entry.value)
        }
        EntryString::Kept => None,
    }
}

/// Drops hints until `entries` and their `DT_NULL` fit into `capacity` entries. Returns true if
/// they do.
pub(crate) fn drop_hints(entries: &mut Vec<PlannedEntry>, capacity: u64) -> bool {
    while entries.len() as u64 >= capacity {
        let hint = entries.iter().position(|planned| HINTS.contains(&planned.entry.tag));
        let Some(hint) = hint else { return false };
        entries.remove(hint);
    }
    true
}

/// Encodes the dynamic section for `address` in file byte order, filled up with `DT_NULL` to
/// `slots` entries.
pub(crate) fn encode_section(
    codec: Codec,
    dynamic: &DynamicSection,
    entries: &[PlannedEntry],
    slots: u64,
    address: u64,
) -> Result<Vec<u8>, Error> {
    let size = 2 * codec.word();
    let mut out = Vec::new();
    for (index, planned) in (0_u64..).zip(entries) {
        let mut value = planned.entry.value;
        if let (DT_MIPS_RLD_MAP_REL, Some(from)) = (planned.entry.tag, planned.old_index) {
            // The value is relative to the address of the entry itself.
            let old = dynamic.address.wrapping_add(from * size);
            let new = address.wrapping_add(index * size);
            value = value.wrapping_add(old).wrapping_sub(new) & codec.word_max();
        }
        let tag = u64::from_ne_bytes(planned.entry.tag.to_ne_bytes());
        out.extend_from_slice(&codec.word_bytes(tag)?);
        out.extend_from_slice(&codec.word_bytes(value)?);
    }
    let len = slots.max(entries.len() as u64) * size;
    out.resize(usize::try_from(len).map_err(|_| Error::TooLarge { value: len })?, 0);
    Ok(out)
}

#[cfg(test)]
mod tests;
