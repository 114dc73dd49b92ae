//! A short round of what fuzz/ does for long: mutated ELF files and texts, the same in every run,
//! through the reader, the planner and the rewriter of texts, and what others made through all readers
//! of it. None may panic, hang, or take memory out of proportion to its size.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod foreign;
mod memory;
mod mutate;
mod random;

use std::path::Path;

use fprefix::relocate::{RelocateOptions, SearchTag};
use memory::most_of;
use mutate::{edits, exercise};
use random::Random;
use rayon::prelude::*;

const ELF_FILES: u64 = 20_000;
const TEXTS: u64 = 30_000;
/// Memory by size of the input, and what an edit with long strings needs for any.
const TIMES: usize = 10;
const BESIDES: usize = 128 << 10;

#[test]
fn mutated_elf_files() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut paths: Vec<_> =
        fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs_err::read(path).unwrap()).collect();
    let edits = edits();
    let planned = (0..ELF_FILES).into_par_iter().filter(|&number| {
        let mut random = Random::numbered(number);
        let seed = &seeds[random.below(seeds.len())];
        let bytes = random.mutate(seed);
        let edit = &edits[random.below(edits.len())];
        let mut planned = false;
        let most = most_of(|| planned = exercise(&bytes, edit, number));
        assert!(
            most <= TIMES * bytes.len() + BESIDES,
            "input {number} of {} bytes took {most} bytes of memory",
            bytes.len()
        );
        planned
    });
    assert!(planned.count() > 1_000, "the mutations leave hardly a file that can be planned for");
}

const SEEDS: [(&str, &str); 5] = [
    ("/opt/x/usr/bin/a", "#!/usr/bin/env python3 -E\nprint(1)\n"),
    ("/opt/x/usr/bin/b", "#! /bin/sh -e\nexec /fprefix/staging/root/opt/x/usr/bin/c \"$@\"\n"),
    ("/opt/x/usr/bin/c-config", "#!/bin/sh\necho /fprefix/staging/root/opt/x/usr/include\n"),
    (
        "/opt/x/usr/lib64/pkgconfig/d.pc",
        "prefix=/fprefix/final/root/opt/x/usr\nlibs=-L/fprefix/gcc/usr/bin/../lib\n",
    ),
    (
        "/opt/x/usr/lib/python3.13/_sysconfigdata_e.py",
        "build_time_vars = {'CC': '/fprefix/staging/broot/usr/local/bin/gcc -pthread'}\n",
    ),
];

#[test]
fn mutated_texts() {
    let tree = tempfile::tempdir().unwrap();
    let bin = tree.path().join("opt/x/usr/bin");
    fs_err::create_dir_all(&bin).unwrap();
    for name in ["sh", "python3"] {
        fs_err::write(bin.join(name), "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(bin.join(name), mode).unwrap();
    }
    let request = RelocateOptions {
        tree: tree.path().to_owned(),
        under: None,
        eprefix: "/opt/x".parse().unwrap(),
        tag: SearchTag::default(),
        relative: false,
        only: Vec::new(),
    };
    let changed = (0..TEXTS).into_par_iter().filter(|&number| {
        let mut random = Random::numbered(number);
        let (path, seed) = SEEDS[random.below(SEEDS.len())];
        let text = mutate_text(&mut random, seed.as_bytes());
        let mut new = None;
        let most = most_of(|| new = request.rewrite_text(Path::new(path), &text));
        assert!(most <= TIMES * text.len() + BESIDES, "text {number} took {most} bytes of memory");
        // A loader of scripts with a longer path is all that makes a text longer.
        assert!(new.as_ref().is_none_or(|new| new.len() <= text.len() + 40), "text {number}");
        new.is_some()
    });
    assert!(changed.count() > 1_000, "the mutations leave hardly a text that changes");
}

/// Other bytes, pieces twice, pieces gone.
fn mutate_text(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut text = seed.to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(text.len());
        let end = (at + random.below(40)).min(text.len());
        match random.below(4) {
            0 => text.truncate(end),
            1 => {
                let piece = text[at..end].repeat(1 + random.below(20));
                text.splice(at..at, piece);
            }
            2 => drop(text.drain(at..end)),
            _ => {
                let value = u8::try_from(random.next() & 0xff).unwrap_or(0);
                text.splice(at..at, [value]);
            }
        }
    }
    text
}
