//! What a copied C library knows of the machine that it was built for, besides what its loader
//! knows (that is `elf::seal_loader`): strings in its read-only data.
//!
//! - The names of the modules that nsswitch.conf asks for (nsswitch.conf(5)). From 2.34 on, `files`
//!   and `dns` are in the C library itself, and all that it can still load are the target's.
//! - The path of the cache that says where character set modules are (iconv(3)), and the directory
//!   in which they are looked for without one.
//! - The path of the locale archive, and the directory in which locales are looked for that it does
//!   not have (locale(7)). Those of the target may be of another release, which ends programs by an
//!   assertion in `locale/loadlocale.c`.
//!
//! The paths of the two files become the prefix's, of whatever length: they get room elsewhere
//! (`room.rs`), and the code that uses them is pointed there (`reference.rs`). The two directories
//! are copied by code that knows their lengths (`iconv/gconv_conf.c`, `locale/findlocale.c`), so
//! they become ones that nobody has.

mod gconv_cache;
mod slack;
mod xref;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::elf::{ElfImage, Patch};
use crate::fstree::resolve::RootResolver;
use crate::prefix::layout::{GCONV, LOCALES};
use crate::relocate::libc::slack::LibcSlack;
use crate::relocate::libc::xref::{CodeReference, LoadedCode};

pub(crate) use crate::relocate::libc::gconv_cache::{NAME as GCONV_CACHE, replace_directory};

/// How the C library makes a name service module's file name of the service's name.
const NSS: &[u8] = b"libnss_%s.so%s\0";
/// The same, as a path that nobody has: a name with a slash is not searched for (dlopen(3)).
const NSS_SEALED: &[u8] = b"/~/nss_%s.so%s\0";
/// How the paths of the cache and of the locale archive end.
const ENDS: [&[u8]; 2] = [b"/gconv-modules.cache\0", b"/locale-archive\0"];

/// What a C library looks for outside of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LibcFacility {
    /// Modules that nsswitch.conf names.
    NameServices,
    /// Modules of iconv(3).
    CharacterSets,
    /// Locales.
    Locales,
}

/// What closes a C library off from its machine.
#[derive(Debug, Default)]
pub(crate) struct LibcIsolation {
    /// The bytes that have to change.
    pub patches: Vec<Patch>,
    /// What is not as it has to be; the patches mend it.
    pub leaks: Vec<(LibcFacility, String)>,
    /// What it does without, inside and outside of the prefix, and why.
    pub unavailable: Vec<(LibcFacility, String)>,
}

/// A C library in a tree.
pub(crate) struct Libc<'a> {
    /// Its contents.
    pub bytes: &'a [u8],
    /// Its path as programs see it.
    pub path: &'a Path,
    /// EPREFIX.
    pub eprefix: &'a Path,
    /// The tree.
    pub rooted: &'a RootResolver,
}

/// Whether the file is glibc's C library.
pub(crate) fn is_libc(image: &ElfImage) -> bool {
    image.soname.as_deref() == Some(b"libc.so.6")
}

