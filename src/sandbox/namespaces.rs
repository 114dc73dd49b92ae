//! Checks whether this machine lets bubblewrap make the namespaces that prefixes are built in.

use std::ffi::OsString;
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

/// Tries to make the namespace in which Portage runs: root's has all users of the machine.
///
/// # Errors
///
/// Fails if bubblewrap is missing, or if the machine forbids namespaces.
pub(crate) fn prove_all_users() -> Result<()> {
    let mut bwrap = Bubblewrap::find()?;
    bwrap.map_all_users().all_capabilities();
    around(&mut bwrap);
    bwrap.command_with_users(ALONE, "true")?.run_quiet()
}

/// Tries to make a nested namespace, in which the code of packages runs (templates/broot/phases.sh).
/// Reports the consequences if the machine forbids it.
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

/// Purpose of a run that makes one namespace.
const ALONE: &str = "enter a namespace of its own";

fn around(bwrap: &mut Bubblewrap) {
    bwrap.unshare(Namespace::Pid).ro_bind(Path::new("/"), &inside::ROOT).proc().dev();
}

fn alone(mut bwrap: Bubblewrap) -> Command {
    around(&mut bwrap);
    bwrap.command(ALONE, "true")
}

/// Returns the words that begin the plan `inner` where nobody has rights over the machine. For root,
/// `outer` becomes a namespace around it, in which the program `own` keeps device nodes from being
/// changed. An ordinary user owns none, and needs nothing around.
pub(crate) fn shield(mut outer: Bubblewrap, mut inner: Bubblewrap, own: &Path) -> Vec<OsString> {
    inner.renounce_rights();
    let mut words = Vec::new();
    if inner.is_of_root() {
        outer.renounce_rights().all_capabilities();
        around(&mut outer);
        inner.stay_in_namespace();
        words.push(outer.program().into());
        words.extend(outer.options());
        words.extend(["--".into(), own.into()]);
        words.extend(["hook", "seal-devices", "--"].map(OsString::from));
    }
    words.push(inner.program().into());
    words.extend(inner.options());
    words.push("--".into());
    words
}

fn nested(bwrap: Bubblewrap) -> Command {
    let mut inner = bwrap.clone();
    let mut outer = bwrap;
    outer.all_capabilities();
    around(&mut outer);
    inner.stay_in_namespace().drop_capabilities();
    around(&mut inner);
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
    fn root_is_shielded_from_its_devices() {
        let text = samples::ALL.map(|sample| {
            let words = shield(sample(), sample(), Path::new("/opt/fprefix"));
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            words.join(" ") + "\n"
        });
        insta::assert_snapshot!(text.concat());
    }

    #[test]
    fn a_namespace_in_a_namespace() {
        let text = samples::ALL.map(|sample| nested(sample()).to_string() + "\n").concat();
        insta::assert_snapshot!(text);
    }
}
