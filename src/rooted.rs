//! Paths as a program sees them when a tree is its root directory: links are followed, and none
//! leads out of the tree.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Links that are followed before it is taken for a loop, as `path_resolution(7)` has it.
pub const MOST_LINKS: usize = 40;

/// Trees laid over each other: what is in an earlier one hides what is in a later one.
#[derive(Clone, Debug)]
pub struct Rooted {
    trees: Vec<PathBuf>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
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

impl Rooted {
    /// The trees at these directories; earlier ones win.
    pub fn new(trees: Vec<PathBuf>) -> Self {
        Self { trees }
    }

    /// The place of `path` on disk in the first tree that has it, links not followed.
    fn on_disk(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.trees.iter().map(|tree| tree.join(below)).find(|p| p.symlink_metadata().is_ok())
    }

    /// Where the absolute `path` leads.
    pub fn resolve(&self, path: &Path) -> Place {
        let mut rest: Vec<OsString> = parts(path);
        rest.reverse();
        let mut at = PathBuf::from("/");
        let mut disk = self.trees.first().cloned().unwrap_or_default();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                disk = self.on_disk(&at).unwrap_or_default();
                continue;
            }
            let next = at.join(&part);
            let Some(found) = self.on_disk(&next) else {
                let mut missing = next;
                missing.extend(rest.into_iter().rev());
                return Place::Missing(missing);
            };
            if let Ok(target) = found.read_link() {
                links += 1;
                if links > MOST_LINKS {
                    return Place::Loop;
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
        Place::There { inside: at, disk }
    }

    /// The path without links, if something is there.
    pub fn find(&self, path: &Path) -> Option<PathBuf> {
        match self.resolve(path) {
            Place::There { inside, .. } => Some(inside),
            Place::Missing(_) | Place::Loop => None,
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
pub fn normal(path: &Path) -> PathBuf {
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
        let rooted = Rooted::new(vec![tree.path().into(), under.path().into()]);
        let inside = |path: &str| rooted.find(Path::new(path));
        assert_eq!(inside("/up"), Some("/opt/x/usr/lib64".into()));
        assert_eq!(inside("/abs/../bin/jq"), Some("/opt/x/usr/bin/jq".into()));
        assert_eq!(rooted.resolve(Path::new("/round/x")), Place::Loop);
        assert_eq!(
            rooted.resolve(Path::new("/abs/none/x")),
            Place::Missing("/opt/x/usr/lib64/none/x".into())
        );
    }
}
