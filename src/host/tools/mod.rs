//! Registry of all external programs that fprefix runs.
//!
//! Each program is a constant here. All facts about it are in profiles/tools.toml: its names, the
//! places that are searched, the oldest accepted version, the packages that provide it. A step and
//! `fprefix doctor` use the same entry. A program that is missing or too old leads to the same
//! error everywhere. Programs that every Linux has (sh, install, rm) are not listed.

mod errors;
mod facts;
pub(crate) mod package_manager;
mod search;

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::{Error, Result, anyhow};

use crate::base::board::Board;
use crate::base::command::Command;
use crate::host::machine::Machine;
use crate::host::tools::facts::ToolList;
use crate::host::tools::package_manager::PackageManager;
use crate::host::tools::search::SearchLists;

pub(crate) use crate::host::tools::facts::{Need, ToolFacts};
pub(crate) use crate::host::tools::search::{FoundTool, find_by_name};

/// An external program, by the name of its entry in profiles/tools.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExternalTool(&'static str);

macro_rules! tools {
    ($($constant:ident = $name:literal,)*) => {
        $(pub(crate) const $constant: ExternalTool = ExternalTool($name);)*

        #[cfg(test)]
        const ALL: &[ExternalTool] = &[$($constant),*];
    };
}

tools! {
    APT_GET = "apt-get",
    BASH = "bash",
    BTRFS = "btrfs",
    BWRAP = "bwrap",
    CCACHE = "ccache",
    DISTCC = "distcc",
    EMERGE = "emerge",
    FSCK_EROFS = "fsck.erofs",
    GCC = "gcc",
    GIT = "git",
    GPG = "gpg",
    MAKE = "make",
    MKE2FS = "mke2fs",
    MKFS_BTRFS = "mkfs.btrfs",
    MKFS_EROFS = "mkfs.erofs",
    MKSQUASHFS = "mksquashfs",
    OBJCOPY = "objcopy",
    OPENSSL = "openssl",
    PORTAGEQ = "portageq",
    PRLIMIT = "prlimit",
    PYTHON_VENV = "python3-venv",
    QEMU_USER = "qemu-user",
    SCANELF = "scanelf",
    STRACE = "strace",
    STRIP = "strip",
    SUDO = "sudo",
    SYSTEMD_SYSEXT = "systemd-sysext",
    TAR = "tar",
    UNSHARE = "unshare",
    UNSQUASHFS = "unsquashfs",
    VERITYSETUP = "veritysetup",
    WGET = "wget",
}

/// Entries of profiles/tools.toml. They are read once, because one run searches for programs often.
static LIST: LazyLock<Result<ToolList>> = LazyLock::new(ToolList::load);

fn list() -> Result<&'static ToolList> {
    LIST.as_ref().map_err(|error| anyhow!("{error:#}"))
}

/// Returns the entries that `fprefix doctor` lists on a machine of this kind, each with its need.
pub(crate) fn list_for(machine: Machine) -> Result<Vec<(&'static ToolFacts, Need)>> {
    let tools = list()?.tool.iter().filter(|tool| tool.is_for(machine));
    Ok(tools.filter_map(|tool| Some((tool, tool.need?))).collect())
}

impl ExternalTool {
    /// Returns the program of any version; `None` if the machine lacks it.
    pub(crate) fn find(self) -> Option<FoundTool<'static>> {
        list().ok()?.entry(self.0).ok()?.find_here()
    }

    /// Returns the program if it has an accepted version.
    pub(crate) fn require(self) -> Result<FoundTool<'static>> {
        list()?.entry(self.0)?.require(None, &SearchLists::of_process())
    }

    /// Starts a command that runs the program; `purpose` completes "could not ...".
    pub(crate) fn command(self, purpose: impl Into<String>) -> Result<Command> {
        Ok(self.require()?.command(purpose))
    }

    /// Returns the program that works on files of `board`.
    pub(crate) fn for_board(self, board: &Board) -> BoardTool<'_> {
        BoardTool { tool: self, board }
    }
}

impl ToolFacts {
    /// Returns the program of this machine; `None` if the machine lacks it.
    pub(crate) fn find_here(&self) -> Option<FoundTool<'_>> {
        self.find(None, &SearchLists::of_process()).ok()
    }
}

/// An external program that works on files of a board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoardTool<'a> {
    tool: ExternalTool,
    board: &'a Board,
}

impl BoardTool<'_> {
    pub(crate) fn require(self) -> Result<FoundTool<'static>> {
        list()?.entry(self.tool.0)?.require(Some(self.board), &SearchLists::of_process())
    }

    /// Returns all files that may be this program, the best first.
    pub(crate) fn locate(self) -> Result<Vec<PathBuf>> {
        Ok(list()?.entry(self.tool.0)?.locate(Some(self.board), &SearchLists::of_process()))
    }

    /// Returns the error for the case that none of the files works.
    pub(crate) fn missing(self) -> Error {
        match list().and_then(|list| list.entry(self.tool.0)) {
            Ok(facts) => facts.missing(Some(self.board), PackageManager::of_machine()),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_has_an_entry() {
        for tool in ALL {
            list().unwrap().entry(tool.0).unwrap();
        }
    }

    #[test]
    fn doctor_lists_what_a_kind_of_machine_needs() {
        let names = |machine| -> Vec<&str> {
            list_for(machine).unwrap().into_iter().map(|(facts, _)| facts.name()).collect()
        };
        assert!(names(Machine::Other).contains(&"python3-venv"));
        assert!(!names(Machine::Gentoo).contains(&"python3-venv"));
        assert!(names(Machine::Gentoo).contains(&"bwrap"));
        // The list has only the programs that a purpose needs.
        assert!(!names(Machine::Gentoo).contains(&"sudo"));
    }

    #[test]
    fn programs_of_this_machine() {
        let tar = TAR.require().unwrap();
        assert!(tar.version().unwrap().unwrap().starts_with(|c: char| c.is_ascii_digit()));
        let board = Board::of_this_machine().unwrap();
        let strip = STRIP.for_board(&board).require().unwrap();
        assert!(STRIP.for_board(&board).locate().unwrap().contains(&strip.path().to_owned()));
    }
}
