//! Rewriting: whatever is in a tree is made to stay inside the prefix.
//!
//! First a plan of values, made by looking at every file; then the changes, each by a rename, so
//! that no reader sees half a file. The same engine works on what Portage is about to merge and
//! on whole trees.

mod apply;
mod elf_file;
mod libraries;
mod script;
mod text;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::Serialize;

use crate::names::Eprefix;
use crate::rooted::Rooted;
use crate::{elf, libc, tree};

pub use libraries::Libraries;

/// How files say where their libraries are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SearchTag {
    /// `DT_RPATH`: comes before `LD_LIBRARY_PATH`, so that the caller's environment can not put
    /// a library of the target before one of the prefix (ld.so(8)).
    #[default]
    Rpath,
    /// `DT_RUNPATH`: comes after `LD_LIBRARY_PATH`.
    Runpath,
}

/// What is rewritten, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tree to rewrite: a root directory, or what is about to be merged into one.
    pub tree: PathBuf,
    /// A root directory below it, where what the tree does not have is looked for.
    pub under: Option<PathBuf>,
    /// EPREFIX.
    pub eprefix: Eprefix,
    /// How files are to say where their libraries are.
    pub tag: SearchTag,
    /// Look at these paths alone (in the tree, as programs see them).
    pub only: Vec<PathBuf>,
}

/// What is to be done to one file.
#[derive(Debug)]
pub enum Action {
    /// An ELF file: bytes at offsets, and what is appended.
    Elf {
        /// What the engine planned.
        plan: elf::Plan,
        /// Other bytes at offsets.
        extra: Vec<elf::Patch>,
    },
    /// The loader: bytes at offsets.
    Seal(Vec<elf::Patch>),
    /// Other contents: a text file.
    Contents(Vec<u8>),
    /// Another beginning: a script's first line.
    FirstLine {
        /// How many bytes of the old file go.
        old: usize,
        /// What comes in their place.
        new: Vec<u8>,
    },
}

/// One file of which something changes.
#[derive(Debug, Serialize)]
pub struct Change {
    /// Its names in the tree as programs see them: more than one where it has hard links.
    pub paths: Vec<PathBuf>,
    /// What changes, in words.
    pub what: Vec<String>,
    #[serde(skip)]
    action: Action,
}

/// A file that could not be understood, and was left alone.
#[derive(Debug, Serialize)]
pub struct Left {
    /// Its path as programs see it.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

/// All that is to be done to a tree.
#[derive(Debug, Serialize)]
pub struct Plan {
    #[serde(skip)]
    tree: PathBuf,
    /// How many files were looked at.
    pub files: usize,
    /// What changes, by path.
    pub changes: Vec<Change>,
    /// What was left alone although it is of a kind that is rewritten.
    pub left: Vec<Left>,
}

/// A regular file of the tree, with all its names.
struct File {
    paths: Vec<PathBuf>,
    disk: PathBuf,
}

impl Request {
    /// Looks at the tree and plans what has to change.
    pub fn plan(&self) -> Result<Plan> {
        let (files, libraries) = self.files()?;
        let trees = std::iter::once(self.tree.clone()).chain(self.under.clone()).collect();
        let rooted = Rooted::new(trees);
        let seen: Vec<Result<Outcome>> =
            files.par_iter().map(|file| self.look_at(file, &rooted, &libraries)).collect();
        let mut plan = Plan {
            tree: self.tree.clone(),
            files: files.len(),
            changes: Vec::new(),
            left: Vec::new(),
        };
        for (file, outcome) in files.into_iter().zip(seen) {
            match outcome? {
                Outcome::Nothing => {}
                Outcome::Left(why) => {
                    let path = file.paths.into_iter().next().unwrap_or_default();
                    plan.left.push(Left { path, why });
                }
                Outcome::Change(action, what) => {
                    plan.changes.push(Change { paths: file.paths, what, action });
                }
            }
        }
        Ok(plan)
    }

