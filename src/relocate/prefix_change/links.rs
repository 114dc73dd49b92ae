//! Links that lead across the border of the prefix. The way from a link to its target changes with
//! the depth of the prefix, where the one moves and the other stays.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// Move of all paths below one to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathMove<'a> {
    pub from: &'a Path,
    pub to: &'a Path,
}

/// Target of a link after the move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NewTarget {
    /// It stays as it is.
    Same,
    /// It is another one.
    Changed {
        /// Path of the target, which is right before and after the move.
        absolute: PathBuf,
        /// Way to it from the new place of the link, if the old target was such a way.
        relative: Option<PathBuf>,
    },
    /// It leads through another link and back up again, to a place that depends on that.
    Unclear,
}

/// Place that a target leads to, as far as its text says.
struct LexicalPlace {
    path: PathBuf,
    /// True if it goes up from what may be a link.
    is_unclear: bool,
}

impl PathMove<'_> {
    /// Returns `path` after the move.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(self.from) {
            Ok(below) => self.to.components().chain(below.components()).collect(),
            Err(_) => path.to_owned(),
        }
    }

    /// Returns the target of `link` after the move; `links` are all links of the tree.
    pub(super) fn new_target(
        &self,
        link: &Path,
        target: &Path,
        links: &HashSet<&Path>,
    ) -> NewTarget {
        let parent = |link: &Path| link.parent().unwrap_or(Path::new("/")).to_owned();
        let old_place = follow(&parent(link), target, links);
        let new_parent = parent(&self.place(link));
        let wanted = self.place(&old_place.path);
        if follow(&new_parent, target, links).path == wanted {
            return NewTarget::Same;
        }
        if old_place.is_unclear {
            return NewTarget::Unclear;
        }
        let way = target.is_relative().then(|| relative(&new_parent, &wanted));
        NewTarget::Changed { absolute: wanted, relative: way }
    }
}

/// Returns the place that `target` leads to from the directory `from`.
fn follow(from: &Path, target: &Path, links: &HashSet<&Path>) -> LexicalPlace {
    let mut path = from.to_owned();
    let mut is_unclear = false;
    for part in target.components() {
        match part {
            Component::RootDir => path = PathBuf::from("/"),
            Component::ParentDir => {
                is_unclear |= links.contains(path.as_path());
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    LexicalPlace { path, is_unclear }
}

/// Returns the way from the directory `from` to `to`.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(common)).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_across_the_border_lead_to_the_same_place() {
        let (from, to) = (Path::new("/usr/local/old"), Path::new("/o"));
        let links = HashSet::from([Path::new("/usr/local/old/dir"), Path::new("/link")]);
        for (link, target, new) in [
            // Out of the prefix.
            ("/usr/local/old/etc/x", "../../../share/x", Some("../../usr/share/x")),
            ("/usr/local/old/etc/x", "../../../../etc/x", None),
            ("/usr/local/old/x", "../other", Some("../usr/local/other")),
            ("/usr/local/old/x", "../../../../../../etc", None),
            ("/usr/local/old/etc/x", "../../old/lib", Some("../lib")),
            // Into it.
            ("/usr/bin/x", "../local/old/bin/x", Some("../../o/bin/x")),
            ("/usr/local/x", "old", Some("../../o")),
            ("/x", "usr/local/old/x", Some("o/x")),
            ("/usr/bin/x", "/usr/local/old/bin/x", Some("/o/bin/x")),
            ("/usr/local/old/x", "/usr/local/old", Some("/o")),
            ("/usr/bin/x", "/usr/../usr/local/old/x", Some("/o/x")),
            ("/usr/bin/x", "/usr/local/old/../y", None),
            // Within it, and elsewhere.
            ("/usr/local/old/a/b/c", "../../lib/c", None),
            ("/usr/local/old/a", "b", None),
            ("/usr/bin/x", "../lib/x", None),
            ("/usr/bin/x", "/usr/local/older/x", None),
        ] {
            let moved = PathMove { from, to };
            let found = match moved.new_target(link.as_ref(), target.as_ref(), &links) {
                NewTarget::Same => None,
                NewTarget::Changed { absolute, relative } => Some(relative.unwrap_or(absolute)),
                NewTarget::Unclear => panic!("{link} {target}"),
            };
            assert_eq!(found.as_deref(), new.map(Path::new), "{link} {target}");
        }
        let unclear = "dir/../../x";
        let found =
            PathMove { from, to }.new_target("/usr/local/old/x".as_ref(), unclear.as_ref(), &links);
        assert_eq!(found, NewTarget::Unclear);
    }

    #[test]
    fn ways_between_directories() {
        let way = |from: &str, to: &str| relative(from.as_ref(), to.as_ref());
        assert_eq!(way("/a/b", "/a/c/d"), Path::new("../c/d"));
        assert_eq!(way("/a", "/a"), Path::new("."));
        assert_eq!(way("/", "/a"), Path::new("a"));
        assert_eq!(way("/a/b", "/"), Path::new("../.."));
    }
}
