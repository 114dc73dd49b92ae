//! Boards: the machines that prefixes are built for, under the names that Flatcar's SDK uses.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use serde::{Deserialize, Serialize};

use crate::base::data;

/// Name of a board that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BoardName(String);

impl BoardName {
    /// Returns the board.
    ///
    /// # Errors
    ///
    /// Fails if profiles/boards.toml cannot be read.
    pub(crate) fn board(&self) -> Result<Board> {
        Board::find(&self.0)
    }
}

impl FromStr for BoardName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(Board::find(text)?.name))
    }
}

/// Board; its fields are explained in profiles/boards.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Name of the board, like `amd64-usr`.
    #[serde(default)]
    pub name: String,
    /// CHOST.
    pub chost: String,
    /// Portage's ARCH.
    pub arch: String,
    /// `ACCEPT_KEYWORDS`.
    pub keywords: String,
    /// Machine name in uname(2).
    pub machine: String,
    /// Machine number in ELF headers (`e_machine`).
    pub elf_machine: u16,
    /// Other names of compilers for this machine.
    pub compilers: Vec<String>,
    /// Directory of native libraries below /usr.
    pub libdir: String,
    /// File name of the loader.
    pub loader: String,
    /// Value of `ARCHITECTURE=` in an extension-release file.
    pub architecture: String,
    /// CFLAGS.
    pub cflags: String,
}

impl Board {
    /// Returns the board named `name`.
    pub fn find(name: &str) -> Result<Self> {
        let mut boards = load()?;
        let known = boards.keys().cloned().collect::<Vec<_>>().join(", ");
        boards
            .remove(name)
            .with_context(|| format!("there is no board {name:?}; the boards are {known}"))
    }

    /// Returns the board of the machine that fprefix runs on.
    pub fn of_this_machine() -> Result<Self> {
        let machine = machine();
        load()?.into_values().find(|board| board.machine == machine).with_context(|| {
            format!("no board is for machines of the kind {machine}; name one with --board")
        })
    }

    /// Returns the board of programs with this machine number, if there is one.
    pub fn of_elf_machine(number: u16) -> Result<Option<Self>> {
        Ok(load()?.into_values().find(|board| board.elf_machine == number))
    }

    /// Returns all boards.
    pub fn list() -> Result<Vec<Self>> {
        Ok(load()?.into_values().collect())
    }

    /// Returns CBUILD: CHOST if programs for this board run here, else the CHOST of this machine's
    /// board.
    pub fn cbuild(&self) -> Result<String> {
        if self.is_native() {
            return Ok(self.chost.clone());
        }
        Ok(Self::of_this_machine()?.chost)
    }

    /// Returns whether programs for this board run natively on this machine.
    pub fn is_native(&self) -> bool {
        self.machine == machine()
    }
}

/// Returns the machine name in uname(2).
fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

fn load() -> Result<BTreeMap<String, Board>> {
    let mut boards: BTreeMap<String, Board> = data::toml("boards.toml")?;
    for (name, board) in &mut boards {
        board.name.clone_from(name);
    }
    Ok(boards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_of_the_sdk() {
        assert_eq!(Board::find("amd64-usr").unwrap().chost, "x86_64-cros-linux-gnu");
        assert_eq!(Board::find("arm64-usr").unwrap().architecture, "arm64");
        let error = Board::find("riscv-usr").unwrap_err().to_string();
        assert!(error.contains("amd64-usr, arm64-usr"), "{error}");
    }
}
