use elf::endian::AnyEndian;
use elf::file::Class;

use super::*;
use crate::elf::sample::{DYNAMIC, SIZE, SampleElf};

/// Entries of the new dynamic section: tag, and string where the edit changes it.
type Entries = Vec<(i64, Option<Vec<u8>>)>;

fn derive(bytes: &[u8], edit: &Edit) -> Result<DynamicEdit, Error> {
    let layout = ElfLayout::parse(bytes)?;
    let dynamic = layout.dynamic()?;
    let tables = dynamic.as_ref().map(|dynamic| DynamicTables::new(&layout, dynamic));
    DynamicEdit::derive(&layout, tables.as_ref(), edit)
}

fn derive_from_sample(edit: &Edit) -> DynamicEdit {
    let sample = SampleElf::program(Class::ELF64, AnyEndian::Little);
    derive(&sample.build(), edit).unwrap()
}

/// Returns the entries with a string that follow, without the tables.
fn entries(edit: &DynamicEdit) -> Entries {
    let entries = edit.entries.iter().flatten();
    entries
        .filter(|planned| STRING_TAGS.contains(&planned.entry.tag))
        .map(|planned| match &planned.string {
            EntryString::New(bytes) => (planned.entry.tag, Some(bytes.clone())),
            EntryString::Kept => (planned.entry.tag, None),
        })
        .collect()
}

fn search(search_path: SearchPathEdit) -> Edit {
    Edit { search_path, ..Edit::default() }
}

#[test]
fn what_is_already_so_is_no_edit() {
    for edit in [
        Edit::default(),
        search(SearchPathEdit::Runpath(b"/old".to_vec())),
        Edit { interpreter: Some(b"/lib/ld.so".to_vec()), ..Edit::default() },
        Edit { add_needed: vec![b"libc.so".to_vec()], ..Edit::default() },
        Edit { remove_needed: vec![b"libx.so".to_vec()], ..Edit::default() },
        Edit { replace_needed: vec![(b"libx.so".to_vec(), b"y".to_vec())], ..Edit::default() },
        Edit {
            replace_needed: vec![(b"libc.so".to_vec(), b"libc.so".to_vec())],
            ..Edit::default()
        },
    ] {
        assert!(derive_from_sample(&edit).is_empty(), "{edit:?}");
    }
}

#[test]
fn a_search_path_replaces_the_entry_of_either_kind() {
    let new = derive_from_sample(&search(SearchPathEdit::Rpath(b"/new".to_vec())));
    let needed = (abi::DT_NEEDED, None);
    let kept = [needed.clone(), needed.clone(), needed];
    assert_eq!(entries(&new), [&kept[..], &[(abi::DT_RPATH, Some(b"/new".to_vec()))]].concat());
    assert_eq!(new.dropped_strings, [32]);
    let gone = derive_from_sample(&search(SearchPathEdit::Remove));
    assert_eq!(entries(&gone), kept);
    assert_eq!(gone.dropped_strings, [32]);
    let same = derive_from_sample(&search(SearchPathEdit::Rpath(b"/old".to_vec())));
    assert_eq!(entries(&same).last().unwrap(), &(abi::DT_RPATH, None), "its string stays");
    assert!(same.dropped_strings.is_empty());
}

#[test]
fn needed_libraries_keep_their_order() {
    let edit = Edit {
        remove_needed: vec![b"libc.so".to_vec()],
        replace_needed: vec![(b"libm.so".to_vec(), b"libz.so".to_vec())],
        add_needed: vec![b"libnew.so".to_vec(), b"libnew.so".to_vec()],
        ..Edit::default()
    };
    let new = derive_from_sample(&edit);
    assert_eq!(
        entries(&new),
        [
            // The new name is already needed, so that the renamed entry is dropped.
            (abi::DT_NEEDED, None),
            (abi::DT_RUNPATH, None),
            (abi::DT_NEEDED, Some(b"libnew.so".to_vec())),
        ]
    );
    assert_eq!(new.dropped_strings, [1, 16]);
}

