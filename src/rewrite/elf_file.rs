//! ELF files: the loader of the prefix, the directories that hold needed libraries, and a sealed
//! loader.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Action, Libraries, Outcome, Request, SearchTag};
use crate::elf::{self, Edit, Image, Kind, Seal, Search};
use crate::libc::{Libc, is_libc};
use crate::rooted::{Rooted, normal};
use crate::tree;

/// The directories below EPREFIX in which libraries of every machine may be, in the order in
/// which they are tried.
const LIBRARY_DIRS: &[&str] = &["usr/lib64", "usr/lib"];

pub(super) fn look_at(
    request: &Request,
    disk: &Path,
    path: &Path,
    rooted: &Rooted,
    libraries: &Libraries,
) -> Result<Outcome> {
    let bytes = tree::map(disk)?;
    let image = match elf::read(&bytes) {
        Ok(image) => image,
        Err(error) => return Ok(Outcome::Left(error.to_string())),
    };
    if elf::is_loader(&image, &bytes) {
        return Ok(seal(&bytes));
    }
    match image.kind {
        Kind::Executable | Kind::PieExecutable | Kind::SharedObject => {}
        _ => return Ok(Outcome::Nothing),
    }
    let file = ElfFile { request, path, image: &image, rooted, libraries };
    let edit = file.edit();
    let plan = match elf::plan(&bytes, &edit) {
        Ok(plan) => plan,
        Err(error) => return Ok(Outcome::Left(error.to_string())),
    };
    let mut what = if plan.is_unchanged() { Vec::new() } else { file.describe(&edit) };
    let mut extra = Vec::new();
    if is_libc(&image) {
        let eprefix = request.eprefix.as_path();
        let closing = Libc { bytes: &bytes, path, eprefix, rooted }.closing();
        what.extend(closing.open.into_iter().map(|(_, open)| format!("mended: {open}")));
        extra = closing.patches;
    }
    if plan.is_unchanged() && extra.is_empty() {
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Change(Action::Elf { plan, extra }, what))
}

fn seal(bytes: &[u8]) -> Outcome {
    match elf::seal_loader(bytes) {
        Ok(Seal::Already) => Outcome::Nothing,
        Ok(Seal::Needed(patches)) => Outcome::Change(
            Action::Seal(patches),
            vec![
                "seal the loader against the machine's directories, ld.so.cache and ld.so.preload"
                    .into(),
            ],
        ),
        Err(error) => Outcome::Left(error.to_string()),
    }
}

struct ElfFile<'a> {
    request: &'a Request,
    path: &'a Path,
    image: &'a Image,
    rooted: &'a Rooted,
    libraries: &'a Libraries,
}

