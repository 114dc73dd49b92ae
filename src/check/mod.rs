//! Checks, per file, that nothing in a root reaches outside the prefix.
//!
//! One walk gathers facts, and a registry of rules examines them. A finding is a result; a file
//! that cannot be read is an error.
//!
//! Nothing in here changes a file.

mod bytecode;
mod changes;
mod code_names;
mod collect;
mod contents;
mod effect_rules;
mod elf_rules;
mod facts;
mod file_rules;
mod libraries;
mod library_rules;
mod loading;
mod packages;
pub(crate) mod prove;
mod rebuild;
mod remedy;
mod rules;
mod scene;
mod symbols;
mod unit_file;
mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::Serialize;

use crate::base::escape;
use crate::base::level::Level;
use crate::check::packages::PackageRecords;
use crate::prefix::final_root::FinalRoot;
use crate::prefix::integration::IntegrationTable;

pub(crate) use crate::check::changes::{NewContent, NewEntry, TreeChanges};
pub(crate) use crate::check::facts::{Fact, FactKind};
pub(crate) use crate::check::libraries::{LoadedFiles, list_loaded};
pub(crate) use crate::check::scene::Scene;

/// A rule: its requirement, the reason, and the remedy for a finding.
pub(crate) struct Rule {
    /// Name by which the rule is waived or explained.
    pub id: &'static str,
    /// Requirement, as a sentence.
    pub sentence: &'static str,
    /// Reason for the requirement.
    pub reason: &'static str,
    /// Remedy for a finding.
    pub remedy: &'static str,
    /// True if rewriting the file fixes the finding.
    pub rewrites: bool,
    find: fn(&Fact, &Scene<'_>) -> Vec<Detail>,
}

/// A rule is the same as another one if its name is.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// Rules are written by their names.
impl Serialize for Rule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id)
    }
}

/// Result of a rule for one file.
pub(crate) struct Detail {
    level: Level,
    text: String,
    /// True if rewriting helps, where it helps against findings of the rule.
    by_rewriting: bool,
    /// Library that no file of the prefix is.
    missing: Option<String>,
}

impl Detail {
    fn error(text: impl Into<String>) -> Self {
        Self { level: Level::Error, text: text.into(), by_rewriting: true, missing: None }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into(), by_rewriting: true, missing: None }
    }

    /// Says that rewriting does not help against this finding.
    fn not_by_rewriting(self) -> Self {
        Self { by_rewriting: false, ..self }
    }

    /// Says that no file of the prefix is the library of this name.
    fn missing(self, name: &[u8]) -> Self {
        Self { missing: std::str::from_utf8(name).ok().map(str::to_owned), ..self }
    }
}

/// A finding of a rule.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Rule that is broken.
    pub rule: &'static Rule,
    /// Severity of the finding.
    pub level: Level,
    /// Path of the file, as programs see it.
    #[serde(serialize_with = "escape::path::serialize")]
    pub path: PathBuf,
    /// Description of the problem.
    pub detail: String,
    /// True if the user waived the rule.
    pub waived: bool,
    /// True if rewriting the file fixes it.
    #[serde(skip)]
    pub rewrites: bool,
    /// Library that no file of the prefix is.
    #[serde(skip)]
    pub missing: Option<String>,
    /// Package that the file belongs to, if Portage knows it: `category/PF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// Result of a check.
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    /// Number of files, directories and links that were checked.
    pub files: usize,
    /// Number of ELF files among them.
    pub elf_files: usize,
    /// Findings, by file.
    pub findings: Vec<Finding>,
    /// Commands that fix findings, by rule.
    pub commands: BTreeMap<&'static str, String>,
    /// Possible causes of findings, by rule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub suspicions: BTreeMap<&'static str, Vec<String>>,
}

impl CheckReport {
    /// Returns whether the root passes: no error that is not waived.
    pub(crate) fn passes(&self) -> bool {
        !self.findings.iter().any(|finding| finding.level == Level::Error && !finding.waived)
    }
}

/// Selection of rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleChoice {
    /// Rules to apply. An empty list applies all.
    pub only: Vec<&'static Rule>,
    /// Rules whose findings do not fail the check.
    pub waive: Vec<&'static Rule>,
}

/// Returns all rules, in the order in which they are reported.
pub(crate) fn rules() -> &'static [Rule] {
    rules::RULES
}

/// Parses the name of a rule.
pub(crate) fn parse_rule(id: &str) -> Result<&'static Rule> {
    let Some(rule) = rules().iter().find(|rule| rule.id == id) else {
        let known = rules().iter().map(|rule| rule.id).collect::<Vec<_>>().join(", ");
        bail!("there is no rule {id:?}; the rules are {known}")
    };
    Ok(rule)
}

/// Checks the tree `root` against the rules of `choice`.
pub(crate) fn run(root: &FinalRoot, choice: &RuleChoice) -> Result<CheckReport> {
    run_changed(root, &TreeChanges::default(), choice)
}

/// Checks the tree `root`, as it will be after `changes`, against the rules of `choice`.
pub(crate) fn run_changed(
    root: &FinalRoot,
    changes: &TreeChanges,
    choice: &RuleChoice,
) -> Result<CheckReport> {
    let facts = collect::collect_facts(root, changes)?;
    let mut scene = Scene::new(root, &facts);
    scene.integration = IntegrationTable::load()?;
    scene.records = PackageRecords::read(root)?;
    let rules: Vec<&'static Rule> = rules()
        .iter()
        .filter(|rule| choice.only.is_empty() || choice.only.contains(rule))
        .collect();
    let mut findings: Vec<Finding> = facts
        .par_iter()
        .flat_map_iter(|fact| rules.iter().map(move |&rule| (fact, rule)))
        .flat_map_iter(|(fact, rule)| {
            let waived = choice.waive.contains(&rule);
            (rule.find)(fact, &scene).into_iter().map(move |detail| Finding {
                rule,
                level: detail.level,
                path: fact.path.clone(),
                detail: detail.text,
                package: None,
                waived,
                rewrites: rule.rewrites && detail.by_rewriting,
                missing: detail.missing,
            })
        })
        .collect();
    findings.sort_by(|a, b| (&a.path, a.rule.id, &a.detail).cmp(&(&b.path, b.rule.id, &b.detail)));
    let elf_files = facts.iter().filter(|fact| fact.elf().is_some()).count();
    remedy::name_packages(root, &mut findings)?;
    let commands = remedy::list_commands(root, &findings);
    let suspicions = remedy::find_suspects(root, &findings)?;
    Ok(CheckReport { files: facts.len(), elf_files, findings, commands, suspicions })
}
