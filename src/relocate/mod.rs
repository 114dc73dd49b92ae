//! Rewrites the files of a tree so that they refer to the prefix.
//!
//! A plan is made first, from an examination of every file. The changes follow, each by a rename,
//! so that no reader sees half a file. The same engine works on the files that Portage is about to
//! merge and on whole trees.
//!
//! This module does not decide whether a tree is correct; `check` does.

mod apply;
pub(crate) mod bytecode;
mod elf_file;
pub(crate) mod env_command;
mod exec_line;
mod hard_links;
mod inherited;
pub(crate) mod interpreter;
pub(crate) mod libc;
mod libraries;
mod link;
mod objects;
pub mod prefix_change;
mod scan;
pub(crate) mod script;
mod search_dirs;
pub(crate) mod search_path;
mod shared_patch;
pub(crate) mod shebang;
mod text;
mod wheel_record;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::Serialize;

use crate::base::escape::{self, Escape};
use crate::base::input;
use crate::base::names::Eprefix;
use crate::base::{files, publish};
use crate::elf;
use crate::fstree::resolve::RootResolver;
use crate::relocate::elf_file::FileContext;
use crate::relocate::inherited::Inherited;
use crate::relocate::interpreter::PrefixPrograms;
use crate::relocate::objects::Objects;
use crate::relocate::scan::{ScannedFile, TreeScan};

pub use crate::relocate::libraries::LibraryIndex;
pub use crate::relocate::shared_patch::SharedPatch;

/// Dynamic tag for the search path of libraries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SearchTag {
    /// `DT_RPATH`: searched before `LD_LIBRARY_PATH`. The caller's environment cannot put a library
    /// of the target before one of the prefix (ld.so(8)).
    #[default]
    Rpath,
    /// `DT_RUNPATH`: searched after `LD_LIBRARY_PATH`.
    Runpath,
}

/// Files to rewrite, and settings for it.
#[derive(Clone, Debug)]
pub struct RelocateOptions {
    /// Tree to rewrite: a root directory, or the files that are about to be merged into one.
    pub tree: PathBuf,
    /// Root directory underneath, searched for files that the tree does not have. `None` if the
    /// tree alone is searched.
    pub under: Option<PathBuf>,
    /// EPREFIX.
    pub eprefix: Eprefix,
    /// Dynamic tag that files get for their search path.
    pub tag: SearchTag,
    /// True if search paths are relative to the file (`$ORIGIN`).
    pub relative: bool,
    /// Paths to rewrite, in the tree, as programs see them. An empty list means all.
    pub only: Vec<PathBuf>,
}

/// Change to one file.
#[derive(Debug)]
pub enum FileAction {
    /// New bytes of an ELF file, at offsets and at its end.
    Elf {
        /// Plan of the ELF engine.
        plan: elf::PatchPlan,
        /// Further bytes at offsets.
        extra: Vec<elf::Patch>,
    },
    /// New bytes of the loader, at offsets.
    Seal(Vec<elf::Patch>),
    /// New bytes of another file, at offsets.
    Bytes(Vec<SharedPatch>),
    /// New contents of a text file.
    Contents(Vec<u8>),
    /// New beginning of a script: its first line, and at times the lines up to its first command.
    FirstLine {
        /// Number of bytes of the old file that are replaced.
        old: usize,
        /// Bytes that replace them.
        new: Vec<u8>,
    },
    /// New hashes of these files in a list of a Python package, after they changed.
    Record(HashSet<PathBuf>),
    /// New target of a symbolic link.
    Link(PathBuf),
}

/// One file that changes.
#[derive(Debug, Serialize)]
pub struct FileChange {
    /// Its names in the tree as programs see them: several if it has hard links.
    #[serde(serialize_with = "escape::paths::serialize")]
    pub paths: Vec<PathBuf>,
    /// Descriptions of the changes, for people.
    #[serde(rename = "what")]
    pub descriptions: Vec<String>,
    #[serde(skip)]
    action: FileAction,
}

/// A file that could not be parsed or changed, and was skipped.
#[derive(Debug, Serialize)]
pub struct SkippedFile {
    /// Path as programs see it.
    #[serde(serialize_with = "escape::path::serialize")]
    pub path: PathBuf,
    /// Reason for the skip.
    #[serde(rename = "why")]
    pub reason: String,
    /// Advice for people, if there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
}

