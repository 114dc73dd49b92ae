//! Paths in the place of the names of needed libraries, so that the loader opens each of them at once.
//!
//! For a name, the loader tries all directories of a search path. It takes a `DT_NEEDED` entry with a
//! slash as a path (ld.so(8)), as Shrinkwrap uses it (Zakaria and others, "Mapping Out the HPC Dependency
//! Chaos", SC22). The search path remains, for dlopen(3).
//!
//! glibc's loader must load the same files as before, and none of them twice. It knows a file that was
//! opened by a path also by its soname (elf/dl-load.c, `_dl_map_object`), and tells a file that it has by
//! its inode. The file names in `.gnu.version_r` are compared with the names alone by which files were
//! asked for (elf/dl-version.c, `find_needed`), so they become the same paths. A name stays where a path
//! could mean something else:
//!
//! - several files have the name or the soname: the one that is loaded first serves all;
//! - the soname is another one, or there is none: a later request by the name would not be met;
//! - the search path has `$ORIGIN` or another token, or is a runpath, which `LD_LIBRARY_PATH` overrides;
//! - only search paths of other files lead to the library;
//! - the C library, in a library: its program has loaded it already. A program of the target may load the
//!   library, too, and has a C library of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use rayon::prelude::*;
use serde::Serialize;

use crate::base::escape::Escape;
use crate::base::input;
use crate::elf::{self, Edit, ElfIdent, ElfImage, Fit, ObjectKind};
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::resolve::{Followed, follow_links};
use crate::relocate::search_path;
use crate::sysext::strip::find_signature;

/// Soname of the C library.
const LIBC: &[u8] = b"libc.so.6";

/// Form in which the files of an extension name the libraries that they need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum NeededForm {
    /// Names, which the loader searches for.
    #[default]
    Names,
    /// Paths, where they are sure to mean the same.
    Paths,
}

impl FromStr for NeededForm {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "names" => Ok(Self::Names),
            "paths" => Ok(Self::Paths),
            _ => bail!("{text:?} has to be names or paths"),
        }
    }
}

/// Sets paths for needed libraries in the files of `plan`. Changed files get a copy in `dir`, which is
/// created. Returns their paths in the plan.
pub(crate) fn apply(plan: &mut FileTree, dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let objects = TreeObjects::read(plan)?;
    let edits: Vec<(PathBuf, Edit)> = objects
        .images
        .par_iter()
        .filter_map(|(path, image)| Some((path.clone(), objects.plan_edit(path, image)?)))
        .collect();
    if edits.is_empty() {
        return Ok(BTreeSet::new());
    }
    fs_err::create_dir(dir)?;
    let write = |(number, (path, edit)): (usize, (PathBuf, Edit))| {
        let copy = dir.join(number.to_string());
        let content = plan.entries.get(&path).map(|entry| &entry.kind);
        let Some(EntryKind::File(content)) = content else { return Ok(None) };
        let written = write_edited(content, &edit, &copy)
            .with_context(|| format!("could not set the libraries of /{}", path.escaped()))?;
        Ok(written.map(|content| (path, content)))
    };
    let written = edits.into_par_iter().enumerate().map(write);
    let written: Vec<Option<(PathBuf, FileContent)>> = written.collect::<Result<_>>()?;
    let mut changed = BTreeSet::new();
    for (path, content) in written.into_iter().flatten() {
        if let Some(entry) = plan.entries.get_mut(&path) {
            entry.kind = EntryKind::File(content);
            changed.insert(path);
        }
    }
    Ok(changed)
}

/// Writes the edited file to `copy`. Returns `None` if there is no room for the edit in it, which then
/// keeps its names.
fn write_edited(content: &FileContent, edit: &Edit, copy: &Path) -> Result<Option<FileContent>> {
    let Ok(plan) = elf::plan(&content.source.bytes()?, edit) else { return Ok(None) };
    if plan.is_unchanged() {
        return Ok(None);
    }
    match &content.source {
        ContentSource::Disk(source) => {
            let source = input::open_walked(source)?;
            plan.write_copy(source.file(), fs_err::File::create_new(copy)?.file())?;
        }
        ContentSource::Bytes(bytes) => fs_err::write(copy, plan.apply_to_vec(bytes))?,
    }
    let size = fs_err::metadata(copy)?.len();
    Ok(Some(FileContent::unread(ContentSource::Disk(copy.to_owned()), size)))
}

