//! ELF files: sets the loader of the prefix and the directories of needed libraries, and seals the
//! loader itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::elf::{self, Edit, ElfImage, ObjectKind, Seal, SearchPathEdit};
use crate::fstree::resolve::{RootResolver, normalize_path};
use crate::relocate::libc::{self, Libc, is_libc};
use crate::relocate::{FileAction, FileOutcome, LibraryIndex, RelocateOptions, SearchTag};

/// Directories below EPREFIX that may hold libraries on every machine, in the order of the search.
const LIBRARY_DIRS: &[&str] = &["usr/lib64", "usr/lib"];

/// A file's path as programs see it, and its surroundings.
#[derive(Clone, Copy)]
pub(super) struct FileContext<'a> {
    pub path: &'a Path,
    /// True if it runs with rights that its caller does not have.
    pub privileged: bool,
    pub rooted: &'a RootResolver,
    pub libraries: &'a LibraryIndex,
}

pub(super) fn plan_elf(
    options: &RelocateOptions,
    file: &fs_err::File,
    context: FileContext<'_>,
) -> Result<FileOutcome> {
    let act = || format!("could not read {}", file.path().escaped());
    let bytes = elf::open(file.file()).with_context(act)?;
    let image = match elf::read(&bytes) {
        Ok(image) => image,
        Err(error) => return Ok(FileOutcome::Skipped(error.to_string())),
    };
    if elf::is_loader(&image, &bytes) {
        return Ok(plan_seal(&bytes));
    }
    if libc::is_static_glibc(&image, &bytes) {
        return Ok(plan_static_program(options, &bytes));
    }
    match image.kind {
        ObjectKind::Executable | ObjectKind::PieExecutable | ObjectKind::SharedObject => {}
        _ => return Ok(FileOutcome::Nothing),
    }
    let file = ElfFile { options, image: &image, context };
    let edit = file.plan_edit();
    let plan = match elf::plan(&bytes, &edit) {
        Ok(plan) => plan,
        Err(error) => return Ok(FileOutcome::Skipped(error.to_string())),
    };
    let mut changes = if plan.is_unchanged() { Vec::new() } else { file.describe_edit(&edit) };
    let mut extra = Vec::new();
    if is_libc(&image) {
        let eprefix = options.eprefix.as_path();
        let libc = Libc { bytes: &bytes, path: context.path, eprefix, rooted: context.rooted };
        if !libc.is_searchable() {
            return Ok(FileOutcome::Skipped(libc::TOO_LARGE.to_string()));
        }
        let isolation = libc.plan_isolation();
        changes.extend(isolation.leaks.into_iter().map(|(_, leak)| format!("mended: {leak}")));
        extra = isolation.patches;
    }
    if plan.is_unchanged() && extra.is_empty() {
        return Ok(FileOutcome::Nothing);
    }
    Ok(FileOutcome::Changed(FileAction::Elf { plan, extra }, changes))
}

fn plan_static_program(options: &RelocateOptions, bytes: &[u8]) -> FileOutcome {
    let isolation = libc::plan_static_isolation(bytes, options.eprefix.as_path());
    if isolation.patches.is_empty() {
        let open = isolation.open.into_iter().next();
        return open.map_or(FileOutcome::Nothing, |(_, text)| FileOutcome::Skipped(text));
    }
    let mended = isolation.leaks.into_iter().map(|(_, leak)| format!("mended: {leak}"));
    let left = isolation.open.into_iter().map(|(_, text)| format!("left: {text}"));
    FileOutcome::Changed(FileAction::Seal(isolation.patches), mended.chain(left).collect())
}

fn plan_seal(bytes: &[u8]) -> FileOutcome {
    match elf::seal_loader(bytes) {
        Ok(Seal::Already) => FileOutcome::Nothing,
        Ok(Seal::Needed(patches)) => FileOutcome::Changed(
            FileAction::Seal(patches),
            vec![
                "seal the loader against the machine's directories, ld.so.cache and ld.so.preload"
                    .into(),
            ],
        ),
        Err(error) => FileOutcome::Skipped(error.to_string()),
    }
}

