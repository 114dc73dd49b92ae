//! Files for other programs of the target that have no effect there.

use std::path::Path;

use crate::base::escape::Escape;
use crate::base::limits::TEXT;
use crate::base::tmpfiles::TmpfilesRule;
use crate::check::{Detail, Fact, FactKind, Scene};
use crate::fstree::resolve::normalize_path;
use crate::prefix::integration::is_kept;

/// Checks that the target reads a file, and can follow its rules.
pub(super) fn check_effect(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Ok(below) = fact.path.strip_prefix(scene.root.eprefix().as_path()) else {
        return Vec::new();
    };
    if matches!(fact.kind, FactKind::Directory) || is_kept(&fact.path) {
        return Vec::new();
    }
    if let Some(kind) = scene.integration.find_ineffective(below) {
        let text = format!("has no effect on a target: {}; {}", kind.reason, kind.remedy);
        return vec![Detail::note(text)];
    }
    if matches!(fact.kind, FactKind::File) && scene.integration.has_tmpfiles_rules(below) {
        return check_rules(fact, scene);
    }
    Vec::new()
}

/// Finds tmpfiles rules for paths below EPREFIX.
fn check_rules(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let contents = fact.contents(scene.root);
    let bytes = contents.as_deref().ok().filter(|bytes| bytes.len() as u64 <= TEXT.bytes);
    let text = String::from_utf8_lossy(bytes.unwrap_or_default());
    let rules = text.lines().filter_map(TmpfilesRule::parse);
    let paths = rules.map(|rule| normalize_path(Path::new(&rule.path)));
    paths
        .filter(|path| scene.is_inside(path))
        .map(|path| {
            let path = path.escaped();
            Detail::note(format!("has a rule of tmpfiles.d for {path}, read-only on a target"))
        })
        .collect()
}