/// A file that people may want to look at, although nothing is known to be wrong with it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FileNote {
    /// Path as programs see it.
    #[serde(serialize_with = "escape::path::serialize")]
    pub path: PathBuf,
    /// Text of the note.
    #[serde(rename = "what")]
    pub text: String,
}

/// All changes to a tree.
#[derive(Debug, Serialize)]
pub struct RelocationPlan {
    #[serde(skip)]
    tree: PathBuf,
    /// Directories on disk with files that a run left that was killed.
    #[serde(skip)]
    unfinished: BTreeSet<PathBuf>,
    /// Links at their places after the move of a prefix, each with its target: a way to it that only
    /// then is the right one.
    #[serde(skip)]
    links_after_move: Vec<(PathBuf, PathBuf)>,
    /// Number of files that were examined.
    pub files: usize,
    /// Changes, by path.
    pub changes: Vec<FileChange>,
    /// Skipped files of a kind that is rewritten.
    #[serde(rename = "left")]
    pub skipped: Vec<SkippedFile>,
    /// Files to look at.
    pub notes: Vec<FileNote>,
}

impl RelocateOptions {
    /// Examines the tree and plans the changes. A file that cannot be parsed is skipped, with the
    /// reason.
    ///
    /// # Errors
    ///
    /// Fails if a directory, file or link cannot be read.
    pub fn plan(&self) -> Result<RelocationPlan> {
        let scan = TreeScan::scan(&self.tree, &self.only)?;
        let rooted = RootResolver::cached(self.trees());
        let link_outcomes = scan.links.iter();
        let link_outcomes: Vec<_> = link_outcomes
            .map(|(path, target)| link::plan_link(self, path, target, &rooted))
            .collect();
        // Files are examined as if the links already had their new targets.
        let rooted = rooted.with_links(link::collect_new_targets(&scan.links, &link_outcomes));
        let libraries = LibraryIndex::index(scan.names());
        let objects = Objects::new(&rooted, &libraries, &scan.links);
        // A runpath hands nothing down.
        let inherited = match self.tag {
            SearchTag::Rpath => Inherited::find(&scan.files, &objects, self.eprefix.as_path()),
            SearchTag::Runpath => Inherited::default(),
        };
        let plan_file = |(at, file)| self.plan_file(at, file, &objects, &inherited);
        let files = scan.files.par_iter().enumerate();
        let outcomes: Vec<_> = files.map(plan_file).collect::<Result<_>>()?;
        let mut plan = RelocationPlan::empty(&self.tree, &scan);
        for (file, outcome) in scan.files.iter().zip(outcomes) {
            plan.add_outcome(file.paths.clone(), outcome);
        }
        plan.changes.extend(bytecode::plan_copies(&plan.changes, &scan.files));
        plan.changes.extend(wheel_record::plan_records(&plan.changes, &scan.files));
        for ((path, _), outcome) in scan.links.into_iter().zip(link_outcomes) {
            plan.add_outcome(vec![path], outcome);
        }
        plan.changes.sort_by(|a, b| a.paths.cmp(&b.paths));
        Ok(plan)
    }

    fn plan_file(
        &self,
        at: usize,
        file: &ScannedFile,
        objects: &Objects<'_>,
        inherited: &Inherited,
    ) -> Result<FileOutcome> {
        if file.size == 0 {
            return Ok(FileOutcome::Nothing);
        }
        let source = input::open_walked(&file.disk)?;
        let mut buffer = [0; script::START];
        let start = read_start(&source, file.size, &mut buffer[..START])?;
        let path = file.paths.first().map_or(Path::new("/"), PathBuf::as_path);
        if elf::is_elf(start) {
            if file.size > elf::LARGEST {
                return Ok(FileOutcome::Skipped(elf::Error::TOO_LARGE.to_string()));
            }
            let (paths, privileged) = (&file.paths, file.privileged);
            let file = FileContext { paths, privileged, objects, inherited, at };
            return elf_file::plan_elf(self, &source, file);
        }
        let mut script = FileOutcome::Nothing;
        // The kernel reads the first line only of files that may be executed.
        if start.starts_with(b"#!") && file.is_executable {
            let start = read_start(&source, file.size, &mut buffer)?;
            script = self.plan_script(start, objects.rooted, || has_offsets(&source, file.size));
        }
        if path.file_name().is_some_and(|name| name == libc::GCONV_CACHE)
            && file.size <= text::MAX_SIZE
        {
            return Ok(plan_gconv_cache(&elf::open(source.file())?, path));
        }
        if !text::is_known_kind(path) || file.size > text::MAX_SIZE {
            return Ok(script);
        }
        Ok(self.plan_text(&elf::open(source.file())?, script))
    }

