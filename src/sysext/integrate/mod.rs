//! Files of packages at the places where a target looks for them (profiles/integration.toml): those
//! of systemd, udev, D-Bus and polkit always, and those of the user's programs for exposed ones.

mod applied;
mod exposed;
mod programs;
mod tmpfiles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::names::PrefixName;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::resolve::relative_path;
use crate::fstree::root_dir::RootDir;
use crate::prefix::integration::{IntegrationKind, IntegrationTable, NamedPrograms, is_kept};
use crate::sysext::expose::ExposedPrograms;
use crate::sysext::integrate::exposed::ExposedNames;
use crate::sysext::library_names::pointed_at;
use crate::sysext::state::{self, RuledPaths, StateDirectory, StatePath};

/// Result of placing the files.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// True if there are files that a running manager of systemd must read.
    pub is_for_manager: bool,
    /// Paths that the target already has; its files stay.
    pub taken: Vec<String>,
    /// Commands by which a running target reads the files.
    pub commands: Vec<String>,
    /// Descriptions of rules and files that have no effect.
    pub without_effect: Vec<String>,
}

/// Placement of files in a plan.
pub(crate) struct Integration<'a> {
    name: PrefixName,
    table: IntegrationTable,
    bases: &'a [RootDir],
    /// Directories that become links to writable ones.
    pub states: Vec<StateDirectory>,
}

impl<'a> Integration<'a> {
    /// Plans the placement into the extension `name`. Paths that a root in `bases` has are skipped.
    pub(crate) fn plan(
        plan: &FileTree,
        name: &PrefixName,
        given: &[StatePath],
        bases: &'a [RootDir],
    ) -> Result<Self> {
        let table = IntegrationTable::load()?;
        let mut ruled = RuledPaths::default();
        for kind in table.kinds.iter().filter(|kind| kind.names == Some(NamedPrograms::Tmpfiles)) {
            for path in list_files(plan, kind) {
                if let Some(text) = read_text(plan, &path)? {
                    tmpfiles::list_paths(plan, &text, &mut ruled);
                }
            }
        }
        let states = state::list_directories(plan, name, given, &ruled)?;
        Ok(Self { name: name.clone(), table, bases, states })
    }

    /// Places the files that a target always reads, and those of exposed programs.
    pub(crate) fn place(&self, plan: &mut FileTree, programs: &ExposedPrograms) -> Result<Placed> {
        let mut placed = Placed::default();
        let mut copies = BTreeMap::new();
        let mut names = ExposedNames::new(programs);
        let is_wanted =
            |kind: &&IntegrationKind| kind.exposed.is_empty() || !programs.names.is_empty();
        for kind in self.table.kinds.iter().filter(is_wanted) {
            for path in list_files(plan, kind) {
                let text = if kind.names.is_some() { read_text(plan, &path)? } else { None };
                if !names.are_of(kind, &path, text.as_deref()) {
                    continue;
                }
                if !kind.exposed.is_empty() {
                    names.add_icon(text.as_deref().unwrap_or_default());
                }
                self.place_file(plan, kind, &path, &mut copies, &mut placed)?;
            }
        }
        let mut added: Vec<PathBuf> = copies.keys().cloned().collect();
        if state::has_rules(&self.states) {
            added.push(state::rules_path(&self.name));
        }
        placed.commands = applied::list_commands(&self.table, &added);
        for (place, entry) in copies {
            if !plan.entries.contains_key(&place) {
                plan.add(place, entry)?;
            }
        }
        placed.without_effect.extend(self.describe_ineffective(plan));
        Ok(placed)
    }

    /// Adds the copy of the file of `kind` at `path` to `copies`.
    fn place_file(
        &self,
        plan: &FileTree,
        kind: &IntegrationKind,
        path: &Path,
        copies: &mut BTreeMap<PathBuf, Entry>,
        placed: &mut Placed,
    ) -> Result<()> {
        let Some((dir, place)) = find_place(plan, kind, path) else { return Ok(()) };
        if copies.contains_key(&place) {
            return Ok(());
        }
        if RootDir::first_with(self.bases, &place)?.is_some() {
            placed.taken.push(place.escaped().to_string());
            return Ok(());
        }
        if let Some(entry) = self.copy(plan, kind, path, (&dir, &place), placed)? {
            placed.is_for_manager |= kind.is_read_by_manager();
            copies.insert(place, entry);
        }
        Ok(())
    }

