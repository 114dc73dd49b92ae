//! Commands that see themselves as root without being root.
//!
//! Tools that read a tree from disk, or write one there, take owners and capabilities from it. An
//! ordinary user gets a user namespace in which their own files are root's (`user_namespaces(7)`).
//! Nothing is mounted, and the tool can do nothing that its user cannot do.

use std::path::Path;

use anyhow::Result;

use crate::base::command::Command;
use crate::host::machine;
use crate::host::tools::{self, ExternalTool};
use crate::sandbox::namespaces::prove_bubblewrap;

/// Starts a command that runs `tool` as root, or in a namespace where it looks like root.
pub(crate) fn command(purpose: &str, tool: ExternalTool) -> Result<Command> {
    command_at(purpose, tool.require()?.path())
}

/// Starts the same command for the program at `path`.
pub(crate) fn command_at(purpose: &str, path: &Path) -> Result<Command> {
    if machine::is_root() {
        return Ok(Command::new(purpose, path));
    }
    prove_bubblewrap()?;
    Ok(tools::BWRAP
        .command(purpose)?
        .args(["--die-with-parent", "--unshare-user", "--uid", "0", "--gid", "0"])
        .args(["--cap-add", "ALL", "--dev-bind", "/", "/", "--"])
        .arg(path))
}
