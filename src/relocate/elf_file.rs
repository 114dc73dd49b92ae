//! ELF files: sets the loader of the prefix and the directories of needed libraries, and seals the
//! loader itself.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::io::Errno;

use crate::base::escape::Escape;
use crate::elf::{self, Edit, ElfIdent, ElfImage, Fit, ObjectKind, Seal, SearchPathEdit};
use crate::relocate::inherited::Inherited;
use crate::relocate::libc::{self, Libc, is_libc};
use crate::relocate::objects::Objects;
use crate::relocate::search_dirs::{SearchPath, place_in_prefix, usual_dirs};
use crate::relocate::{FileAction, FileOutcome, RelocateOptions, SearchTag, search_path};

/// A file's paths as programs see them, and its surroundings.
#[derive(Clone, Copy)]
pub(super) struct FileContext<'a> {
    /// Several if it has hard links; never empty.
    pub paths: &'a [PathBuf],
    /// True if it runs with rights that its caller does not have.
    pub privileged: bool,
    pub objects: &'a Objects<'a>,
    pub inherited: &'a Inherited,
    /// Position among the scanned files.
    pub at: usize,
}

impl FileContext<'_> {
    fn path(&self) -> &Path {
        self.paths.first().map_or(Path::new("/"), PathBuf::as_path)
    }
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
    let privileged = context.privileged || has_capabilities(file.file());
    let file = ElfFile {
        options,
        image: &image,
        own: ElfIdent::of(&image),
        context: FileContext { privileged, ..context },
    };
    let edit = file.plan_edit();
    let plan = match elf::plan(&bytes, &edit) {
        Ok(plan) => plan,
        Err(error) => return Ok(FileOutcome::Skipped(error.to_string())),
    };
    let mut changes = if plan.is_unchanged() { Vec::new() } else { file.describe_edit(&edit) };
    let mut extra = Vec::new();
    if is_libc(&image) {
        let eprefix = options.eprefix.as_path();
        let (path, rooted) = (context.path(), context.objects.rooted);
        let libc = Libc { bytes: &bytes, path, eprefix, rooted };
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

/// Returns whether a program of this file gets rights by file capabilities, as setuid programs do
/// (capabilities(7)). `$ORIGIN` is not replaced in either.
fn has_capabilities(file: &std::fs::File) -> bool {
    let mut empty: [u8; 0] = [];
    !matches!(
        rustix::fs::fgetxattr(file, "security.capability", &mut empty),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS)
    )
}

struct ElfFile<'a> {
    options: &'a RelocateOptions,
    image: &'a ElfImage,
    own: ElfIdent,
    context: FileContext<'a>,
}

