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

mod compressed;
mod data;
mod follow;
mod object;
mod places;
mod text;

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::base::escape::Escape;
use crate::base::input::{self, DataExtents};
use crate::base::limits::LIBRARY;
use crate::base::names::Eprefix;
use crate::elf::{self, Patch};
use crate::relocate::prefix_change::compressed::CompressedFile;
use crate::relocate::prefix_change::data::DataReplacer;
use crate::relocate::scan::{ScannedFile, TreeScan};
use crate::relocate::{FileAction, FileChange, FileOutcome, RelocationPlan, script, wheel_record};

pub use crate::relocate::prefix_change::places::TreeMove;

/// Size of the largest text that gets another length, in bytes. A larger one is treated as data.
const LARGEST_TEXT: usize = 64 << 20;

/// Trace of the old path in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldPath {
    /// This path is below it.
    Named(String),
    /// The file cannot be looked into, for this reason.
    Unknown(String),
}

/// A change from one EPREFIX to another, which is not longer.
#[derive(Clone, Debug)]
pub struct PrefixChange {
    from: Eprefix,
    to: Eprefix,
    data: DataReplacer,
}

impl PrefixChange {
    /// A change of paths at `from` to paths at `to`.
    ///
    /// # Errors
    ///
    /// Fails if `to` is longer: data has no room for it.
    pub fn new(from: &Eprefix, to: &Eprefix) -> Result<Self> {
        from.check_room(to)?;
        let data = DataReplacer::new(from.as_str(), to.as_str())?;
        Ok(Self { from: from.clone(), to: to.clone(), data })
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
            plan.add_outcome(file.paths.clone(), outcome);
        }
        follow::follow_modules(&mut plan.changes, &scan.files);
        plan.skipped.extend(follow::find_signatures(&plan.changes, &scan.files));
        plan.changes.extend(wheel_record::plan_records(&plan.changes, &scan.files));
        for (path, target) in scan.links {
            if let Some(new) = self.new_target(&target) {
                let descriptions = vec![format!("link to {}", new.escaped())];
                let action = FileAction::Link(new);
                plan.changes.push(FileChange { paths: vec![path], descriptions, action });
            }
        }
        plan.changes.sort_by(|a, b| a.paths.cmp(&b.paths));
        Ok(plan)
    }

    /// Returns `text` with the new path, or `None` if it has no old one.
    pub fn replace_in_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        text::replace(text, self.from.as_str().as_bytes(), self.to.as_str().as_bytes())
    }

    /// Looks for the old path in a file with these `bytes`: in any encoding, compressed too. Returns
    /// `None` if it is not there.
    pub fn find(&self, bytes: &[u8]) -> Option<OldPath> {
        if let Some(path) = self.data.find(bytes) {
            return Some(OldPath::Named(path));
        }
        match CompressedFile::of(bytes)?.unpack(bytes) {
            Ok(parts) => parts.iter().find_map(|part| self.data.find(part)).map(OldPath::Named),
            Err(error) => Some(OldPath::Unknown(format!("{error:#}"))),
        }
    }

    /// Returns the new target of a link, if it changes.
    fn new_target(&self, target: &Path) -> Option<PathBuf> {
        let below = target.strip_prefix(self.from.as_path()).ok()?;
        Some(self.to.as_path().components().chain(below.components()).collect())
    }

    /// Returns whether a file with these `bytes` changes.
    pub fn changes(&self, bytes: &[u8]) -> bool {
        let all = std::iter::once(0..bytes.len() as u64);
        matches!(self.plan_bytes(bytes, all), FileOutcome::Changed(..))
    }

    fn plan_file(&self, file: &ScannedFile) -> Result<FileOutcome> {
        if file.size == 0 {
            return Ok(FileOutcome::Nothing);
        }
        if file.size > elf::LARGEST {
            return Ok(FileOutcome::Skipped(elf::Error::TOO_LARGE.to_string()));
        }
        let act = || format!("could not read {}", file.disk.escaped());
        let source = input::open_walked(&file.disk).with_context(act)?;
        let bytes = elf::open(source.file()).with_context(act)?;
        let extents = DataExtents::new(source.file(), 0..bytes.len() as u64);
        Ok(self.plan_bytes(&bytes, extents))
    }

    fn plan_bytes(&self, bytes: &[u8], extents: impl Iterator<Item = Range<u64>>) -> FileOutcome {
        if let Some(compression) = CompressedFile::of(bytes) {
            return self.plan_compressed(compression, bytes);
        }
        if is_free_text(bytes) { self.plan_text(bytes) } else { self.plan_data(bytes, extents) }
    }

    fn plan_text(&self, bytes: &[u8]) -> FileOutcome {
        let Some(new) = self.replace_in_text(bytes) else { return FileOutcome::Nothing };
        if bytes.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") {
            return FileOutcome::Skipped("it has the path, and is signed".to_owned());
        }
        let descriptions = vec![format!("the path {} in a text", self.to)];
        FileOutcome::Changed(FileAction::Contents(new), descriptions)
    }

    fn plan_data(&self, bytes: &[u8], extents: impl Iterator<Item = Range<u64>>) -> FileOutcome {
        let mut patches = self.data.patches(bytes, extents);
        if patches.is_empty() {
            return FileOutcome::Nothing;
        }
        if compressed::is_tar(bytes) {
            return FileOutcome::Skipped("it is a tar archive that has the path".to_owned());
        }
        let descriptions = vec![format!("the path {} at {} places", self.to, patches.len())];
        if elf::is_elf(bytes) && bytes.len() as u64 <= LIBRARY.bytes {
            let padded = apply(bytes, &patches);
            patches.extend(object::plan_strings(&padded, self.to.as_str().as_bytes()));
        }
        FileOutcome::Changed(FileAction::Bytes(patches), descriptions)
    }

    fn plan_compressed(&self, compression: CompressedFile, bytes: &[u8]) -> FileOutcome {
        match compression.rewrite(bytes, |part| self.change_part(part)) {
            Ok(None) => FileOutcome::Nothing,
            Ok(Some(new)) => {
                let descriptions = vec![format!("the path {} in compressed files", self.to)];
                FileOutcome::Changed(FileAction::Contents(new), descriptions)
            }
            Err(error) => FileOutcome::Skipped(format!("{error:#}")),
        }
    }

    /// Returns a file of an archive with the new path, or `None` if it has no old one.
    fn change_part(&self, part: &[u8]) -> Option<Vec<u8>> {
        if is_free_text(part) {
            return self.replace_in_text(part);
        }
        let patches = self.data.patches(part, std::iter::once(0..part.len() as u64));
        (!patches.is_empty()).then(|| apply(part, &patches))
    }
}

/// Returns whether these are the bytes of a text that may get another length.
fn is_free_text(bytes: &[u8]) -> bool {
    // The objects of a PDF file are found by their offsets.
    bytes.len() <= LARGEST_TEXT && !script::has_offsets(bytes) && !bytes.starts_with(b"%PDF-")
}

fn apply(bytes: &[u8], patches: &[Patch]) -> Vec<u8> {
    let mut new = bytes.to_vec();
    for patch in patches {
        let start = usize::try_from(patch.offset).unwrap_or(usize::MAX);
        if let Some(place) = new.get_mut(start..).and_then(|rest| rest.get_mut(..patch.bytes.len()))
        {
            place.copy_from_slice(&patch.bytes);
        }
    }
    new
}
