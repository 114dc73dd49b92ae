//! Changes the prefix of a tree: what was built at one path runs at another.
//!
//! Programs name their prefix in strings whose places and lengths are compiled in. So in data the new
//! path takes the place of the old one with slashes behind it, up to the same length: neither an
//! offset nor a length changes, and the kernel takes many slashes for one (`path_resolution(7)`). What
//! can be written anew has the path alone: texts, links, what ELF files tell the loader, and what is
//! compressed.
//!
//! Files stay at their paths in the tree. Portage moves those of a package; [`TreeMove`] moves those
//! of a tree.

mod checked;
mod closed;
mod compressed;
mod contents;
mod data;
mod follow;
mod links;
mod names;
mod object;
mod places;
mod room;
mod tar_file;
mod text;
mod zip_file;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use crate::base::escape::Escape;
use crate::base::input::{self, DataExtents};
use crate::base::names::Eprefix;
use crate::elf;
use crate::relocate::prefix_change::contents::{
    ContentChange, ContentReplacer, NewContents, Obstacle,
};
use crate::relocate::prefix_change::data::DataReplacer;
use crate::relocate::prefix_change::links::{NewTarget, PathMove};
use crate::relocate::prefix_change::names::NameFinder;
use crate::relocate::prefix_change::text::TextReplacer;
use crate::relocate::scan::{ScannedFile, TreeScan};
use crate::relocate::{
    FileAction, FileChange, FileNote, RelocationPlan, SkippedFile, wheel_record,
};

pub use crate::relocate::prefix_change::contents::OldPath;
pub use crate::relocate::prefix_change::places::TreeMove;

/// A change from one EPREFIX to another, which is not longer.
#[derive(Clone, Debug)]
pub struct PrefixChange {
    from: Eprefix,
    to: Eprefix,
    contents: ContentReplacer,
    names: NameFinder,
}

impl PrefixChange {
    /// A change of paths at `from` to paths at `to`.
    ///
    /// # Errors
    ///
    /// Fails if `to` is longer: data has no room for it. Fails if one is inside of the other: it
    /// could not be told then which of the two a path is meant to be below.
    pub fn new(from: &Eprefix, to: &Eprefix) -> Result<Self> {
        let is_inside = from != to
            && (from.as_path().starts_with(to.as_path())
                || to.as_path().starts_with(from.as_path()));
        ensure!(
            !is_inside,
            "one of the prefix paths {from} and {to} is inside of the other, so files could not be \
             told apart from those that were changed before\n\
             hint: take a path that is neither above nor below {from}"
        );
        from.check_room(to)?;
        let is_unique = *from == Eprefix::canonical();
        let (old, new) = (from.as_str(), to.as_str());
        let data = DataReplacer::new(old, new, is_unique)?;
        let text = TextReplacer::new(old, new, is_unique);
        let contents = ContentReplacer::new(new, data, text);
        let names = NameFinder::new(from.as_path(), is_unique);
        Ok(Self { from: from.clone(), to: to.clone(), contents, names })
    }

    /// Plans the changes to the files below `tree`. What names the old path and cannot be changed is
    /// among the skipped files.
    ///
    /// # Errors
    ///
    /// Fails if a directory, file or link cannot be read.
    pub fn plan(&self, tree: &Path) -> Result<RelocationPlan> {
        let scan = TreeScan::scan(tree, &[])?;
        let mut plan = RelocationPlan::empty(tree, &scan);
        if self.from == self.to {
            return Ok(plan);
        }
        let outcomes: Vec<_> =
            scan.files.par_iter().map(|file| self.plan_file(file)).collect::<Result<_>>()?;
        for (file, outcome) in scan.files.iter().zip(outcomes) {
            self.add_outcome(&mut plan, &file.paths, outcome);
        }
        follow::follow_modules(&mut plan.changes, &scan.files);
        plan.skipped.extend(follow::find_signatures(&plan.changes, &scan.files));
        plan.changes.extend(wheel_record::plan_records(&plan.changes, &scan.files));
        self.plan_links(&mut plan, &scan.links);
        self.find_names(&mut plan, &scan);
        plan.changes.sort_by(|a, b| a.paths.cmp(&b.paths));
        plan.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        plan.notes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(plan)
    }

