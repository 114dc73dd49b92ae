//! What the one walk over a root gathers, and what rules ask of the whole.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::symbols::Symbols;
use crate::elf::{self, Image};
use crate::final_root::FinalRoot;
use crate::layout::INSIDE;
use crate::rooted::{Place, Rooted};
use crate::tree;

/// One entry of the tree.
pub struct Fact {
    /// Its path as programs see it.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits and file type, as in stat(2).
    pub mode: u32,
    /// Its extended attributes.
    pub attributes: Vec<OsString>,
    /// Where the contents name a path that only the build sandbox has.
    pub staging: Option<String>,
    /// The dynamic symbols of an ELF file.
    pub symbols: Option<Symbols>,
}

/// What an entry is.
pub enum Kind {
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(PathBuf),
    /// An ELF file.
    Elf(Box<Image>),
    /// A file that begins like an ELF file and can not be read as one.
    BrokenElf(String),
    /// A file that begins with `#!`: its first bytes.
    Script(Vec<u8>),
    /// Any other file.
    File,
    /// A device, a socket or a pipe; and whether it is a whiteout of overlayfs.
    Special {
        /// A character device 0/0.
        whiteout: bool,
    },
}

impl Fact {
    /// The ELF file that it is, if it is one.
    pub fn elf(&self) -> Option<&Image> {
        match &self.kind {
            Kind::Elf(image) => Some(image),
            _ => None,
        }
    }
}

/// Bytes of a file that are looked at for a `#!` line: more than the kernel reads.
const START: usize = 4096;

/// Looks at everything in the tree.
pub fn gather(root: &FinalRoot) -> Result<Vec<Fact>> {
    let mut entries = Vec::new();
    for entry in walkdir::WalkDir::new(root.path()).min_depth(1).sort_by_file_name() {
        let entry =
            entry.with_context(|| format!("could not look through {}", root.path().display()))?;
        entries.push(entry);
    }
    entries.par_iter().map(|entry| look_at(root, entry)).collect()
}

fn look_at(root: &FinalRoot, entry: &walkdir::DirEntry) -> Result<Fact> {
    let disk = entry.path();
    let path = Path::new("/").join(disk.strip_prefix(root.path())?);
    let meta = entry.metadata()?;
    let kind = entry.file_type();
    let mut fact = Fact {
        path,
        kind: Kind::File,
        mode: meta.mode(),
        attributes: Vec::new(),
        staging: None,
        symbols: None,
    };
    if kind.is_symlink() {
        let target = fs_err::read_link(disk)?;
        fact.staging = names_staging(target.as_os_str().as_bytes());
        fact.kind = Kind::Link(target);
    } else if kind.is_dir() {
        fact.kind = Kind::Directory;
        fact.attributes = attributes(disk)?;
    } else if kind.is_file() {
        fact.attributes = attributes(disk)?;
        if meta.len() > 0 {
            look_into(root, disk, &mut fact)?;
        }
    } else {
        fact.kind = Kind::Special { whiteout: kind.is_char_device() && meta.rdev() == 0 };
    }
    Ok(fact)
}

fn look_into(root: &FinalRoot, disk: &Path, fact: &mut Fact) -> Result<()> {
    let bytes = tree::map(disk)?;
    if elf::is_elf(&bytes) {
        fact.kind = match elf::read(&bytes) {
            Ok(image) => {
                fact.symbols = Symbols::read(&bytes);
                Kind::Elf(Box::new(image))
            }
            Err(error) => Kind::BrokenElf(error.to_string()),
        };
    } else if bytes.starts_with(b"#!") {
        fact.kind = Kind::Script(bytes.get(..START).unwrap_or(&bytes).to_vec());
    }
    // Portage's own records say where packages were built; they are never shipped.
    if !disk.starts_with(root.eroot().join("var")) {
        fact.staging = names_staging(&bytes);
    }
    Ok(())
}

fn attributes(disk: &Path) -> Result<Vec<OsString>> {
    let file = fs_err::File::open(disk)?;
    Ok(tree::attributes(file.as_fd())?.into_iter().map(|(name, _)| name).collect())
}

/// The first path of the build sandbox that `bytes` name.
fn names_staging(bytes: &[u8]) -> Option<String> {
    let needle = format!("{INSIDE}/");
    let at = memchr::memmem::find_iter(bytes, needle.as_bytes()).find(|&at| {
        // "/usr/share/fprefix/" names no path of the sandbox.
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'.' && *byte != b'_')
    })?;
    let rest = bytes.get(at..).unwrap_or_default();
    let end = rest
        .iter()
        .take(200)
        .position(|byte| !byte.is_ascii_graphic() || b"\"':;,<>()".contains(byte))
        .unwrap_or(rest.len().min(200));
    Some(String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned())
}

/// The root as a whole.
pub struct Scene<'a> {
    /// The root.
    pub root: &'a FinalRoot,
    /// Its paths as programs see them.
    pub rooted: Rooted,
    by_path: HashMap<&'a Path, &'a Fact>,
    /// Machine and class of the prefix's loader, which all programs have to share.
    pub machine: Option<(u16, elf::Class)>,
}

impl<'a> Scene<'a> {
    /// The root with these facts.
    pub fn new(root: &'a FinalRoot, facts: &'a [Fact]) -> Self {
        let loader = facts
            .iter()
            .filter(|fact| fact.path.starts_with(root.eprefix().as_path()))
            .filter_map(Fact::elf)
            .find(|image| image.kind == elf::Kind::Loader);
        Self {
            root,
            rooted: Rooted::new(vec![root.path().to_owned()]),
            by_path: facts.iter().map(|fact| (fact.path.as_path(), fact)).collect(),
            machine: loader.map(|image| (image.machine, image.class)),
        }
    }

    /// Whether programs see `path` inside the prefix.
    pub fn is_inside(&self, path: &Path) -> bool {
        path.starts_with(self.root.eprefix().as_path())
    }

    /// What is at `path`, links followed.
    pub fn at(&self, path: &Path) -> Option<&'a Fact> {
        match self.rooted.resolve(path) {
            Place::There { inside, .. } => self.by_path.get(inside.as_path()).copied(),
            Place::Missing(_) | Place::Loop => None,
        }
    }

    /// The library `name` in the directories `dirs`, as the loader would find it.
    pub fn library(&self, name: &OsStr, dirs: &[PathBuf]) -> Option<&'a Fact> {
        dirs.iter().find_map(|dir| self.at(&dir.join(name)))
    }
}