    /// The regular files of the tree, hard links together, sorted by path; and all its libraries.
    fn files(&self) -> Result<(Vec<File>, Libraries)> {
        let mut libraries = Libraries::default();
        let mut files: Vec<File> = Vec::new();
        let mut linked: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.tree).sort_by_file_name() {
            let entry =
                entry.with_context(|| format!("could not look through {}", self.tree.display()))?;
            let path = Path::new("/").join(entry.path().strip_prefix(&self.tree)?);
            if !entry.file_type().is_dir() {
                libraries.add(&path);
            }
            if !entry.file_type().is_file() {
                continue;
            }
            if !self.only.is_empty() && !self.only.iter().any(|only| path.starts_with(only)) {
                continue;
            }
            let meta = entry.metadata()?;
            if meta.nlink() > 1 {
                let position = *linked.entry((meta.dev(), meta.ino())).or_insert(files.len());
                if let Some(file) = files.get_mut(position) {
                    file.paths.push(path);
                    continue;
                }
            }
            files.push(File { paths: vec![path], disk: entry.into_path() });
        }
        Ok((files, libraries))
    }

    fn look_at(&self, file: &File, rooted: &Rooted, libraries: &Libraries) -> Result<Outcome> {
        use std::io::Read;
        let mut start = Vec::with_capacity(256);
        fs_err::File::open(&file.disk)?.take(256).read_to_end(&mut start)?;
        let path = file.paths.first().map_or(Path::new("/"), PathBuf::as_path);
        if elf::is_elf(&start) {
            return elf_file::look_at(self, &file.disk, path, rooted, libraries);
        }
        let script = if start.starts_with(b"#!") {
            script::look_at(self, &start, rooted)
        } else {
            Outcome::Nothing
        };
        if path.file_name().is_some_and(|name| name == libc::GCONV_CACHE) {
            return Ok(character_sets(&tree::map(&file.disk)?, path));
        }
        if start.is_empty() || !text::is_understood(path) {
            return Ok(script);
        }
        Ok(self.look_at_text(&tree::map(&file.disk)?, script))
    }

    /// A text file that is understood, of which the first line may change as well.
    fn look_at_text(&self, bytes: &[u8], script: Outcome) -> Outcome {
        let Outcome::Change(Action::FirstLine { old, new }, mut what) = script else {
            return text::look_at(self, bytes);
        };
        let rest = bytes.get(old..).unwrap_or_default();
        match text::look_at(self, &[new.as_slice(), rest].concat()) {
            Outcome::Change(action, more) => {
                what.extend(more);
                Outcome::Change(action, what)
            }
            _ => Outcome::Change(Action::FirstLine { old, new }, what),
        }
    }
}

/// The cache of character set modules, which names the directory that it is in.
fn character_sets(bytes: &[u8], path: &Path) -> Outcome {
    let dir = path.parent().unwrap_or(Path::new("/"));
    match libc::with_directory(bytes, dir) {
        None => Outcome::Left("it can not be read as a cache of character set modules".into()),
        Some(new) if new == bytes => Outcome::Nothing,
        Some(new) => {
            let what = vec![format!("character set modules in {}", dir.display())];
            Outcome::Change(Action::Contents(new), what)
        }
    }
}

/// Makes `edit` in the single file at `path`, by a rename, keeping all that the file has besides.
pub fn edit_file(path: &Path, edit: &elf::Edit, dry_run: bool) -> Result<elf::Plan> {
    let act = || format!("could not edit {}", path.display());
    // A link stays a link: what it leads to is edited.
    let path = fs_err::canonicalize(path)?;
    let plan = elf::plan(&tree::map(&path)?, edit).with_context(act)?;
    if !dry_run && !plan.is_unchanged() {
        apply::replace(&path, &[], |source, new| Ok(plan.write_copy(source, new)?))
            .with_context(act)?;
    }
    Ok(plan)
}

/// What looking at a file came to.
enum Outcome {
    Nothing,
    Left(String),
    Change(Action, Vec<String>),
}

impl Plan {
    /// Makes all the changes. A file that was changed stays so if a later one fails; doing it
    /// again goes on from there.
    pub fn apply(&self) -> Result<()> {
        self.changes.par_iter().try_for_each(|change| {
            apply::apply(&self.tree, change).with_context(|| {
                let path = change.paths.first().map_or(Path::new("?"), PathBuf::as_path);
                format!("could not rewrite {} in {}", path.display(), self.tree.display())
            })
        })
    }
}
