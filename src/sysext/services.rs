//! Integration of packages with systemd: files at the paths that systemd reads, units that start
//! when the extension is attached, and state in writable directories.
//!
//! The files are units, tmpfiles.d and sysusers.d, all below /usr/lib (systemd.unit(5),
//! tmpfiles.d(5), sysusers.d(5)).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::base::data::Folder;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::names::PrefixName;
use crate::base::template;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::root_dir::RootDir;

/// Directories that systemd reads below /usr/lib. Packages install them below the prefix.
const READ: &[&str] = &["systemd/system", "systemd/user", "tmpfiles.d", "sysusers.d"];
/// Directories of the prefix below which packages install them.
const FROM: &[&str] = &["usr/lib", "lib"];
const UNITS: &str = "usr/lib/systemd/system";
/// Directory that keeps the initial content of state (file-hierarchy(7), "factory").
const FACTORY: &str = "usr/share/factory";
/// Suffixes of the names of units that can be started.
const KINDS: &[&str] = &["service", "socket", "timer", "path", "mount", "target", "swap"];
/// Characters that may precede the program in `Exec...=` (systemd.service(5)).
const MARKS: &[char] = &['@', '-', ':', '+', '!', '|'];

/// Name of a unit that is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UnitName(String);

impl FromStr for UnitName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let kind = text.rsplit_once('.').filter(|(name, _)| !name.is_empty()).map(|parts| parts.1);
        if !kind.is_some_and(|kind| KINDS.contains(&kind)) || !text.chars().all(plain) {
            bail!("{text:?} has to be the name of a unit, like demo.service");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

/// Result of placing the files.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// True if there are units, which a running systemd must read.
    pub has_units: bool,
    /// Paths that the target already has; its files stay.
    pub taken: Vec<String>,
}

/// Copies the files that packages in `plan` provide for systemd to the paths that systemd reads.
/// Paths that a root in `bases` has are skipped.
pub(crate) fn copy_units(plan: &mut FileTree, bases: &[RootDir]) -> Result<Placed> {
    let mut placed = Placed::default();
    let mut copies = Vec::new();
    for (from, dir) in FROM.iter().flat_map(|from| READ.iter().map(move |dir| (from, dir))) {
        let source = plan.prefix_path().join(from).join(dir);
        let target = Path::new("usr/lib").join(dir);
        for (path, entry) in plan.entries.range(source.clone()..) {
            let Ok(below) = path.strip_prefix(&source) else { break };
            let kind = match &entry.kind {
                EntryKind::Directory => continue,
                EntryKind::HardLink(first) => {
                    plan.entries.get(first).map(|entry| entry.kind.clone())
                }
                kind => Some(kind.clone()),
            };
            let place = target.join(below);
            if RootDir::first_with(bases, &place)?.is_some() {
                placed.taken.push(place.escaped().to_string());
                continue;
            }
            let kind = kind.context("a name is that of no file")?;
            let kind = if dir.starts_with("systemd") { of_prefix(plan, kind)? } else { kind };
            placed.has_units |= dir.starts_with("systemd");
            copies.push((place, Entry { kind, ..entry.clone() }));
        }
    }
    for (place, entry) in copies {
        if !plan.entries.contains_key(&place) {
            plan.add(place, entry)?;
        }
    }
    Ok(placed)
}

/// Returns the entry with programs of the prefix in place of those of the target, where the prefix
/// has them.
fn of_prefix(plan: &FileTree, kind: EntryKind) -> Result<EntryKind> {
    let EntryKind::File(FileContent { source, .. }) = &kind else { return Ok(kind) };
    let bytes = match source {
        ContentSource::Bytes(bytes) => bytes.clone(),
        ContentSource::Disk(path) => input::read(path, TEXT)?,
    };
    let Ok(text) = String::from_utf8(bytes) else { return Ok(kind) };
    let mut changed = String::new();
    for line in text.split_inclusive('\n') {
        changed += &line_of_prefix(plan, line).unwrap_or_else(|| line.to_owned());
    }
    if changed == text {
        return Ok(kind);
    }
    let size = changed.len() as u64;
    Ok(EntryKind::File(FileContent::unread(ContentSource::Bytes(changed.into_bytes()), size)))
}

/// Returns the line as `Exec...=` with the program of the prefix; `None` if nothing changes.
fn line_of_prefix(plan: &FileTree, line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    if !key.trim().starts_with("Exec") {
        return None;
    }
    let start = value.len() - value.trim_start().trim_start_matches(MARKS).len();
    let (marks, command) = value.split_at(start);
    let program = Path::new(command.split_whitespace().next()?);
    let below = program.strip_prefix("/").ok()?;
    let is_ours = |path: &Path| plan.entries.get(path).is_some_and(|entry| !entry.is_directory());
    if below.starts_with(plan.prefix_path()) {
        return None;
    }
    // Distributions differ in the directory of the same program.
    let name = below.file_name()?;
    let dirs = ["usr/bin", "usr/sbin", "bin", "sbin"];
    let is_program = dirs.iter().any(|dir| below.parent() == Some(Path::new(dir)));
    let candidates = std::iter::once(below.to_owned())
        .chain(dirs.iter().filter(|_| is_program).map(|dir| Path::new(dir).join(name)));
    let found = candidates.map(|path| plan.prefix_path().join(path)).find(|path| is_ours(path))?;
    let rest = command.get(program.as_os_str().len()..)?;
    Some(format!("{key}={marks}/{}{rest}", found.to_str()?))
}