#[test]
fn a_flag_is_added_to_the_entry_or_gets_one() {
    let edit = Edit { no_default_lib: true, ..Edit::default() };
    let new = derive_from_sample(&edit);
    let last = new.entries.as_ref().unwrap().last().unwrap();
    assert_eq!(last.entry, DynamicEntry { tag: abi::DT_FLAGS_1, value: 0x800 });
    assert_eq!(last.old_index, None);
}

#[test]
fn a_string_outside_of_the_table_is_no_string() {
    let mut sample = SampleElf::program(Class::ELF64, AnyEndian::Little);
    let far = sample.dynamic_bytes(&[(abi::DT_NEEDED, u64::MAX)]);
    sample.put(DYNAMIC, &far);
    let edit = Edit { remove_needed: vec![b"libc.so".to_vec()], ..Edit::default() };
    assert!(derive(&sample.build(), &edit).unwrap().is_empty());
}

#[test]
fn errors_name_the_table_and_its_offset() {
    let edit = Edit { remove_needed: vec![b"libc.so".to_vec()], ..Edit::default() };
    let mut sample = SampleElf::program(Class::ELF64, AnyEndian::Little);
    // The version table would begin at the last byte of the segment.
    let versions = sample.dynamic_bytes(&[
        (abi::DT_STRSZ, 37),
        (abi::DT_VERNEED, SIZE - 1),
        (abi::DT_VERNEEDNUM, 1),
    ]);
    sample.put(DYNAMIC + 6 * 16, &versions);
    assert_eq!(
        derive(&sample.build(), &edit).unwrap_err(),
        Error::malformed("DT_VERNEED ends outside of its segment", SIZE + 1)
    );
    let no_strings = sample.dynamic_bytes(&[(abi::DT_STRTAB, SIZE)]);
    sample.put(DYNAMIC + 5 * 16, &no_strings);
    assert_eq!(
        derive(&sample.build(), &edit).unwrap_err(),
        Error::malformed("DT_STRTAB and DT_STRSZ do not name a string table", DYNAMIC)
    );
}

#[test]
fn hints_make_room_and_nothing_else_does() {
    let entry = |tag| PlannedEntry {
        entry: DynamicEntry { tag, value: 0 },
        string: EntryString::Kept,
        old_index: None,
    };
    let mut entries: Vec<_> =
        [abi::DT_NEEDED, abi::DT_RELACOUNT, abi::DT_NEEDED].into_iter().map(entry).collect();
    assert!(drop_hints(&mut entries, 4));
    assert_eq!(entries.len(), 3, "there is room for the terminating entry");
    assert!(drop_hints(&mut entries, 3));
    assert_eq!(entries.len(), 2);
    assert!(!drop_hints(&mut entries, 2));
    assert!(!drop_hints(&mut entries, 0));
}

#[test]
fn a_section_is_encoded_for_its_new_address() {
    let codec = Codec { class: Class::ELF32, endian: AnyEndian::Big };
    let dynamic = DynamicSection { offset: 0, address: 0x1000, capacity: 4, entries: vec![] };
    let planned = |tag, value, old_index| PlannedEntry {
        entry: DynamicEntry { tag, value },
        string: EntryString::Kept,
        old_index,
    };
    // The entry moves from 0x1008 to 0x2000, and stays as far from what it refers to.
    let entries = [planned(DT_MIPS_RLD_MAP_REL, 0x5000, Some(1))];
    let bytes = encode_section(codec, &dynamic, &entries, 2, 0x2000).unwrap();
    assert_eq!(bytes, [0x70, 0, 0, 0x35, 0, 0, 0x40, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let large = [planned(abi::DT_FLAGS, 1 << 32, None)];
    let error = encode_section(codec, &dynamic, &large, 2, 0).unwrap_err();
    assert_eq!(error, Error::TooLarge { value: 1 << 32 });
}
