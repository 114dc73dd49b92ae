//! Paths as a program sees them when a tree is its root directory: links are followed, and no link
//! leads out of the tree. [`follow`] is the rule, for trees on disk and for lists of entries.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::hash::Hash;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::io::Errno;

/// Maximum number of links before a path counts as a loop, as in `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// Tree in which paths are followed, name by name.
pub(crate) trait LinkTree {
    /// Entry of the tree.
    type Entry;

    /// Returns the entry at `path`, and its target if it is a link. No directory above it in `path`
    /// is a link.
    fn entry(&self, path: &Path) -> Option<(Self::Entry, Option<Cow<'_, Path>>)>;

    /// Returns whether the entry, which is no link, is a directory.
    fn is_directory(&self, entry: &Self::Entry) -> bool;
}

/// Result of following a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Followed<E> {
    /// The path exists.
    There {
        /// Path without links, as programs see it.
        inside: PathBuf,
        /// Entry at the path; `None` for the root directory.
        entry: Option<E>,
    },
    /// Nothing exists at this path without links. It has no `..`.
    Missing(PathBuf),
    /// A `..` follows this path, which is missing or is no directory.
    NoDirectory(PathBuf),
    /// The links form a loop.
    Loop,
}

/// Follows `path` in `tree` from `start`, a directory without links. As in a chroot, `..` of the
/// root directory is the root directory, and absolute targets begin there. As in the kernel, there
/// is no `..` of something missing and of a file: such a path never reaches anything.
pub(crate) fn follow_links<'t, T: LinkTree>(
    tree: &'t T,
    start: &Path,
    path: &'t Path,
) -> Followed<T::Entry> {
    let mut rest: Vec<Cow<'t, OsStr>> = Vec::new();
    push_parts(&mut rest, Cow::Borrowed(path));
    let mut at = PathBuf::with_capacity(256);
    at.push(start);
    // The entry at `at`; `None` if it is known to be a directory.
    let mut entry = None;
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if *part == *".." {
            if entry.as_ref().is_some_and(|entry| !tree.is_directory(entry)) {
                return Followed::NoDirectory(at);
            }
            at.pop();
            entry = None;
            continue;
        }
        at.push(&part);
        let Some((found, target)) = tree.entry(&at) else {
            if rest.iter().any(|part| **part == *"..") {
                return Followed::NoDirectory(at);
            }
            at.extend(rest.into_iter().rev());
            return Followed::Missing(at);
        };
        let Some(target) = target else {
            entry = Some(found);
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return Followed::Loop;
        }
        at.pop();
        if target.is_absolute() {
            at.push("/");
        }
        entry = None;
        push_parts(&mut rest, target);
    }
    if entry.is_none() && at != Path::new("/") {
        entry = tree.entry(&at).map(|(entry, _)| entry);
    }
    Followed::There { inside: at, entry }
}

/// Pushes the significant components of `path`, the last one first.
fn push_parts<'t>(rest: &mut Vec<Cow<'t, OsStr>>, path: Cow<'t, Path>) {
    match path {
        Cow::Borrowed(path) => rest.extend(split_components(path).rev().map(Cow::Borrowed)),
        Cow::Owned(path) => {
            rest.extend(split_components(&path).rev().map(|part| Cow::Owned(part.to_owned())));
        }
    }
}

fn split_components(path: &Path) -> impl DoubleEndedIterator<Item = &OsStr> {
    let matters =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(matters).map(Component::as_os_str)
}

/// Trees layered over each other: entries of an earlier tree hide those of a later one.
#[derive(Clone, Debug)]
pub(crate) struct RootResolver {
    trees: Vec<PathBuf>,
    /// Links with a target that replaces the one on disk.
    links: Arc<HashMap<PathBuf, PathBuf>>,
    /// Results, for trees that do not change meanwhile; `None` without a cache.
    known: Option<Arc<KnownPaths>>,
}

/// Cache of a resolver.
#[derive(Debug, Default)]
struct KnownPaths {
    resolved: Memory<PathBuf, ResolvedPath>,
    /// For a tree, by its position, and a path below it: true if these are directories without links.
    plain: Memory<(usize, PathBuf), bool>,
}

