//! The proof, per file, that nothing in a root reaches outside the prefix.
//!
//! One walk gathers facts; a registry of rules looks at them. That a rule finds something is a
//! result; that a file could not be read is an error.
//!
//! Nothing in here changes a file.

mod changes;
mod elf_rules;
mod facts;
pub(crate) mod prove;
mod remedy;
mod rules;
mod scene;
mod symbols;
mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::Serialize;

use crate::base::level::Level;
use crate::prefix::final_root::FinalRoot;

pub(crate) use crate::check::changes::{NewContent, NewEntry, TreeChanges};
pub(crate) use crate::check::facts::{Fact, FactKind};
pub(crate) use crate::check::scene::Scene;

/// A rule: what must hold, why, and what to do where it does not.
pub(crate) struct Rule {
    /// The name to waive or explain it by.
    pub id: &'static str,
    /// What must hold, in a sentence.
    pub sentence: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What to do about a finding.
    pub remedy: &'static str,
    /// Whether rewriting the file mends what it finds.
    pub rewrites: bool,
    look: fn(&Fact, &Scene<'_>) -> Vec<Detail>,
}

/// What a rule says of a file.
pub(crate) struct Detail {
    level: Level,
    text: String,
}

impl Detail {
    fn error(text: impl Into<String>) -> Self {
        Self { level: Level::Error, text: text.into() }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { level: Level::Note, text: text.into() }
    }
}

/// Something that a rule found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// The rule.
    pub rule: &'static str,
    /// What it means.
    pub level: Level,
    /// The file, as programs see it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub detail: String,
    /// Whether the user waived the rule.
    pub waived: bool,
    /// The package that the file belongs to, where Portage knows it: `category/PF`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// What a check came to.
#[derive(Debug, Serialize)]
pub(crate) struct CheckReport {
    /// How many files, directories and links were looked at.
    pub files: usize,
    /// How many of them are ELF files.
    pub elf_files: usize,
    /// What was found, by file.
    pub findings: Vec<Finding>,
    /// What to do about it: commands by rule, for what a command mends.
    pub commands: BTreeMap<&'static str, String>,
    /// What may be behind that, by rule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub suspicions: BTreeMap<&'static str, String>,
}

impl CheckReport {
    /// Whether nothing was found that speaks against the root.
    pub(crate) fn passes(&self) -> bool {
        !self.findings.iter().any(|finding| finding.level == Level::Error && !finding.waived)
    }
}

/// Which rules are applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleChoice {
    /// These alone; all when none is named.
    pub only: Vec<String>,
    /// Findings of these do not count.
    pub waive: Vec<String>,
}

impl RuleChoice {
    /// Refuses names that are no rule's.
    pub(crate) fn validate(&self) -> Result<()> {
        for id in self.only.iter().chain(&self.waive) {
            rule(id)?;
        }
        Ok(())
    }
}

/// All rules, in the order in which they are reported.
pub(crate) fn rules() -> &'static [Rule] {
    rules::RULES
}

/// The rule named `id`.
pub(crate) fn rule(id: &str) -> Result<&'static Rule> {
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
    choice.validate()?;
    let facts = facts::gather(root, changes)?;
    let scene = Scene::new(root, &facts);
    let rules: Vec<&Rule> = rules()
        .iter()
        .filter(|rule| choice.only.is_empty() || choice.only.iter().any(|id| id == rule.id))
        .collect();
    let mut findings: Vec<Finding> = facts
        .par_iter()
        .flat_map_iter(|fact| rules.iter().map(move |rule| (fact, rule)))
        .flat_map_iter(|(fact, rule)| {
            (rule.look)(fact, &scene).into_iter().map(|detail| Finding {
                rule: rule.id,
                level: detail.level,
                path: fact.path.clone(),
                detail: detail.text,
                package: None,
                waived: choice.waive.iter().any(|id| id == rule.id),
            })
        })
        .collect();
    findings.sort_by(|a, b| (&a.path, a.rule, &a.detail).cmp(&(&b.path, b.rule, &b.detail)));
    let elf_files = facts.iter().filter(|fact| fact.elf().is_some()).count();
    remedy::name_packages(root, &mut findings)?;
    let commands = remedy::commands(root, &findings);
    let suspicions = remedy::suspicions(root, &findings)?;
    Ok(CheckReport { files: facts.len(), elf_files, findings, commands, suspicions })
}
