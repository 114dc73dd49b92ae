//! Commands that need root. For an ordinary user, sudo runs them.
//!
//! Flatcar's SDK has directories that belong to root. Its users work in them, and may use sudo.

use std::ffi::OsStr;

use anyhow::{Context, Result};

use crate::base::command::{Command, SYSTEM_PATH, find_program};
use crate::host::{machine, tools};

/// Starts a command that runs `program` of the system as root. It is named by its path: sudo may
/// look for a mere name on the search path of the caller.
pub(crate) fn with_sudo(purpose: &str, program: &str) -> Result<Command> {
    let path = find_program(program, OsStr::new(SYSTEM_PATH))
        .with_context(|| format!("could not {purpose}: the system has no {program}"))?;
    if machine::is_root() {
        return Ok(Command::new(purpose, path));
    }
    Ok(tools::SUDO.command(purpose)?.pass("PATH").arg(path))
}
