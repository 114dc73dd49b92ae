//! Search of the prefix's loader for the libraries of a file, by ld.so(8), on the facts of a root (glibc
//! elf/dl-load.c, elf/dl-deps.c). Where the prefix has musl's loader, by its rules (musl
//! ldso/dynlink.c, `load_library`).

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::check::{Fact, FactKind, Scene};
use crate::elf::{ElfIdent, ElfImage, Fit};
use crate::relocate::search_path::{self, Tokens};

/// Names after `lib` up to the dot that musl's loader takes for itself, whatever the suffix is.
const MUSL: &[&[u8]] = &[b"c", b"pthread", b"rt", b"m", b"dl", b"util", b"xnet"];

/// Returns whether musl's loader is the library of this name.
fn is_in_musl(name: &[u8]) -> bool {
    let stem = name.strip_prefix(b"lib").and_then(|rest| rest.split(|byte| *byte == b'.').next());
    stem.is_some_and(|stem| MUSL.contains(&stem) && name.len() > 3 + stem.len())
}

/// Result of the loader's search for a library.
#[derive(Clone)]
pub(crate) enum SearchResult<'a> {
    /// The library, and the path by which it is opened.
    Library(&'a Fact, PathBuf),
    /// Something that the loader cannot load, which ends the search, and what it is.
    Stopped(&'a Fact, &'static str),
    /// Nothing.
    Missing,
}

impl<'a> SearchResult<'a> {
    /// Returns the library.
    pub(crate) fn library(&self) -> Option<&'a Fact> {
        match self {
            Self::Library(fact, _) => Some(fact),
            Self::Stopped(..) | Self::Missing => None,
        }
    }
}

/// A file that is loaded.
pub(crate) struct Loaded<'a> {
    pub fact: &'a Fact,
    /// Name by which it was needed first; for the program, its path.
    pub name: Vec<u8>,
    /// Path by which it was opened. It may lead over links.
    pub path: PathBuf,
    /// Position of the file that needed it. The program needs itself.
    by: usize,
}

/// A library that is not loaded.
pub(crate) struct Fault<'a> {
    /// File that needs it.
    pub by: &'a Fact,
    pub name: Vec<u8>,
    pub found: SearchResult<'a>,
}

/// All that the loader loads when a file is started or opened, in the order of the search for
/// symbols.
pub(crate) struct Closure<'a> {
    /// Files, the program first.
    pub loaded: Vec<Loaded<'a>>,
    /// Required libraries that are not loaded: the program does not start.
    pub faults: Vec<Fault<'a>>,
}

/// Returns the directories for which `$ORIGIN` stands in a file that is opened as `path`.
fn origin<'p>(fact: &Fact, image: &ElfImage, path: &'p Path) -> Option<&'p Path> {
    let secure =
        fact.mode & 0o6000 != 0 || fact.attributes.iter().any(|name| name == "security.capability");
    // Programs that run with rights of their own do not choose where their libraries are (ld.so(8)).
    let is_program = image.interpreter.is_some() || image.kind.is_program();
    path.parent().filter(|_| !(secure && is_program))
}

impl<'a> Scene<'a> {
    /// Returns the paths that an entry of the search path stands for, in a file that is opened as
    /// `path`.
    pub(super) fn expand(
        &self,
        fact: &Fact,
        image: &ElfImage,
        path: &Path,
        entry: &[u8],
    ) -> Vec<PathBuf> {
        if !search_path::has_tokens(entry) {
            return vec![PathBuf::from(OsStr::from_bytes(entry))];
        }
        let (origin, lib) = (origin(fact, image, path), self.lib(&ElfIdent::of(image)));
        Tokens { origin, lib, machine: image.machine }.expand(entry)
    }

    /// Returns the directories of the file's own search path, if it is opened as `path`.
    fn search_dirs(&self, fact: &Fact, image: &ElfImage, path: &Path) -> Vec<PathBuf> {
        let entries = search_path::entries(image);
        let dirs = entries.flat_map(|entry| self.expand(fact, image, path, entry));
        dirs.filter(|dir| dir.is_absolute()).collect()
    }

