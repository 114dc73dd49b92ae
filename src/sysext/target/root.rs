//! Facts that a target's tree shows: os-release, systemd, kernels, machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use crate::fstree::root_dir::RootDir;
use crate::host::os_release;
use crate::imagefmt::architecture::Architecture;

/// Paths of systemd's private library, which has the version in its name:
/// `libsystemd-shared-252.so`, and with Debian's revision `libsystemd-shared-257.9-1.so`.
const LIBRARIES: &[&str] = &[
    "/usr/lib/systemd",
    "/usr/lib64/systemd",
    "/usr/lib/x86_64-linux-gnu/systemd",
    "/usr/lib/aarch64-linux-gnu/systemd",
    "/lib/systemd",
];
const LIBRARY: &str = "libsystemd-shared-";

/// Package databases whose entries are directories named after package and version.
const DATABASES: &[&str] = &["/var/db/pkg/sys-apps", "/var/lib/pacman/local"];

/// Programs that show the machine a target is for.
const PROGRAMS: &[&str] = &["/usr/lib/systemd/systemd", "/usr/bin/env", "/usr/bin/sh", "/bin/sh"];

/// The tree of a target.
#[derive(Debug)]
pub(super) struct TargetRoot<'a>(pub &'a RootDir);

impl TargetRoot<'_> {
    fn names(&self, dir: &str) -> Result<Vec<String>> {
        let names = self.0.read_dir(Path::new(dir))?.unwrap_or_default();
        Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn text(&self, path: &str) -> Result<Option<String>> {
        let bytes = self.0.read_file(Path::new(path))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Returns the fields of its os-release, searched in the same order as systemd does; `None`
    /// without one.
    pub(super) fn os_release(&self) -> Result<Option<BTreeMap<String, String>>> {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if let Some(text) = self.text(path)? {
                return Ok(Some(os_release::parse(&text)));
            }
        }
        Ok(None)
    }

    /// Returns the version of its systemd: the number before the first dot.
    pub(super) fn systemd(&self) -> Result<Option<u32>> {
        for dir in LIBRARIES {
            let names = self.names(dir)?;
            let versions = names.iter().filter_map(|name| number(name.strip_prefix(LIBRARY)?));
            if let Some(version) = versions.max() {
                return Ok(Some(version));
            }
        }
        for dir in DATABASES {
            let names = self.names(dir)?;
            let versions = names.iter().filter_map(|name| number(name.strip_prefix("systemd-")?));
            if let Some(version) = versions.max() {
                return Ok(Some(version));
            }
        }
        self.systemd_of_dpkg()
    }

    fn systemd_of_dpkg(&self) -> Result<Option<u32>> {
        let Some(text) = self.text("/var/lib/dpkg/status")? else { return Ok(None) };
        let package = text.split("\n\n").find(|package| {
            let has = |wanted: &str| package.lines().any(|line| line == wanted);
            has("Package: systemd") && has("Status: install ok installed")
        });
        let version = package
            .and_then(|package| package.lines().find_map(|line| line.strip_prefix("Version: ")));
        Ok(version.and_then(|version| number(version.rsplit(':').next()?)))
    }

    /// Returns the versions of its kernels that have modules.
    pub(super) fn kernels(&self) -> Result<BTreeSet<(u32, u32)>> {
        let mut kernels = BTreeSet::new();
        for dir in ["/usr/lib/modules", "/lib/modules"] {
            kernels.extend(self.names(dir)?.iter().filter_map(|name| {
                let (major, rest) = name.split_once('.')?;
                Some((major.parse().ok()?, number(rest)?))
            }));
        }
        Ok(kernels)
    }

    /// Returns the architecture that the target is for.
    pub(super) fn architecture(&self) -> Result<Option<Architecture>> {
        for path in PROGRAMS.iter().map(Path::new) {
            if self.0.has_file(path)?
                && let Some(file) = self.0.open_file(path)?
                && let Some(architecture) = Architecture::of_file(file)?
            {
                return Ok(Some(architecture));
            }
        }
        Ok(None)
    }
}

/// Returns the number at the start of `text`.
fn number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}