struct ElfFile<'a> {
    options: &'a RelocateOptions,
    image: &'a ElfImage,
    context: FileContext<'a>,
}

impl ElfFile<'_> {
    fn plan_edit(&self) -> Edit {
        let dirs = self.search_dirs();
        let search_path = match (dirs.is_empty(), self.options.tag) {
            (true, _) if self.image.rpath.is_none() && self.image.runpath.is_none() => {
                SearchPathEdit::Keep
            }
            (true, _) => SearchPathEdit::Remove,
            (false, SearchTag::Rpath) => SearchPathEdit::Rpath(self.join_dirs(&dirs)),
            (false, SearchTag::Runpath) => SearchPathEdit::Runpath(self.join_dirs(&dirs)),
        };
        Edit { interpreter: self.find_interpreter(), search_path, ..Edit::default() }
    }

    /// Returns the prefix's loader of the same name, if it has one.
    fn find_interpreter(&self) -> Option<Vec<u8>> {
        let old = Path::new(OsStr::from_bytes(self.image.interpreter.as_deref()?));
        let name = old.file_name()?;
        let dirs = self.usual_dirs().into_iter();
        let dirs =
            dirs.chain(self.context.libraries.only_dir_of(Path::new(name)).map(Path::to_owned));
        dirs.filter(|dir| dir.starts_with(self.options.eprefix.as_path()))
            .map(|dir| dir.join(name))
            .find(|path| self.context.rooted.find(path).is_some())
            .map(|path| path.into_os_string().into_vec())
    }

    /// Returns the directories that every machine has, and the one of the C library.
    fn usual_dirs(&self) -> Vec<PathBuf> {
        let eprefix = self.options.eprefix.as_path();
        let fixed = LIBRARY_DIRS.iter().map(|dir| eprefix.join(dir));
        let shared = self.context.libraries.shared_dir().filter(|dir| dir.starts_with(eprefix));
        fixed.chain(shared.map(Path::to_owned)).collect()
    }

    /// Returns the directories of the needed libraries, in the order of the search. The directories
    /// in the prefix that the file already names follow, because plugins are opened from there.
    fn search_dirs(&self) -> Vec<PathBuf> {
        let named = self.named_dirs();
        let eprefix = self.options.eprefix.as_path();
        let usual = self.usual_dirs();
        let mut dirs: Vec<PathBuf> = Vec::new();
        let opened = self.opened_libraries();
        let needed = self.image.needed.iter().map(|name| OsStr::from_bytes(name));
        let all = needed.chain(opened.iter().map(AsRef::as_ref));
        for name in all.map(Path::new) {
            // A name with a slash is a path and is not searched for (ld.so(8)).
            if name.components().count() > 1 {
                continue;
            }
            let has = |dir: &&PathBuf| self.context.rooted.find(&dir.join(name)).is_some();
            // The loader uses the first directory that has the library, even if it was added for
            // another one.
            if dirs.iter().any(|dir| has(&dir)) {
                continue;
            }
            let found = named.iter().chain(&usual).find(has).cloned();
            let found =
                found.or_else(|| self.context.libraries.only_dir_of(name).map(Path::to_owned));
            dirs.extend(found.filter(|dir| dir.starts_with(eprefix)));
        }
        for dir in named {
            let known = dirs.contains(&dir) || usual.contains(&dir);
            if !known && self.context.rooted.find(&dir).is_some() {
                dirs.push(dir);
            }
        }
        dirs
    }

    /// Returns the libraries that the file opens while it runs, from its ELF notes of dlopen
    /// metadata (<https://uapi-group.org/specifications/specs/elf_dlopen_metadata/>).
    fn opened_libraries(&self) -> Vec<OsString> {
        #[derive(serde::Deserialize)]
        struct DlopenNote {
            #[serde(default)]
            soname: Vec<String>,
        }
        let parse =
            |note: &Vec<u8>| serde_json::from_slice::<Vec<DlopenNote>>(note).unwrap_or_default();
        let notes = self.image.dlopen_notes.iter().flat_map(parse);
        notes.flat_map(|note| note.soname).map(OsString::from).collect()
    }

    /// Returns the directories inside the prefix that the file names now.
    fn named_dirs(&self) -> Vec<PathBuf> {
        let Some(text) = self.image.runpath.as_ref().or(self.image.rpath.as_ref()) else {
            return Vec::new();
        };
        let origin = self.context.path.parent().unwrap_or(Path::new("/"));
        text.split(|byte| *byte == b':')
            .filter(|entry| !entry.is_empty())
            .filter_map(|entry| {
                let rest = entry
                    .strip_prefix(b"$ORIGIN".as_slice())
                    .or_else(|| entry.strip_prefix(b"${ORIGIN}".as_slice()));
                let dir = match rest {
                    Some(rest) => {
                        let rest = OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest));
                        normalize_path(&origin.join(rest))
                    }
                    None => normalize_path(Path::new(OsStr::from_bytes(entry))),
                };
                // Links are resolved, so that one directory has one name.
                let dir = self.context.rooted.find(&dir).unwrap_or(dir);
                dir.starts_with(self.options.eprefix.as_path()).then_some(dir)
            })
            .collect()
    }

    fn describe_edit(&self, edit: &Edit) -> Vec<String> {
        let text = |bytes: &[u8]| bytes.escaped().to_string();
        let mut changes = Vec::new();
        if let Some(new) =
            edit.interpreter.as_ref().filter(|new| self.image.interpreter.as_ref() != Some(new))
        {
            changes.push(format!("interpreter {}", text(new)));
        }
        match &edit.search_path {
            SearchPathEdit::Rpath(new)
                if self.image.rpath.as_ref() != Some(new) || self.image.runpath.is_some() =>
            {
                changes.push(format!("rpath {}", text(new)));
            }
            SearchPathEdit::Runpath(new) if self.image.runpath.as_ref() != Some(new) => {
                changes.push(format!("runpath {}", text(new)));
            }
            SearchPathEdit::Remove => changes.push("no rpath, no runpath".into()),
            _ => {}
        }
        changes
    }

    /// Joins the directories to one search path.
    fn join_dirs(&self, dirs: &[PathBuf]) -> Vec<u8> {
        let origin = self.context.path.parent().filter(|_| {
            // The loader ignores $ORIGIN in programs that run with rights of their own (ld.so(8)).
            self.options.relative && !self.context.privileged
        });
        let text = |dir: &PathBuf| match origin {
            Some(origin) => origin_relative(origin, dir).into_os_string().into_vec(),
            None => dir.clone().into_os_string().into_vec(),
        };
        dirs.iter().map(text).collect::<Vec<_>>().join(b":".as_slice())
    }
}

/// Returns `dir` relative to `origin`, as the loader resolves it. Both are paths without links.
fn origin_relative(origin: &Path, dir: &Path) -> PathBuf {
    let shared = origin.components().zip(dir.components()).take_while(|(a, b)| a == b).count();
    let mut path = PathBuf::from("$ORIGIN");
    path.extend(origin.components().skip(shared).map(|_| ".."));
    path.extend(dir.components().skip(shared));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_relative_to_a_file() {
        let text =
            |origin, dir| origin_relative(Path::new(origin), Path::new(dir)).escaped().to_string();
        assert_eq!(text("/opt/x/usr/bin", "/opt/x/usr/lib64"), "$ORIGIN/../lib64");
        assert_eq!(text("/opt/x/usr/lib64", "/opt/x/usr/lib64"), "$ORIGIN");
        assert_eq!(text("/opt/x/usr/lib64", "/opt/x/usr/lib64/gconv"), "$ORIGIN/gconv");
    }
}
