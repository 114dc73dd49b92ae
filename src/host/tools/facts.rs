//! Facts about external programs, as profiles/tools.toml states them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::base::board::Board;
use crate::base::data;
use crate::host::machine::Machine;

/// Purpose that external programs are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Need {
    Setup,
    Build,
    Tree,
    Pack,
    Prove,
    Attach,
    Test,
}

impl Need {
    pub(crate) const ALL: [Self; 7] =
        [Self::Setup, Self::Build, Self::Tree, Self::Pack, Self::Prove, Self::Attach, Self::Test];

    /// Returns the name that the command line and profiles/tools.toml use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Build => "build",
            Self::Tree => "tree",
            Self::Pack => "pack",
            Self::Prove => "prove",
            Self::Attach => "attach",
            Self::Test => "test",
        }
    }
}

/// List of directories that is searched for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SearchList {
    /// `PATH` of the caller.
    Caller,
    /// The directories of any system, sbin and /usr/local included.
    System,
    /// The directories of the machine's own packages, where builds find programs.
    Machine,
}

/// An entry of profiles/tools.toml, which explains the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolFacts {
    pub(super) program: String,
    name: Option<String>,
    #[serde(default)]
    or: Vec<String>,
    #[serde(default)]
    for_board: Vec<String>,
    #[serde(default = "caller_then_system")]
    pub(super) search: Vec<SearchList>,
    #[serde(default)]
    pub(super) probe: Vec<String>,
    #[serde(default)]
    machines: Vec<Machine>,
    pub(crate) need: Option<Need>,
    pub(crate) reason: String,
    #[serde(default = "dash_dash_version")]
    pub(super) version: Vec<String>,
    pub(super) oldest: Option<String>,
    pub(super) oldest_for: Option<String>,
    pub(crate) instead: Option<String>,
    pub(super) packages: BTreeMap<String, String>,
}

fn caller_then_system() -> Vec<SearchList> {
    vec![SearchList::Caller, SearchList::System]
}

fn dash_dash_version() -> Vec<String> {
    vec!["--version".to_owned()]
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolList {
    pub(super) tool: Vec<ToolFacts>,
}

impl ToolList {
    pub(super) fn load() -> Result<Self> {
        data::toml("tools.toml")
    }

    /// Returns the first entry of this name.
    pub(super) fn entry(&self, name: &str) -> Result<&ToolFacts> {
        self.tool
            .iter()
            .find(|tool| tool.name() == name)
            .with_context(|| format!("profiles/tools.toml has no entry for {name}"))
    }
}

impl ToolFacts {
    pub(crate) fn name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.program)
    }

    /// Returns whether machines of this kind need it.
    pub(crate) fn is_for(&self, machine: Machine) -> bool {
        self.machines.is_empty() || self.machines.contains(&machine)
    }

    pub(crate) fn has_oldest(&self) -> bool {
        self.oldest.is_some()
    }

    pub(super) fn is_named_after_boards(&self) -> bool {
        !self.for_board.is_empty()
    }

    /// Returns the names under which it may be found, the best first. Without a board, it is a
    /// program for this machine.
    pub(super) fn candidates(&self, board: Option<&Board>) -> Vec<String> {
        let Some(board) = board else {
            return std::iter::once(&self.program).chain(&self.or).cloned().collect();
        };
        let chosts: Vec<&String> = std::iter::once(&board.chost).chain(&board.compilers).collect();
        let mut names = Vec::new();
        for pattern in &self.for_board {
            names.extend(chosts.iter().map(|chost| pattern.replace("{chost}", chost)));
        }
        if self.for_board.is_empty() || board.is_native() {
            names.push(self.program.clone());
        }
        names.extend(self.or.iter().cloned());
        names.iter().map(|name| name.replace("{machine}", &board.machine)).collect()
    }

    /// Returns the packages of a package manager that provide it; an empty list if it has no such
    /// package.
    pub(crate) fn packages(&self, manager: &str, board: Option<&Board>) -> Vec<String> {
        let names = self.packages.get(manager).map_or("", String::as_str);
        let machine = board.map_or("", |board| &board.machine);
        names.split_whitespace().map(|name| name.replace("{machine}", machine)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tools::package_manager::PackageManager;

    #[test]
    fn needs_are_named_alike_everywhere() {
        for need in Need::ALL {
            assert_eq!(serde_json::to_value(need).unwrap(), need.name());
        }
    }

    #[test]
    fn every_package_manager_has_a_line() {
        let managers: Vec<&str> = PackageManager::ALL.iter().map(|manager| manager.name).collect();
        assert_eq!(managers.len(), 6);
        for tool in &ToolList::load().unwrap().tool {
            let mut named: Vec<&str> = tool.packages.keys().map(String::as_str).collect();
            let mut known = managers.clone();
            named.sort_unstable();
            known.sort_unstable();
            assert_eq!(named, known, "{}: \"\" says that there is no such package", tool.program);
            assert_eq!(tool.oldest.is_some(), tool.oldest_for.is_some(), "{}", tool.program);
            if tool.is_for(Machine::Other) {
                assert!(!tool.packages["apt"].is_empty(), "{}", tool.program);
            }
            let Some(need) = tool.need.filter(|need| *need != Need::Test) else { continue };
            // Users can install the needed programs on all of them. Alpine has no systemd.
            let without = tool.packages.iter().filter(|(_, names)| names.is_empty());
            let without: Vec<&str> = without.map(|(name, _)| &**name).collect();
            let is_systemd = need == Need::Attach && tool.program.starts_with("systemd");
            let expected: &[&str] = if is_systemd { &["apk"] } else { &[] };
            assert_eq!(without, expected, "{}", tool.program);
        }
    }

    #[test]
    fn names_depend_on_the_board() {
        let list = ToolList::load().unwrap();
        let mut board = Board::find("arm64-usr").unwrap();
        board.compilers.truncate(1);
        // No machine is of this kind, so the board is never this machine's.
        board.machine = "other".to_owned();
        let names = |name: &str| list.entry(name).unwrap().candidates(Some(&board));
        assert_eq!(
            names("strip"),
            ["aarch64-cros-linux-gnu-strip", "aarch64-linux-gnu-strip", "llvm-strip"]
        );
        assert_eq!(names("gcc"), ["aarch64-cros-linux-gnu-gcc", "aarch64-linux-gnu-gcc"]);
        assert_eq!(names("qemu-user"), ["qemu-other-static", "qemu-other"]);
        assert_eq!(list.entry("strip").unwrap().candidates(None), ["strip", "llvm-strip"]);
        let own = Board::of_this_machine().unwrap();
        let names = list.entry("strip").unwrap().candidates(Some(&own));
        assert_eq!(names[names.len() - 2..], ["strip", "llvm-strip"]);
        assert_eq!(list.entry("qemu-user").unwrap().packages("apk", Some(&board)), ["qemu-other"]);
        let error = list.entry("nothing").unwrap_err().to_string();
        assert_eq!(error, "profiles/tools.toml has no entry for nothing");
    }
}
