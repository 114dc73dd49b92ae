//! What must hold for every rewritten file, looked at with other eyes than the engine's own:
//! goblin's parser, readelf, eu-elflint.

use std::collections::BTreeSet;
use std::path::Path;

use fprefix::elf::{self, Edit, PatchMethod, PatchPlan};
use goblin::elf::program_header::{PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR};

use crate::harness::tools::{both_streams, output_of};

/// Plan and apply, check the result and that a second plan has nothing to do.
#[track_caller]
pub(crate) fn rewrite(old: &[u8], edit: &Edit, name: &str) -> (PatchPlan, Vec<u8>) {
    let plan = elf::plan(old, edit).unwrap_or_else(|error| panic!("{name}: {error}"));
    let new = plan.apply_to_vec(old);
    assert_eq!(new.len() as u64, old.len() as u64 + plan.growth(), "{name}: growth");
    let again = elf::plan(&new, edit).unwrap_or_else(|error| panic!("{name}, again: {error}"));
    assert!(matches!(again.method, PatchMethod::Unchanged(_)), "{name}: not idempotent: {again:?}");
    assert_patches_in_order(&plan, name);
    if !plan.is_unchanged() {
        assert_sound(old, &new, name);
    }
    (plan, new)
}

fn assert_patches_in_order(plan: &PatchPlan, name: &str) {
    let mut at = 0;
    for patch in &plan.patches {
        assert!(patch.offset >= at, "{name}: patches overlap");
        assert!(!patch.bytes.is_empty(), "{name}: empty patch");
        at = patch.offset + patch.bytes.len() as u64;
    }
    assert!(at <= plan.source_size, "{name}: a patch beyond the end");
}

/// The rules of FIELD that a program cannot be run to see.
#[track_caller]
pub(crate) fn assert_sound(old: &[u8], new: &[u8], name: &str) {
    let before = match goblin::elf::Elf::parse(old) {
        Ok(before) => before,
        // goblin takes the entries of DT_HASH for words of 4 bytes, which on s390x they are not.
        Err(_) if elf::read(old).unwrap().machine == 22 => return,
        Err(error) => panic!("{name}: {error}"),
    };
    let after = goblin::elf::Elf::parse(new).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(before.header.e_phoff, after.header.e_phoff, "{name}: program headers moved");
    let loads: Vec<_> = after.program_headers.iter().filter(|p| p.p_type == PT_LOAD).collect();
    for pair in loads.windows(2) {
        let end = pair[0].p_vaddr + pair[0].p_memsz;
        assert!(end <= pair[1].p_vaddr, "{name}: PT_LOADs overlap or descend");
    }
    for load in &loads {
        let page = load.p_align.max(1);
        assert_eq!(load.p_offset % page, load.p_vaddr % page, "{name}: not congruent");
        assert!(load.p_offset + load.p_filesz <= new.len() as u64, "{name}: beyond the file");
    }
    if loads.len() > before.program_headers.iter().filter(|p| p.p_type == PT_LOAD).count() {
        assert_new_segment(&after, name);
    }
    assert_same_elsewhere(&before, &after, old, new, name);
}

fn assert_new_segment(after: &goblin::elf::Elf<'_>, name: &str) {
    let loads: Vec<_> = after.program_headers.iter().filter(|p| p.p_type == PT_LOAD).collect();
    let (last, others) = loads.split_last().unwrap();
    let others_at_its_offset = after
        .program_headers
        .iter()
        .filter(|p| p.p_type != PT_GNU_STACK && p.p_offset == last.p_offset)
        .count();
    assert_eq!(others_at_its_offset, 1, "{name}: another segment begins with the new one");
    let page = if matches!(after.header.e_machine, 3 | 22 | 62) { 0x1000 } else { 0x1_0000 };
    let end = others.last().map_or(0, |load| load.p_vaddr + load.p_memsz);
    assert!(end.div_ceil(page) <= last.p_vaddr / page, "{name}: the new segment shares a page");
    let table_end = after.header.e_phoff
        + u64::from(after.header.e_phnum) * u64::from(after.header.e_phentsize);
    for header in after.program_headers.iter().filter(|p| p.p_type == PT_PHDR) {
        assert_eq!(header.p_offset + header.p_filesz, table_end, "{name}: PT_PHDR's size");
    }
    let first = after.program_headers.iter().filter(|p| p.p_filesz > 0 && p.p_type != PT_PHDR);
    for header in first.filter(|p| p.p_offset > 0) {
        assert!(header.p_offset >= table_end, "{name}: a segment lies under the header table");
    }
}

