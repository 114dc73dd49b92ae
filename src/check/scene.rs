//! Queries of rules about the whole root. The facts of the walk answer all of them, so no file is
//! read again.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::check::elf_rules::search_dirs;
use crate::check::{Fact, FactKind};
use crate::elf;
use crate::fstree::resolve::{Followed, LinkTree, RootResolver, follow_links};
use crate::prefix::final_root::FinalRoot;

/// View of the whole root.
pub(crate) struct Scene<'a> {
    /// The root.
    pub root: &'a FinalRoot,
    /// Resolves paths as programs see them, for rules that need more than a path.
    pub rooted: RootResolver,
    facts: &'a [Fact],
    by_path: HashMap<&'a [u8], usize>,
    /// For each fact about an ELF file, its needed libraries as its own search path finds them.
    libraries: Vec<Vec<Option<&'a Fact>>>,
    /// Machines and classes of the prefix's loaders. Every program is for one of them.
    pub machines: BTreeSet<(u16, elf::ElfClass)>,
    /// Owner of the prefix on disk, who becomes root on a target.
    pub owner: Option<(u32, u32)>,
}

/// Result of resolving a path.
pub(crate) enum Lead<'a> {
    /// An entry of the root.
    There(&'a Fact),
    /// A missing entry, at this path after links are resolved. For a path that goes up from
    /// something missing or from a file, this is that entry.
    Missing(PathBuf),
    /// A loop of links.
    Loop,
}

impl<'a> Scene<'a> {
    /// Indexes the facts about the root.
    pub(crate) fn new(root: &'a FinalRoot, facts: &'a [Fact]) -> Self {
        let inside = |fact: &&Fact| fact.path.starts_with(root.eprefix().as_path());
        let images = facts.iter().filter(inside).filter_map(Fact::elf);
        let loaders = images.filter(|image| image.kind == elf::ObjectKind::Loader);
        let by_path = facts.iter().enumerate();
        let mut scene = Self {
            root,
            rooted: RootResolver::new(vec![root.path().to_owned()]),
            facts,
            by_path: by_path.map(|(at, fact)| (bytes(&fact.path), at)).collect(),
            libraries: Vec::new(),
            machines: loaders.map(|image| (image.machine, image.class)).collect(),
            owner: None,
        };
        scene.owner = scene.find_fact(root.eprefix().as_path()).map(|fact| fact.owner);
        scene.libraries = facts.par_iter().map(|fact| scene.find_libraries(fact)).collect();
        scene
    }

    fn find_libraries(&self, fact: &Fact) -> Vec<Option<&'a Fact>> {
        let Some(image) = fact.elf().filter(|image| !image.needed.is_empty()) else {
            return Vec::new();
        };
        let dirs = search_dirs(fact, image, self);
        let find = |name: &Vec<u8>| {
            // The loader uses a name with a slash as a path and does not search for it (ld.so(8)).
            if name.contains(&b'/') {
                return self.find_fact(Path::new(OsStr::from_bytes(name)));
            }
            dirs.iter().find_map(|dir| self.find_fact(&dir.join(OsStr::from_bytes(name))))
        };
        image.needed.iter().map(find).collect()
    }

    /// Returns whether programs see `path` inside the prefix.
    pub(crate) fn is_inside(&self, path: &Path) -> bool {
        path.starts_with(self.root.eprefix().as_path())
    }

    /// Returns the entry at `path`, following links.
    pub(crate) fn find_fact(&self, path: &Path) -> Option<&'a Fact> {
        match self.resolve(path) {
            Lead::There(fact) => Some(fact),
            Lead::Missing(_) | Lead::Loop => None,
        }
    }

    /// Resolves the absolute `path`, following links.
    pub(crate) fn resolve(&self, path: &Path) -> Lead<'a> {
        match follow_links(self, Path::new("/"), path) {
            Followed::There { entry: Some(fact), .. } => Lead::There(fact),
            // There is no fact about the root directory.
            Followed::There { inside: path, entry: None }
            | Followed::Missing(path)
            | Followed::NoDirectory(path) => Lead::Missing(path),
            Followed::Loop => Lead::Loop,
        }
    }

    /// Returns the needed libraries of `fact` in their order. `None` is a library that was not
    /// found.
    pub(crate) fn libraries(&self, fact: &Fact) -> &[Option<&'a Fact>] {
        let at = self.by_path.get(bytes(&fact.path));
        at.and_then(|at| self.libraries.get(*at)).map_or(&[], Vec::as_slice)
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

impl<'a> LinkTree for Scene<'a> {
    type Entry = &'a Fact;

    fn entry(&self, path: &Path) -> Option<(&'a Fact, Option<Cow<'_, Path>>)> {
        let fact = self.facts.get(*self.by_path.get(bytes(path))?)?;
        let target = match &fact.kind {
            FactKind::Link(target) => Some(Cow::Borrowed(target.as_path())),
            _ => None,
        };
        Some((fact, target))
    }

    fn is_directory(&self, fact: &&'a Fact) -> bool {
        matches!(fact.kind, FactKind::Directory)
    }
}
