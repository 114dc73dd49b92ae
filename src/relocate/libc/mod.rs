//! Isolates a copied C library from the machine that it was built for. Besides the loader's strings
//! (see `elf::seal_loader`), these strings in its read-only data refer to the machine:
//!
//! - The names of the modules that nsswitch.conf requests (nsswitch.conf(5)). From 2.34 on, `files`
//!   and `dns` are in the C library itself; all modules that it can still load are the target's.
//! - The path of the cache of character set modules (iconv(3)), and the directory that is searched
//!   for modules without one.
//! - The path of the locale archive, and the directory of locales that the archive lacks
//!   (locale(7)). The target's locales may be of another release, which ends programs by an
//!   assertion in `locale/loadlocale.c`.
//!
//! The paths of the two files become those of the prefix, of any length. They are stored elsewhere
//! in the library (`slack.rs`), and the code that uses them is changed to point there (`xref.rs`).
//! The code that copies the two directories knows their lengths (`iconv/gconv_conf.c`,
//! `locale/findlocale.c`), so they become directories of equal length that no system has. The
//! directory of modules becomes the prefix's instead, if that fits.

mod gconv_cache;
mod slack;
mod static_program;
mod xref;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::base::limits::LIBRARY;
use crate::elf::{self, ElfImage, Patch};
use crate::fstree::resolve::RootResolver;
use crate::prefix::layout::{GCONV, LOCALES};
use crate::relocate::libc::slack::LibcSlack;
use crate::relocate::libc::xref::{CodeReference, LoadedCode};

pub(crate) use crate::relocate::libc::gconv_cache::{
    NAME as GCONV_CACHE, replace_directory, retain as retain_modules,
};
pub(crate) use crate::relocate::libc::static_program::{is_static_glibc, plan_static_isolation};

/// Format of the file name of a name service module, from the name of the service.
const NSS: &[u8] = b"libnss_%s.so%s\0";
/// The same format as a path that no system has: a name with a slash is not searched for
/// (dlopen(3)).
const NSS_SEALED: &[u8] = b"/~/nss_%s.so%s\0";
/// Ends of the paths of the cache and of the locale archive.
const ENDS: [&[u8]; 2] = [b"/gconv-modules.cache\0", b"/locale-archive\0"];

/// Kinds of outside files that a C library loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LibcFacility {
    /// Modules that nsswitch.conf names.
    NameServices,
    /// Modules of iconv(3).
    CharacterSets,
    /// Locales.
    Locales,
    /// Libraries of dlopen(3), in a program that has the loader in it.
    Libraries,
}

/// Changes that isolate a C library from its machine.
#[derive(Debug, Default)]
pub(crate) struct LibcIsolation {
    /// Bytes that have to change.
    pub patches: Vec<Patch>,
    /// References to the machine, in words; the patches remove them.
    pub leaks: Vec<(LibcFacility, String)>,
    /// References to the machine that no patch removes.
    pub open: Vec<(LibcFacility, String)>,
    /// Facilities that programs then lack, inside and outside of the prefix, with the reason.
    pub unavailable: Vec<(LibcFacility, String)>,
}

/// A C library in a tree.
pub(crate) struct Libc<'a> {
    /// Contents of the file.
    pub bytes: &'a [u8],
    /// Path as programs see it.
    pub path: &'a Path,
    pub eprefix: &'a Path,
    /// The tree that holds it.
    pub rooted: &'a RootResolver,
}

/// Error for a C library that is too large to be searched.
pub(crate) const TOO_LARGE: elf::Error =
    elf::Error::LimitExceeded("it is a C library of more than 256 MiB");

/// Returns whether the file is glibc's C library.
pub(crate) fn is_libc(image: &ElfImage) -> bool {
    image.soname.as_deref() == Some(b"libc.so.6")
}

