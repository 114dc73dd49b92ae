//! Running a tool that has to see itself as root, without being root.
//!
//! Tools that read a tree from disk, or write one there, take owners and capabilities from it. An
//! ordinary user gets a user namespace in which their own files are root's (`user_namespaces(7)`);
//! nothing is mounted, and nothing that the tool could not do anyway becomes possible.

use std::path::Path;

use anyhow::{Context, Result};

use crate::base::command::{Command, look_up};
use crate::host::machine;
use crate::sandbox::namespaces::prove_bubblewrap;

/// A command to run `program` as root, or as what looks like root to it.
pub(crate) fn command(purpose: &str, program: &str, package: &str) -> Result<Command> {
    let path = look_up(program).with_context(|| {
        format!("{program} is not there; install {package} (`fprefix doctor` says how)")
    })?;
    command_at(purpose, &path)
}

/// The same for the program at `path`.
pub(crate) fn command_at(purpose: &str, path: &Path) -> Result<Command> {
    if machine::is_root() {
        return Ok(Command::new(purpose, path));
    }
    prove_bubblewrap()?;
    let bwrap = look_up("bwrap").context("bwrap is not there any more")?;
    Ok(Command::new(purpose, bwrap)
        .args(["--die-with-parent", "--unshare-user", "--uid", "0", "--gid", "0"])
        .args(["--cap-add", "ALL", "--dev-bind", "/", "/", "--"])
        .arg(path))
}