    /// Searches for the needed libraries of `fact` by its own search path.
    pub(super) fn find_needed(&self, fact: &Fact) -> Vec<SearchResult<'a>> {
        match fact.elf().filter(|image| !image.needed.is_empty()) {
            Some(image) => {
                self.find_names(fact, &fact.path, image.needed.iter().map(Vec::as_slice))
            }
            None => Vec::new(),
        }
    }

    /// Searches for libraries of `fact`, opened as `path`, by its own search path.
    pub(super) fn find_names<'n>(
        &self,
        fact: &Fact,
        path: &Path,
        names: impl Iterator<Item = &'n [u8]>,
    ) -> Vec<SearchResult<'a>> {
        let Some(image) = fact.elf() else { return Vec::new() };
        let (own, dirs) = (ElfIdent::of(image), self.search_dirs(fact, image, path));
        let expand = |name: &[u8]| self.expand(fact, image, path, name);
        names.map(|name| self.find_library(&own, &dirs, name, expand)).collect()
    }

    /// Returns the paths besides its own by which the library `fact` is opened, if that matters: links
    /// to it by its soname in other directories, where `$ORIGIN` stands for another directory.
    pub(super) fn other_openings(&self, fact: &Fact) -> Vec<PathBuf> {
        let Some(image) = fact.elf().filter(|image| image.interpreter.is_none()) else {
            return Vec::new();
        };
        if !search_path::entries(image).any(search_path::has_origin) {
            return Vec::new();
        }
        let name = image.soname.as_deref().or_else(|| Some(fact.path.file_name()?.as_bytes()));
        let named = self.named(&ElfIdent::of(image), name.unwrap_or_default()).into_iter();
        let leads_here = |path: &PathBuf| {
            path.parent() != fact.path.parent()
                && self.find_fact(path).is_some_and(|found| std::ptr::eq(found, fact))
        };
        named.map(|(found, _)| found.path.clone()).filter(leads_here).collect()
    }

    /// Searches `dirs` for the library `name` of a file with the header `own`.
    fn find_library(
        &self,
        own: &ElfIdent,
        dirs: &[PathBuf],
        name: &[u8],
        expand: impl Fn(&[u8]) -> Vec<PathBuf>,
    ) -> SearchResult<'a> {
        // The loader uses a name with a slash as a path and does not search for it (ld.so(8)).
        if name.contains(&b'/') {
            let path = expand(name).into_iter().find(|path| path.is_absolute());
            return path.map_or(SearchResult::Missing, |path| match self.judge(own, &path) {
                Some((fact, Fit::Loads)) => SearchResult::Library(fact, path),
                Some((fact, Fit::OtherMachine)) => {
                    SearchResult::Stopped(fact, "is for another machine")
                }
                Some((fact, Fit::Stops(what))) => SearchResult::Stopped(fact, what),
                None => SearchResult::Missing,
            });
        }
        let musl = self.musl_loader(own);
        if let Some(loader) = musl.filter(|_| is_in_musl(name)) {
            return SearchResult::Library(loader, loader.path.clone());
        }
        for dir in dirs {
            let path = dir.join(OsStr::from_bytes(name));
            match self.judge(own, &path) {
                Some((fact, Fit::Loads)) => return SearchResult::Library(fact, path),
                Some((fact, Fit::Stops(what))) => return SearchResult::Stopped(fact, what),
                // musl's loader takes the first file of the name.
                Some((fact, Fit::OtherMachine)) if musl.is_some() => {
                    return SearchResult::Stopped(fact, "is for another machine");
                }
                Some((_, Fit::OtherMachine)) | None => {}
            }
        }
        SearchResult::Missing
    }

    /// Judges what is at `path`, as a library of a file with the header `own`.
    pub(super) fn judge(&self, own: &ElfIdent, path: &Path) -> Option<(&'a Fact, Fit)> {
        let fact = self.find_fact(path)?;
        let fit = match &fact.kind {
            FactKind::Elf(image) => own.fit(&ElfIdent::of(image)),
            FactKind::BrokenElf(_) => Fit::Stops("is a broken ELF file"),
            FactKind::Directory => Fit::Stops("is a directory"),
            FactKind::Script(_) | FactKind::File => Fit::Stops("is no ELF file"),
            FactKind::Link(_) | FactKind::Special { .. } => Fit::Stops("is no regular file"),
        };
        Some((fact, fit))
    }

    /// Returns whether programs load `library`, and the loader finds `name` for it in each of them.
    pub(super) fn finds_by_inheritance(&self, library: &Fact, name: &[u8]) -> bool {
        let (loaded, lost) = self.inheritance.get_or_init(|| {
            let is_program = |fact: &&Fact| fact.elf().is_some_and(|i| i.interpreter.is_some());
            let mut all = (HashSet::new(), HashSet::new());
            for program in self.facts.iter().filter(is_program) {
                let closure = self.closure(program);
                all.0.extend(closure.loaded.iter().skip(1).map(|file| file.fact.path.as_path()));
                let lost = closure.faults.into_iter();
                all.1.extend(lost.map(|fault| (fault.by.path.as_path(), fault.name)));
            }
            all
        });
        let path = library.path.as_path();
        loaded.contains(path) && !lost.contains(&(path, name.to_vec()))
    }

    /// Follows the loader from `fact` on.
    pub(crate) fn closure(&self, fact: &'a Fact) -> Closure<'a> {
        Walk::new(self, fact).run()
    }
}

