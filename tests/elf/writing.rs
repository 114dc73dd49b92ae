//! Plans on disk: in place, as a copy, with holes, and of files beyond any 32-bit number.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use fprefix::elf::{self, Edit, SearchPathEdit};

use crate::fixtures::LOADER;
use crate::harness::tools::{output_of, write_program};

fn edit(len: usize) -> Edit {
    Edit {
        interpreter: Some(b"/opt/some/prefix/lib64/ld-linux-x86-64.so.2".to_vec()),
        search_path: SearchPathEdit::Runpath(vec![b'x'; len]),
        ..Edit::default()
    }
}

fn open(path: &Path) -> File {
    fs_err::OpenOptions::new().read(true).write(true).open(path).unwrap().into()
}

fn create(path: &Path) -> File {
    fs_err::File::create(path).unwrap().into()
}

#[test]
fn all_ways_to_write_write_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let old = fs_err::read("/bin/ls").unwrap();
    for len in [5, 100, 20_000] {
        let plan = elf::plan(&old, &edit(len)).unwrap();
        let expected = plan.apply_to_vec(&old);
        let (place, copy) = (dir.path().join("place"), dir.path().join("copy"));
        fs_err::write(&place, &old).unwrap();
        plan.write_copy(&open(&place), &create(&copy)).unwrap();
        assert!(fs_err::read(&place).unwrap() == old, "the source changed");
        plan.write_in_place(&open(&place)).unwrap();
        assert!(fs_err::read(&place).unwrap() == expected, "in place, {len}");
        assert!(fs_err::read(&copy).unwrap() == expected, "copy, {len}");
        assert_eq!(plan.growth() > 0, len == 20_000);
        // Planned for another file.
        assert!(len != 20_000 || plan.write_in_place(&open(&place)).is_err());
    }
}

#[test]
fn a_file_beyond_4_gib_with_holes_is_neither_read_nor_written_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let (big, copy) = (dir.path().join("big"), dir.path().join("copy"));
    fs_err::copy("/bin/ls", &big).unwrap();
    let file = open(&big);
    // A payload of 5 GiB, nearly all of it a hole.
    let size = 5 << 30;
    file.write_all_at(b"end of the payload", size).unwrap();
    let bytes = elf::open(&file).unwrap();
    let plan = elf::plan(&bytes, &edit(100)).unwrap();
    plan.write_in_place(&file).unwrap();
    plan.write_copy(&file, &create(&copy)).unwrap();
    let made = fs_err::metadata(&copy).unwrap();
    assert_eq!(made.len(), size + 18);
    assert!(made.blocks() * 512 < 4 << 20, "the copy takes {} blocks", made.blocks());
    let again = elf::open(&open(&copy)).unwrap();
    assert_eq!(elf::read(&again).unwrap().runpath, Some(vec![b'x'; 100]));
    assert!(again.ends_with(b"end of the payload"));
}

#[test]
fn a_segment_is_appended_beyond_4_gib() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big");
    let mut head = fs_err::read("/bin/ls").unwrap();
    // The section header table goes to the very end of the file.
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap()) as usize;
    let (table, count) = (word(40), usize::from(u16::from_le_bytes([head[60], head[61]])));
    let sections = head[table..table + 64 * count].to_vec();
    let end: u64 = 5 << 30;
    head[40..48].copy_from_slice(&end.to_le_bytes());
    write_program(&path, &head);
    let file = open(&path);
    file.write_all_at(&sections, end).unwrap();
    let edit = Edit {
        interpreter: Some(LOADER.into()),
        search_path: SearchPathEdit::Runpath(format!("/{}", "x".repeat(20_000)).into()),
        ..Edit::default()
    };
    let plan = elf::plan(&elf::open(&file).unwrap(), &edit).unwrap();
    assert_eq!(plan.method, elf::PatchMethod::Append);
    plan.write_in_place(&file).unwrap();
    drop(file);
    assert!(output_of(&path, ["--version"]).status.success());
    let bytes = elf::open(&open(&path)).unwrap();
    assert!(elf::plan(&bytes, &edit).unwrap().is_unchanged());
}
