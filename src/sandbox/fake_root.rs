//! Commands that see themselves as root without being root.
//!
//! Tools that read a tree from disk, or write one to disk, use its owners and capabilities. An
//! ordinary user gets a user namespace in which their own files belong to root
//! (`user_namespaces(7)`). Nothing is mounted, and the tool gains no rights over its user.

use std::path::Path;

use anyhow::Result;

use crate::base::command::Command;
use crate::host::machine;
use crate::host::tools::{self, ExternalTool};
use crate::sandbox::namespaces::prove_bubblewrap;

/// Makes a command that runs `tool` as root, or in a namespace where it appears to be root.
pub(crate) fn command(purpose: &str, tool: ExternalTool) -> Result<Command> {
    command_at(purpose, tool.require()?.path())
}

/// Makes the same command for the program at `path`.
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
