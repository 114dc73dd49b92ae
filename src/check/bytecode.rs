//! Checks that compiled copies of Python modules are those of their sources.

use std::os::unix::fs::MetadataExt;

use crate::base::escape::Escape;
use crate::check::{Detail, Fact, FactKind, Scene};
use crate::relocate::bytecode::{CopyState, judge_copy, source_of};

pub(super) fn check_copies(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !matches!(fact.kind, FactKind::File) {
        return Vec::new();
    }
    let source = source_of(&fact.path).and_then(|path| scene.find_fact(&path));
    let Some(source) = source.filter(|source| !matches!(source.kind, FactKind::Directory)) else {
        return Vec::new();
    };
    // An empty file has no contents that can be mapped.
    let contents = |fact: &Fact| fact.contents(scene.root).map(|bytes| bytes.to_vec());
    let (Ok(copy), Ok(text)) = (contents(fact), contents(source)) else { return Vec::new() };
    let meta = fs_err::metadata(scene.root.on_disk(&source.path));
    let time = meta.ok().filter(|_| source.elsewhere.is_none()).map(|meta| meta.mtime());
    let source = source.path.escaped();
    match judge_copy(&copy, &text, time) {
        CopyState::Current => Vec::new(),
        CopyState::Stale => vec![Detail::note(format!(
            "is no copy of {source} as that is now: Python compiles it again at each start"
        ))],
        CopyState::Believed => vec![Detail::error(format!(
            "is no copy of {source} as that is now, and Python runs it without a look"
        ))],
    }
}
