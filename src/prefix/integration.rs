//! Table of files that a target reads at fixed places (profiles/integration.toml).

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::base::data;

/// Way in which a file names programs, and other paths that differ in an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NamedPrograms {
    /// `Exec...=` with a command line.
    Commands,
    /// Keys of udev rules that run programs.
    Udev,
    /// Annotations of polkit's actions.
    Polkit,
    /// Interpreters of binfmt.d.
    Binfmt,
    /// Rules of tmpfiles.d.
    Tmpfiles,
}

/// A kind of files that a target reads below /usr.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct IntegrationKind {
    /// Directories below EPREFIX that packages install them to.
    pub from: Vec<PathBuf>,
    /// Directory of the target.
    pub to: PathBuf,
    /// Way in which the files name programs; `None` if they name none.
    pub names: Option<NamedPrograms>,
    /// True if a link is placed.
    #[serde(default)]
    pub linked: bool,
    /// Patterns of the names of files that belong to an exposed program. Empty for files that are
    /// always placed.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// Command by which a running target reads them.
    pub applied: Option<String>,
}

impl IntegrationKind {
    /// Returns whether systemd's manager reads the files when it reloads.
    pub(crate) fn is_read_by_manager(&self) -> bool {
        self.to.starts_with("usr/lib/systemd/system") || self.to.starts_with("usr/lib/systemd/user")
    }
}

/// Files that have no effect, because their reader looks outside of /usr and /opt.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IneffectiveKind {
    /// Directories below EPREFIX.
    pub from: Vec<PathBuf>,
    /// Reason.
    pub reason: String,
    /// Remedy.
    pub remedy: String,
}

/// Table of all kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntegrationTable {
    /// Kinds that can be placed.
    #[serde(rename = "kind")]
    pub kinds: Vec<IntegrationKind>,
    /// Kinds without effect.
    pub without_effect: Vec<IneffectiveKind>,
}

impl IntegrationTable {
    /// Loads the table.
    pub(crate) fn load() -> Result<Self> {
        data::toml("integration.toml")
    }

    /// Returns the kind of a file without effect at `below`.
    pub(crate) fn find_ineffective(&self, below: &Path) -> Option<&IneffectiveKind> {
        let is_kind = |kind: &&IneffectiveKind| kind.from.iter().any(|dir| below.starts_with(dir));
        self.without_effect.iter().find(is_kind)
    }

    /// Returns whether the file at `below` has rules of tmpfiles.d.
    pub(crate) fn has_tmpfiles_rules(&self, below: &Path) -> bool {
        let mut kinds =
            self.kinds.iter().filter(|kind| kind.names == Some(NamedPrograms::Tmpfiles));
        kinds.any(|kind| kind.from.iter().any(|dir| below.parent() == Some(dir)))
    }
}

/// Returns whether Portage made the file to keep its directory (`keepdir`, ebuild(5)).
pub(crate) fn is_kept(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".keep"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_below_usr_and_directories_have_one_kind() {
        let table = IntegrationTable::load().unwrap();
        let mut known = BTreeSet::new();
        for kind in &table.kinds {
            assert!(kind.to.starts_with("usr"), "{kind:?}");
            assert!(known.insert(&kind.to), "{kind:?}");
        }
        let placed = table.kinds.iter().flat_map(|kind| &kind.from);
        let all: Vec<_> =
            placed.chain(table.without_effect.iter().flat_map(|kind| &kind.from)).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|dir| dir.is_relative()));
    }
}