    /// Returns `text` with the new path, or `None` if it has no old one.
    pub fn replace_in_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.contents.replace_in_text(text)
    }

    /// Looks for the old path in a file with these `bytes`: in any encoding, packed too. Returns
    /// `None` if it is not there.
    pub fn find(&self, bytes: &[u8]) -> Option<OldPath> {
        self.find_in(bytes, std::iter::once(0..bytes.len() as u64))
    }

    /// Does the same in a file of which only `extents` are data.
    pub fn find_in(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> Option<OldPath> {
        self.contents.find(bytes, extents)
    }

    /// Looks for the old path in the last name of `path`, which is a place after the move.
    pub fn find_in_name(&self, path: &Path) -> Option<OldPath> {
        let named = self.names.find(path, self.to.as_path());
        named.filter(|named| named == path).map(|_| OldPath::InName)
    }

    /// Returns the place of `path` after the move of the prefix.
    pub fn new_place(&self, path: &Path) -> PathBuf {
        self.path_move().place(path)
    }

    /// Returns the new bytes of a file with these `bytes`, or `None` if it does not change; and true if
    /// something in it stays as it is, which people are told.
    pub fn rewrite(&self, bytes: &[u8]) -> (Option<Vec<u8>>, bool) {
        let change = self.contents.plan(bytes, std::iter::once(0..bytes.len() as u64));
        let is_told = !change.obstacles.is_empty() || !change.doubtful.is_empty();
        (change.new.map(|new| new.into_bytes(bytes)), is_told)
    }

    fn path_move(&self) -> PathMove<'_> {
        PathMove { from: self.from.as_path(), to: self.to.as_path() }
    }

    fn plan_file(&self, file: &ScannedFile) -> Result<ContentChange> {
        if file.size == 0 {
            return Ok(ContentChange::default());
        }
        if file.size > elf::LARGEST {
            return Ok(ContentChange::closed(elf::Error::TOO_LARGE.to_string()));
        }
        let act = || format!("could not read {}", file.disk.escaped());
        let source = input::open_walked(&file.disk).with_context(act)?;
        let bytes = elf::open(source.file()).with_context(act)?;
        let extents = DataExtents::new(source.file(), 0..bytes.len() as u64);
        Ok(self.contents.plan(&bytes, extents))
    }

    fn add_outcome(&self, plan: &mut RelocationPlan, paths: &[PathBuf], outcome: ContentChange) {
        let path = || paths.first().cloned().unwrap_or_default();
        for Obstacle { reason, hint } in outcome.obstacles {
            plan.skipped.push(SkippedFile { path: path(), reason, hint: Some(hint) });
        }
        if let Some(doubtful) = outcome.doubtful.first() {
            let text = format!("names {doubtful}, which may be another path than {}", self.from);
            plan.notes.push(FileNote { path: path(), text });
        }
        let action = match outcome.new {
            None => return,
            Some(NewContents::Patched(patches)) => FileAction::Bytes(patches),
            Some(NewContents::Whole(new)) => FileAction::Contents(new),
        };
        let (paths, descriptions) = (paths.to_vec(), outcome.descriptions);
        plan.changes.push(FileChange { paths, descriptions, action });
    }

    fn plan_links(&self, plan: &mut RelocationPlan, links: &[(PathBuf, PathBuf)]) {
        let known: HashSet<&Path> = links.iter().map(|(path, _)| path.as_path()).collect();
        for (path, target) in links {
            match self.path_move().new_target(path, target, &known) {
                NewTarget::Same => {}
                NewTarget::Changed { absolute, relative } => {
                    let shown = relative.as_ref().unwrap_or(&absolute);
                    let descriptions = vec![format!("link to {}", shown.escaped())];
                    // A run that is killed before the move finds only links that are right there.
                    plan.links_after_move.extend(relative.map(|way| (self.new_place(path), way)));
                    let action = FileAction::Link(absolute);
                    plan.changes.push(FileChange {
                        paths: vec![path.clone()],
                        descriptions,
                        action,
                    });
                }
                NewTarget::Unclear => plan.skipped.push(SkippedFile {
                    path: path.clone(),
                    reason: format!(
                        "it is a link to {}, which goes up again behind another link",
                        target.escaped()
                    ),
                    hint: Some("make the link absolute"),
                }),
            }
        }
    }

    fn find_names(&self, plan: &mut RelocationPlan, scan: &TreeScan) {
        let found: BTreeSet<PathBuf> =
            scan.names().filter_map(|path| self.names.find(path, self.from.as_path())).collect();
        plan.skipped.extend(found.into_iter().map(|path| SkippedFile {
            path,
            reason: "its name has the path".to_owned(),
            hint: Some("rename it, or leave it out if it is of a cache"),
        }));
    }
}
