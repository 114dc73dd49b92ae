//! Paths as a program sees them when a tree is its root directory: links are followed, and none
//! leads out of the tree.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Links that are followed before it is taken for a loop, as `path_resolution(7)` has it.
pub(crate) const MOST_LINKS: usize = 40;

/// Trees laid over each other: what is in an earlier one hides what is in a later one.
#[derive(Clone, Debug)]
pub(crate) struct RootResolver {
    trees: Vec<PathBuf>,
    /// Links that are to lead elsewhere than they do.
    links: Arc<HashMap<PathBuf, PathBuf>>,
    /// Where paths led, in trees that do not change meanwhile.
    known: Option<Arc<RwLock<HashMap<PathBuf, ResolvedPath>>>>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResolvedPath {
    /// To something that is there.
    There {
        /// Its path without links, as programs see it.
        inside: PathBuf,
        /// The same on disk.
        disk: PathBuf,
    },
    /// To nothing, at this path without links.
    Missing(PathBuf),
    /// Round in a circle.
    Loop,
}

impl RootResolver {
    /// The trees at these directories; earlier ones win.
    pub(crate) fn new(trees: Vec<PathBuf>) -> Self {
        Self { trees, links: Arc::default(), known: None }
    }

    /// The same for trees that nothing changes as long as this is used: each path is looked up
    /// once, however many files lead to it.
    pub(crate) fn cached(trees: Vec<PathBuf>) -> Self {
        Self { trees, links: Arc::default(), known: Some(Arc::default()) }
    }

    /// The same, with these links leading to these targets.
    #[must_use]
    pub(crate) fn with_links(self, links: HashMap<PathBuf, PathBuf>) -> Self {
        Self { links: Arc::new(links), known: Some(Arc::default()), ..self }
    }

    /// The place of `path` on disk in the first tree that has it, and where it leads if it is a
    /// link.
    fn on_disk(&self, path: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.trees.iter().map(|tree| tree.join(below)).find_map(|place| {
            // One call tells files from links and from nothing: readlink(2) has EINVAL for a file.
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

    /// Where the absolute `path` leads.
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

    /// Where `rest` leads from `start`, a path without links that is there.
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

    /// Whether there is anything at this path, be it a link that leads nowhere.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.on_disk(path).is_some()
    }

    /// The place on disk of a path that is there.
    fn disk_of(&self, path: &Path) -> PathBuf {
        if path == Path::new("/") {
            return self.trees.first().cloned().unwrap_or_default();
        }
        self.on_disk(path).map(|(place, _)| place).unwrap_or_default()
    }

    /// The path without links, if something is there.
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

/// `path` with `.`, `..` and doubled slashes taken out, without a look at any link.
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
            // Twice: what is known is no other than what is found out.
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