impl Libc<'_> {
    /// Returns whether the library is small enough to be searched.
    pub(crate) fn is_searchable(&self) -> bool {
        self.bytes.len() as u64 <= LIBRARY.bytes
    }

    /// Plans the changes that isolate it.
    pub(crate) fn plan_isolation(&self) -> LibcIsolation {
        let mut isolation = LibcIsolation::default();
        self.close_name_services(&mut isolation);
        let modules = self.gconv_dir();
        let cache = modules.as_ref().map(|dir| dir.join(GCONV_CACHE));
        let files = [cache, Some(self.eprefix.join(LOCALES).join("locale-archive"))]
            .map(|file| file.filter(|file| self.rooted.find(file).is_some()));
        let is_set = self.set_files(&files, &mut isolation);
        self.close_gconv_dir(modules.filter(|_| !is_set[0]), &mut isolation);
        self.close_locale_dir(&mut isolation);
        let lacking = |facility, name: &str| {
            let why = format!("finds no {name} in the prefix, or has no room for its path");
            (facility, why)
        };
        let has_modules = is_set[0] || isolation.has_gconv_dir(self);
        if !has_modules {
            isolation.unavailable.push(lacking(LibcFacility::CharacterSets, GCONV_CACHE));
        }
        if !is_set[1] {
            isolation.unavailable.push(lacking(LibcFacility::Locales, "locale-archive"));
        }
        let bytes = self.bytes;
        isolation.patches.retain(|patch| !is_applied(bytes, patch));
        isolation
    }

    fn close_name_services(&self, isolation: &mut LibcIsolation) {
        let mut found = memchr::memmem::find_iter(self.bytes, NSS);
        // A release that needs separate modules has the name more than once.
        if let Some(offset) = found.next().filter(|_| found.next().is_none()) {
            isolation.patches.push(Patch { offset: offset as u64, bytes: NSS_SEALED.to_vec() });
            let text = "loads the name service modules that the target's nsswitch.conf names";
            isolation.leaks.push((LibcFacility::NameServices, text.into()));
        }
    }

    /// Returns the prefix's directory of modules: beside the C library, or in its place in the
    /// prefix's layout.
    fn gconv_dir(&self) -> Option<PathBuf> {
        let beside = self.path.parent().map(|dir| dir.join("gconv"));
        let dirs = beside.into_iter().chain([self.eprefix.join(GCONV)]);
        dirs.filter(|dir| dir.starts_with(self.eprefix)).find(|dir| self.rooted.find(dir).is_some())
    }

    /// Changes the two paths to `files`, or to empty strings where a file is `None`. Returns which
    /// of the two were set.
    fn set_files(&self, files: &[Option<PathBuf>; 2], isolation: &mut LibcIsolation) -> [bool; 2] {
        let facilities = [LibcFacility::CharacterSets, LibcFacility::Locales];
        let current = ENDS.map(|end| find_path_ending(self.bytes, end));
        for ((file, current), facility) in files.iter().zip(&current).zip(facilities) {
            let Some((_, old)) = current.as_ref().and_then(|found| found.absolute) else {
                continue;
            };
            let old = Path::new(OsStr::from_bytes(old));
            if file.as_deref() != Some(old) && !(old.starts_with(self.eprefix) && file.is_none()) {
                isolation.leaks.push((facility, format!("reads {}", old.escaped())));
            }
        }
        let Some((patches, set)) = self.redirect_files(files, &current) else {
            let absolute = current.iter().flatten().filter_map(|found| found.absolute);
            isolation.patches.extend(absolute.map(|(at, _)| clear_string(at)));
            return [false; 2];
        };
        let is_new = patches.iter().any(|patch| !is_applied(self.bytes, patch));
        for ((file, set), facility) in files.iter().zip(set).zip(facilities) {
            let known = isolation.leaks.iter().any(|(leak, _)| *leak == facility);
            if let Some(file) = file.as_ref().filter(|_| set && is_new && !known) {
                isolation.leaks.push((facility, format!("does not read {}", file.escaped())));
            }
        }
        isolation.patches.extend(patches);
        set
    }

    /// Puts `files` into the slack, and points the code that uses the two paths there.
    fn redirect_files(
        &self,
        files: &[Option<PathBuf>; 2],
        current: &[Option<MachinePath<'_>>; 2],
    ) -> Option<(Vec<Patch>, [bool; 2])> {
        if files.iter().all(Option::is_none) {
            return None;
        }
        let (code, slack) = (LoadedCode::parse(self.bytes)?, LibcSlack::find(self.bytes)?);
        let references: [Vec<CodeReference>; 2] = std::array::from_fn(|index| {
            let slot = slack.used().map(|used| used[index]);
            let offsets = current[index].iter().flat_map(MachinePath::offsets).chain(slot);
            offsets
                .map(|at| code.find_references(at))
                .find(|found| !found.is_empty())
                .unwrap_or_default()
        });
        let text = |index: usize| match &files[index] {
            Some(file) if !references[index].is_empty() => file.as_os_str().as_bytes(),
            _ => b"",
        };
        // If there is no room for both, character sets come first.
        let strings = [[text(0), text(1)], [text(0), b""], [b"", text(1)]];
        let (strings, (contents, starts)) =
            strings.into_iter().find_map(|strings| Some((strings, slack.fill(strings)?)))?;
        let within = slack.offset..slack.offset + contents.len();
        let mut patches = vec![Patch { offset: slack.offset as u64, bytes: contents }];
        for (references, start) in references.iter().zip(starts) {
            for reference in references {
                patches.extend(code.retarget(*reference, start)?);
            }
        }
        let old = current.iter().flatten().filter_map(|found| found.absolute);
        patches.extend(old.filter(|(at, _)| !within.contains(at)).map(|(at, _)| clear_string(at)));
        Some((patches, strings.map(|string| !string.is_empty())))
    }

    /// Changes the directory of modules to `dir` if that fits, otherwise to one that no system has.
    fn close_gconv_dir(&self, dir: Option<PathBuf>, isolation: &mut LibcIsolation) {
        let Some((at, old)) = find_path_ending(self.bytes, b"/gconv\0").and_then(|f| f.absolute)
        else {
            return;
        };
        let directory = Path::new(OsStr::from_bytes(old));
        let fits = dir.filter(|dir| dir.as_os_str().len() <= old.len());
        let bytes = match fits {
            // The code copies all bytes as a string, so a shorter string ends at its own NUL.
            Some(dir) => {
                let mut bytes = dir.into_os_string().into_encoded_bytes();
                bytes.resize(old.len(), 0);
                bytes
            }
            None => missing_path(old.len()),
        };
        let patch = Patch { offset: at as u64, bytes };
        if !is_applied(self.bytes, &patch) {
            let text = format!("looks for character set modules in {}", directory.escaped());
            isolation.leaks.push((LibcFacility::CharacterSets, text));
            isolation.patches.push(patch);
        }
    }

    /// Changes the directory of locales to one that no system has.
    fn close_locale_dir(&self, isolation: &mut LibcIsolation) {
        let Some((at, old)) = find_path_ending(self.bytes, b"/locale\0").and_then(|f| f.absolute)
        else {
            return;
        };
        let directory = Path::new(OsStr::from_bytes(old)).escaped();
        isolation.leaks.push((LibcFacility::Locales, format!("looks for locales in {directory}")));
        isolation.patches.push(Patch { offset: at as u64, bytes: missing_path(old.len()) });
    }
}

