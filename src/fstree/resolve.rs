//! Paths as a program sees them when a tree is its root directory: links are followed, and no link
//! leads out of the tree.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Maximum number of links before a path counts as a loop, as in `path_resolution(7)`.
pub(crate) const MOST_LINKS: usize = 40;

/// Trees layered over each other: entries of an earlier tree hide those of a later one.
#[derive(Clone, Debug)]
pub(crate) struct RootResolver {
    trees: Vec<PathBuf>,
    /// Links with a target that replaces the one on disk.
    links: Arc<HashMap<PathBuf, PathBuf>>,
    /// Cache of resolved paths, for trees that do not change meanwhile; `None` without a cache.
    known: Option<Arc<RwLock<HashMap<PathBuf, ResolvedPath>>>>,
}

/// Result of resolving a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResolvedPath {
    /// The path exists.
    There {
        /// Path without links, as programs see it.
        inside: PathBuf,
        /// Path on disk.
        disk: PathBuf,
    },
    /// Nothing exists at this path without links.
    Missing(PathBuf),
    /// The links form a loop.
    Loop,
}

impl RootResolver {
    /// Makes a resolver for the trees at these directories; earlier ones win.
    pub(crate) fn new(trees: Vec<PathBuf>) -> Self {
        Self { trees, links: Arc::default(), known: None }
    }

    /// Makes a resolver for trees that do not change during its use: each path is looked up once,
    /// however many files share it.
    pub(crate) fn cached(trees: Vec<PathBuf>) -> Self {
        Self { trees, links: Arc::default(), known: Some(Arc::default()) }
    }

    /// Replaces the targets of these links.
    #[must_use]
    pub(crate) fn with_links(self, links: HashMap<PathBuf, PathBuf>) -> Self {
        Self { links: Arc::new(links), known: Some(Arc::default()), ..self }
    }

    /// Returns the path on disk in the first tree that has `path`, and the target if it is a link.
    fn on_disk(&self, path: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.trees.iter().map(|tree| tree.join(below)).find_map(|place| {
            // One call distinguishes links, other files and missing paths: for a file, readlink(2)
            // fails with EINVAL.
            match rustix::fs::readlink(&place, Vec::new()) {
                Ok(target) => {
                    let found = || OsString::from_vec(target.into_bytes()).into();
                    Some((place, Some(self.links.get(path).cloned().unwrap_or_else(found))))
                }
                Err(rustix::io::Errno::INVAL) => Some((place, None)),
                Err(_) => None,
            }
        })
    }

    /// Resolves the absolute `path`.
    pub(crate) fn resolve(&self, path: &Path) -> ResolvedPath {
        let Some(known) = &self.known else { return self.walk(Path::new("/"), parts(path)) };
        if let Some(place) = known.read().unwrap_or_else(PoisonError::into_inner).get(path) {
            return place.clone();
        }
        // Directories that many files share are walked once.
        let place = match (path.parent(), path.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) => match self.resolve(parent) {
                ResolvedPath::There { inside, .. } => self.walk(&inside, vec![name.to_owned()]),
                ResolvedPath::Missing(missing) => ResolvedPath::Missing(missing.join(name)),
                ResolvedPath::Loop => ResolvedPath::Loop,
            },
            _ => self.walk(Path::new("/"), parts(path)),
        };
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(path.to_owned(), place.clone());
        place
    }

    /// Resolves `rest` from `start`, an existing path without links.
    fn walk(&self, start: &Path, mut rest: Vec<OsString>) -> ResolvedPath {
        rest.reverse();
        let mut at = start.to_owned();
        let mut disk = self.disk_of(&at);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                disk = self.disk_of(&at);
                continue;
            }
            let next = at.join(&part);
            let Some((found, link)) = self.on_disk(&next) else {
                let mut missing = next;
                missing.extend(rest.into_iter().rev());
                return ResolvedPath::Missing(missing);
            };
            if let Some(target) = link {
                links += 1;
                if links > MOST_LINKS {
                    return ResolvedPath::Loop;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(parts(&target).into_iter().rev());
                continue;
            }
            at = next;
            disk = found;
        }
        ResolvedPath::There { inside: at, disk }
    }

    /// Returns whether an entry exists at this path, even a dangling link.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.on_disk(path).is_some()
    }

    /// Returns the path on disk of an existing path.
    fn disk_of(&self, path: &Path) -> PathBuf {
        if path == Path::new("/") {
            return self.trees.first().cloned().unwrap_or_default();
        }
        self.on_disk(path).map(|(place, _)| place).unwrap_or_default()
    }

    /// Returns the path without links, or `None` if nothing exists there.
    pub(crate) fn find(&self, path: &Path) -> Option<PathBuf> {
        match self.resolve(path) {
            ResolvedPath::There { inside, .. } => Some(inside),
            ResolvedPath::Missing(_) | ResolvedPath::Loop => None,
        }
    }
}

fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Returns `path` without `.`, `..` and doubled slashes. Links are not resolved.
pub(crate) fn normalize_path(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for part in parts(path) {
        if part == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside() {
        let tree = tempfile::tempdir().unwrap();
        let under = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(tree.path().join("opt/x/usr/lib64")).unwrap();
        fs_err::create_dir_all(under.path().join("opt/x/usr/bin")).unwrap();
        fs_err::write(under.path().join("opt/x/usr/bin/jq"), "").unwrap();
        symlink("usr/lib64", tree.path().join("opt/x/lib64")).unwrap();
        symlink("/opt/x/lib64", tree.path().join("abs")).unwrap();
        symlink("../../../../../abs", tree.path().join("up")).unwrap();
        symlink("round", tree.path().join("round")).unwrap();
        let trees: Vec<PathBuf> = vec![tree.path().into(), under.path().into()];
        let other = HashMap::from([("/abs".into(), "/opt/x/usr/bin".into())]);
        let planned = RootResolver::cached(trees.clone()).with_links(other);
        assert_eq!(planned.find(Path::new("/up/jq")), Some("/opt/x/usr/bin/jq".into()));
        for rooted in [RootResolver::new(trees.clone()), RootResolver::cached(trees)] {
            // The second lookup comes from the cache and must give the same result.
            for _ in 0..2 {
                let inside = |path: &str| rooted.find(Path::new(path));
                assert_eq!(inside("/up"), Some("/opt/x/usr/lib64".into()));
                assert_eq!(inside("/abs/../bin/jq"), Some("/opt/x/usr/bin/jq".into()));
                assert_eq!(rooted.resolve(Path::new("/round/x")), ResolvedPath::Loop);
                assert_eq!(
                    rooted.resolve(Path::new("/abs/none/x")),
                    ResolvedPath::Missing("/opt/x/usr/lib64/none/x".into())
                );
            }
        }
    }
}
