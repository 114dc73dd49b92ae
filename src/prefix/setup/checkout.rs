//! Git checkouts in which repositories are: which ones are ours to bring up to date, and that.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::command::{Command, look_up};

/// What a repository's directory is to git.
pub(super) enum Source {
    /// None of git's.
    Plain,
    /// A checkout of another user.
    Theirs(PathBuf),
    /// A checkout of ours.
    Ours(Checkout),
}

/// A git checkout that belongs to the user that we run as: git runs what its configuration names.
pub(super) struct Checkout {
    top: PathBuf,
}

impl Source {
    /// What the directory `path` is to the user that we run as.
    pub(super) fn of(path: &Path) -> Result<Self> {
        Self::of_user(path, rustix::process::geteuid().as_raw())
    }

    fn of_user(path: &Path, user: u32) -> Result<Self> {
        let Some(top) = path.ancestors().find(|dir| dir.join(".git").exists()) else {
            return Ok(Self::Plain);
        };
        if fs_err::metadata(top)?.uid() != user {
            return Ok(Self::Theirs(top.to_owned()));
        }
        let checkout = Checkout { top: top.to_owned() };
        // It may be in a checkout that knows nothing of it, like a home directory.
        let known = checkout.git("ask git for the commit")?.args(["rev-parse", "-q", "--verify"]);
        let below = path.strip_prefix(top).unwrap_or(Path::new(""));
        let known = known.arg(format!("HEAD:{}", below.display())).output()?.status.success();
        Ok(if known { Self::Ours(checkout) } else { Self::Plain })
    }
}

impl Checkout {
    /// Where it is.
    pub(super) fn top(&self) -> &Path {
        &self.top
    }

    /// Refuses a checkout that can not be brought up to date without a decision of its owner.
    pub(super) fn check(&self) -> Result<()> {
        let top = self.top.display();
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
                "the branch of {top} has no upstream to pull from; name one: `git -C {top} branch \
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
        self.git(&format!("bring {} up to date", self.top.display()))?
            .args(["pull", "--quiet", "--ff-only"])
            .run_quiet()
    }

    /// Goes back to the commit that it was at.
    pub(super) fn go_back(&self, commit: &str) -> Result<()> {
        self.git(&format!("take {} back to {commit}", self.top.display()))?
            .args(["reset", "--quiet", "--keep", commit])
            .run_quiet()
    }

    fn git(&self, purpose: &str) -> Result<Command> {
        let git = look_up("git").context(
            "git is not there: repositories that are checkouts are brought up to date with it; \
             `fprefix doctor` says how to install it",
        )?;
        // Looking is not to write, and nobody is there to answer.
        Ok(Command::new(purpose, git)
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
        assert!(matches!(Source::of(&repo).unwrap(), Source::Plain));
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
        assert!(matches!(Source::of(&repo).unwrap(), Source::Plain));
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "x"]);
        assert!(matches!(Source::of(&repo).unwrap(), Source::Ours(found) if found.top() == top));
        assert!(matches!(Source::of(top).unwrap(), Source::Ours(_)));
        let other = rustix::process::geteuid().as_raw() + 1;
        assert!(matches!(Source::of_user(&repo, other).unwrap(), Source::Theirs(at) if at == top));
    }
}