/// Makes systemd start `units` when the extension `name` is attached, and restart them when they
/// end. A drop-in of multi-user.target does so (`Upholds=`, systemd 249 and newer).
pub(crate) fn enable_units(
    plan: &mut FileTree,
    name: &PrefixName,
    units: &[UnitName],
) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    let there: BTreeSet<&OsStr> = plan
        .entries
        .keys()
        .filter(|path| path.parent() == Some(Path::new(UNITS)))
        .filter_map(|path| path.file_name())
        .collect();
    for unit in units {
        // demo@one.service is made from demo@.service.
        let template = unit
            .0
            .split_once('@')
            .and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        let is_there = [Some(unit.0.clone()), template].into_iter().flatten();
        if !is_there.map(std::ffi::OsString::from).any(|name| there.contains(name.as_os_str())) {
            let known: Vec<_> = there.iter().map(|name| name.escaped().to_string()).collect();
            bail!("the extension has no unit {unit} to start; it has {}", known.join(", "));
        }
    }
    let units: Vec<String> = units.iter().map(ToString::to_string).collect();
    let values = json!({ "units": units.join(" ") });
    let text = template::render(Folder::Templates, "upholds.conf", values)?;
    let place = format!("{UNITS}/multi-user.target.d/10-{name}.conf");
    plan.add(place, Entry::generated(text.into_bytes(), plan.epoch))
}

/// Moves directories that programs write to out of the read-only extension. Each of `paths` becomes
/// a link to a path below /var/lib/NAME. Its content becomes the initial content of that path.
pub(crate) fn keep_state(
    plan: &mut FileTree,
    name: &PrefixName,
    paths: &[StatePath],
) -> Result<()> {
    let mut lines = Vec::new();
    for StatePath(path) in paths.iter().collect::<BTreeSet<_>>() {
        let place = plan.prefix_path().join(path);
        if !plan.entries.get(&place).is_some_and(Entry::is_directory) {
            bail!("the prefix has no directory {} for state", path.escaped());
        }
        let factory = plan.prefix_path().join(FACTORY).join(path);
        let (inside, rest) = std::mem::take(&mut plan.entries)
            .into_iter()
            .partition(|(path, _)| path.starts_with(&place));
        plan.entries = rest;
        let moved = |path: &Path| match path.strip_prefix(&place) {
            Ok(below) if below.as_os_str().is_empty() => factory.clone(),
            Ok(below) => factory.join(below),
            Err(_) => path.to_owned(),
        };
        let inside: std::collections::BTreeMap<PathBuf, Entry> = inside;
        for (path, entry) in inside {
            plan.add(moved(&path), entry)?;
        }
        for entry in plan.entries.values_mut() {
            if let EntryKind::HardLink(first) = &mut entry.kind {
                *first = moved(first);
            }
        }
        let state = format!("/var/lib/{name}/{}", path.to_string_lossy());
        let link = Entry::generated(Vec::new(), plan.epoch);
        let link = Entry { kind: EntryKind::Link(PathBuf::from(&state)), mode: 0o777, ..link };
        plan.add(place, link)?;
        lines.push(json!({ "state": state, "factory": format!("/{}", factory.to_string_lossy()) }));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let values = json!({ "name": name, "paths": lines });
    let text = template::render(Folder::Templates, "state.conf", values)?;
    let place = format!("usr/lib/tmpfiles.d/{name}-state.conf");
    plan.add(place, Entry::generated(text.into_bytes(), plan.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_become_the_prefixs() {
        let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
        plan.add("opt/x/usr/bin/d", Entry::generated(Vec::new(), 1)).unwrap();
        let line = |line: &str| line_of_prefix(&plan, line);
        assert_eq!(line("ExecStart=/usr/bin/d -f\n").unwrap(), "ExecStart=/opt/x/usr/bin/d -f\n");
        assert_eq!(line("ExecStop = -/sbin/d\n").unwrap(), "ExecStop = -/opt/x/usr/bin/d\n");
        for same in ["ExecStart=/opt/x/usr/bin/d\n", "ExecStart=/usr/bin/e\n", "User=/usr/bin/d\n"]
        {
            assert_eq!(line(same), None, "{same}");
        }
    }

    #[test]
    fn names() {
        assert!("demo@one.service".parse::<UnitName>().is_ok());
        for bad in ["demo", ".service", "a b.service", "../a.service", "a.service\nx"] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        assert!("var/lib/demo/".parse::<StatePath>().is_ok());
        for bad in ["", "/var", "../var", "a b", "a%b"] {
            assert!(bad.parse::<StatePath>().is_err(), "{bad:?}");
        }
    }
}
