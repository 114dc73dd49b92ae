//! Paths inside the sandbox, as its programs see them.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use anyhow::{Result, bail};
use serde::{Serialize, Serializer};

use crate::base::escape::Escape;

/// Root directory.
pub static ROOT: InsidePath = InsidePath::constant("/");

/// Device nodes.
pub static DEV: InsidePath = InsidePath::constant("/dev");

/// Directory for shared memory.
pub static DEV_SHM: InsidePath = InsidePath::constant("/dev/shm");

/// Processes.
pub static PROC: InsidePath = InsidePath::constant("/proc");

/// Configuration of the system.
pub static ETC: InsidePath = InsidePath::constant("/etc");

/// Directory for temporary files.
pub static TMP: InsidePath = InsidePath::constant("/tmp");

/// Directory for temporary files that are kept longer.
pub static VAR_TMP: InsidePath = InsidePath::constant("/var/tmp");

/// Directory of the sandbox that holds the files of fprefix.
pub static FPREFIX: InsidePath = InsidePath::constant("/fprefix");

/// Directory of staging.
pub static STAGING: InsidePath = InsidePath::constant("/fprefix/staging");

/// Directory of final.
pub static FINAL: InsidePath = InsidePath::constant("/fprefix/final");

/// BROOT, unless the machine is BROOT.
pub static BROOT: InsidePath = InsidePath::constant("/fprefix/staging/broot");

/// Portage's profiles for the built-in repository.
pub static PROFILES: InsidePath = InsidePath::constant("/fprefix/staging/profiles");

/// Repositories that fprefix writes.
pub static OWN_REPOS: InsidePath = InsidePath::constant("/fprefix/staging/repos");

/// PKGDIR.
pub static PKGDIR: InsidePath = InsidePath::constant("/fprefix/staging/pkgs");

/// Metadata of ebuilds and other caches, which outlive a build.
pub static CACHE: InsidePath = InsidePath::constant("/fprefix/staging/cache");

/// `PORTAGE_TMPDIR`.
pub static BUILD_DIR: InsidePath = InsidePath::constant("/fprefix/staging/tmp");

/// Path where phases are reported, for progress.
pub static EVENTS: InsidePath = InsidePath::constant("/fprefix/events");

/// Folder of an environment that holds what no sandbox may reach.
pub const MARKER: &str = ".fprefix";

/// Keys of ssh(1) for a binhost: root's, who Portage is.
pub static SSH_KEYS: InsidePath = InsidePath::constant("/root/.ssh");

/// Keys with which binary packages are signed.
pub static KEYS: InsidePath = InsidePath::constant("/fprefix/staging/etc/portage/gnupg");

/// DISTDIR.
pub static DISTDIR: InsidePath = InsidePath::constant("/fprefix/distfiles");

/// Repositories of the user.
pub static REPOS: InsidePath = InsidePath::constant("/fprefix/repos");

/// A private Portage: a virtual environment of Python.
pub static PORTAGE: InsidePath = InsidePath::constant("/fprefix/portage");

/// Directory below which the compiler is visible a second time. gcc finds its libraries relative
/// to its own path. Below a directory that holds nothing else, it finds only those of the prefix.
pub static COMPILER: InsidePath = InsidePath::constant("/fprefix/gcc");

/// Directory of build tools that were fetched for real trees.
pub static TOOLS: InsidePath = InsidePath::constant("/fprefix/tools");

/// Path of the fprefix program, for the hooks that Portage runs.
pub static OWN_PROGRAM: InsidePath = InsidePath::constant("/fprefix/bin/fprefix");

/// Path of bubblewrap, for phases that run in a nested sandbox.
pub static BUBBLEWRAP: InsidePath = InsidePath::constant("/fprefix/bin/bwrap");

/// Directory with Portage's original phase scripts, each below its own path.
pub static OWN_PHASES: InsidePath = InsidePath::constant("/fprefix/ebuild");

/// Emulator of another machine, in the empty root of the run-time proof.
pub static EMULATOR: InsidePath = InsidePath::constant("/.fprefix-emulator");

/// Directory of a program that reads an image of somebody else, if it is in no usual one.
pub static FOREIGN_TOOL: InsidePath = InsidePath::constant("/tool");

/// Search path of compiler wrappers and other names that ebuilds expect, below BROOT.
pub const WRAPPER_DIR: &str = "usr/local/bin";

/// A path as the programs of a sandbox see it: absolute, without `.`, `..` and empty components.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsidePath(Cow<'static, [u8]>);

impl InsidePath {
    /// Makes a constant. One that is not absolute and normalised does not compile.
    const fn constant(path: &'static str) -> Self {
        let bytes = path.as_bytes();
        let last = bytes[bytes.len() - 1];
        assert!(bytes[0] == b'/' && (bytes.len() == 1 || (last != b'/' && last != b'.')));
        let mut at = 1;
        while at < bytes.len() {
            assert!(bytes[at - 1] != b'/' || bytes[at] != b'/');
            assert!(bytes[at - 1] != b'.' || bytes[at] != b'.');
            assert!(bytes[at - 1] != b'.' || bytes[at] != b'/');
            at += 1;
        }
        Self(Cow::Borrowed(bytes))
    }

    /// Checks a path.
    ///
    /// # Errors
    ///
    /// Fails if `path` is relative or has `..` in it.
    pub fn parse(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_absolute() {
            bail!("{} is not an absolute path", path.escaped());
        }
        if path.components().any(|component| component == Component::ParentDir) {
            bail!("{} has .. in it", path.escaped());
        }
        Ok(ROOT.join(path))
    }

    /// Returns the path of `below` in this directory. The result is always in this directory: a
    /// `/` at the start of `below` does not count, nor do its components `..`.
    #[must_use]
    pub fn join(&self, below: impl AsRef<Path>) -> Self {
        let mut path = self.as_path().to_owned();
        for component in below.as_ref().components() {
            if let Component::Normal(name) = component {
                path.push(name);
            }
        }
        Self(Cow::Owned(path.into_os_string().into_encoded_bytes()))
    }

    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl AsRef<Path> for InsidePath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

impl AsRef<OsStr> for InsidePath {
    fn as_ref(&self) -> &OsStr {
        self.as_path().as_os_str()
    }
}

impl fmt::Display for InsidePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_path().to_string_lossy())
    }
}

impl Serialize for InsidePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_path().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_normalised() {
        let parse = |path: &str| InsidePath::parse(path).map(|path| path.to_string());
        assert_eq!(parse("/usr//bin/./x/").unwrap(), "/usr/bin/x");
        assert_eq!(parse("/").unwrap(), "/");
        assert_eq!(parse("usr").unwrap_err().to_string(), "usr is not an absolute path");
        assert_eq!(parse("/usr/../x").unwrap_err().to_string(), "/usr/../x has .. in it");
        assert_eq!(InsidePath::parse("/fprefix/staging").unwrap(), STAGING);
    }

    #[test]
    fn joining_never_leaves_the_directory() {
        assert_eq!(COMPILER.join("/usr/bin/gcc").to_string(), "/fprefix/gcc/usr/bin/gcc");
        assert_eq!(REPOS.join("../../etc").to_string(), "/fprefix/repos/etc");
        assert_eq!(REPOS.join(""), REPOS);
    }
}
