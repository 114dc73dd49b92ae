//! Kind of this machine: Flatcar's SDK, Gentoo, or any other Linux. The kind decides the default
//! place of environments, the Portage that is used, and whether wrappers need sudo.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Kind of machine on which prefixes are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// The container of Flatcar's SDK.
    Sdk,
    /// A Gentoo system with its own Portage.
    Gentoo,
    /// Any other Linux: Portage comes from PyPI.
    Other,
}

/// Portage's database of installed packages (VDB).
const VDB: &str = "var/db/pkg";

/// Folder of Flatcar's SDK that holds the ebuild repositories.
const SDK_THIRD_PARTY: &str = "mnt/host/source/src/third_party";

impl Machine {
    /// Detects the kind of the machine with the root directory `root`.
    pub fn detect(root: &Path) -> Self {
        let has = |path: &str| root.join(path).exists();
        let emerge = has("usr/bin/emerge");
        let configured = has("etc/gentoo-release") || has("etc/portage/make.profile");
        if emerge && has(SDK_THIRD_PARTY) {
            Self::Sdk
        } else if emerge && configured && has_packages(&root.join(VDB)) {
            Self::Gentoo
        } else {
            Self::Other
        }
    }

    /// Detects the kind of this machine.
    pub fn detect_running() -> Self {
        Self::detect(Path::new("/"))
    }
}

/// Returns whether Portage installed any package. A Portage beside the system's own package manager
/// does not know the installed build tools.
fn has_packages(vdb: &Path) -> bool {
    let Ok(categories) = fs_err::read_dir(vdb) else { return false };
    categories.flatten().any(|category| {
        fs_err::read_dir(category.path()).is_ok_and(|mut packages| packages.next().is_some())
    })
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sdk => "Flatcar SDK",
            Self::Gentoo => "Gentoo",
            Self::Other => "Linux without Portage",
        })
    }
}

/// Returns whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Directory in which Flatcar's SDK keeps the root directories of boards.
pub const SDK_BOARDS: &str = "/build";

/// Directory in which Flatcar's SDK keeps fetched sources.
pub const SDK_DISTFILES: &str = "/mnt/host/source/.cache/distfiles";

/// Returns whether this process may create or write `path`.
pub fn may_write(path: &Path) -> bool {
    let (ancestor, _) = crate::base::files::existing_ancestor(path);
    rustix::fs::access(&ancestor, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Returns the folder of ebuild repositories in Flatcar's SDK.
pub fn sdk_third_party() -> PathBuf {
    Path::new("/").join(SDK_THIRD_PARTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_by_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "").unwrap();
        };
        assert_eq!(Machine::detect(root.path()), Machine::Other);
        make("usr/bin/emerge");
        make("etc/gentoo-release");
        make("var/db/pkg/app-shells/x");
        fs_err::remove_file(root.path().join("var/db/pkg/app-shells/x")).unwrap();
        assert_eq!(Machine::detect(root.path()), Machine::Other);
        make("var/db/pkg/app-shells/bash-5.2/PF");
        assert_eq!(Machine::detect(root.path()), Machine::Gentoo);
        make("mnt/host/source/src/third_party/x");
        assert_eq!(Machine::detect(root.path()), Machine::Sdk);
    }
}