/// Programs and libraries of a plan.
struct TreeObjects<'t> {
    plan: &'t FileTree,
    /// By path in the plan; a file with hard links by its first one.
    images: BTreeMap<PathBuf, ElfImage>,
    /// Libraries by their sonames, and by the file names under which they are in the plan.
    named: BTreeMap<Vec<u8>, BTreeSet<PathBuf>>,
    /// Names that must remain, because a file requires a version of a library that it does not need.
    fixed: BTreeSet<Vec<u8>>,
}

/// Entry that a path of the plan leads to, as the loader takes it.
enum PathTarget<'o> {
    Nothing,
    /// A program or library, and its first path in the plan.
    Object(PathBuf, &'o ElfImage),
    /// Something that is no readable ELF file.
    Other,
}

impl<'t> TreeObjects<'t> {
    fn read(plan: &'t FileTree) -> Result<Self> {
        let entries: Vec<(&PathBuf, &Entry)> = plan.entries.iter().collect();
        let read = |(path, entry): (&PathBuf, &Entry)| {
            let EntryKind::File(content) = &entry.kind else { return Ok(None) };
            if !is_elf(content)? {
                return Ok(None);
            }
            Ok(elf::read(&content.source.bytes()?).ok().map(|image| (path.clone(), image)))
        };
        let images = entries.into_par_iter().map(read);
        let images: Vec<Option<(PathBuf, ElfImage)>> = images.collect::<Result<_>>()?;
        let images = images.into_iter().flatten().collect();
        let mut objects = Self { plan, images, named: BTreeMap::new(), fixed: BTreeSet::new() };
        let mut named: BTreeMap<Vec<u8>, BTreeSet<PathBuf>> = BTreeMap::new();
        for path in plan.entries.keys() {
            let name = path.file_name().unwrap_or_default().as_bytes();
            if memchr::memmem::find(name, b".so").is_some()
                && let PathTarget::Object(target, _) = objects.target(&Path::new("/").join(path))
            {
                named.entry(name.to_vec()).or_default().insert(target);
            }
        }
        for (path, image) in &objects.images {
            if let Some(soname) = &image.soname {
                named.entry(soname.clone()).or_default().insert(path.clone());
            }
            let versions = image.needed_versions.iter().map(|version| &version.library);
            let fixed = versions.filter(|library| !image.needed.contains(library));
            objects.fixed.extend(fixed.cloned());
        }
        objects.named = named;
        Ok(objects)
    }

