//! Libraries that a file finds by the search paths of those that load it. The loader searches the
//! `DT_RPATH` of all of them before its own directories (ld.so(8); glibc elf/dl-load.c,
//! `_dl_map_object`). A directory that such a file got itself would come first, and may have another
//! library of the same name. So it stays without, and programs that load it otherwise get the
//! directory in its place.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::base::input;
use crate::elf::{self, ElfIdent, ElfImage, Fit};
use crate::relocate::objects::Objects;
use crate::relocate::scan::ScannedFile;
use crate::relocate::search_dirs::{SearchPath, usual_dirs};
use crate::relocate::search_path;

/// Names that files of a tree find by inheritance, by the position of the file among the scanned ones.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    names: HashMap<usize, BTreeSet<Vec<u8>>>,
    dirs: HashMap<usize, Vec<PathBuf>>,
}

impl Inherited {
    /// Returns whether the file at this position finds `name` by inheritance.
    pub(super) fn has(&self, file: usize, name: &[u8]) -> bool {
        self.names.get(&file).is_some_and(|names| names.contains(name))
    }

    /// Returns directories that the program at this position hands down.
    pub(super) fn dirs(&self, file: usize) -> &[PathBuf] {
        self.dirs.get(&file).map_or(&[], Vec::as_slice)
    }

    /// Follows the loader from each of `files`. A tree in which each name has one library has nothing
    /// to follow.
    pub(super) fn find(files: &[ScannedFile], objects: &Objects<'_>, eprefix: &Path) -> Self {
        let several = objects.names_of_several(&usual_places(eprefix));
        if several.is_empty() {
            return Self::default();
        }
        let images: Vec<Option<ElfImage>> = files.par_iter().map(read_image).collect();
        let by_path: HashMap<&Path, usize> = files
            .iter()
            .enumerate()
            .flat_map(|(at, file)| file.paths.iter().map(move |path| (path.as_path(), at)))
            .collect();
        let loaders = objects.libraries.loaders();
        let loaders: HashSet<OsString> =
            loaders.filter_map(|path| path.file_name().map(OsStr::to_owned)).collect();
        let is_musl = !loaders.is_empty()
            && loaders.iter().all(|name| name.as_bytes().starts_with(b"ld-musl-"));
        let tree = Tree { files, images, by_path, objects, eprefix, loaders, is_musl };
        let walks: Vec<Findings> =
            (0..files.len()).into_par_iter().filter_map(|root| tree.follow(root)).collect();
        let mut found = Self::default();
        for (file, name, dir) in walks.iter().flat_map(|walk| &walk.inherited) {
            let name_path = Path::new(OsStr::from_bytes(name));
            let other = tree.added_dir(*file, name).map(|dir| dir.join(name_path));
            let real = |path: &Path| objects.rooted.find(path);
            if other.is_some_and(|other| real(&other) != real(&dir.join(name_path))) {
                found.names.entry(*file).or_default().insert(name.clone());
            }
        }
        for (file, names) in &mut found.names {
            let others = tree.names_that_hide(*file, names);
            names.extend(others);
        }
        for walk in walks.iter().filter(|walk| tree.is_program(walk.root)) {
            for (file, name, dir) in &walk.default {
                let dirs = found.dirs.entry(walk.root).or_default();
                let is_inherited = found.names.get(file).is_some_and(|names| names.contains(name));
                if is_inherited && *file != walk.root && !dirs.contains(dir) {
                    dirs.push(dir.clone());
                }
            }
        }
        found
    }
}

fn usual_places(eprefix: &Path) -> Vec<PathBuf> {
    ["usr/lib64", "usr/lib"].iter().map(|dir| eprefix.join(dir)).collect()
}

fn read_image(file: &ScannedFile) -> Option<ElfImage> {
    if file.size == 0 || file.size > elf::LARGEST {
        return None;
    }
    let source = input::open_walked(&file.disk).ok()?;
    // What cannot be read is an error where it is planned.
    let bytes = elf::open(source.file()).ok()?;
    elf::is_elf(&bytes).then(|| elf::read(&bytes).ok())?
}

/// Libraries that the loader finds when it starts or opens one file: each with the file that needs
/// it, its name, and the directory.
struct Findings {
    root: usize,
    /// By the search path of a file that loads the one that needs it.
    inherited: HashSet<(usize, Vec<u8>, PathBuf)>,
    /// By the directories of the loader.
    default: Vec<(usize, Vec<u8>, PathBuf)>,
}

struct Tree<'a> {
    files: &'a [ScannedFile],
    images: Vec<Option<ElfImage>>,
    by_path: HashMap<&'a Path, usize>,
    objects: &'a Objects<'a>,
    eprefix: &'a Path,
    /// File names of the loaders.
    loaders: HashSet<OsString>,
    /// True if these are musl's.
    is_musl: bool,
}

/// A file that is loaded.
struct LoadedFile {
    file: usize,
    /// Directories of its search path.
    dirs: Vec<PathBuf>,
    /// Position of the file that needs it.
    by: usize,
}

