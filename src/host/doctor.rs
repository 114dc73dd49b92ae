//! What this machine has of the programs that fprefix runs, what is missing, and how to get it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::base::command::{Command, MACHINE_PATH, find_program, look_up};
use crate::base::data;
use crate::host::machine::{self, Machine, PackageManager};

/// What a program is needed for, see profiles/tools.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Need {
    /// Nothing works without it.
    Setup,
    /// The built-in repository's packages are built with it.
    Build,
    /// Ebuilds of real trees call it; without it, Portage builds it into BROOT.
    Tree,
    /// Images.
    Pack,
    /// The run-time proof.
    Prove,
    /// Attaching an extension.
    Attach,
    /// The project's own tests.
    Test,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    program: String,
    name: Option<String>,
    or: Option<String>,
    #[serde(default)]
    probe: Vec<String>,
    #[serde(default)]
    for_fetched_portage: bool,
    need: Need,
    reason: String,
    wanted: Option<String>,
    packages: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Tools {
    tool: Vec<Tool>,
}

/// What was found of one program.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// The program.
    pub name: String,
    /// What it is needed for.
    pub need: Need,
    /// Why.
    pub reason: String,
    /// Where it is, if it is there.
    pub path: Option<PathBuf>,
    /// The packages of this machine's package manager that bring it.
    pub packages: Vec<String>,
    /// Its version, if most ebuilds want a newer one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub too_old: Option<TooOld>,
}

/// A program of a version that most ebuilds do not take.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TooOld {
    /// The version that is there.
    pub version: String,
    /// The oldest that is taken.
    pub wanted: String,
}

/// The names of the programs that [`examine`] looks for.
#[cfg(test)]
pub(crate) fn programs() -> Vec<String> {
    let tools: Tools = data::toml("tools.toml").unwrap();
    tools.tool.into_iter().map(|tool| tool.program).collect()
}

/// Looks for all programs.
pub(crate) fn examine() -> Result<Vec<Finding>> {
    let tools: Tools = data::toml("tools.toml")?;
    let manager = PackageManager::this();
    let fetched = Machine::this() == Machine::Other;
    Ok(tools
        .tool
        .into_iter()
        .filter(|tool| fetched || !tool.for_fetched_portage)
        .map(|tool| Finding {
            path: tool.find(),
            too_old: find_program(&tool.program, MACHINE_PATH.as_ref())
                .and_then(|program| tool.too_old(&program)),
            packages: manager
                .and_then(|manager| tool.packages.get(manager.name))
                .map(|names| names.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            name: tool.name.unwrap_or(tool.program),
            need: tool.need,
            reason: tool.reason,
        })
        .collect())
}

/// The programs of which eclasses of real trees name the oldest version that they take, and that
/// this machine has not, or only older ones, where builds find them.
pub(crate) fn lacking_for_trees() -> Result<Vec<String>> {
    let tools: Tools = data::toml("tools.toml")?;
    let lacks = |tool: &Tool| {
        let there = find_program(&tool.program, MACHINE_PATH.as_ref());
        tool.wanted.is_some() && there.is_none_or(|program| tool.too_old(&program).is_some())
    };
    Ok(tools.tool.into_iter().filter(lacks).map(|tool| tool.program).collect())
}

/// Whether it is one of `BusyBox` or Toybox, which do less than what is needed of a program.
fn is_many_in_one(path: &Path) -> bool {
    let real = fs_err::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real.file_name().is_some_and(|name| name == "busybox" || name == "toybox")
}

impl Tool {
    /// Whether it is one of those of which ebuilds want a newer version than the program says.
    fn too_old(&self, program: &Path) -> Option<TooOld> {
        let wanted = self.wanted.clone()?;
        let said = Command::new("ask for a version", program).arg("--version").read().ok()?;
        let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_version)?.to_owned();
        (numbers(&version) < numbers(&wanted)).then_some(TooOld { version, wanted })
    }

    fn find(&self) -> Option<PathBuf> {
        let names = [Some(&self.program), self.or.as_ref()];
        let mut found = names.into_iter().flatten().filter_map(|name| look_up(name));
        let path = found.find(|path| !is_many_in_one(path))?;
        if self.probe.is_empty() {
            return Some(path);
        }
        let works = Command::new("probe a program", &path).args(&self.probe).run_quiet().is_ok();
        works.then_some(path)
    }
}

/// The numbers of a version: 1.10 is newer than 1.9.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The command that installs what is missing in `findings`, if anything is.
pub(crate) fn remedy(findings: &[&Finding]) -> Result<Option<Command>> {
    let mut packages: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.path.is_none())
        .flat_map(|finding| finding.packages.iter().map(String::as_str))
        .collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(None);
    }
    let manager = PackageManager::this().context("this machine has no package manager we know")?;
    let (program, args) =
        manager.install.split_first().context("the package manager has no command")?;
    let command = if machine::is_root() {
        Command::new("install what is missing", program)
    } else if look_up("sudo").is_some() {
        Command::new("install what is missing", "sudo").arg(program)
    } else {
        bail!(
            "installing packages needs root, and there is no sudo; as root, run: {} {}",
            manager.install.join(" "),
            packages.join(" ")
        );
    };
    Ok(Some(command.args(args).args(packages).env("DEBIAN_FRONTEND", "noninteractive")))
}

/// The command that brings the package manager's lists up to date, where it does not do so itself:
/// a new machine has none.
pub(crate) fn refresh() -> Option<Command> {
    let manager = PackageManager::this().filter(|manager| manager.name == "apt")?;
    let program = manager.install.first()?;
    let command = if machine::is_root() {
        Command::new("update the lists of packages", program)
    } else {
        Command::new("update the lists of packages", "sudo").arg(program)
    };
    Some(command.args(["update", "-qq"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_distribution_is_thought_of() {
        let tools: Tools = data::toml("tools.toml").unwrap();
        let managers: Vec<&str> = machine::package_managers().collect();
        assert_eq!(managers.len(), 6);
        for tool in &tools.tool {
            let mut named: Vec<&str> = tool.packages.keys().map(String::as_str).collect();
            let mut known = managers.clone();
            named.sort_unstable();
            known.sort_unstable();
            assert_eq!(named, known, "{}: \"\" says that there is no such package", tool.program);
            assert!(!tool.packages["apt"].is_empty(), "{}", tool.program);
            // What users need is on all of them; Alpine has no systemd.
            if tool.need != Need::Test {
                let without: Vec<&str> = tool
                    .packages
                    .iter()
                    .filter(|(_, names)| names.is_empty())
                    .map(|(name, _)| &**name)
                    .collect();
                let expected: &[&str] = if tool.need == Need::Attach { &["apk"] } else { &[] };
                assert_eq!(without, expected, "{}", tool.program);
            }
        }
    }

    #[test]
    fn what_is_many_in_one_is_not_what_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs_err::write(at("busybox"), "").unwrap();
        fs_err::write(at("sed"), "").unwrap();
        fs_err::os::unix::fs::symlink("busybox", at("patch")).unwrap();
        assert!(is_many_in_one(&at("patch")) && !is_many_in_one(&at("sed")));
    }

    #[test]
    fn versions() {
        assert!(numbers("1.10.0") > numbers("1.9"));
        assert!(numbers("1.0.1") < numbers("1.2.3"));
        assert!(numbers("3.28.5") >= numbers("3.28.5"));
    }
}