    /// Returns the new contents of a script or configuration file at `path` with these `bytes`, or
    /// `None` if it stays as it is.
    pub fn rewrite_text(&self, path: &Path, bytes: &[u8]) -> Option<Vec<u8>> {
        let rooted = RootResolver::new(self.trees());
        let start = bytes.get(..script::START).unwrap_or(bytes);
        let script = self.plan_script(start, &rooted, || script::has_offsets(bytes));
        let is_known = text::is_known_kind(path);
        match if is_known { self.plan_text(bytes, script) } else { script } {
            FileOutcome::Changed(FileAction::Contents(new), _) => Some(new),
            FileOutcome::Changed(FileAction::FirstLine { old, new }, _) => {
                Some([new.as_slice(), bytes.get(old..)?].concat())
            }
            _ => None,
        }
    }

    fn plan_script(
        &self,
        start: &[u8],
        rooted: &RootResolver,
        has_offsets: impl FnOnce() -> bool,
    ) -> FileOutcome {
        let programs = PrefixPrograms { eprefix: self.eprefix.as_path(), tree: rooted };
        script::judge(start, programs).plan(start, has_offsets)
    }

    fn trees(&self) -> Vec<PathBuf> {
        std::iter::once(&self.tree).chain(&self.under).cloned().collect()
    }

    /// Examines a text file of a known kind, which may get a new first line as well.
    fn plan_text(&self, bytes: &[u8], script: FileOutcome) -> FileOutcome {
        let FileOutcome::Changed(FileAction::FirstLine { old, new }, mut descriptions) = script
        else {
            return match text::plan_text(self, bytes) {
                FileOutcome::Nothing => script,
                changed => changed,
            };
        };
        let rest = bytes.get(old..).unwrap_or_default();
        match text::plan_text(self, &[new.as_slice(), rest].concat()) {
            FileOutcome::Changed(action, more) => {
                descriptions.extend(more);
                FileOutcome::Changed(action, descriptions)
            }
            _ => FileOutcome::Changed(FileAction::FirstLine { old, new }, descriptions),
        }
    }
}

/// Examines the cache of character set modules, which names its own directory.
fn plan_gconv_cache(bytes: &[u8], path: &Path) -> FileOutcome {
    let dir = path.parent().unwrap_or(Path::new("/"));
    match libc::replace_directory(bytes, dir) {
        None => {
            FileOutcome::Skipped("it cannot be read as a cache of character set modules".into())
        }
        Some(new) if new == bytes => FileOutcome::Nothing,
        Some(new) => {
            let descriptions = vec![format!("character set modules in {}", dir.escaped())];
            FileOutcome::Changed(FileAction::Contents(new), descriptions)
        }
    }
}

/// Options for the edit of single files.
#[derive(Clone, Copy, Debug, Default)]
pub struct EditOptions<'a> {
    /// True if nothing is written.
    pub dry_run: bool,
    /// Paths that may be other names of the file: hard links.
    pub names: &'a [PathBuf],
    /// True if names of the file that are not known keep the old content.
    pub break_hard_links: bool,
}

/// Applies `edit` to the single file at `path` by a rename, and keeps all other properties of the
/// file. Its other names in the same directory and among the given ones get the new file.
///
/// # Errors
///
/// Fails if the file cannot be read or written, if it has names that are not known, or if the edit
/// cannot be made (see [`elf::plan`]).
pub fn edit_file(
    path: &Path,
    edit: &elf::Edit,
    options: EditOptions<'_>,
) -> Result<elf::PatchPlan> {
    let act = || format!("could not edit {}", path.escaped());
    let dry_run = options.dry_run;
    // A link stays a link: its target is edited.
    let path = fs_err::canonicalize(path)?;
    let plan = elf::plan(&files::map(&path)?, edit).with_context(act)?;
    let others = hard_links::other_names(&path, options).with_context(act)?;
    if !dry_run {
        let dir = path.parent().unwrap_or(Path::new("/"));
        publish::remove_unfinished(publish::open_directory(dir)?).with_context(act)?;
    }
    if !dry_run && !plan.is_unchanged() {
        apply::replace_file(&path, &others, |source, new| Ok(plan.write_copy(source, new)?))
            .with_context(act)?;
    }
    Ok(plan)
}

