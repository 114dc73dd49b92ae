//! Judgement of the files behind the names of libraries, by ELF headers, as the loader judges. Each header is
//! read once, however many files need the library.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};

use crate::base::input;
use crate::elf::{ElfIdent, Fit, HEADER};
use crate::fstree::resolve::{ResolvedPath, RootResolver};
use crate::relocate::libraries::LibraryIndex;
use crate::relocate::search_path;

/// A header, or what the file is that has none.
type Header = Result<ElfIdent, &'static str>;

/// The tree that is rewritten, as its loader sees it.
pub(super) struct Objects<'a> {
    pub rooted: &'a RootResolver,
    pub libraries: &'a LibraryIndex,
    headers: RwLock<HashMap<PathBuf, Header>>,
    /// Loaders of the tree, each with its `$LIB`.
    loaders: OnceLock<Vec<(ElfIdent, String)>>,
    /// Directories of links to a file, by the path of the file.
    origins: OnceLock<HashMap<PathBuf, Vec<PathBuf>>>,
    links: &'a [(PathBuf, PathBuf)],
}

impl<'a> Objects<'a> {
    /// Makes a view of the tree with these symbolic links.
    pub(super) fn new(
        rooted: &'a RootResolver,
        libraries: &'a LibraryIndex,
        links: &'a [(PathBuf, PathBuf)],
    ) -> Self {
        Self {
            rooted,
            libraries,
            headers: RwLock::default(),
            loaders: OnceLock::new(),
            origins: OnceLock::new(),
            links,
        }
    }

    /// Judges what is at `path` as a library of a file with the header `own`. Returns `None` if
    /// nothing is there.
    pub(super) fn judge(&self, own: &ElfIdent, path: &Path) -> Option<Fit> {
        Some(match self.header(path)? {
            Ok(header) => own.fit(&header),
            Err(what) => Fit::Stops(what),
        })
    }

    fn header(&self, path: &Path) -> Option<Header> {
        let ResolvedPath::There { inside, disk } = self.rooted.resolve(path) else { return None };
        let known =
            self.headers.read().unwrap_or_else(PoisonError::into_inner).get(&inside).copied();
        Some(known.unwrap_or_else(|| {
            let header = read_header(&disk);
            let mut headers = self.headers.write().unwrap_or_else(PoisonError::into_inner);
            headers.insert(inside, header);
            header
        }))
    }

    /// Returns the only directory that has the library `name` for a file with the header `own`.
    pub(super) fn only_dir_of(&self, own: &ElfIdent, name: &Path) -> Option<&'a Path> {
        let fits = |dir: &&Path| self.judge(own, &dir.join(name)) == Some(Fit::Loads);
        let mut dirs = self.libraries.dirs_of(name).filter(fits);
        dirs.next().filter(|_| dirs.next().is_none())
    }

    /// Returns what `$LIB` stands for in the tree's loader for a file with the header `own`, or an
    /// empty text if that is not known.
    pub(super) fn lib(&self, own: &ElfIdent) -> &str {
        let loaders = self.loaders.get_or_init(|| {
            let paths = self.libraries.loaders();
            let read = |path: PathBuf| {
                let header = self.header(&path)?.ok()?;
                let disk = self.rooted.find_on_disk(&path)?;
                let bytes = input::read(&disk, crate::base::limits::LIBRARY).ok()?;
                Some((header, search_path::find_lib(&bytes)?.to_owned()))
            };
            paths.filter_map(read).collect()
        });
        let fitting = loaders.iter().find(|(loader, _)| own.fit(loader) == Fit::Loads);
        fitting.map_or("", |(_, lib)| lib)
    }

    /// Returns the directories by which the library at `path` is opened, as `$ORIGIN` stands for
    /// them: its own, and those of links to it, which the loader does not follow.
    pub(super) fn origins(&self, path: &Path) -> Vec<PathBuf> {
        let origins = self.origins.get_or_init(|| {
            let mut origins: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
            for (link, _) in self.links {
                let is_library = link.file_name().is_some_and(LibraryIndex::is_library);
                let (Some(dir), Some(file)) = (link.parent(), self.rooted.find(link)) else {
                    continue;
                };
                if is_library && file.parent() != Some(dir) {
                    origins.entry(file).or_default().push(dir.to_owned());
                }
            }
            origins
        });
        let own = path.parent().map(Path::to_owned);
        own.into_iter().chain(origins.get(path).into_iter().flatten().cloned()).collect()
    }
}

fn read_header(disk: &Path) -> Header {
    match disk.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Err("is a directory"),
        Ok(meta) if meta.is_file() => match input::read_start(disk, HEADER as u64) {
            Ok(start) => ElfIdent::read(&start),
            Err(_) => Err("cannot be read"),
        },
        _ => Err("is no regular file"),
    }
}
