//! Commands that need root: sudo runs them for an ordinary user.
//!
//! Flatcar's SDK has directories of root's that its users work in, and lets them use sudo.

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
