//! Queries of rules about the whole root. The facts of the walk answer all of them, so no file is
//! read again.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use memchr::memmem;
use rayon::prelude::*;

use crate::base::limits::LIBRARY;
use crate::check::elf_rules::find_release;
use crate::check::facts::FileContents;
use crate::check::loading::SearchResult;
use crate::check::packages::PackageRecords;
use crate::check::{Fact, FactKind};
use crate::elf;
use crate::fstree::resolve::{Followed, LinkTree, RootResolver, follow_links};
use crate::prefix::final_root::FinalRoot;
use crate::prefix::integration::IntegrationTable;
use crate::relocate::libc::{LibcIsolation, plan_static_isolation};
use crate::relocate::search_path;

/// View of the whole root.
pub(crate) struct Scene<'a> {
    /// The root.
    pub root: &'a FinalRoot,
    /// Resolves paths as programs see them, for rules that need more than a path.
    pub rooted: RootResolver,
    pub(super) facts: &'a [Fact],
    by_path: HashMap<&'a [u8], usize>,
    /// For each fact about an ELF file, its needed libraries as its own search path finds them.
    libraries: Vec<Vec<SearchResult<'a>>>,
    /// For each fact, the undefined symbols that no file defines that is loaded with it.
    unresolved: Vec<OnceLock<Vec<u64>>>,
    /// For each fact about a static program of glibc, what isolates it. Several rules ask.
    isolations: Vec<OnceLock<Box<LibcIsolation>>>,
    /// Loaders of the prefix.
    loaders: Vec<&'a Fact>,
    /// Value of `$LIB` in each of them.
    libs: OnceLock<Vec<(elf::ElfIdent, String)>>,
    /// Libraries that programs load, and names that they need and do not find.
    pub(super) inheritance: OnceLock<ByPrograms<'a>>,
    /// Releases of loaders and C libraries, by their paths.
    releases: Mutex<HashMap<PathBuf, Option<String>>>,
    /// Positions of entries that are named like libraries, by their file names.
    by_name: OnceLock<HashMap<&'a [u8], Vec<usize>>>,
    /// Machines and classes of the prefix's loaders. Every program is for one of them.
    pub machines: BTreeSet<(u16, elf::ElfClass)>,
    /// Portage's records of the root.
    pub(super) records: PackageRecords,
    /// Owner of the prefix on disk, who becomes root on a target.
    pub owner: Option<(u32, u32)>,
    /// Paths below EPREFIX that tmpfiles rules of the prefix name.
    pub(super) ruled: OnceLock<BTreeSet<PathBuf>>,
    /// Files that a target reads. Empty unless rules are applied.
    pub integration: IntegrationTable,
}

