//! State of this machine: the external programs it has and lacks, and the packages that provide
//! them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::base::command::Command;
use crate::base::escape;
use crate::host::machine::{self, Machine};
use crate::host::tools::package_manager::PackageManager;
use crate::host::tools::{self, Need, ToolFacts};

/// State of one program on this machine.
#[derive(Debug, Serialize)]
pub(crate) struct ToolFinding {
    pub(crate) name: String,
    pub(crate) need: Need,
    /// Completes "NAME, which ...".
    pub(crate) reason: String,
    /// `None` if the program is missing.
    #[serde(serialize_with = "escape::optional_path::serialize")]
    pub(crate) path: Option<PathBuf>,
    /// Packages of this machine's package manager that provide it.
    pub(crate) packages: Vec<String>,
    /// `None` unless the program is older than a purpose needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) too_old: Option<TooOld>,
}

/// A version that is too old for a purpose.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TooOld {
    /// Version of the program; `None` if it does not print one.
    pub(crate) version: Option<String>,
    /// Oldest version that is accepted.
    pub(crate) wanted: String,
    /// A phrase like "too old for images: it is version 6.2, and 7.3 or newer is needed".
    #[serde(skip)]
    pub(crate) description: String,
    /// Completes "or ...": an alternative.
    #[serde(skip)]
    pub(crate) instead: Option<String>,
}

/// Looks for all programs that a machine of this kind needs.
pub(crate) fn examine() -> Result<Vec<ToolFinding>> {
    let manager = PackageManager::of_machine();
    let listed = tools::list_for(Machine::detect_running())?.into_iter();
    listed.map(|(facts, need)| examine_tool(facts, need, manager)).collect()
}

fn examine_tool(
    facts: &ToolFacts,
    need: Need,
    manager: Option<PackageManager>,
) -> Result<ToolFinding> {
    let found = facts.find_here();
    let old = found.as_ref().map(tools::FoundTool::old_version).transpose()?.flatten();
    Ok(ToolFinding {
        name: facts.name().to_owned(),
        need,
        reason: facts.reason.clone(),
        path: found.map(|found| found.path().to_owned()),
        packages: manager.map_or_else(Vec::new, |manager| facts.packages(manager.name, None)),
        too_old: old.map(|old| TooOld {
            description: facts.describe_old(&old),
            instead: facts.instead.clone(),
            version: old.version,
            wanted: old.oldest,
        }),
    })
}

/// Returns the programs that builds of real trees lack. For these programs, eclasses name the
/// oldest version that they accept. The directories that builds search have none, or only an older
/// one.
pub(crate) fn lacking_for_trees() -> Result<Vec<String>> {
    let mut lacking = Vec::new();
    for (facts, need) in tools::list_for(Machine::detect_running())? {
        if need != Need::Tree || !facts.has_oldest() {
            continue;
        }
        let is_new = match facts.find_here() {
            Some(found) => found.old_version()?.is_none(),
            None => false,
        };
        if !is_new {
            lacking.push(facts.name().to_owned());
        }
    }
    Ok(lacking)
}

/// Returns the command that installs the missing programs of `findings`; `None` if there is no
/// package to install.
pub(crate) fn install_command(findings: &[&ToolFinding]) -> Result<Option<Command>> {
    let missing = findings.iter().filter(|finding| finding.path.is_none());
    let mut packages: Vec<String> =
        missing.flat_map(|finding| finding.packages.iter().cloned()).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(None);
    }
    let manager = PackageManager::of_machine().context(
        "cannot install what is missing: this machine has no package manager that fprefix knows",
    )?;
    let words = manager.install(&packages);
    if !machine::is_root() && tools::SUDO.find().is_none() {
        bail!(
            "cannot install what is missing: it needs root, and this machine has no sudo\n\
             hint: run as root: {}",
            words.join(" ")
        );
    }
    let command = as_root("install what is missing", &words)?;
    Ok(Some(command.env("DEBIAN_FRONTEND", "noninteractive")))
}

/// Returns the command that updates the package manager's lists; `None` if it does so itself.
pub(crate) fn refresh() -> Result<Option<Command>> {
    let words = PackageManager::of_machine().and_then(|manager| manager.refresh());
    words.map(|words| as_root("update the lists of packages", &words)).transpose()
}

/// Builds a command that runs as root. The package managers need no variable of the caller, so sudo
/// passes none on.
fn as_root(purpose: &str, words: &[String]) -> Result<Command> {
    let (program, args) = words.split_first().context("the package manager has no command")?;
    let command = if machine::is_root() {
        Command::new(purpose, program)
    } else {
        tools::SUDO.command(purpose)?.arg(program)
    };
    Ok(command.args(args))
}
