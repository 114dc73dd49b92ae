//! The machine's strip(1) and objcopy(1): those of GNU for the files' machine, else those of LLVM.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::board::Board;
use crate::host::tools::{self, FoundTool};

/// Options that Portage's estrip passes to strip. They keep all that is loaded or that relocations
/// need.
const UNNEEDED: &[&str] = &[
    "--strip-unneeded",
    "-N",
    "__gentoo_check_ldflags__",
    "-R",
    ".comment",
    "-R",
    ".GCC.command.line",
    "-R",
    ".note.gnu.gold-version",
];

/// Programs for files of one machine.
#[derive(Debug)]
pub(super) struct Binutils<'a> {
    strip: FoundTool<'static>,
    board: &'a Board,
}

impl<'a> Binutils<'a> {
    /// Finds the programs for files of `board`.
    pub(super) fn find(board: &'a Board) -> Result<Self> {
        Ok(Self { strip: tools::STRIP.for_board(board).require()?, board })
    }

    /// Removes the sections that only debuggers read from the files `names` in the directory `dir`.
    pub(super) fn strip(&self, dir: &Path, names: &[String]) -> Result<()> {
        self.run("take symbols out of programs", dir, UNNEEDED, names)
    }

    /// Keeps only the sections that debuggers read in the files `names` in the directory `dir`.
    pub(super) fn keep_debug(&self, dir: &Path, names: &[String]) -> Result<()> {
        self.run("keep symbols apart from programs", dir, &["--only-keep-debug"], names)
    }

    fn run(&self, purpose: &str, dir: &Path, options: &[&str], names: &[String]) -> Result<()> {
        self.strip.command(purpose).args(options).args(names).dir(dir).run_quiet()
    }

    /// Adds the name and the checksum of the file at `debug` to the program at `program`.
    pub(super) fn link_debug(&self, program: &Path, debug: &Path) -> Result<()> {
        let objcopy = tools::OBJCOPY.for_board(self.board).require()?;
        let mut option = std::ffi::OsString::from("--add-gnu-debuglink=");
        option.push(debug);
        objcopy.command("name the symbols of a program").arg(option).arg(program).run_quiet()
    }
}

/// Returns all programs that may be chosen, for any board.
pub(crate) fn programs() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for board in Board::list()? {
        found.extend(tools::STRIP.for_board(&board).locate()?);
    }
    Ok(found)
}
