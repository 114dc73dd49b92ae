//! Queries of rules about the whole root. The facts of the walk answer all of them, so no file is
//! read again.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::check::elf_rules::search_dirs;
use crate::check::{Fact, FactKind};
use crate::elf;
use crate::fstree::resolve::{MOST_LINKS, RootResolver};
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
    /// A missing entry, at this path after links are resolved.
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
        scene.owner = scene.at(root.eprefix().as_path()).map(|fact| fact.owner);
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
                return self.at(Path::new(OsStr::from_bytes(name)));
            }
            dirs.iter().find_map(|dir| self.at(&dir.join(OsStr::from_bytes(name))))
        };
        image.needed.iter().map(find).collect()
    }

    /// Returns whether programs see `path` inside the prefix.
    pub(crate) fn is_inside(&self, path: &Path) -> bool {
        path.starts_with(self.root.eprefix().as_path())
    }

    /// Returns the entry at `path`, following links.
    pub(crate) fn at(&self, path: &Path) -> Option<&'a Fact> {
        match self.resolve(path) {
            Lead::There(fact) => Some(fact),
            Lead::Missing(_) | Lead::Loop => None,
        }
    }

    /// Resolves the absolute `path`, following links.
    pub(crate) fn resolve(&self, path: &Path) -> Lead<'a> {
        let mut rest: Vec<Component<'_>> = parts(path);
        let mut at: Vec<u8> = Vec::with_capacity(256);
        let mut found = None;
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let Component::Normal(name) = part else {
                at.truncate(memchr::memrchr(b'/', &at).unwrap_or(0));
                found = self.by_path.get(at.as_slice());
                continue;
            };
            let parent = at.len();
            at.push(b'/');
            at.extend(name.as_bytes());
            found = self.by_path.get(at.as_slice());
            let Some(fact) = found.and_then(|at| self.facts.get(*at)) else {
                let mut missing = PathBuf::from(OsStr::from_bytes(&at));
                missing.extend(rest.into_iter().rev());
                return Lead::Missing(missing);
            };
            let FactKind::Link(target) = &fact.kind else { continue };
            links += 1;
            if links > MOST_LINKS {
                return Lead::Loop;
            }
            at.truncate(if target.is_absolute() { 0 } else { parent });
            rest.extend(parts(target));
        }
        match found.and_then(|at| self.facts.get(*at)) {
            Some(fact) => Lead::There(fact),
            None => Lead::Missing(PathBuf::from("/")),
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

/// Significant components of a path, in reverse order.
fn parts(path: &Path) -> Vec<Component<'_>> {
    let matters =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(matters).rev().collect()
}