impl Tree<'_> {
    fn image(&self, file: usize) -> Option<&ElfImage> {
        self.images.get(file).and_then(Option::as_ref)
    }

    fn is_program(&self, file: usize) -> bool {
        self.image(file).is_some_and(|image| image.interpreter.is_some() || image.kind.is_program())
    }

    /// Returns whether `dir` has the library `name` for the file.
    fn has(&self, file: usize, dir: &Path, name: &[u8]) -> bool {
        let path = dir.join(OsStr::from_bytes(name));
        self.image(file).is_some_and(|image| {
            self.objects.judge(&ElfIdent::of(image), &path) == Some(Fit::Loads)
        })
    }

    /// Returns the directory that the search path of the file gets for a library that it lacks.
    fn added_dir(&self, file: usize, name: &[u8]) -> Option<PathBuf> {
        let own = ElfIdent::of(self.image(file)?);
        self.objects.dir_to_add(&own, self.eprefix, Path::new(OsStr::from_bytes(name)))
    }

    /// Returns the names that the file needs whose directories have one of `names` too.
    fn names_that_hide(&self, file: usize, names: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
        let hides = |name: &&Vec<u8>| {
            let dir = self.added_dir(file, name);
            dir.is_some_and(|dir| names.iter().any(|name| self.has(file, &dir, name)))
        };
        let needed = self.image(file).into_iter().flat_map(|image| &image.needed);
        needed.filter(hides).cloned().collect()
    }

    /// Returns the directories that the file's own search path keeps, if it is opened as `path`.
    fn dirs(&self, file: usize, path: &Path) -> Vec<PathBuf> {
        let (Some(image), Some(scanned)) = (self.image(file), self.files.get(file)) else {
            return Vec::new();
        };
        let own = ElfIdent::of(image);
        let mut search = SearchPath::new(&own, self.objects, self.eprefix, None);
        let privileged = scanned.privileged && self.is_program(file);
        let origins: Vec<PathBuf> =
            path.parent().filter(|_| !privileged).map(Path::to_owned).into_iter().collect();
        for entry in search_path::entries(image).filter(|entry| !entry.is_empty()) {
            search.keep(entry, &origins, self.objects.lib(&own));
        }
        search.into_dirs()
    }

    /// Returns whether the loader searches the search paths of others for the libraries of the file, and
    /// that of the file for the libraries of others: not if it is a runpath, but for musl's loader
    /// (musl ldso/dynlink.c, `load_library`).
    fn is_shared(&self, file: usize) -> bool {
        self.is_musl || self.image(file).is_some_and(|image| image.runpath.is_none())
    }

    fn load(&self, file: usize, path: &Path, by: usize) -> LoadedFile {
        LoadedFile { file, dirs: self.dirs(file, path), by }
    }

    fn follow(&self, root: usize) -> Option<Findings> {
        let path = self.files.get(root)?.paths.first()?;
        self.image(root).filter(|image| !image.needed.is_empty())?;
        let mut found = Findings { root, inherited: HashSet::new(), default: Vec::new() };
        let mut loaded = vec![self.load(root, path, 0)];
        let mut names: HashSet<&[u8]> = HashSet::new();
        let mut at = 0;
        while let Some(file) = loaded.get(at).map(|loaded| loaded.file) {
            for name in self.image(file).into_iter().flat_map(|image| &image.needed) {
                // The loader itself is there.
                let is_loader = self.loaders.contains(OsStr::from_bytes(name));
                if is_loader || name.contains(&b'/') || !names.insert(name) {
                    continue;
                }
                let Some(dir) = self.search(&loaded, at, name, &mut found) else { continue };
                let path = dir.join(OsStr::from_bytes(name));
                let real = self.objects.rooted.find(&path).unwrap_or_else(|| path.clone());
                let Some(&library) = self.by_path.get(real.as_path()) else { continue };
                if loaded.iter().all(|known| known.file != library) {
                    let soname = self.image(library).and_then(|image| image.soname.as_deref());
                    names.extend(soname.filter(|_| !self.is_musl));
                    loaded.push(self.load(library, &path, at));
                }
            }
            at += 1;
        }
        Some(found)
    }

    /// Returns the directory in which the loader finds `name`, which the file at position `at` needs.
    fn search(
        &self,
        loaded: &[LoadedFile],
        at: usize,
        name: &[u8],
        found: &mut Findings,
    ) -> Option<PathBuf> {
        let needy = loaded.get(at)?;
        let find =
            |dirs: &[PathBuf]| dirs.iter().find(|dir| self.has(needy.file, dir, name)).cloned();
        if let Some(dir) = find(&needy.dirs) {
            return Some(dir);
        }
        let (mut child, mut parent) = (at, needy.by);
        while self.is_shared(needy.file) && child != parent {
            let file = loaded.get(parent)?;
            if self.is_shared(file.file)
                && let Some(dir) = find(&file.dirs)
            {
                found.inherited.insert((needy.file, name.to_vec(), dir.clone()));
                return Some(dir);
            }
            (child, parent) = (parent, file.by);
        }
        let dir = self.added_dir(needy.file, name)?;
        found.default.push((needy.file, name.to_vec(), dir.clone()));
        Some(dir)
    }
}

impl Objects<'_> {
    /// Returns the directory that the search path of a file with the header `own` gets for the library
    /// `name`: a usual one, or the only one that has it.
    pub(super) fn dir_to_add(
        &self,
        own: &ElfIdent,
        eprefix: &Path,
        name: &Path,
    ) -> Option<PathBuf> {
        let has = |dir: &PathBuf| self.judge(own, &dir.join(name)) == Some(Fit::Loads);
        let usual = usual_dirs(eprefix, own, self).into_iter().find(has);
        usual.or_else(|| self.only_dir_of(own, name).map(Path::to_owned))
    }

    /// Returns the names of libraries that several files have, in the directories of the tree and in
    /// `places`.
    fn names_of_several(&self, places: &[PathBuf]) -> Vec<&OsStr> {
        let names = self.libraries.names().filter(|(name, _)| name.as_bytes().starts_with(b"lib"));
        let several = names.filter(|(name, dirs)| {
            let all = dirs.iter().chain(places);
            let files: BTreeSet<_> =
                all.filter_map(|dir| self.rooted.find(&dir.join(name))).collect();
            files.len() > 1
        });
        several.map(|(name, _)| name).collect()
    }
}
