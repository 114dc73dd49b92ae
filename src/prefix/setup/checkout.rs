//! Git checkouts that hold repositories: detects those that the user owns, and updates them.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::host::tools;

/// The state of a repository's directory for git.
pub(super) enum CheckoutState {
    /// No checkout.
    None,
    /// A checkout of another user.
    OfAnotherUser(PathBuf),
    /// A checkout of the user that we run as.
    Own(Checkout),
}

/// A git checkout that belongs to the user that we run as: git runs what its configuration names.
pub(super) struct Checkout {
    top: PathBuf,
}

impl CheckoutState {
    /// Detects the state of the directory `path` for the user that we run as.
    pub(super) fn detect(path: &Path) -> Result<Self> {
        Self::detect_for(path, rustix::process::geteuid().as_raw())
    }

    fn detect_for(path: &Path, user: u32) -> Result<Self> {
        let Some(top) = path.ancestors().find(|dir| dir.join(".git").exists()) else {
            return Ok(Self::None);
        };
        if fs_err::metadata(top)?.uid() != user {
            return Ok(Self::OfAnotherUser(top.to_owned()));
        }
        let checkout = Checkout { top: top.to_owned() };
        // It may be in a checkout that knows nothing of it, like a home directory.
        let known = checkout.git("ask git for the commit")?.args(["rev-parse", "-q", "--verify"]);
        let below = path.strip_prefix(top).unwrap_or(Path::new(""));
        let mut object = OsString::from("HEAD:");
        object.push(below);
        let known = known.arg(object).output()?.status.success();
        Ok(if known { Self::Own(checkout) } else { Self::None })
    }
}

impl Checkout {
    /// The top directory.
    pub(super) fn top(&self) -> &Path {
        &self.top
    }

    /// Refuses a checkout that cannot be updated without a decision of its owner.
    pub(super) fn check(&self) -> Result<()> {
        let top = self.top.escaped();
        let changed = self
            .git("ask git for local changes")?
            .args(["status", "--porcelain", "--untracked-files=no"])
            .read()?;
        if let Some(first) = changed.lines().next() {
            bail!("{top} has local changes ({}); commit or stash them first", first.trim());
        }
        let asks = |args: &[&str]| -> Result<bool> {
            Ok(self.git("ask git for the branch")?.args(args).output()?.status.success())
        };
        if !asks(&["symbolic-ref", "-q", "HEAD"])? {
            bail!(
                "{top} is on no branch (detached HEAD), so it stays at its commit; switch to a \
                 branch first: `git -C {top} switch BRANCH`"
            );
        }
        if !asks(&["rev-parse", "-q", "--verify", "@{upstream}"])? {
            bail!(
                "the branch of {top} has no upstream to pull from\n\
                 hint: name one: `git -C {top} branch \
                 --set-upstream-to=REMOTE/BRANCH`"
            );
        }
        Ok(())
    }

    /// The commit that it is at.
    pub(super) fn commit(&self) -> Result<String> {
        let commit = self.git("ask git for the commit")?.args(["rev-parse", "HEAD"]).read()?;
        Ok(commit.trim().to_owned())
    }

    /// Brings it up to date with its upstream, where that only adds commits.
    pub(super) fn pull(&self) -> Result<()> {
        self.git(&format!("bring {} up to date", self.top.escaped()))?
            .args(["pull", "--quiet", "--ff-only"])
            .run_quiet()
    }

    /// Goes back to the commit that it was at.
    pub(super) fn go_back(&self, commit: &str) -> Result<()> {
        self.git(&format!("take {} back to {commit}", self.top.escaped()))?
            .args(["reset", "--quiet", "--keep", commit])
            .run_quiet()
    }

    fn git(&self, purpose: &str) -> Result<Command> {
        // Looking is not to write, and nobody is there to answer.
        Ok(tools::GIT
            .command(purpose)?
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .pass("SSH_AUTH_SOCK")
            .pass("GIT_SSH_COMMAND")
            .arg("-C")
            .arg(&self.top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_checkout_is() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let repo = top.join("repo");
        fs_err::create_dir(&repo).unwrap();
        fs_err::write(repo.join("file"), "").unwrap();
        assert!(matches!(CheckoutState::detect(&repo).unwrap(), CheckoutState::None));
        let git = |args: &[&str]| {
            Command::new("make a checkout", "git")
                .args(["-c", "user.name=x", "-c", "user.email=x@y", "-C"])
                .arg(top)
                .args(args)
                .run_quiet()
                .unwrap();
        };
        git(&["init", "-q"]);
        // git is in charge of the folder around it, and does not know it.
        assert!(matches!(CheckoutState::detect(&repo).unwrap(), CheckoutState::None));
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "x"]);
        assert!(
            matches!(CheckoutState::detect(&repo).unwrap(), CheckoutState::Own(found) if found.top() == top)
        );
        assert!(matches!(CheckoutState::detect(top).unwrap(), CheckoutState::Own(_)));
        let other = rustix::process::geteuid().as_raw() + 1;
        assert!(
            matches!(CheckoutState::detect_for(&repo, other).unwrap(), CheckoutState::OfAnotherUser(at) if at == top)
        );
    }
}