impl LibcIsolation {
    /// Returns whether modules are found by their directory: it is in the prefix now, or after the
    /// patches.
    fn has_gconv_dir(&self, libc: &Libc<'_>) -> bool {
        let prefix = libc.eprefix.as_os_str().as_bytes();
        let Some(found) =
            find_path_ending(libc.bytes, b"/gconv\0").and_then(|found| found.absolute)
        else {
            return false;
        };
        let (at, old) = found;
        let current = self.patches.iter().find(|patch| patch.offset == at as u64);
        current.map_or(old, |patch| &patch.bytes).starts_with(prefix)
    }
}

/// A string in the file that refers to the machine.
struct MachinePath<'a> {
    /// Offset and text of the path that is in use.
    absolute: Option<(usize, &'a [u8])>,
    /// Offset of a path that was closed by a NUL in place of its first byte.
    closed: Option<usize>,
}

impl MachinePath<'_> {
    fn offsets(&self) -> impl Iterator<Item = usize> {
        self.absolute.map(|(at, _)| at).into_iter().chain(self.closed)
    }
}

/// Finds the absolute path with this end, except paths of shared data (/usr/share). Returns `None`
/// if there are several.
fn find_path_ending<'a>(bytes: &'a [u8], end: &[u8]) -> Option<MachinePath<'a>> {
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
            // This is the end alone, which code appends to another path.
        } else if found.absolute.replace((start, text)).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Returns a path of this length that no system has.
fn missing_path(length: usize) -> Vec<u8> {
    let mut path = vec![b'~'; length];
    if let Some(first) = path.first_mut() {
        *first = b'/';
    }
    path
}

/// Returns a patch that makes the string at `at` empty, which no system call finds.
fn clear_string(at: usize) -> Patch {
    Patch { offset: at as u64, bytes: vec![0] }
}

fn is_applied(bytes: &[u8], patch: &Patch) -> bool {
    let start = usize::try_from(patch.offset).unwrap_or(usize::MAX);
    bytes.get(start..).is_some_and(|rest| rest.starts_with(&patch.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_path_in_use() {
        let bytes = b"\0gconv\0/usr/lib/x/gconv\0/gconv-modules\0\0usr/lib/gconv\0";
        let found = find_path_ending(bytes, b"/gconv\0").unwrap();
        assert_eq!(found.absolute, Some((7, b"/usr/lib/x/gconv".as_slice())));
        assert_eq!(found.closed, Some(39));
        assert!(find_path_ending(b"\0/a/gconv\0/b/gconv\0", b"/gconv\0").is_none());
        let locales = b"\0/usr/share/locale\0/usr/lib/locale\0";
        assert!(find_path_ending(locales, b"/locale\0").unwrap().absolute.is_some());
    }
}
