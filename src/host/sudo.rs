//! Commands that need root. For an ordinary user, sudo runs them.
//!
//! Flatcar's SDK has directories that belong to root. Its users work in them, and may use sudo.

use anyhow::Result;

use crate::base::command::Command;
use crate::host::{machine, tools};

/// Starts a command that runs `program` as root.
pub(crate) fn with_sudo(purpose: &str, program: &str) -> Result<Command> {
    if machine::is_root() {
        return Ok(Command::new(purpose, program));
    }
    Ok(tools::SUDO.command(purpose)?.pass("PATH").arg(program))
}