/// A closure while it is followed.
struct Walk<'s, 'a> {
    scene: &'s Scene<'a>,
    closure: Closure<'a>,
    /// Files by the names that the loader knows them by.
    by_name: HashMap<Vec<u8>, usize>,
    seen: HashSet<*const Fact>,
}

impl<'s, 'a> Walk<'s, 'a> {
    fn new(scene: &'s Scene<'a>, program: &'a Fact) -> Self {
        let closure = Closure { loaded: Vec::new(), faults: Vec::new() };
        let mut walk = Self { scene, closure, by_name: HashMap::new(), seen: HashSet::new() };
        let name = program.path.as_os_str().as_bytes().to_vec();
        walk.push(Loaded { fact: program, name, path: program.path.clone(), by: 0 });
        walk
    }

    fn push(&mut self, loaded: Loaded<'a>) {
        let at = self.closure.loaded.len();
        self.by_name.entry(loaded.name.clone()).or_insert(at);
        let image = loaded.fact.elf();
        let is_musl = |image: &&ElfImage| self.scene.musl_loader(&ElfIdent::of(image)).is_some();
        // musl's loader knows a library by the name alone by which it was found.
        if let Some(soname) =
            image.filter(|image| !is_musl(image)).and_then(|image| image.soname.as_ref())
        {
            self.by_name.entry(soname.clone()).or_insert(at);
        }
        self.seen.insert(std::ptr::from_ref(loaded.fact));
        self.closure.loaded.push(loaded);
    }

