//! Commands that see themselves as root without being root.
//!
//! Tools that read a tree from disk, or write one to disk, use its owners and capabilities. An
//! ordinary user gets a user namespace in which their own files belong to root
//! (`user_namespaces(7)`). Nothing is mounted, and the tool gains no rights over its user.

use std::path::Path;

use anyhow::Result;

use crate::base::command::Command;
use crate::base::inside;
use crate::host::machine;
use crate::host::tools::ExternalTool;
use crate::sandbox::bubblewrap::Bubblewrap;
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
    Ok(plan(Bubblewrap::find()?).command(purpose, path))
}

fn plan(mut bwrap: Bubblewrap) -> Bubblewrap {
    bwrap.all_capabilities().dev_bind(Path::new("/"), &inside::ROOT);
    bwrap
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::bubblewrap::samples;

    #[test]
    fn an_ordinary_user_gets_a_namespace() {
        insta::assert_snapshot!(samples::lines(&plan(samples::for_user())));
    }
}