    /// Follows the absolute `path`.
    fn target(&self, path: &Path) -> PathTarget<'_> {
        let Followed::There { inside, .. } = follow_links(self.plan, Path::new("/"), path) else {
            return PathTarget::Nothing;
        };
        let mut place = inside.strip_prefix("/").unwrap_or(&inside);
        if let Some(EntryKind::HardLink(first)) = self.plan.entries.get(place).map(|e| &e.kind) {
            place = first;
        }
        let image = self.images.get(place);
        image.map_or(PathTarget::Other, |image| PathTarget::Object(place.to_owned(), image))
    }

    /// Returns the names to replace in the file at `path`; `None` if all remain.
    fn plan_edit(&self, path: &Path, image: &ElfImage) -> Option<Edit> {
        let is_program = image.interpreter.is_some() || image.kind.is_program();
        let entry = self.plan.entries.get(path)?;
        if image.runpath.is_some()
            || image.rpath.is_none()
            || !path.starts_with(self.plan.prefix_path())
            || !self.is_of_glibc(image)
            || find_signature(entry).is_some()
        {
            return None;
        }
        let is_other = |name: &Vec<u8>| {
            image.other_libraries.iter().any(|(tag, text)| tag.names(text).any(|one| one == name))
        };
        let names = image.needed.iter().filter(|name| {
            let is_left_to_program = !is_program && name.as_slice() == LIBC;
            !is_left_to_program && !self.fixed.contains(*name) && !is_other(name)
        });
        let replace = names.filter_map(|name| Some((name.clone(), self.find(image, name)?)));
        let edit = Edit { replace_needed: replace.collect(), ..Edit::default() };
        (!edit.replace_needed.is_empty()).then_some(edit)
    }

    /// Returns whether glibc's loader loads the file: the one that it names, or the only kind of loader
    /// that the plan has for its machine.
    fn is_of_glibc(&self, image: &ElfImage) -> bool {
        let own = ElfIdent::of(image);
        let is_glibc = |loader: &ElfImage| {
            let soname = loader.soname.as_deref().unwrap_or_default();
            loader.kind == ObjectKind::Loader
                && ["ld-linux", "ld.so.", "ld64.so."]
                    .iter()
                    .any(|s| soname.starts_with(s.as_bytes()))
        };
        if let Some(path) = &image.interpreter {
            let target = self.target(Path::new(OsStr::from_bytes(path)));
            return matches!(target, PathTarget::Object(_, loader) if is_glibc(loader));
        }
        let is_musl = |image: &&ElfImage| image.needed.is_empty() && !is_glibc(image);
        let musl = self.named.iter().filter(|(name, _)| {
            name.starts_with(b"ld-musl-") || name.starts_with(b"libc.musl-") || *name == b"libc.so"
        });
        let mut musl =
            musl.flat_map(|(_, paths)| self.fitting(&own, paths)).map(|(_, image)| image);
        !musl.any(|image| is_musl(&image))
            && self
                .images
                .values()
                .any(|loader| is_glibc(loader) && own.fit(&ElfIdent::of(loader)) == Fit::Loads)
    }

    /// Returns those of the libraries at `paths` that a file with the header `own` can load.
    fn fitting<'s>(
        &'s self,
        own: &'s ElfIdent,
        paths: &'s BTreeSet<PathBuf>,
    ) -> impl Iterator<Item = (&'s PathBuf, &'s ElfImage)> {
        let images = paths.iter().filter_map(|path| Some((path, self.images.get(path)?)));
        images.filter(|(_, image)| own.fit(&ElfIdent::of(image)) == Fit::Loads)
    }

    /// Returns the path by which the loader finds the library `name` for a file; `None` if the name must
    /// remain.
    fn find(&self, image: &ElfImage, name: &[u8]) -> Option<Vec<u8>> {
        if name.is_empty() || name.contains(&b'/') {
            return None;
        }
        let own = ElfIdent::of(image);
        for entry in search_path::entries(image) {
            let dir = Path::new(OsStr::from_bytes(entry));
            if !dir.is_absolute() || search_path::has_tokens(entry) {
                return None;
            }
            let (found, library) = match self.target(&dir.join(OsStr::from_bytes(name))) {
                PathTarget::Nothing => continue,
                PathTarget::Other => return None,
                PathTarget::Object(found, library) => (found, library),
            };
            match own.fit(&ElfIdent::of(library)) {
                Fit::OtherMachine => continue,
                Fit::Stops(_) => return None,
                Fit::Loads => {}
            }
            let mut all = self.named.get(name).into_iter().flat_map(|all| self.fitting(&own, all));
            let is_only = all.all(|(path, _)| *path == found);
            let is_usual = library.soname.as_deref() == Some(name)
                && library.kind != ObjectKind::Loader
                && is_only;
            return if is_usual { self.path_in(dir, name) } else { None };
        }
        None
    }

    /// Returns the path of `name` in `dir`, with the links on the way to the directory followed, so that
    /// all files name a library alike. `$ORIGIN` of the library remains the same directory.
    fn path_in(&self, dir: &Path, name: &[u8]) -> Option<Vec<u8>> {
        let Followed::There { inside, .. } = follow_links(self.plan, Path::new("/"), dir) else {
            return None;
        };
        let path = inside.join(OsStr::from_bytes(name));
        let path = path.starts_with(self.plan.eprefix.as_path()).then_some(path)?;
        let path = OsString::from(path).into_vec();
        (!search_path::has_tokens(&path)).then_some(path)
    }
}

fn is_elf(content: &FileContent) -> Result<bool> {
    Ok(match &content.source {
        ContentSource::Disk(_) if content.size == 0 => false,
        ContentSource::Disk(path) => {
            let mut magic = [0; 4];
            let file = input::open_walked(path)?;
            let read = std::os::unix::fs::FileExt::read_at(file.file(), &mut magic, 0);
            let read = read.with_context(|| format!("could not read {}", path.escaped()))?;
            read == magic.len() && elf::is_elf(&magic) && content.size <= elf::LARGEST
        }
        ContentSource::Bytes(bytes) => elf::is_elf(bytes),
    })
}
