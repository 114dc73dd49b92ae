//! Signature of SHA256SUMS by which systemd-sysupdate trusts its downloads (sysupdate.d(5),
//! "Verify="). It is detached and binary, and the machine's gpg makes it. Targets have the public
//! key in /etc/systemd/import-pubring.gpg.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::base::command::Command;
use crate::base::escape::{self, Escape};
use crate::host::tools;

/// A key that gpg signs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SumsKey {
    /// Fingerprint, key ID or user ID.
    name: String,
    /// Home directory of gpg; `None` for the caller's default.
    #[serde(serialize_with = "escape::optional_path::serialize")]
    home: Option<PathBuf>,
}

impl SumsKey {
    /// Opens the key that gpg knows as `name`. Its secret part must be available.
    pub(crate) fn open(name: &str, home: Option<&Path>) -> Result<Self> {
        if let Some(home) = home.filter(|home| !home.is_dir()) {
            bail!("there is no directory {} with keys of gpg", home.escaped());
        }
        let home = home.map(std::path::absolute).transpose()?;
        let key = Self { name: name.to_owned(), home };
        key.gpg("look for the key to sign SHA256SUMS with")?
            .args(["--list-secret-keys", "--", name])
            .run_quiet()
            .with_context(|| {
                format!(
                    "gpg has no secret key {name:?} to sign SHA256SUMS with; `gpg \
                     --list-secret-keys` shows those it has, GNUPGHOME or --gnupg-home says where"
                )
            })?;
        Ok(key)
    }

    fn gpg(&self, purpose: &str) -> Result<Command> {
        let command = tools::GPG.command(purpose)?.pass("GPG_TTY").pass("DISPLAY");
        let command = match &self.home {
            Some(home) => command.env("GNUPGHOME", home),
            None => command.pass("GNUPGHOME"),
        };
        Ok(command.args(["--batch", "--no-options"]))
    }

    /// Signs `file`, writes the signature to `signature` and verifies it.
    pub(crate) fn sign(&self, file: &Path, signature: &Path) -> Result<()> {
        self.gpg("sign SHA256SUMS")?
            .args(["--yes", "--local-user", &self.name, "--output"])
            .arg(signature)
            .arg("--detach-sign")
            .arg(file)
            .run_quiet()?;
        self.gpg("verify the signature of SHA256SUMS")?
            .arg("--verify")
            .arg(signature)
            .arg(file)
            .run_quiet()
    }
}