/// Results that several threads share.
#[derive(Debug)]
struct Memory<K, V>(RwLock<HashMap<K, V>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: K, value: V) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }
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
    /// Nothing exists at this path without links. It has no `..`.
    Missing(PathBuf),
    /// A `..` follows this path, which is missing or is no directory.
    NoDirectory(PathBuf),
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

    /// Returns whether `dir` in the tree at this position is a directory that no link leads to. In
    /// a lower tree, a link may be at the path of a directory that hides it.
    fn is_plain(&self, position: usize, dir: &Path) -> bool {
        let (Some(parent), Some(tree)) = (dir.parent(), self.trees.get(position)) else {
            return true;
        };
        let key = (position, dir.to_owned());
        if let Some(plain) = self.known.as_ref().and_then(|known| known.plain.get(&key)) {
            return plain;
        }
        let plain = self.is_plain(position, parent)
            && rustix::fs::readlink(tree.join(dir), Vec::new()) == Err(Errno::INVAL);
        if let Some(known) = &self.known {
            known.plain.put(key, plain);
        }
        plain
    }

    /// Resolves the absolute `path`.
    pub(crate) fn resolve(&self, path: &Path) -> ResolvedPath {
        let Some(known) = &self.known else { return self.walk(Path::new("/"), path) };
        if let Some(place) = known.resolved.get(path) {
            return place;
        }
        // Directories that many files share are walked once.
        let place = match (path.parent(), path.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) => match self.resolve(parent) {
                ResolvedPath::There { inside, .. } => self.walk(&inside, Path::new(name)),
                ResolvedPath::Missing(missing) => ResolvedPath::Missing(missing.join(name)),
                leads_nowhere => leads_nowhere,
            },
            _ => self.walk(Path::new("/"), path),
        };
        known.resolved.put(path.to_owned(), place.clone());
        place
    }

    /// Resolves `path` from `start`, an existing path without links.
    fn walk(&self, start: &Path, path: &Path) -> ResolvedPath {
        match follow_links(self, start, path) {
            Followed::There { inside, entry } => {
                let root = || self.trees.first().cloned().unwrap_or_default();
                ResolvedPath::There { inside, disk: entry.unwrap_or_else(root) }
            }
            Followed::Missing(path) => ResolvedPath::Missing(path),
            Followed::NoDirectory(path) => ResolvedPath::NoDirectory(path),
            Followed::Loop => ResolvedPath::Loop,
        }
    }

    /// Returns whether an entry exists at this path, even a dangling link. No directory above it in
    /// `path` may be a link.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.entry(path).is_some()
    }

    /// Returns the path without links, or `None` if nothing exists there.
    pub(crate) fn find(&self, path: &Path) -> Option<PathBuf> {
        match self.resolve(path) {
            ResolvedPath::There { inside, .. } => Some(inside),
            _ => None,
        }
    }

    /// Returns the path on disk, or `None` if nothing exists there.
    pub(crate) fn find_on_disk(&self, path: &Path) -> Option<PathBuf> {
        match self.resolve(path) {
            ResolvedPath::There { disk, .. } => Some(disk),
            _ => None,
        }
    }
}

impl LinkTree for RootResolver {
    /// Path on disk.
    type Entry = PathBuf;

    fn entry(&self, path: &Path) -> Option<(PathBuf, Option<Cow<'_, Path>>)> {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.trees.iter().enumerate().find_map(|(position, tree)| {
            let place = tree.join(below);
            // One call distinguishes links, other files and missing paths: for a file, readlink(2)
            // fails with EINVAL.
            let target = match rustix::fs::readlink(&place, Vec::new()) {
                Ok(target) => Some(target),
                Err(Errno::INVAL) => None,
                Err(_) => return None,
            };
            // In the first tree, the directories were looked up on the way.
            if position > 0 && !self.is_plain(position, below.parent()?) {
                return None;
            }
            let target = target.map(|target| match self.links.get(path) {
                Some(other) => Cow::Borrowed(other.as_path()),
                None => Cow::Owned(OsString::from_vec(target.into_bytes()).into()),
            });
            Some((place, target))
        })
    }

    fn is_directory(&self, disk: &PathBuf) -> bool {
        disk.symlink_metadata().is_ok_and(|meta| meta.is_dir())
    }
}

