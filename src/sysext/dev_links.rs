//! Names that only the link editor reads: `libfoo.so` beside `libfoo.so.1`, and linker scripts.
//!
//! The name alone cannot tell such a file from a plugin or from a library that has no version. The
//! loader makes the difference: it finds a library by the soname that programs record, or by a name
//! that a program passes to dlopen(3).

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::input;
use crate::fstree::entries::{ContentSource, EntryKind, FileContent, FileTree};
use crate::sysext::library_names::{has_library_version, pointed_at};

/// First bytes of the linker scripts that libraries install (glibc, ncurses, and Gentoo's
/// `gen_usr_ldscript`).
const SCRIPT_STARTS: &[&[u8]] =
    &[b"/* GNU ld script", b"INPUT", b"GROUP", b"OUTPUT_FORMAT", b"/* "];

/// Returns the paths in `plan` that only the link editor reads.
pub(super) fn names(plan: &FileTree) -> Result<BTreeSet<PathBuf>> {
    let mut names = BTreeSet::new();
    let mut candidates = Vec::new();
    for (path, entry) in &plan.entries {
        if path.extension().is_none_or(|extension| extension != "so") {
            continue;
        }
        match &entry.kind {
            EntryKind::File(content) if is_linker_script(content)? => {
                names.insert(path.clone());
            }
            EntryKind::Link(target) if leads_to_a_version(plan, path, target) => {
                candidates.push(path.clone());
            }
            _ => {}
        }
    }
    let asked_for = asked_for(plan, &candidates)?;
    names.extend(candidates.into_iter().filter(|path| !asked_for.contains(path)));
    Ok(names)
}

/// Returns whether the link at `path` leads to a library with a version in its name, as `libfoo.so`
/// leads to `libfoo.so.1` or `libfoo-1.2.so`.
fn leads_to_a_version(plan: &FileTree, path: &Path, target: &Path) -> bool {
    let place = pointed_at(path, target);
    let is_there = plan.entries.get(&place).is_some_and(|entry| !entry.is_directory());
    let (Some(name), Some(target)) = (path.file_name(), place.file_name()) else { return false };
    let (name, target_name) = (name.to_string_lossy(), target.to_string_lossy());
    let stem = name.trim_end_matches(".so");
    is_there
        && target_name.starts_with(stem)
        && (has_library_version(target) || target_name.starts_with(&format!("{stem}-")))
}

fn is_linker_script(content: &FileContent) -> Result<bool> {
    let mut head = Vec::new();
    match &content.source {
        ContentSource::Bytes(bytes) => head.extend(bytes.iter().take(4096)),
        ContentSource::Disk(path) => {
            input::open_walked(path)?.take(4096).read_to_end(&mut head)?;
        }
    }
    let text = head.trim_ascii_start();
    Ok(SCRIPT_STARTS.iter().any(|start| text.starts_with(start))
        && [&b"GROUP"[..], b"INPUT"].iter().any(|word| contains(text, word)))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Returns the `candidates` whose names an ELF file of the prefix contains as whole strings. Such a
/// string is a soname, a needed library or an argument of dlopen(3).
fn asked_for(plan: &FileTree, candidates: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut patterns = Vec::new();
    for path in candidates {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        patterns.push([b"\0", name, b"\0"].concat());
    }
    let mut found = BTreeSet::new();
    if patterns.is_empty() {
        return Ok(found);
    }
    let search = AhoCorasick::new(&patterns).context("could not search for library names")?;
    for entry in plan.entries.values() {
        let EntryKind::File(FileContent { source: ContentSource::Disk(file), .. }) = &entry.kind
        else {
            continue;
        };
        for hit in strings_in(file, &search)? {
            found.extend(candidates.get(hit).cloned());
        }
    }
    Ok(found)
}

/// Returns the patterns of `search` that occur in `file`, if it is an ELF file.
fn strings_in(file: &Path, search: &AhoCorasick) -> Result<BTreeSet<usize>> {
    let mut reader = input::open_walked(file)?;
    let mut magic = [0; 4];
    if reader.read(&mut magic)? < 4 || magic != *b"\x7fELF" {
        return Ok(BTreeSet::new());
    }
    search
        .stream_find_iter(reader)
        .map(|found| found.with_context(|| format!("could not read {}", file.escaped())))
        .map(|found| found.map(|found| found.pattern().as_usize()))
        .collect()
}