    fn run(mut self) -> Closure<'a> {
        let loader = self.closure.loaded.first().and_then(|program| self.loader_of(program.fact));
        let mut at = 0;
        while let Some(file) = self.closure.loaded.get(at) {
            if let Some(image) = file.fact.elf() {
                self.load_all(at, image, loader.as_ref());
            }
            at += 1;
        }
        self.closure
    }

    /// Returns the loader that starts `program`, and opens it if it is a library.
    fn loader_of(&self, program: &Fact) -> Option<(&'a Fact, PathBuf)> {
        let image = program.elf()?;
        let named = image.interpreter.as_deref().map(|path| Path::new(OsStr::from_bytes(path)));
        if let Some((path, fact)) = named.and_then(|path| Some((path, self.scene.find_fact(path)?)))
        {
            return Some((fact, path.to_owned()));
        }
        let fact = self.scene.loader(&ElfIdent::of(image))?;
        Some((fact, fact.path.clone()))
    }

    /// Loads the libraries of the file at position `at`.
    fn load_all(&mut self, at: usize, image: &'a ElfImage, loader: Option<&(&'a Fact, PathBuf)>) {
        let Some(file) = self.closure.loaded.get(at) else { return };
        let (fact, path) = (file.fact, file.path.clone());
        let needed = self.find_own(fact, &path, image);
        for (name, found) in image.needed.iter().zip(needed) {
            self.load(at, name, found, true, loader);
        }
        for (tag, text) in &image.other_libraries {
            // glibc reads the auditors that the program names, and no others.
            if tag.is_auditor() && at > 0 {
                continue;
            }
            let found = self.scene.find_names(fact, &path, tag.names(text));
            for (name, found) in tag.names(text).zip(found) {
                self.load(at, name, found, !tag.is_optional(), loader);
            }
        }
    }

    /// Returns what the needed libraries are by the file's own search path.
    fn find_own(&self, fact: &'a Fact, path: &Path, image: &ElfImage) -> Vec<SearchResult<'a>> {
        if path.parent() == fact.path.parent() {
            return self.scene.libraries(fact).to_vec();
        }
        self.scene.find_names(fact, path, image.needed.iter().map(Vec::as_slice))
    }

    fn load(
        &mut self,
        by: usize,
        name: &[u8],
        found: SearchResult<'a>,
        required: bool,
        loader: Option<&(&'a Fact, PathBuf)>,
    ) {
        // A file that is loaded already is not searched for, wherever it is.
        if self.by_name.contains_key(name) {
            return;
        }
        let own_name =
            |fact: &Fact| fact.elf().and_then(|image| image.soname.as_deref()) == Some(name);
        let found = match loader {
            Some((fact, path)) if own_name(fact) => SearchResult::Library(fact, path.clone()),
            _ => match found {
                SearchResult::Missing => self.find_inherited(by, name),
                found => found,
            },
        };
        match found {
            SearchResult::Library(fact, _) if self.seen.contains(&std::ptr::from_ref(fact)) => {
                let at =
                    self.closure.loaded.iter().position(|known| std::ptr::eq(known.fact, fact));
                self.by_name.insert(name.to_vec(), at.unwrap_or_default());
            }
            SearchResult::Library(fact, path) => {
                self.push(Loaded { fact, name: name.to_vec(), path, by });
            }
            found if required => {
                let Some(file) = self.closure.loaded.get(by) else { return };
                let fault = Fault { by: file.fact, name: name.to_vec(), found };
                if !self.closure.faults.iter().any(|known| known.name == name) {
                    self.closure.faults.push(fault);
                }
            }
            _ => {}
        }
    }

    /// Searches by the rpath of the files through which the one at position `by` was loaded. A
    /// runpath ends this, and serves the libraries of its own file alone. For musl's loader, a runpath
    /// is an rpath.
    fn find_inherited(&self, by: usize, name: &[u8]) -> SearchResult<'a> {
        let loaded = &self.closure.loaded;
        let file = |at: usize| loaded.get(at).and_then(|file| Some((file, file.fact.elf()?)));
        let Some((needy, image)) = file(by) else { return SearchResult::Missing };
        let own = ElfIdent::of(image);
        let is_musl = self.scene.musl_loader(&own).is_some();
        if image.runpath.is_some() && !is_musl {
            return SearchResult::Missing;
        }
        let mut at = needy.by;
        loop {
            let Some((parent, image)) = file(at) else { return SearchResult::Missing };
            if is_musl || (image.runpath.is_none() && image.rpath.is_some()) {
                let dirs = self.scene.search_dirs(parent.fact, image, &parent.path);
                let found = self.scene.find_library(&own, &dirs, name, |_| Vec::new());
                if !matches!(found, SearchResult::Missing) {
                    return found;
                }
            }
            if at == parent.by {
                return SearchResult::Missing;
            }
            at = parent.by;
        }
    }
}