/// Libraries that programs load, and names that these need and that are not found.
pub(super) type ByPrograms<'a> = (HashSet<&'a Path>, HashSet<(&'a Path, Vec<u8>)>);

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
        let is_loader = |fact: &&Fact| {
            fact.elf().is_some_and(|image| image.kind == elf::ObjectKind::Loader) || is_musl(fact)
        };
        let loaders: Vec<&Fact> = facts.iter().filter(inside).filter(is_loader).collect();
        let by_path = facts.iter().enumerate();
        let mut scene = Self {
            root,
            rooted: RootResolver::new(vec![root.path().to_owned()]),
            facts,
            by_path: by_path.map(|(at, fact)| (bytes(&fact.path), at)).collect(),
            libraries: Vec::new(),
            unresolved: facts.iter().map(|_| OnceLock::new()).collect(),
            isolations: facts.iter().map(|_| OnceLock::new()).collect(),
            machines: loaders.iter().filter_map(|fact| fact.elf()).map(machine).collect(),
            loaders,
            libs: OnceLock::new(),
            inheritance: OnceLock::new(),
            releases: Mutex::default(),
            by_name: OnceLock::new(),
            records: PackageRecords::default(),
            owner: None,
            ruled: OnceLock::new(),
            integration: IntegrationTable::default(),
        };
        scene.owner = scene.find_fact(root.eprefix().as_path()).map(|fact| fact.owner);
        scene.libraries = facts.par_iter().map(|fact| scene.find_needed(fact)).collect();
        scene
    }

    /// Returns what `$LIB` stands for in the prefix's loader for a file with the header `own`, or an
    /// empty text if that is not known.
    pub(super) fn lib(&self, own: &elf::ElfIdent) -> &str {
        let libs = self.libs.get_or_init(|| {
            let read = |fact: &&Fact| {
                let bytes = fact.contents(self.root).ok()?;
                let bytes = bytes.get(..).filter(|bytes| bytes.len() as u64 <= LIBRARY.bytes)?;
                let lib = search_path::find_lib(bytes)?.to_owned();
                Some((elf::ElfIdent::of(fact.elf()?), lib))
            };
            self.loaders.iter().filter_map(read).collect()
        });
        let fitting = libs.iter().find(|(loader, _)| own.fit(loader) == elf::Fit::Loads);
        fitting.map_or("", |(_, lib)| lib)
    }

    /// Returns the prefix's loader for files with the header `own`.
    pub(super) fn loader(&self, own: &elf::ElfIdent) -> Option<&'a Fact> {
        let fits = |fact: &&&Fact| {
            let image = fact.elf();
            image.is_some_and(|image| own.fit(&elf::ElfIdent::of(image)) == elf::Fit::Loads)
        };
        self.loaders.iter().find(fits).copied()
    }

    /// Returns the prefix's loader for files with the header `own`, if it is musl's.
    pub(super) fn musl_loader(&self, own: &elf::ElfIdent) -> Option<&'a Fact> {
        self.loader(own).filter(|loader| is_musl(loader))
    }

    /// Returns the release of a loader or C library.
    pub(super) fn release(&self, fact: &Fact) -> Option<String> {
        let mut known = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || {
            let bytes = fact.contents(self.root).ok()?;
            find_release(bytes.get(..).filter(|bytes| bytes.len() as u64 <= LIBRARY.bytes)?)
        };
        known.entry(fact.path.clone()).or_insert_with(read).clone()
    }

    /// Returns what the prefix has under the name of a library, judged for files with the header
    /// `own`.
    pub(super) fn named(&self, own: &elf::ElfIdent, name: &[u8]) -> Vec<(&'a Fact, elf::Fit)> {
        let by_name = self.by_name.get_or_init(|| {
            let mut by_name: HashMap<&[u8], Vec<usize>> = HashMap::new();
            for (at, fact) in self.facts.iter().enumerate() {
                let name = fact.path.file_name().map(OsStr::as_bytes);
                if let Some(name) = name.filter(|name| memmem::find(name, b".so").is_some()) {
                    by_name.entry(name).or_default().push(at);
                }
            }
            by_name
        });
        let facts = by_name.get(name).into_iter().flatten().filter_map(|at| self.facts.get(*at));
        let judge = |fact: &'a Fact| {
            let (target, fit) = self.judge(own, &fact.path)?;
            self.is_inside(&target.path).then_some((fact, fit))
        };
        facts.filter_map(judge).collect()
    }

    /// Returns what isolates the static program of glibc `fact`.
    pub(super) fn isolation(&self, fact: &Fact) -> Option<&LibcIsolation> {
        let place = self.isolations.get(*self.by_path.get(bytes(&fact.path))?)?;
        let plan = || {
            let contents = fact.contents(self.root);
            let plan = |bytes: FileContents<'_>| {
                plan_static_isolation(&bytes, self.root.eprefix().as_path())
            };
            Box::new(contents.map(plan).unwrap_or_default())
        };
        Some(place.get_or_init(plan))
    }

    /// Returns the place of `fact` for what is computed once.
    pub(super) fn unresolved(&self, fact: &Fact) -> Option<&OnceLock<Vec<u64>>> {
        self.unresolved.get(*self.by_path.get(bytes(&fact.path))?)
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

    /// Returns the needed libraries of `fact` in their order, as its own search path finds them.
    pub(super) fn libraries(&self, fact: &Fact) -> &[SearchResult<'a>] {
        let at = self.by_path.get(bytes(&fact.path));
        at.and_then(|at| self.libraries.get(*at)).map_or(&[], Vec::as_slice)
    }
}

/// Returns whether the file is musl's C library, which is its loader too. Debian's has no soname.
pub(super) fn is_musl(fact: &Fact) -> bool {
    let Some(image) = fact.elf().filter(|image| image.needed.is_empty()) else { return false };
    let file_name = fact.path.file_name().unwrap_or_default().as_bytes();
    let name = image.soname.as_deref().unwrap_or(file_name);
    !image.kind.is_program()
        && (name == b"libc.so" || name.starts_with(b"libc.musl-") || name.starts_with(b"ld-musl-"))
}

fn machine(image: &elf::ElfImage) -> (u16, elf::ElfClass) {
    (image.machine, image.class)
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
