//! Directories that programs write to. The extension is read-only, so each is a link to a directory
//! of the target that systemd-tmpfiles makes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::base::data::Folder;
use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::base::template;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::prefix::integration::is_kept;

/// Directory that keeps the initial content of state (file-hierarchy(7), "factory").
pub(crate) const FACTORY: &str = "usr/share/factory";

/// Directories of the prefix in which programs keep what changes.
const CHANGING: &[&str] = &["var", "run"];

/// Directories of the prefix for what a boot removes.
const VOLATILE: &[&str] = &["run", "var/run"];

/// Directory of the prefix that programs write to: a path below EPREFIX.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct StatePath(PathBuf);

impl FromStr for StatePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new(text);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '%' | '"' | '\'');
        if text.is_empty() || !path.components().all(plain) || text.contains(odd) {
            bail!("{text:?} has to be a directory below EPREFIX, like var/lib/demo or etc");
        }
        Ok(Self(path.components().collect()))
    }
}

/// Source of what a directory holds at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitialContent {
    /// Content of the extension, which is copied.
    Factory,
    /// Nothing; a rule of a package makes the directory.
    Rule,
    /// Nothing, and no rule makes the directory.
    Nothing,
}

/// Directory of the prefix that is a link on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateDirectory {
    /// Path below EPREFIX.
    pub below: PathBuf,
    /// Path on the target.
    pub place: String,
    /// Source of its content.
    pub content: InitialContent,
    /// True if the user did not ask for it.
    pub is_implied: bool,
}

/// Directories that tmpfiles rules of packages name, by their paths below EPREFIX.
#[derive(Debug, Default)]
pub(crate) struct RuledPaths {
    /// Directories that rules make.
    pub made: BTreeSet<PathBuf>,
    /// All paths of rules.
    pub named: BTreeSet<PathBuf>,
}

/// Lists the directories that become links: those of `given`, and those that rules make below var
/// and run while the extension has no files for them.
pub(crate) fn list_directories(
    plan: &FileTree,
    name: &PrefixName,
    given: &[StatePath],
    ruled: &RuledPaths,
) -> Result<Vec<StateDirectory>> {
    let mut directories = Vec::new();
    for StatePath(below) in given.iter().collect::<BTreeSet<_>>() {
        let is_there =
            plan.entries.get(&plan.prefix_path().join(below)).is_some_and(Entry::is_directory);
        let content = if is_there {
            InitialContent::Factory
        } else if ruled.made.contains(below) {
            InitialContent::Rule
        } else if ruled.named.iter().any(|path| path.starts_with(below)) {
            InitialContent::Nothing
        } else {
            bail!("the prefix has no directory {} for state", below.escaped());
        };
        let place = format!("/var/lib/{name}/{}", below.to_string_lossy());
        let below = below.clone();
        directories.push(StateDirectory { below, place, content, is_implied: false });
    }
    for below in &ruled.made {
        let is_apart = |known: &StateDirectory| {
            !known.below.starts_with(below) && !below.starts_with(&known.below)
        };
        if directories.iter().all(is_apart)
            && let Some(content) = find_implied(plan, below)
        {
            let place = name_implied(name, below);
            let below = below.clone();
            directories.push(StateDirectory { below, place, content, is_implied: true });
        }
    }
    Ok(directories)
}

/// Returns the content of a directory that has to be on the target for the rule that makes it;
/// `None` if it is not for what changes, or has files.
fn find_implied(plan: &FileTree, below: &Path) -> Option<InitialContent> {
    let is_below = |dir: &&str| below.starts_with(dir) && below != Path::new(dir);
    let is_plain = below.to_str().is_some_and(|text| text.parse::<StatePath>().is_ok());
    if !CHANGING.iter().any(is_below) || !is_plain {
        return None;
    }
    let place = plan.prefix_path().join(below);
    let is_directory = |path: &Path| plan.entries.get(path).is_none_or(Entry::is_directory);
    if !place.ancestors().all(is_directory) {
        return None;
    }
    let mut content = InitialContent::Rule;
    for (path, entry) in plan.entries.range(place.clone()..) {
        if !path.starts_with(&place) {
            break;
        }
        if entry.is_directory() {
            if *path != place {
                content = InitialContent::Factory;
            }
        } else if !is_kept(path) {
            return None;
        }
    }
    Some(content)
}

/// Returns the path on the target for a directory that nobody asked for.
fn name_implied(name: &PrefixName, below: &Path) -> String {
    match VOLATILE.iter().find_map(|dir| below.strip_prefix(dir).ok()) {
        Some(rest) => format!("/run/{name}/{}", rest.to_string_lossy()),
        None => format!("/var/lib/{name}/{}", below.to_string_lossy()),
    }
}

