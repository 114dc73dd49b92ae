//! Detects the build tools of a machine from data and from their version output, and lists them for
//! Portage.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use rayon::prelude::*;
use regex::Regex;
use serde::Deserialize;

use crate::base::command::{Command, MACHINE_PATH, find_program};
use crate::base::data::{self, Folder};
use crate::base::{files, template};
use crate::portage::cpv::Cpv;
use crate::portage::vdb;

/// A program of the machine that stands for a Gentoo package, see profiles/broot.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildTool {
    program: String,
    package: String,
    #[serde(default = "ask_version")]
    version: Vec<String>,
    pattern: Option<String>,
    fixed: Option<String>,
    slot: Option<usize>,
    #[serde(default, rename = "use")]
    use_flags: String,
    link: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildTools {
    impostors: Vec<String>,
    tool: Vec<BuildTool>,
}

fn ask_version() -> Vec<String> {
    vec!["--version".into()]
}

/// A version as most programs say it.
#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static VERSION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d+(?:\.\d+)+)").unwrap());

/// A build tool that this machine has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Provided {
    /// The Gentoo package that it stands for: category/name.
    package: String,
    /// The version that it says.
    version: String,
    /// The slot, where ebuilds ask which versions are installed, and not just whether one is.
    slot: Option<String>,
    use_flags: String,
    link: Option<(String, PathBuf)>,
}

/// A machine's programs: where they are, and what they say when they are run.
trait Programs: Sync {
    fn find(&self, name: &str) -> Option<PathBuf>;
    /// Returns the output of `program` on stdout and stderr.
    fn read_output(&self, program: &Path, args: &[String]) -> Option<String>;
}

/// Those of the machine that we run on.
struct ThisMachine {
    /// Directories of programs that win over the machine's own.
    first: Vec<PathBuf>,
}

impl Programs for ThisMachine {
    fn find(&self, name: &str) -> Option<PathBuf> {
        let mut first = self.first.iter().map(|dir| dir.join(name));
        first.find(|path| path.is_file()).or_else(|| find_program(name, MACHINE_PATH.as_ref()))
    }

    fn read_output(&self, program: &Path, args: &[String]) -> Option<String> {
        let output = Command::new("ask for a version", program).args(args).output().ok()?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        Some(said)
    }
}