impl Libc<'_> {
    /// What closes it off.
    pub(crate) fn plan_isolation(&self) -> LibcIsolation {
        let mut isolation = LibcIsolation::default();
        self.close_name_services(&mut isolation);
        let modules = self.gconv_dir();
        let cache = modules.as_ref().map(|dir| dir.join(GCONV_CACHE));
        let files = [cache, Some(self.eprefix.join(LOCALES).join("locale-archive"))]
            .map(|file| file.filter(|file| self.rooted.find(file).is_some()));
        let set = self.set_files(&files, &mut isolation);
        self.close_gconv_dir(modules.filter(|_| !set[0]), &mut isolation);
        self.close_locale_dir(&mut isolation);
        let without = |subject, name: &str| {
            let why = format!("there is no {name} in the prefix, or no room for its path");
            (subject, why)
        };
        let has_modules = set[0] || isolation.has_gconv_dir(self);
        if !has_modules {
            isolation.unavailable.push(without(LibcFacility::CharacterSets, GCONV_CACHE));
        }
        if !set[1] {
            isolation.unavailable.push(without(LibcFacility::Locales, "locale-archive"));
        }
        let bytes = self.bytes;
        isolation.patches.retain(|patch| !is_there(bytes, patch));
        isolation
    }

    fn close_name_services(&self, isolation: &mut LibcIsolation) {
        let mut found = memchr::memmem::find_iter(self.bytes, NSS);
        // One so old that it needs modules of its own has the name more than once.
        if let Some(offset) = found.next().filter(|_| found.next().is_none()) {
            isolation.patches.push(Patch { offset: offset as u64, bytes: NSS_SEALED.to_vec() });
            let text = "loads the name service modules that the target's nsswitch.conf names";
            isolation.leaks.push((LibcFacility::NameServices, text.into()));
        }
    }

    /// The prefix's directory of modules: beside the C library, or where the prefix's layout has it.
    fn gconv_dir(&self) -> Option<PathBuf> {
        let beside = self.path.parent().map(|dir| dir.join("gconv"));
        let dirs = beside.into_iter().chain([self.eprefix.join(GCONV)]);
        dirs.filter(|dir| dir.starts_with(self.eprefix)).find(|dir| self.rooted.find(dir).is_some())
    }

    /// Makes the two paths those of `files`, or nothing where there is none; says which it could.
    fn set_files(&self, files: &[Option<PathBuf>; 2], isolation: &mut LibcIsolation) -> [bool; 2] {
        let subjects = [LibcFacility::CharacterSets, LibcFacility::Locales];
        let now = ENDS.map(|end| ending_in(self.bytes, end));
        for ((file, now), subject) in files.iter().zip(&now).zip(subjects) {
            let Some((_, old)) = now.as_ref().and_then(|found| found.absolute) else { continue };
            let old = Path::new(OsStr::from_bytes(old));
            if file.as_deref() != Some(old) && !(old.starts_with(self.eprefix) && file.is_none()) {
                isolation.leaks.push((subject, format!("reads {}", old.display())));
            }
        }
        let Some((patches, set)) = self.point(files, &now) else {
            let absolute = now.iter().flatten().filter_map(|found| found.absolute);
            isolation.patches.extend(absolute.map(|(at, _)| end_at(at)));
            return [false; 2];
        };
        let is_new = patches.iter().any(|patch| !is_there(self.bytes, patch));
        for ((file, set), subject) in files.iter().zip(set).zip(subjects) {
            let known = isolation.leaks.iter().any(|(open, _)| *open == subject);
            if let Some(file) = file.as_ref().filter(|_| set && is_new && !known) {
                isolation.leaks.push((subject, format!("does not read {}", file.display())));
            }
        }
        isolation.patches.extend(patches);
        set
    }

    /// Points the code that uses the two paths into the room, where `files` are put.
    fn point(
        &self,
        files: &[Option<PathBuf>; 2],
        now: &[Option<MachinePath<'_>>; 2],
    ) -> Option<(Vec<Patch>, [bool; 2])> {
        if files.iter().all(Option::is_none) {
            return None;
        }
        let (code, room) = (LoadedCode::parse(self.bytes)?, LibcSlack::find(self.bytes)?);
        let references: [Vec<CodeReference>; 2] = std::array::from_fn(|index| {
            let slot = room.used().map(|used| used[index]);
            let places = now[index].iter().flat_map(MachinePath::places).chain(slot);
            places.map(|at| code.references(at)).find(|found| !found.is_empty()).unwrap_or_default()
        });
        let text = |index: usize| match &files[index] {
            Some(file) if !references[index].is_empty() => file.as_os_str().as_bytes(),
            _ => b"",
        };
        // Where there is no room for both, character sets come first.
        let strings = [[text(0), text(1)], [text(0), b""], [b"", text(1)]];
        let (strings, (contents, starts)) =
            strings.into_iter().find_map(|strings| Some((strings, room.filled(strings)?)))?;
        let within = room.offset..room.offset + contents.len();
        let mut patches = vec![Patch { offset: room.offset as u64, bytes: contents }];
        for (references, start) in references.iter().zip(starts) {
            for reference in references {
                patches.extend(code.point(*reference, start)?);
            }
        }
        let old = now.iter().flatten().filter_map(|found| found.absolute);
        patches.extend(old.filter(|(at, _)| !within.contains(at)).map(|(at, _)| end_at(at)));
        Some((patches, strings.map(|string| !string.is_empty())))
    }

    /// Makes the directory of modules `dir` where that fits, and else one that nobody has.
    fn close_gconv_dir(&self, dir: Option<PathBuf>, isolation: &mut LibcIsolation) {
        let Some((at, old)) = ending_in(self.bytes, b"/gconv\0").and_then(|f| f.absolute) else {
            return;
        };
        let shown = Path::new(OsStr::from_bytes(old));
        let fits = dir.filter(|dir| dir.as_os_str().len() <= old.len());
        let bytes = match fits {
            // The code copies all of it, as a string: a shorter one ends where it ends.
            Some(dir) => {
                let mut bytes = dir.into_os_string().into_encoded_bytes();
                bytes.resize(old.len(), 0);
                bytes
            }
            None => nowhere(old.len()),
        };
        let patch = Patch { offset: at as u64, bytes };
        if !is_there(self.bytes, &patch) {
            let text = format!("looks for character set modules in {}", shown.display());
            isolation.leaks.push((LibcFacility::CharacterSets, text));
            isolation.patches.push(patch);
        }
    }

    /// Makes the directory of locales one that nobody has.
    fn close_locale_dir(&self, isolation: &mut LibcIsolation) {
        let Some((at, old)) = ending_in(self.bytes, b"/locale\0").and_then(|f| f.absolute) else {
            return;
        };
        let shown = Path::new(OsStr::from_bytes(old)).display();
        isolation.leaks.push((LibcFacility::Locales, format!("looks for locales in {shown}")));
        isolation.patches.push(Patch { offset: at as u64, bytes: nowhere(old.len()) });
    }
}

