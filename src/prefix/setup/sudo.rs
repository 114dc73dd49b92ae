//! Directories in Flatcar's SDK that root owns and its users build in, as /build.

use std::path::Path;

use anyhow::Result;

use crate::base::escape::Escape;
use crate::base::files;
use crate::host::machine::{self, Machine};
use crate::host::sudo::with_sudo;
use crate::prefix::definition::Prefix;

/// Makes the directories of `prefix` that only root may make, for the user that we run as. All
/// that is made on the way to them is the user's too, so that removing needs no root.
pub(super) fn make_directories(prefix: &Prefix) -> Result<()> {
    let definition = &prefix.definition;
    if definition.machine != Machine::Sdk {
        return Ok(());
    }
    for dir in [&definition.staging, &definition.r#final, &definition.distdir] {
        if !machine::may_write(dir) {
            make(dir)?;
        }
    }
    Ok(())
}

fn make(dir: &Path) -> Result<()> {
    let (ancestor, rest) = files::existing_ancestor(dir);
    let mut dirs = Vec::new();
    let mut next = ancestor;
    for part in rest.components() {
        next.push(part);
        dirs.push(next.clone());
    }
    let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
    with_sudo(&format!("make {} with sudo", dir.escaped()), "install")?
        .args(["-d", "-o", &user.as_raw().to_string(), "-g", &group.as_raw().to_string()])
        .args(dirs)
        .run_quiet()
}
