//! Paths of a root that its packages own, and those that nobody does: what `pkg_postinst` wrote,
//! caches, files that somebody put there.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::fstree::resolve::RootResolver;
use crate::portage::{contents, vdb};

/// Directories below EROOT in which Portage keeps its own state.
pub(crate) const STATE: &[&str] =
    &["etc/portage", "var/cache/edb", "var/db/pkg", "var/db/repos", "var/lib/portage"];

/// Paths below EROOT that every prefix has: the merged-usr layout, and what Portage's env-update
/// writes from etc/env.d (`portage.util.env_update`).
const COMMON: &[&str] = &[
    "bin",
    "etc",
    "etc/csh.env",
    "etc/environment.d",
    "etc/environment.d/10-gentoo-env.conf",
    "etc/ld.so.conf",
    "etc/prelink.conf",
    "etc/profile.env",
    "lib",
    "lib64",
    "sbin",
    "tmp",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var",
    "var/cache",
    "var/db",
    "var/lib",
];

/// The paths that packages own.
#[derive(Debug)]
pub(crate) struct PackageOwnership {
    eprefix: PathBuf,
    /// Paths without links, as programs see them.
    owned: HashSet<PathBuf>,
}

impl PackageOwnership {
    /// Reads the database at `vdb` of the root directory `root`, in which programs live at
    /// `eprefix`. `None` where there is no database.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub(crate) fn read(root: &Path, eprefix: &Path, vdb: &Path) -> Result<Option<Self>> {
        if !vdb.is_dir() {
            return Ok(None);
        }
        let resolver = RootResolver::new(vec![root.to_owned()]);
        let mut directories: HashMap<PathBuf, PathBuf> = HashMap::new();
        let mut owned = HashSet::new();
        for package in vdb::installed(vdb)? {
            for path in contents::paths(&package.read("CONTENTS")?) {
                let path = Path::new("/").join(path);
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                    continue;
                };
                // CONTENTS has paths as the ebuild had them, also through links to directories.
                if !directories.contains_key(parent) {
                    let real = resolver.find(parent).unwrap_or_else(|| parent.to_owned());
                    directories.insert(parent.to_owned(), real);
                }
                if let Some(real) = directories.get(parent) {
                    owned.insert(real.join(name));
                }
            }
        }
        Ok(Some(Self { eprefix: eprefix.to_owned(), owned }))
    }

    /// Returns whether no package owns `path`, a path without links as programs see it. What every
    /// prefix has and Portage's own state do not count, nor what is outside of the prefix.
    pub(crate) fn is_unowned(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.eprefix) else { return false };
        !below.as_os_str().is_empty()
            && !self.owned.contains(path)
            && !COMMON.iter().any(|common| below == Path::new(common))
            && !STATE.iter().any(|state| below.starts_with(state) || is_above(below, state))
    }
}

fn is_above(path: &Path, state: &str) -> bool {
    Path::new(state).starts_with(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_through_links_and_not_owned() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let vdb = root.join("p/var/db/pkg");
        fs_err::create_dir_all(vdb.join("a/b-1")).unwrap();
        fs_err::create_dir_all(root.join("p/usr/lib64")).unwrap();
        std::os::unix::fs::symlink("usr/lib64", root.join("p/lib64")).unwrap();
        let contents = "dir /p\ndir /p/lib64\nobj /p/lib64/libx.so.1 0123 17\n\
                        sym /p/usr/link -> target 17\nfif /p/usr/pipe\n";
        fs_err::write(vdb.join("a/b-1/CONTENTS"), contents).unwrap();
        let ownership = PackageOwnership::read(root, Path::new("/p"), &vdb).unwrap().unwrap();
        for owned in ["/p/usr/lib64/libx.so.1", "/p/usr/link", "/p/usr/pipe", "/p/usr", "/p"] {
            assert!(!ownership.is_unowned(Path::new(owned)), "{owned}");
        }
        for state in ["/p/var/db/pkg/a/b-1/CONTENTS", "/p/var/db", "/p/etc/profile.env", "/usr/x"] {
            assert!(!ownership.is_unowned(Path::new(state)), "{state}");
        }
        for unowned in ["/p/usr/lib64/made", "/p/usr/lib64/libx.so.1/x", "/p/var/lib/x"] {
            assert!(ownership.is_unowned(Path::new(unowned)), "{unowned}");
        }
        assert!(PackageOwnership::read(root, Path::new("/p"), &root.join("q")).unwrap().is_none());
    }
}
