//! Checks whether this machine lets bubblewrap make the namespaces that prefixes are built in.

use std::path::Path;

use anyhow::{Context, Result};

use crate::base::command::Command;
use crate::base::inside;
use crate::sandbox::bubblewrap::{Bubblewrap, Namespace};

/// Advice for machines that forbid namespaces.
const FORBIDDEN: &str = "namespaces are forbidden here. As an ordinary user, look at `sysctl \
     kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns \
     user.max_user_namespaces`; in a container, it has to be started so that it may mount (docker: \
     --privileged, or --cap-add SYS_ADMIN with seccomp and apparmor unconfined)";

/// Tries to make a namespace with bubblewrap, and explains what forbids it.
///
/// # Errors
///
/// Fails if bubblewrap is missing, or if the machine forbids namespaces.
pub(crate) fn prove_bubblewrap() -> Result<()> {
    alone(Bubblewrap::find()?).run_quiet().context(FORBIDDEN)
}

/// Tries to make a namespace in which root, too, has no rights over the machine.
///
/// # Errors
///
/// Fails if bubblewrap is missing, or if the machine forbids namespaces.
pub(crate) fn prove_renouncing() -> Result<()> {
    let mut bwrap = Bubblewrap::find()?;
    bwrap.renounce_rights();
    alone(bwrap).run_quiet().context(FORBIDDEN).context(
        "programs that read an image of somebody else run in a namespace that keeps them from the \
         machine",
    )
}

/// Tries to make a nested namespace, in which builds can write only to their own directories
/// (templates/broot/ebuild.sh). Reports the consequences if the machine forbids it.
///
/// # Errors
///
/// Fails if bubblewrap is missing, or if the machine forbids nested namespaces.
pub(crate) fn prove_nesting() -> Result<()> {
    nested(Bubblewrap::find()?).run_quiet().context(
        "this machine forbids namespaces in namespaces, so nothing but an ebuild itself keeps what \
         it builds from writing to the prefix",
    )
}

fn alone(mut bwrap: Bubblewrap) -> Command {
    bwrap.unshare(Namespace::Pid).ro_bind(Path::new("/"), &inside::ROOT).proc().dev();
    bwrap.command("enter a namespace of its own", "true")
}

fn nested(bwrap: Bubblewrap) -> Command {
    let mut inner = bwrap.clone();
    inner.ro_bind(Path::new("/"), &inside::ROOT);
    let mut outer = bwrap;
    outer.nestable().ro_bind(Path::new("/"), &inside::ROOT).proc().dev();
    outer
        .command("enter a namespace in a namespace", inner.program())
        .args(inner.options())
        .args(["--", "true"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::bubblewrap::samples;

    #[test]
    fn one_namespace() {
        let text = samples::ALL.map(|sample| alone(sample()).to_string() + "\n").concat();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_namespace_in_a_namespace() {
        let text = samples::ALL.map(|sample| nested(sample()).to_string() + "\n").concat();
        insta::assert_snapshot!(text);
    }
}