impl LibcIsolation {
    /// Whether modules are found by their directory: it is in the prefix, or will be.
    fn has_gconv_dir(&self, libc: &Libc<'_>) -> bool {
        let prefix = libc.eprefix.as_os_str().as_bytes();
        let Some(found) = ending_in(libc.bytes, b"/gconv\0").and_then(|found| found.absolute)
        else {
            return false;
        };
        let (at, old) = found;
        let now = self.patches.iter().find(|patch| patch.offset == at as u64);
        now.map_or(old, |patch| &patch.bytes).starts_with(prefix)
    }
}

/// A string in the file that names something of the machine.
struct MachinePath<'a> {
    /// Where it is in use, and what it says.
    absolute: Option<(usize, &'a [u8])>,
    /// Where one was whose first byte was taken.
    closed: Option<usize>,
}

impl MachinePath<'_> {
    fn places(&self) -> impl Iterator<Item = usize> {
        self.absolute.map(|(at, _)| at).into_iter().chain(self.closed)
    }
}

/// The absolute path that ends so, of those that are no shared data (/usr/share). Where there are
/// several, none is known.
fn ending_in<'a>(bytes: &'a [u8], end: &[u8]) -> Option<MachinePath<'a>> {
    let mut found = MachinePath { absolute: None, closed: None };
    for at in memchr::memmem::find_iter(bytes, end) {
        let end = at + end.len() - 1;
        let start = memchr::memrchr(0, bytes.get(..at)?).map_or(0, |at| at + 1);
        let text = bytes.get(start..end)?;
        if !text.iter().all(u8::is_ascii_graphic) || text.starts_with(b"/usr/share/") {
            continue;
        }
        if !text.starts_with(b"/") {
            found.closed = start.checked_sub(1);
        } else if at == start {
            // It is the end alone, which code adds to another path.
        } else if found.absolute.replace((start, text)).is_some() {
            return None;
        }
    }
    Some(found)
}

/// A path of this length that nobody has.
fn nowhere(length: usize) -> Vec<u8> {
    let mut path = vec![b'~'; length];
    if let Some(first) = path.first_mut() {
        *first = b'/';
    }
    path
}

/// What makes the string at `at` an empty one, which no system call finds.
fn end_at(at: usize) -> Patch {
    Patch { offset: at as u64, bytes: vec![0] }
}

fn is_there(bytes: &[u8], patch: &Patch) -> bool {
    let start = usize::try_from(patch.offset).unwrap_or(usize::MAX);
    bytes.get(start..).is_some_and(|rest| rest.starts_with(&patch.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_path_in_use() {
        let bytes = b"\0gconv\0/usr/lib/x/gconv\0/gconv-modules\0\0usr/lib/gconv\0";
        let found = ending_in(bytes, b"/gconv\0").unwrap();
        assert_eq!(found.absolute, Some((7, b"/usr/lib/x/gconv".as_slice())));
        assert_eq!(found.closed, Some(39));
        assert!(ending_in(b"\0/a/gconv\0/b/gconv\0", b"/gconv\0").is_none());
        let locales = b"\0/usr/share/locale\0/usr/lib/locale\0";
        assert!(ending_in(locales, b"/locale\0").unwrap().absolute.is_some());
    }
}