/// Sections that the engine has no business with keep address, offset and bytes; all keep
/// their alignment; nothing that names a table loses it.
fn assert_same_elsewhere(
    before: &goblin::elf::Elf<'_>,
    after: &goblin::elf::Elf<'_>,
    old: &[u8],
    new: &[u8],
    name: &str,
) {
    const CONCERNED: [&str; 9] = [
        ".interp",
        ".dynamic",
        ".dynstr",
        ".dynsym",
        ".symtab",
        ".gnu.version_r",
        ".got",
        ".got.plt",
        ".gnu.version",
    ];
    assert_eq!(before.section_headers.len(), after.section_headers.len(), "{name}");
    for (was, is) in before.section_headers.iter().zip(&after.section_headers) {
        let section = before.shdr_strtab.get_at(was.sh_name).unwrap_or("?");
        assert_eq!(was.sh_type, is.sh_type, "{name}: {section}");
        if was.sh_addralign > 1 && was.sh_addr % was.sh_addralign == 0 {
            assert_eq!(is.sh_addr % was.sh_addralign, 0, "{name}: {section} lost its alignment");
        }
        if CONCERNED.contains(&section) || was.sh_type == 8 || was.sh_type == 0 {
            continue;
        }
        let bytes = |file: &[u8], at: u64| file[at as usize..(at + was.sh_size) as usize].to_vec();
        assert_eq!(was.sh_size, is.sh_size, "{name}: {section}");
        assert!(bytes(old, was.sh_offset) == bytes(new, is.sh_offset), "{name}: {section} changed");
        if was.sh_flags & 2 != 0 && is.sh_addr != was.sh_addr {
            let load = after.program_headers.iter().find(|p| {
                p.p_type == PT_LOAD
                    && p.p_vaddr <= is.sh_addr
                    && is.sh_addr < p.p_vaddr + p.p_filesz
            });
            let load = load.unwrap_or_else(|| panic!("{name}: {section} is not loaded"));
            assert_eq!(
                is.sh_addr - load.p_vaddr,
                is.sh_offset - load.p_offset,
                "{name}: {section}"
            );
        }
    }
    for kind in [PT_INTERP, PT_DYNAMIC] {
        let of = |elf: &goblin::elf::Elf<'_>| {
            elf.program_headers.iter().filter(|p| p.p_type == kind).count()
        };
        assert_eq!(of(before), of(after), "{name}");
    }
}

/// What readelf and eu-elflint complain about, with the numbers taken out.
pub(crate) fn complaints(path: &Path) -> BTreeSet<String> {
    let lint = both_streams(&output_of("eu-elflint", [path]));
    let lint = lint.lines().filter(|line| *line != "No errors").map(str::to_owned);
    let read = both_streams(&output_of("readelf", [Path::new("-aW"), path]));
    let read = read.lines().filter(|line| line.contains("Warning") || line.contains("Error"));
    lint.chain(read.map(str::to_owned)).map(|line| without_numbers(&line)).collect()
}

fn without_numbers(line: &str) -> String {
    let words = line.split(' ').filter(|word| !word.contains('/'));
    let words: Vec<_> = words.collect();
    let numbers = regex::Regex::new("(0x[0-9a-f]+|[0-9][0-9a-f]*)").unwrap();
    numbers.replace_all(&words.join(" "), "N").into_owned()
}

/// Nothing that was not said before.
#[track_caller]
pub(crate) fn assert_no_new_complaints(before: &Path, after: &Path, name: &str) {
    let (before, after) = (complaints(before), complaints(after));
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{name}: new complaints: {new:#?}");
}