impl ElfFile<'_> {
    fn edit(&self) -> Edit {
        let dirs = self.search_dirs();
        let search = match (dirs.is_empty(), self.request.tag) {
            (true, _) if self.image.rpath.is_none() && self.image.runpath.is_none() => Search::Keep,
            (true, _) => Search::Remove,
            (false, SearchTag::Rpath) => Search::Rpath(join(&dirs)),
            (false, SearchTag::Runpath) => Search::Runpath(join(&dirs)),
        };
        Edit { interpreter: self.interpreter(), search, ..Edit::default() }
    }

    /// The prefix's loader of the same name, if it has one.
    fn interpreter(&self) -> Option<Vec<u8>> {
        let old = Path::new(OsStr::from_bytes(self.image.interpreter.as_deref()?));
        let name = old.file_name()?;
        LIBRARY_DIRS
            .iter()
            .map(|dir| self.request.eprefix.as_path().join(dir).join(name))
            .find(|path| self.rooted.find(path).is_some())
            .or_else(|| Some(self.libraries.only_dir_of(Path::new(name))?.join(name)))
            .filter(|path| path.starts_with(self.request.eprefix.as_path()))
            .map(|path| path.into_os_string().into_vec())
    }

    /// The directories that hold what this file needs, in the order in which they are to be
    /// searched, and those that it names relative to itself: plugins are opened from there.
    fn search_dirs(&self) -> Vec<PathBuf> {
        let named = self.named_dirs();
        let eprefix = self.request.eprefix.as_path();
        let usual: Vec<PathBuf> = LIBRARY_DIRS.iter().map(|dir| eprefix.join(dir)).collect();
        let mut dirs: Vec<PathBuf> = Vec::new();
        let mut add = |dir: PathBuf| {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        };
        let opened = self.opened_libraries();
        let needed = self.image.needed.iter().map(|name| OsStr::from_bytes(name));
        let all = needed.chain(opened.iter().map(AsRef::as_ref));
        for name in all.map(Path::new) {
            // A name with a slash is a path and is not searched for (ld.so(8)).
            if name.components().count() > 1 {
                continue;
            }
            let candidates = named.iter().map(|(dir, _)| dir).chain(&usual);
            let found = candidates
                .clone()
                .find(|dir| self.rooted.find(&dir.join(name)).is_some())
                .cloned()
                .or_else(|| self.libraries.only_dir_of(name).map(Path::to_owned));
            if let Some(dir) = found.filter(|dir| dir.starts_with(eprefix)) {
                add(dir);
            }
        }
        for (dir, relative) in named {
            if relative && self.rooted.find(&dir).is_some() {
                add(dir);
            }
        }
        dirs
    }

    /// The libraries that the file says it opens while it runs (the ELF notes of dlopen metadata,
    /// <https://uapi-group.org/specifications/specs/elf_dlopen_metadata/>).
    fn opened_libraries(&self) -> Vec<OsString> {
        #[derive(serde::Deserialize)]
        struct Note {
            #[serde(default)]
            soname: Vec<String>,
        }
        let parse = |note: &Vec<u8>| serde_json::from_slice::<Vec<Note>>(note).unwrap_or_default();
        let notes = self.image.dlopen_notes.iter().flat_map(parse);
        notes.flat_map(|note| note.soname).map(OsString::from).collect()
    }

    /// The directories inside the prefix that the file names now, and whether relative to itself.
    fn named_dirs(&self) -> Vec<(PathBuf, bool)> {
        let Some(text) = self.image.runpath.as_ref().or(self.image.rpath.as_ref()) else {
            return Vec::new();
        };
        let origin = self.path.parent().unwrap_or(Path::new("/"));
        text.split(|byte| *byte == b':')
            .filter(|entry| !entry.is_empty())
            .filter_map(|entry| {
                let rest = entry
                    .strip_prefix(b"$ORIGIN".as_slice())
                    .or_else(|| entry.strip_prefix(b"${ORIGIN}".as_slice()));
                let dir = match rest {
                    Some(rest) => {
                        let rest = OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest));
                        normal(&origin.join(rest))
                    }
                    None => normal(Path::new(OsStr::from_bytes(entry))),
                };
                // The way without links, so that one directory has one name.
                let dir = self.rooted.find(&dir).unwrap_or(dir);
                dir.starts_with(self.request.eprefix.as_path()).then_some((dir, rest.is_some()))
            })
            .collect()
    }

    fn describe(&self, edit: &Edit) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut what = Vec::new();
        if let Some(new) =
            edit.interpreter.as_ref().filter(|new| self.image.interpreter.as_ref() != Some(new))
        {
            what.push(format!("interpreter {}", text(new)));
        }
        match &edit.search {
            Search::Rpath(new)
                if self.image.rpath.as_ref() != Some(new) || self.image.runpath.is_some() =>
            {
                what.push(format!("rpath {}", text(new)));
            }
            Search::Runpath(new) if self.image.runpath.as_ref() != Some(new) => {
                what.push(format!("runpath {}", text(new)));
            }
            Search::Remove => what.push("no rpath, no runpath".into()),
            _ => {}
        }
        what
    }
}

fn join(dirs: &[PathBuf]) -> Vec<u8> {
    dirs.iter().map(|dir| dir.as_os_str().as_bytes()).collect::<Vec<_>>().join(b":".as_slice())
}