impl ElfFile<'_> {
    fn plan_edit(&self) -> Edit {
        let search = self.plan_search_path();
        let text = search.texts.join(b":".as_slice());
        let is_set = self.image.rpath.is_some() || self.image.runpath.is_some();
        let search_path = match (text.is_empty(), self.options.tag) {
            (true, _) if is_set => SearchPathEdit::Remove,
            (true, _) => SearchPathEdit::Keep,
            (false, SearchTag::Rpath) => SearchPathEdit::Rpath(text),
            (false, SearchTag::Runpath) => SearchPathEdit::Runpath(text),
        };
        let interpreter = self.find_interpreter(&search);
        let mut edit = Edit { interpreter, search_path, ..Edit::default() };
        self.plan_names(&mut edit);
        edit
    }

    /// Returns the loader of the prefix in place of one outside. It has to be of the same build as
    /// the C library, so the one beside that comes first.
    fn find_interpreter(&self, search: &SearchPath<'_, '_>) -> Option<Vec<u8>> {
        let old = Path::new(OsStr::from_bytes(self.image.interpreter.as_deref()?));
        if self.is_inside(old) && self.loads(old) {
            return None;
        }
        let name = old.file_name()?;
        let libc = search.dir_of(Path::new("libc.so.6"));
        let only = self.context.objects.only_dir_of(&self.own, Path::new(name));
        let dirs = libc.into_iter().chain(self.usual_dirs()).chain(only.map(Path::to_owned));
        dirs.filter(|dir| self.is_inside(dir))
            .map(|dir| dir.join(name))
            .find(|path| self.loads(path))
            .map(|path| path.into_os_string().into_vec())
    }

    /// Returns the directories that every machine has, and the one of the C library.
    fn usual_dirs(&self) -> Vec<PathBuf> {
        usual_dirs(self.options.eprefix.as_path(), &self.own, self.context.objects)
    }

    fn is_inside(&self, path: &Path) -> bool {
        path.starts_with(self.options.eprefix.as_path())
    }

    /// Returns whether a library or loader for the file is at `path`.
    fn loads(&self, path: &Path) -> bool {
        self.context.objects.judge(&self.own, path) == Some(Fit::Loads)
    }

    /// Returns the search path: the directories of the prefix that the file names, in their order,
    /// and then those of libraries that are in none of these.
    fn plan_search_path(&self) -> SearchPath<'_, '_> {
        let (objects, eprefix) = (self.context.objects, self.options.eprefix.as_path());
        let origins = self.origins();
        let origin = match origins.as_slice() {
            [origin] if self.options.relative => Some(origin.as_path()),
            _ => None,
        };
        let mut path = SearchPath::new(&self.own, objects, eprefix, origin);
        let names_lib = |entry: &[u8]| memchr::memmem::find(entry, b"LIB").is_some();
        let lib = if search_path::entries(self.image).any(names_lib) {
            objects.lib(&self.own)
        } else {
            ""
        };
        for entry in search_path::entries(self.image).filter(|entry| !entry.is_empty()) {
            path.keep(entry, &origins, lib);
        }
        let (opened, inherited) = (self.opened_libraries(), self.context.inherited);
        let needed = self.image.needed.iter().map(Vec::as_slice);
        let other = self.image.other_libraries.iter();
        let other = other.flat_map(|(tag, text)| tag.names(text));
        let all = needed.chain(other).chain(opened.iter().map(|name| name.as_bytes()));
        // A name with a slash is a path and is not searched for (ld.so(8)).
        for name in all.filter(|name| !name.contains(&b'/') && !name.is_empty()) {
            let path_name = Path::new(OsStr::from_bytes(name));
            if !path.finds(path_name)
                && !inherited.has(self.context.at, name)
                && let Some(dir) = objects.dir_to_add(&self.own, eprefix, path_name)
            {
                path.add(&dir);
            }
        }
        for dir in inherited.dirs(self.context.at) {
            path.add(dir);
        }
        path
    }

    /// Returns what `$ORIGIN` stands for; nothing if the loader does not replace it.
    fn origins(&self) -> Vec<PathBuf> {
        let is_program = self.image.interpreter.is_some() || self.image.kind.is_program();
        // The loader ignores $ORIGIN in programs that run with rights of their own (ld.so(8)).
        if is_program && self.context.privileged {
            return Vec::new();
        }
        let of = |path: &PathBuf| match path.parent() {
            // The kernel follows links to programs, so they are only where they are.
            Some(dir) if is_program => vec![dir.to_owned()],
            _ => self.context.objects.origins(path),
        };
        let mut origins: Vec<PathBuf> = self.context.paths.iter().flat_map(of).collect();
        origins.sort();
        origins.dedup();
        origins
    }

    /// Sets new paths for libraries that are named by a path outside of the prefix. Those that the
    /// prefix lacks are dropped if the loader goes on without them: they would be the target's.
    fn plan_names(&self, edit: &mut Edit) {
        let eprefix = self.options.eprefix.as_path();
        let needed = self.image.needed.iter().map(|name| (None, name.as_slice()));
        let other = self.image.other_libraries.iter();
        let other = other.flat_map(|(tag, text)| tag.names(text).map(|name| (Some(*tag), name)));
        for (tag, name) in needed.chain(other) {
            let path = Path::new(OsStr::from_bytes(name));
            if !path.is_absolute() || path.starts_with(eprefix) || search_path::has_tokens(name) {
                continue;
            }
            let new = place_in_prefix(eprefix, path).filter(|new| self.loads(new));
            match (new, tag) {
                (Some(new), _) => {
                    edit.replace_needed.push((name.to_vec(), new.into_os_string().into_vec()));
                }
                (None, Some(tag)) if tag.is_optional() => {
                    edit.remove_others.push((tag, name.to_vec()));
                }
                _ => {}
            }
        }
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
        for (old, new) in &edit.replace_needed {
            changes.push(format!("library {} in place of {}", text(new), text(old)));
        }
        for (tag, name) in &edit.remove_others {
            changes.push(format!("no {tag} {}, which is not in the prefix", text(name)));
        }
        changes
    }
}
