//! Runs programs for another machine with qemu's user mode emulation.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::elf;
use crate::fstree::resolve::{ResolvedPath, RootResolver};
use crate::host::tools;
use crate::prefix::final_root::FinalRoot;
use crate::relocate::shebang::Shebang;

/// Largest number of scripts that start each other (`BINPRM` recursion limit, execve(2)).
const SCRIPTS: usize = 4;

/// An emulator and its arguments.
#[derive(Debug)]
pub(super) struct Emulator {
    /// Path of the emulator. It must be static, because the empty root has no libraries of this
    /// machine.
    pub program: PathBuf,
    /// Program to run, with the arguments that come before the user's.
    pub words: Vec<OsString>,
}

impl Emulator {
    /// Returns the emulator for `program` of `root`, or `None` if this machine runs the program
    /// itself.
    pub(super) fn of(root: &FinalRoot, program: &Path) -> Result<Option<Self>> {
        let mut words = vec![program.as_os_str().to_owned()];
        let mut binary = program.to_owned();
        for _ in 0..SCRIPTS {
            let Some(mut script) = interpreter(root, &binary)? else { break };
            binary = PathBuf::from(script.first().cloned().unwrap_or_default());
            script.append(&mut words);
            words = script;
        }
        let file = on_disk(root, &binary)?;
        let Ok(bytes) = files::map(&file) else { return Ok(None) };
        let Ok(image) = elf::read(&bytes) else { return Ok(None) };
        let Some(board) = Board::of_elf_machine(image.machine)? else { return Ok(None) };
        if board.is_native() || is_registered(&board) {
            return Ok(None);
        }
        Ok(Some(Self { program: find(&board)?, words }))
    }
}

/// Reads the interpreter of the script at `path` and its argument. Returns `None` if the file is
/// not a script.
fn interpreter(root: &FinalRoot, path: &Path) -> Result<Option<Vec<OsString>>> {
    let start = input::read_start(&on_disk(root, path)?, 4096)?;
    let Ok(Some(shebang)) = Shebang::parse(&start) else { return Ok(None) };
    let mut words = vec![shebang.interpreter.as_os_str().to_owned()];
    words.extend(shebang.argument.map(|argument| OsStr::from_bytes(argument).to_owned()));
    Ok(Some(words))
}

fn on_disk(root: &FinalRoot, path: &Path) -> Result<PathBuf> {
    match RootResolver::new(vec![root.path().to_owned()]).resolve(path) {
        ResolvedPath::There { disk, .. } => Ok(disk),
        _ => bail!("there is no {} in {}", path.escaped(), root.path().escaped()),
    }
}

/// Returns whether the kernel starts an emulator itself, in any root. With the flag F it opens the
/// emulator at registration (binfmt-misc).
fn is_registered(board: &Board) -> bool {
    let entry = format!("/proc/sys/fs/binfmt_misc/qemu-{}", board.machine);
    let Ok(text) = input::read_text(Path::new(&entry), TEXT) else { return false };
    let flags = text.lines().find_map(|line| line.strip_prefix("flags: ")).unwrap_or_default();
    text.starts_with("enabled") && flags.contains('F')
}

fn find(board: &Board) -> Result<PathBuf> {
    let emulator = tools::QEMU_USER.for_board(board);
    for program in emulator.locate()? {
        let program = fs_err::canonicalize(program)?;
        let bytes = files::map(&program)?;
        if elf::read(&bytes).is_ok_and(|image| image.interpreter.is_none()) {
            return Ok(program);
        }
    }
    Err(emulator.missing())
}
