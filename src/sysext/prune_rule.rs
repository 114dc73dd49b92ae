//! Rules in profiles/slim.toml that name what an extension leaves out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::base::data;
use crate::fstree::entries::{EntryKind, FileTree};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PruneRuleData {
    pub id: String,
    why: String,
    paths: Vec<String>,
    only: Option<PruneCondition>,
}

/// Contents of profiles/slim.toml.
#[derive(Debug, Deserialize)]
pub(super) struct PruneRulesData {
    pub rule: Vec<PruneRuleData>,
    pub names: Vec<ComposedNamesData>,
    pub charsets: CharsetsData,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComposedNamesData {
    pub text: String,
    pub libraries: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CharsetsData {
    pub usual: Vec<String>,
}

impl PruneRulesData {
    pub(super) fn load() -> Result<Self> {
        data::toml("slim.toml")
    }

    /// Returns the names of all rules.
    pub(super) fn names() -> Result<Vec<String>> {
        Ok(Self::load()?.rule.into_iter().map(|rule| rule.id).collect())
    }
}

/// A condition in addition to the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PruneCondition {
    /// A name that only the link editor reads.
    LinkEditor,
    /// A script that answers `--cflags` and `--libs`.
    BuildAnswers,
    /// A directory of a language that is not wanted.
    Locale,
    /// A program of the toolchain that nobody asked for and no other file calls.
    Uncalled,
    /// A library that nobody asked for and no other file loads.
    Unused,
    /// A module for a character set that nothing needs.
    Charset,
}

/// Round in which a rule is applied. Later rounds read what earlier ones keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PruneRound {
    /// Rules that name files by their paths and contents.
    Paths,
    /// Programs that no file calls.
    Programs,
    /// Libraries that no file loads.
    Libraries,
    /// Modules for character sets that no locale and no program needs.
    Charsets,
}

impl PruneCondition {
    /// Returns the round of a rule with this condition.
    pub(super) fn round(this: Option<Self>) -> PruneRound {
        match this {
            Some(Self::Uncalled) => PruneRound::Programs,
            Some(Self::Unused) => PruneRound::Libraries,
            Some(Self::Charset) => PruneRound::Charsets,
            None | Some(Self::LinkEditor | Self::BuildAnswers | Self::Locale) => PruneRound::Paths,
        }
    }
}

/// A rule that names files to leave out.
#[derive(Debug)]
pub(super) struct PruneRule {
    pub id: String,
    pub why: String,
    paths: GlobSet,
    pub only: Option<PruneCondition>,
}

impl PruneRule {
    /// Compiles the rule.
    pub(super) fn of(data: PruneRuleData) -> Result<Self> {
        let paths = glob_set(&data.paths)
            .with_context(|| format!("the rule {} in profiles/slim.toml is wrong", data.id))?;
        Ok(Self { id: data.id, why: data.why, paths, only: data.only })
    }

    /// Returns whether the rule has a pattern for `path` in `plan`.
    pub(super) fn is_at(&self, plan: &FileTree, path: &Path) -> bool {
        path.strip_prefix(plan.prefix_path()).is_ok_and(|below| self.paths.is_match(below))
    }

    /// Returns those of `files` that `plan` has as regular files and that the rule has a pattern for.
    pub(super) fn files(&self, plan: &FileTree, files: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let is_file = |path: &&PathBuf| {
            let entry = plan.entries.get(*path);
            entry.is_some_and(|entry| matches!(entry.kind, EntryKind::File(_)))
        };
        files.iter().filter(|path| self.is_at(plan, path)).filter(is_file).cloned().collect()
    }
}

/// Name of a rule in profiles/slim.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PruneRuleName(String);

impl PruneRuleName {
    /// Returns whether this is the name of the rule `id`.
    pub(super) fn is(&self, id: &str) -> bool {
        self.0 == id
    }

    /// Returns whether the rule is about Portage's database. Where that is kept, further extensions can be
    /// packed against this one.
    pub(crate) fn is_database(&self) -> bool {
        self.0 == "portage"
    }
}

impl FromStr for PruneRuleName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = PruneRulesData::names()?;
        if !known.iter().any(|id| id == text) {
            bail!("there is no rule {text:?} to keep; there are {}", known.join(", "));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Compiles patterns of paths: `*` stays inside one directory, `**` does not.
pub(super) fn glob_set(patterns: &[impl AsRef<str>]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern.as_ref())
            .literal_separator(true)
            .empty_alternates(true)
            .build()?;
        set.add(glob);
    }
    Ok(set.build()?)
}