/// Returns whether the extension has rules of its own for `directories`.
pub(crate) fn has_rules(directories: &[StateDirectory]) -> bool {
    directories.iter().any(|directory| directory.content != InitialContent::Rule)
}

/// Moves `directories` out of the read-only extension. Each becomes a link, and its content becomes
/// the initial content of the directory on the target.
pub(crate) fn move_out(
    plan: &mut FileTree,
    name: &PrefixName,
    directories: &[StateDirectory],
) -> Result<()> {
    let mut lines = Vec::new();
    for StateDirectory { below, place: state, content, .. } in directories {
        let place = plan.prefix_path().join(below);
        let factory = plan.prefix_path().join(FACTORY).join(below);
        match content {
            InitialContent::Factory => {
                move_below(plan, &place, &factory)?;
                let factory = format!("/{}", factory.to_string_lossy());
                lines.push(json!({ "state": state, "factory": factory }));
            }
            InitialContent::Rule | InitialContent::Nothing => {
                let gone = plan.entries.range(place.clone()..).map(|(path, _)| path.clone());
                let gone = gone.take_while(|path| path.starts_with(&place)).collect();
                plan.remove(&gone);
            }
        }
        if *content == InitialContent::Nothing {
            lines.push(json!({ "state": state, "factory": null }));
        }
        plan.add(place, Entry::link(PathBuf::from(state), plan.epoch))?;
    }
    if lines.is_empty() {
        return Ok(());
    }
    let values = json!({ "name": name, "paths": lines });
    let text = template::render(Folder::Templates, "state.conf", values)?;
    plan.add(rules_path(name), Entry::generated(text.into_bytes(), plan.epoch))
}

/// Returns the path of the tmpfiles rules of the extension `name` itself.
pub(crate) fn rules_path(name: &PrefixName) -> PathBuf {
    PathBuf::from(format!("usr/lib/tmpfiles.d/{name}-state.conf"))
}

/// Moves the directory `from`, with all that is below it, to `to`.
fn move_below(plan: &mut FileTree, from: &Path, to: &Path) -> Result<()> {
    let (inside, rest): (BTreeMap<_, _>, _) =
        std::mem::take(&mut plan.entries).into_iter().partition(|(path, _)| path.starts_with(from));
    plan.entries = rest;
    let moved = |path: &Path| match path.strip_prefix(from) {
        Ok(below) if below.as_os_str().is_empty() => to.to_owned(),
        Ok(below) => to.join(below),
        Err(_) => path.to_owned(),
    };
    for (path, entry) in inside {
        plan.add(moved(&path), entry)?;
    }
    for entry in plan.entries.values_mut() {
        if let EntryKind::HardLink(first) = &mut entry.kind {
            *first = moved(first);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_prefix() {
        assert!("var/lib/demo/".parse::<StatePath>().is_ok());
        for bad in ["", "/var", "../var", "a b", "a%b"] {
            assert!(bad.parse::<StatePath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn directories_of_rules_are_links_unless_they_have_files() {
        let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
        let directory = Entry::shared_directory(1);
        for below in ["var/lib/kept", "var/lib/parts/one", "var/lib/full"] {
            plan.add(format!("opt/x/{below}"), directory.clone()).unwrap();
        }
        for below in ["var/lib/kept/.keep_a_b-0", "var/lib/full/data", "var/file"] {
            plan.add(format!("opt/x/{below}"), Entry::generated(Vec::new(), 1)).unwrap();
        }
        let made = [
            "var/lib/kept",
            "var/lib/parts",
            "var/lib/full",
            "var/lib/none",
            "var/file/x",
            "etc/none",
            "run/none",
            "var/run/none",
            "run",
            "var/lib/none/below",
            "var/lib/%m",
        ];
        let ruled = RuledPaths {
            made: made.iter().map(PathBuf::from).collect(),
            named: BTreeSet::from(["srv/x/y".into()]),
        };
        let given = ["srv/x".parse().unwrap()];
        let name = "n".parse().unwrap();
        let found = list_directories(&plan, &name, &given, &ruled).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|one| format!("{} {} {:?}", one.below.escaped(), one.place, one.content))
            .collect();
        assert_eq!(
            shown,
            [
                "srv/x /var/lib/n/srv/x Nothing",
                "run/none /run/n/none Rule",
                "var/lib/kept /var/lib/n/var/lib/kept Rule",
                "var/lib/none /var/lib/n/var/lib/none Rule",
                "var/lib/parts /var/lib/n/var/lib/parts Factory",
                "var/run/none /run/n/none Rule",
            ]
        );
        move_out(&mut plan, &name, &found).unwrap();
        assert!(!plan.entries.keys().any(|path| is_kept(path)));
        let error = list_directories(&plan, &name, &["srv/z".parse().unwrap()], &ruled);
        assert!(error.unwrap_err().to_string().contains("no directory srv/z"));
    }
}
