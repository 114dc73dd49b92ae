//! Files for other programs of the target that have no effect there.

use std::path::{Path, PathBuf};

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
    list_ruled_paths(fact, scene)
        .iter()
        .map(|path| {
            let path = path.escaped();
            Detail::note(format!("has a rule of tmpfiles.d for {path}, read-only on a target"))
        })
        .collect()
}

/// Lists the paths below EPREFIX that rules in a file name.
fn list_ruled_paths(fact: &Fact, scene: &Scene<'_>) -> Vec<PathBuf> {
    let contents = fact.contents(scene.root);
    let bytes = contents.as_deref().ok().filter(|bytes| bytes.len() as u64 <= TEXT.bytes);
    let text = String::from_utf8_lossy(bytes.unwrap_or_default());
    let rules = text.lines().filter_map(TmpfilesRule::parse);
    let paths = rules.map(|rule| normalize_path(Path::new(&rule.path)));
    paths.filter(|path| scene.is_inside(path)).collect()
}

impl Scene<'_> {
    /// Returns whether a tmpfiles rule of the prefix names `path`, so that a target has it.
    pub(super) fn is_ruled(&self, path: &Path) -> bool {
        let ruled = self.ruled.get_or_init(|| {
            let eprefix = self.root.eprefix().as_path();
            let has_rules = |fact: &&Fact| {
                let below = fact.path.strip_prefix(eprefix);
                matches!(fact.kind, FactKind::File)
                    && below.is_ok_and(|below| self.integration.has_tmpfiles_rules(below))
            };
            let files = self.facts.iter().filter(has_rules);
            files.flat_map(|fact| list_ruled_paths(fact, self)).collect()
        });
        ruled.contains(path)
    }
}