    /// Returns the entry for `place`; `None` if it would have no effect.
    fn copy(
        &self,
        plan: &FileTree,
        kind: &IntegrationKind,
        path: &Path,
        (dir, place): (&Path, &Path),
        placed: &mut Placed,
    ) -> Result<Option<Entry>> {
        let entry = plan.entries.get(path).context("a file is gone")?;
        if kind.linked {
            return Ok(Some(link_to(plan, path, place)));
        }
        let entry = match &entry.kind {
            EntryKind::HardLink(first) => {
                plan.entries.get(first).context("a name is that of no file")?
            }
            EntryKind::Link(target) => {
                return Ok(Some(copy_link(plan, entry, path, (dir, target))));
            }
            _ => entry,
        };
        let (Some(names), Some(text)) = (kind.names, read_text(plan, path)?) else {
            return Ok(Some(entry.clone()));
        };
        let changed = if names == NamedPrograms::Tmpfiles {
            let adapted = tmpfiles::adapt(plan, &text, &self.states);
            let shown = format!("/{}", path.escaped());
            placed.without_effect.extend(tmpfiles::describe_lost(&shown, &adapted.lost));
            if !adapted.has_rules && adapted.text != text {
                return Ok(None);
            }
            adapted.text
        } else {
            programs::name_own_programs(plan, &text, names)
        };
        if changed == text {
            return Ok(Some(entry.clone()));
        }
        let size = changed.len() as u64;
        let content = FileContent::unread(ContentSource::Bytes(changed.into_bytes()), size);
        Ok(Some(Entry { kind: EntryKind::File(content), ..entry.clone() }))
    }

    /// Describes files of the prefix that no place of an extension has an effect for.
    fn describe_ineffective(&self, plan: &FileTree) -> Vec<String> {
        let mut found: BTreeMap<&Path, (usize, String)> = BTreeMap::new();
        for kind in &self.table.without_effect {
            for dir in &kind.from {
                let count = files_below(plan, dir).count();
                if count > 0 {
                    found.insert(dir, (count, format!("{}; {}", kind.reason, kind.remedy)));
                }
            }
        }
        let describe = |(dir, (count, reason)): (&Path, (usize, String))| {
            let dir = Path::new("/").join(plan.prefix_path()).join(dir);
            let files =
                if count == 1 { "1 file has".to_owned() } else { format!("{count} files have") };
            format!("{files} no effect on a target, in {}: {reason}", dir.escaped())
        };
        found.into_iter().map(describe).collect()
    }
}

/// Lists the files of `kind`, first those of directories that hide others.
fn list_files(plan: &FileTree, kind: &IntegrationKind) -> Vec<PathBuf> {
    let files = kind.from.iter().flat_map(|dir| files_below(plan, dir));
    let mut known = BTreeSet::new();
    files.filter(|path| known.insert(*path)).map(Path::to_owned).collect()
}

/// Returns what is below the directory `dir` of the prefix and no directory.
fn files_below<'a>(plan: &'a FileTree, dir: &Path) -> impl Iterator<Item = &'a Path> + use<'a> {
    let dir = plan.prefix_path().join(dir);
    let below = plan.entries.range(dir.clone()..);
    below
        .take_while(move |(path, _)| path.starts_with(&dir))
        .filter(|(path, entry)| !entry.is_directory() && !is_kept(path))
        .map(|(path, _)| path.as_path())
}

/// Returns the directory of `kind` that `path` is in, and the place for the file.
fn find_place(plan: &FileTree, kind: &IntegrationKind, path: &Path) -> Option<(PathBuf, PathBuf)> {
    kind.from.iter().find_map(|dir| {
        let dir = plan.prefix_path().join(dir);
        let below = path.strip_prefix(&dir).ok().filter(|below| *below != Path::new(""))?;
        Some((dir.clone(), kind.to.join(below)))
    })
}

/// Returns a link at `place` to the file at `path`.
fn link_to(plan: &FileTree, path: &Path, place: &Path) -> Entry {
    let dir = place.parent().unwrap_or(Path::new(""));
    Entry::link(relative_path(dir, path), plan.epoch)
}

/// Returns a copy of the link at `path`. If it leads out of `dir`, the copy names the place from the
/// root directory on.
fn copy_link(plan: &FileTree, entry: &Entry, path: &Path, (dir, target): (&Path, &Path)) -> Entry {
    let place = pointed_at(path, target);
    if target.is_absolute() || place.starts_with(dir) {
        return entry.clone();
    }
    Entry::link(Path::new("/").join(place), plan.epoch)
}

/// Returns the text of the file at `path`; `None` if it is a link or no text.
fn read_text(plan: &FileTree, path: &Path) -> Result<Option<String>> {
    let kind = plan.entries.get(path).map(|entry| &entry.kind);
    let kind = match kind {
        Some(EntryKind::HardLink(first)) => plan.entries.get(first).map(|entry| &entry.kind),
        kind => kind,
    };
    let Some(EntryKind::File(FileContent { source, .. })) = kind else { return Ok(None) };
    let bytes = match source {
        ContentSource::Bytes(bytes) => bytes.clone(),
        ContentSource::Disk(path) => input::read(path, TEXT)?,
    };
    Ok(String::from_utf8(bytes).ok())
}