/// Returns `path` without `.`, `..` and doubled slashes. Links are not resolved.
pub(crate) fn normalize_path(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for part in split_components(path) {
        if part == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

/// Returns `dir` relative to `origin`, a directory. Both are paths without links.
pub(crate) fn relative_path(origin: &Path, dir: &Path) -> PathBuf {
    let shared = origin.components().zip(dir.components()).take_while(|(a, b)| a == b).count();
    let mut path = PathBuf::new();
    path.extend(origin.components().skip(shared).map(|_| ".."));
    path.extend(dir.components().skip(shared));
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::escape::Escape;
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

    /// The root directory `root` beside a file that nothing in it may reach.
    fn hostile() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("secret"), "x").unwrap();
        let root = dir.path().join("root");
        fs_err::create_dir_all(root.join("etc")).unwrap();
        fs_err::write(root.join("etc/file"), "x").unwrap();
        for (target, name) in [
            ("../secret", "up"),
            ("../../../../../secret", "far-up"),
            ("/secret", "absolute"),
            ("missing/../../secret", "behind-missing"),
            ("etc/file/../../../secret", "behind-file"),
            ("etc/file/../file", "beside-file"),
            ("etc/../etc/./file", "fine"),
            ("one", "two"),
            ("two", "one"),
            ("itself/x", "itself"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let mut last = PathBuf::from("/etc/file");
        for number in 0..=MOST_LINKS {
            symlink(&last, root.join(format!("chain{number}"))).unwrap();
            last = format!("chain{number}").into();
        }
        dir
    }

    #[test]
    fn hostile_links_never_leave_the_root() {
        let dir = hostile();
        let trees = || vec![dir.path().join("root")];
        for rooted in [RootResolver::new(trees()), RootResolver::cached(trees())] {
            let resolve = |path: &str| rooted.resolve(Path::new(path));
            let missing = |path: &str| ResolvedPath::Missing(path.into());
            for path in ["/up", "/far-up", "/absolute", "/../../secret", "/etc/../../secret"] {
                assert_eq!(resolve(path), missing("/secret"), "{path}");
            }
            let nowhere = |path: &str| ResolvedPath::NoDirectory(path.into());
            for path in ["/missing/../../secret", "/behind-missing", "/behind-missing/x"] {
                assert_eq!(resolve(path), nowhere("/missing"), "{path}");
            }
            for path in ["/behind-file", "/beside-file", "/etc/file/..", "/etc/file/../../secret"] {
                assert_eq!(resolve(path), nowhere("/etc/file"), "{path}");
            }
            assert_eq!(resolve("/etc/file/x"), missing("/etc/file/x"));
            assert_eq!(resolve("/absolute/x/y"), missing("/secret/x/y"));
            for path in ["/one", "/two/x", "/itself", "/itself/..", "/chain40"] {
                assert_eq!(resolve(path), ResolvedPath::Loop, "{path}");
            }
            for path in ["/fine", "/chain39", "/../etc/file", "//etc/./file/"] {
                assert_eq!(rooted.find(Path::new(path)), Some("/etc/file".into()), "{path}");
            }
            let root = trees();
            for path in ["/", "/..", "/etc/..", "/etc/../../.."] {
                let there = ResolvedPath::There { inside: "/".into(), disk: root[0].clone() };
                assert_eq!(resolve(path), there, "{path}");
            }
        }
    }

    #[test]
    fn the_kernel_leads_the_same_way() {
        // `openat2` with `RESOLVE_IN_ROOT` is the judge.
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
        let dir = hostile();
        let root = dir.path().join("root");
        let rooted = RootResolver::new(vec![root.clone()]);
        let top = openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut names: Vec<_> = fs_err::read_dir(&root).unwrap().map(Result::unwrap).collect();
        names.sort_by_key(fs_err::DirEntry::file_name);
        for end in ["", "/..", "/../etc", "/x", "/../../secret"] {
            for name in &names {
                let path = format!("/{}{end}", name.file_name().escaped());
                // A rename anywhere on the machine disturbs the kernel, which then also takes a long
                // way for a loop, see `root_dir`.
                let found = std::iter::repeat_with(|| {
                    openat2(&top, &path, OFlags::PATH, Mode::empty(), ResolveFlags::IN_ROOT)
                })
                .filter(|found| !matches!(found, Err(Errno::AGAIN)))
                .take(64)
                .find(|found| !matches!(found, Err(Errno::LOOP)))
                .unwrap_or(Err(Errno::LOOP));
                let same = match rooted.resolve(Path::new(&path)) {
                    ResolvedPath::There { .. } => found.is_ok(),
                    ResolvedPath::Loop => matches!(found, Err(Errno::LOOP)),
                    _ => matches!(found, Err(Errno::NOENT | Errno::NOTDIR)),
                };
                assert!(same, "{path}: {found:?}, {:?}", rooted.resolve(Path::new(&path)));
            }
        }
    }

    #[test]
    fn hidden_links_of_a_lower_tree_lead_nowhere() {
        let dir = hostile();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        fs_err::create_dir_all(upper.join("opt/x")).unwrap();
        fs_err::create_dir_all(lower.join("opt/y")).unwrap();
        fs_err::write(lower.join("opt/y/file"), "x").unwrap();
        symlink(dir.path(), lower.join("opt/x")).unwrap();
        let trees = || vec![upper.clone(), lower.clone()];
        for rooted in [RootResolver::new(trees()), RootResolver::cached(trees())] {
            assert_eq!(rooted.find(Path::new("/opt/x/secret")), None);
            assert_eq!(
                rooted.find_on_disk(Path::new("/opt/y/file")),
                Some(lower.join("opt/y/file"))
            );
        }
    }
}
