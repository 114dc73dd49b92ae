//! The machine's strip(1) and objcopy(1): GNU's for the files' machine, else LLVM's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::board::Board;
use crate::base::command::{Command, look_up};

/// What Portage's estrip gives to strip: nothing goes that is loaded or that relocations need.
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

/// How the names of LLVM's programs begin, which know every machine.
const LLVM: &str = "llvm-";

/// The programs for one machine.
#[derive(Debug)]
pub(super) struct StripTools {
    strip: PathBuf,
    /// What stands before `strip` and `objcopy` in their names.
    start: String,
}

/// How the names of programs for `board` begin, the best first.
fn starts(board: &Board) -> Vec<String> {
    let names = std::iter::once(&board.chost).chain(&board.compilers);
    let mut starts: Vec<String> = names.map(|name| format!("{name}-")).collect();
    if board.is_native() {
        starts.push(String::new());
    }
    starts.push(LLVM.to_owned());
    starts
}

impl StripTools {
    /// Those of the machine for `board`.
    pub(super) fn of(board: &Board) -> Result<Self> {
        let find = |start: String| look_up(&format!("{start}strip")).map(|strip| (start, strip));
        let (start, strip) = starts(board).into_iter().find_map(find).with_context(|| {
            format!(
                "no strip for {} is there, which takes symbols out of programs; install binutils \
                 for it or llvm (`fprefix doctor` says how), or pack with --no-strip",
                board.machine
            )
        })?;
        Ok(Self { strip, start })
    }

    /// Takes what only debuggers read out of the files `names` in the directory `dir`.
    pub(super) fn strip(&self, dir: &Path, names: &[String]) -> Result<()> {
        self.run("take symbols out of programs", dir, UNNEEDED, names)
    }

    /// Leaves only what debuggers read in the files `names` in the directory `dir`.
    pub(super) fn keep_debug(&self, dir: &Path, names: &[String]) -> Result<()> {
        self.run("keep symbols apart from programs", dir, &["--only-keep-debug"], names)
    }

    fn run(&self, purpose: &str, dir: &Path, options: &[&str], names: &[String]) -> Result<()> {
        Command::new(purpose, &self.strip).args(options).args(names).dir(dir).run_quiet()
    }

    /// Adds the name and the checksum of the file at `debug` to the program at `program`.
    pub(super) fn link_debug(&self, program: &Path, debug: &Path) -> Result<()> {
        let name = format!("{}objcopy", self.start);
        let objcopy = look_up(&name).with_context(|| {
            format!(
                "{name} is not there, by which programs without build-id name their symbols; \
                 install it (`fprefix doctor` says how), or pack without --splitdebug"
            )
        })?;
        let mut option = std::ffi::OsString::from("--add-gnu-debuglink=");
        option.push(debug);
        Command::new("name the symbols of a program", objcopy).arg(option).arg(program).run_quiet()
    }
}

/// All programs that may be chosen, for any board.
pub(crate) fn programs() -> Result<Vec<PathBuf>> {
    let boards = Board::all()?;
    let names = boards.iter().flat_map(starts);
    Ok(names.filter_map(|start| look_up(&format!("{start}strip"))).collect())
}
