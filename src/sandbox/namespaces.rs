//! Checks whether this machine lets bubblewrap make the namespaces that prefixes are built in.

use anyhow::{Context, Result};

use crate::host::{machine, tools};

/// Tries to make a namespace with bubblewrap, and explains what forbids it.
pub(crate) fn prove_bubblewrap() -> Result<()> {
    let mut try_it = tools::BWRAP.command("enter a namespace of its own")?;
    if !machine::is_root() {
        try_it = try_it.args(["--unshare-user", "--uid", "0", "--gid", "0"]);
    }
    try_it
        .args(["--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"])
        .arg("true")
        .run_quiet()
        .context(
            "namespaces are forbidden here. As an ordinary user, look at `sysctl \
             kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns \
             user.max_user_namespaces`; in a container, it has to be started so that it may mount \
             (docker: --privileged, or --cap-add SYS_ADMIN with seccomp and apparmor unconfined)",
        )
}

/// Tries to make a nested namespace, in which builds can write only to their own directories
/// (templates/broot/ebuild.sh). Reports the consequences if the machine forbids it.
pub(crate) fn prove_nesting() -> Result<()> {
    let bwrap = tools::BWRAP.require()?;
    let mut try_it = bwrap.command("enter a namespace in a namespace");
    if !machine::is_root() {
        try_it = try_it.args(["--unshare-user", "--uid", "0", "--gid", "0"]);
        try_it = try_it.args(["--cap-add", "CAP_SETFCAP"]);
    }
    try_it =
        try_it.args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]).arg(bwrap.path());
    if !machine::is_root() {
        try_it = try_it.args(["--unshare-user", "--uid", "0", "--gid", "0"]);
    }
    try_it.args(["--ro-bind", "/", "/", "true"]).run_quiet().context(
        "this machine forbids namespaces in namespaces, so nothing but an ebuild itself keeps what \
         it builds from writing to the prefix",
    )
}