impl BuildTools {
    /// Returns those that `machine` has, sorted.
    fn detect_tools(&self, machine: &impl Programs) -> Vec<Provided> {
        let mut all: Vec<Provided> =
            self.tool.par_iter().filter_map(|tool| self.detect_tool(tool, machine)).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Detects one tool: the program must be there, be no impostor, and print its version.
    fn detect_tool(&self, tool: &BuildTool, machine: &impl Programs) -> Option<Provided> {
        let program = machine.find(&tool.program)?;
        let said = machine.read_output(&program, &tool.version)?;
        if self.impostors.iter().any(|name| said.contains(name)) {
            return None;
        }
        let version = match (&tool.fixed, &tool.pattern) {
            (Some(version), _) => version.clone(),
            (None, Some(pattern)) => search(&Regex::new(pattern).ok()?, &said)?,
            (None, None) => search(&VERSION, &said)?,
        };
        let slot =
            tool.slot.map(|parts| version.split('.').take(parts).collect::<Vec<_>>().join("."));
        let link = tool.link.as_ref().map(|link| {
            (link.replace("{slot}", slot.as_deref().unwrap_or_default()), program.clone())
        });
        Some(Provided {
            package: tool.package.clone(),
            use_flags: tool.use_flags.clone(),
            version,
            slot,
            link,
        })
    }
}

fn search(pattern: &Regex, said: &str) -> Option<String> {
    let found = pattern.captures(said)?;
    let mut groups = found.iter().skip(1).flatten().map(|group| group.as_str());
    if found.len() <= 2 {
        return groups.next().map(str::to_owned);
    }
    // Numbers that are written without dots fill their places with zeros.
    let numbers: Vec<String> =
        groups.filter_map(|group| Some(group.parse::<u32>().ok()?.to_string())).collect();
    Some(numbers.join("."))
}

/// The build tools that this machine has, or that are in the directories `first`.
pub(super) fn detect_provided(first: Vec<PathBuf>) -> Result<Vec<Provided>> {
    Ok(data::toml::<BuildTools>("broot.toml")?.detect_tools(&ThisMachine { first }))
}

/// The file in etc/portage of staging in which the user names packages that builds find on the
/// machine although no program there tells of them: those that Gentoo alone hands out, those that
/// are data, those that stand for a choice. A line each, as in package.provided.
pub(crate) const PROVIDED_BESIDES: &str = "broot.provided";

/// Tells Portage of the tools of the machine. Most stand in package.provided (portage(5)). That has
/// no slots, and `has_version` does not look into it, so what ebuilds look for by slot becomes an
/// entry of BROOT's VDB, of a package that owns no files.
pub(super) fn write(broot: &Path, provided: &[Provided], besides: &[Cpv]) -> Result<()> {
    let (installed, listed): (Vec<_>, Vec<_>) =
        provided.iter().partition(|tool| tool.slot.is_some());
    let mut lines: Vec<String> =
        listed.iter().map(|tool| format!("{}-{}", tool.package, tool.version)).collect();
    lines.extend(besides.iter().map(ToString::to_string));
    let text = template::render(
        Folder::Templates,
        "broot/package.provided",
        minijinja::context! { packages => lines },
    )?;
    files::write_atomically(&broot.join("etc/portage/profile/package.provided"), text.as_bytes())?;
    for tool in installed {
        let (category, name) = tool.package.split_once('/').context("a package has no category")?;
        let pf = format!("{name}-{}", tool.version);
        let dir = broot.join(vdb::BELOW_EROOT).join(category).join(&pf);
        let slot = tool.slot.as_deref().unwrap_or("0");
        for (key, value) in [
            ("BUILD_TIME", "0"),
            ("CATEGORY", category),
            ("CONTENTS", ""),
            ("COUNTER", "0"),
            ("DEFINED_PHASES", "-"),
            ("DESCRIPTION", "The machine's own"),
            ("EAPI", "8"),
            ("IUSE", &tool.use_flags),
            ("KEYWORDS", "amd64 arm64"),
            ("LICENSE", "metapackage"),
            ("PF", &pf),
            ("SLOT", slot),
            ("USE", &tool.use_flags),
            ("repository", MACHINE),
        ] {
            files::write_atomically(&dir.join(key), format!("{value}\n").as_bytes())?;
        }
        let ebuild = format!("EAPI=8\nSLOT=\"{slot}\"\n");
        files::write_atomically(&dir.join(format!("{pf}.ebuild")), ebuild.as_bytes())?;
        if let Some((link, program)) = &tool.link {
            files::link(program, &broot.join("usr/bin").join(link))?;
        }
    }
    Ok(())
}

/// The name of the repository that Portage finds the machine's own tools installed from; there is
/// none of that name.
const MACHINE: &str = "fprefix-machine";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn patterns_are_patterns() {
        let said = "cmake version 3.25.1\n\nCMake suite maintained";
        assert_eq!(search(&VERSION, said).unwrap(), "3.25.1");
        let tools: BuildTools = data::toml("broot.toml").unwrap();
        for tool in &tools.tool {
            assert!(tool.pattern.iter().all(|pattern| Regex::new(pattern).is_ok()), "{tool:?}");
        }
    }

    /// The version output of a distribution's programs, run as broot.toml lists them, and the packages
    /// that follow from it.
    #[derive(Deserialize)]
    struct Recorded {
        said: BTreeMap<String, String>,
        provided: Vec<String>,
    }

    impl Programs for Recorded {
        fn find(&self, name: &str) -> Option<PathBuf> {
            self.said.contains_key(name).then(|| Path::new("/usr/bin").join(name))
        }

        fn read_output(&self, program: &Path, _: &[String]) -> Option<String> {
            self.said.get(program.file_name()?.to_str()?).cloned()
        }
    }

    #[test]
    fn other_distributions() {
        let tools: BuildTools = data::toml("broot.toml").unwrap();
        let records: BTreeMap<String, Recorded> =
            toml::from_str(include_str!("../../../tests/machines.toml")).unwrap();
        assert_eq!(records.len(), 6);
        for (name, record) in records {
            let found: Vec<String> = tools
                .detect_tools(&record)
                .iter()
                .map(|tool| {
                    let slot = tool.slot.as_ref().map(|slot| format!(":{slot}"));
                    format!("{}-{}{}", tool.package, tool.version, slot.unwrap_or_default())
                })
                .collect();
            assert_eq!(found, record.provided, "{name}");
        }
    }

    #[test]
    fn what_stands_for_a_package_can_be_installed() {
        let tools = crate::host::tools::list_for(crate::host::machine::Machine::Other).unwrap();
        let known: Vec<&str> = tools.iter().map(|(facts, _)| facts.name()).collect();
        for tool in data::toml::<BuildTools>("broot.toml").unwrap().tool {
            assert!(known.contains(&&*tool.program), "{}", tool.program);
        }
    }
}
