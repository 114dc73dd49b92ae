//! Directory in which fprefix keeps prefixes, its Portage and distfiles for a user.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::names::PrefixId;
use crate::host::machine::{self, Machine};

/// Environment variable that sets the directory for everything that fprefix keeps.
pub(crate) const HOME_VARIABLE: &str = "FPREFIX_HOME";

/// Directory of the files that fprefix keeps for its user.
///
/// ```text
/// <home>/                     /var/lib/fprefix for root, else $XDG_DATA_HOME/fprefix
///   portage/<version>/        Portage, on machines that have none
///   tools/<name>-<version>/   build tools of PyPI that real trees want newer than the machine's
///   distfiles/                DISTDIR, shared by all prefixes
///   prefixes/<id>/            one directory a prefix; the id is <name>-<board>
///     prefix.toml             its definition
///     staging/  final/        its environments, by default
/// ```
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// Returns the home of this user.
    pub fn of_user() -> Result<Self> {
        if let Some(home) = std::env::var_os(HOME_VARIABLE).filter(|home| !home.is_empty()) {
            return Ok(Self(
                std::path::absolute(&home)
                    .with_context(|| format!("{HOME_VARIABLE} is {}", home.escaped()))?,
            ));
        }
        if machine::is_root() {
            return Ok(Self("/var/lib/fprefix".into()));
        }
        // A path that is not absolute must be ignored (XDG Base Directory Specification).
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        if let Some(data) = data.filter(|data| data.is_absolute()) {
            return Ok(Self(data.join("fprefix")));
        }
        match std::env::home_dir() {
            Some(home) if home.is_absolute() => Ok(Self(home.join(".local/share/fprefix"))),
            _ => bail!("there is no home directory to keep prefixes in\nhint: set {HOME_VARIABLE}"),
        }
    }

    /// Returns the home at `path`.
    #[cfg(test)]
    pub(crate) fn from_path(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the path of the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the directory of Portage releases.
    pub fn portage(&self) -> PathBuf {
        self.0.join("portage")
    }

    /// Returns the directory of build tools from PyPI.
    pub fn tools(&self) -> PathBuf {
        self.0.join("tools")
    }

    /// Returns DISTDIR.
    pub fn distfiles(&self) -> PathBuf {
        self.0.join("distfiles")
    }

    /// Returns the default DISTDIR on a machine of this kind.
    pub fn default_distdir(&self, machine: Machine) -> PathBuf {
        if machine == Machine::Sdk { machine::SDK_DISTFILES.into() } else { self.distfiles() }
    }

    /// Returns the directory of prefixes.
    pub fn prefixes(&self) -> PathBuf {
        self.0.join("prefixes")
    }

    /// Returns the directory of the prefix `id`.
    pub fn prefix(&self, id: &PrefixId) -> PathBuf {
        self.prefixes().join(id.to_string())
    }

    /// Returns the default directories of the two environments on a machine of this kind.
    pub fn default_dirs(&self, id: &PrefixId, machine: Machine) -> (PathBuf, PathBuf) {
        if machine == Machine::Sdk {
            return (
                PathBuf::from(format!("/build/prefix-{}/{}", id.board, id.name)),
                PathBuf::from(format!("__prefix__/{}/{}", id.board, id.name)),
            );
        }
        let dir = self.prefix(id);
        (dir.join("staging"), dir.join("final"))
    }
}