/// Number of bytes that determine the kind of a file.
const START: usize = 256;

/// Returns whether the script in `file` has data at places that must not change. Nothing as large as
/// the largest text is a script alone, and holes are no text.
fn has_offsets(file: &fs_err::File, size: u64) -> bool {
    let is_text = size <= text::MAX_SIZE;
    !is_text || elf::open(file.file()).map_or(true, |bytes| script::has_offsets(&bytes))
}

/// Returns the first bytes of a file of this size.
fn read_start<'b>(file: &fs_err::File, size: u64, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    use std::os::unix::fs::FileExt;
    let wanted = usize::try_from(size).unwrap_or(usize::MAX).min(buffer.len());
    let mut got = 0;
    while got < wanted {
        match file.file().read_at(&mut buffer[got..wanted], got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("could not read {}", file.path().escaped()));
            }
        }
    }
    Ok(&buffer[..got])
}

/// Result of the examination of one file.
enum FileOutcome {
    Nothing,
    Skipped(String),
    Changed(FileAction, Vec<String>),
}

impl RelocationPlan {
    /// A plan that changes nothing in the tree of `scan`.
    fn empty(tree: &Path, scan: &TreeScan) -> Self {
        Self {
            tree: tree.to_owned(),
            unfinished: scan.unfinished.clone(),
            links_after_move: Vec::new(),
            files: scan.files.len(),
            changes: Vec::new(),
            skipped: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn add_outcome(&mut self, paths: Vec<PathBuf>, outcome: FileOutcome) {
        match outcome {
            FileOutcome::Nothing => {}
            FileOutcome::Skipped(reason) => {
                let path = paths.into_iter().next().unwrap_or_default();
                self.skipped.push(SkippedFile { path, reason, hint: None });
            }
            FileOutcome::Changed(action, descriptions) => {
                self.changes.push(FileChange { paths, descriptions, action });
            }
        }
    }

    /// Gives every path of the plan the name that `rename` returns. A plan that has such names is
    /// there to be shown, not to be applied.
    pub fn rename(&mut self, rename: impl Fn(&Path) -> PathBuf) {
        let changed = self.changes.iter_mut().flat_map(|change| &mut change.paths);
        let skipped = self.skipped.iter_mut().map(|skipped| &mut skipped.path);
        let noted = self.notes.iter_mut().map(|note| &mut note.path);
        for path in changed.chain(skipped).chain(noted) {
            *path = rename(path);
        }
    }

    /// Makes the changes that are right only after the move of a prefix: relative links across its
    /// border, which have absolute targets until then.
    ///
    /// # Errors
    ///
    /// Fails if a link cannot be replaced.
    pub fn apply_after_move(&self) -> Result<()> {
        self.links_after_move.iter().try_for_each(|(path, target)| {
            apply::replace_link(&self.tree.join(path.strip_prefix("/").unwrap_or(path)), target)
                .with_context(|| format!("could not change the link {}", path.escaped()))
        })
    }

    /// Makes all the changes, and removes what a run left that was killed. A changed file stays changed if a later one fails; a second run
    /// continues from there.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, written or renamed.
    pub fn apply(&self) -> Result<()> {
        for dir in &self.unfinished {
            publish::remove_unfinished(publish::open_directory(dir)?)
                .with_context(|| format!("could not look through {}", dir.escaped()))?;
        }
        let apply = |change: &FileChange| {
            apply::apply_change(&self.tree, change).with_context(|| {
                let path = change.paths.first().map_or(Path::new("?"), PathBuf::as_path);
                format!("could not rewrite {} in {}", path.escaped(), self.tree.escaped())
            })
        };
        // Hashes are those of files that have changed.
        let is_record = |change: &&FileChange| matches!(change.action, FileAction::Record(_));
        self.changes.par_iter().filter(|change| !is_record(change)).try_for_each(apply)?;
        self.changes.par_iter().filter(is_record).try_for_each(apply)
    }
}
