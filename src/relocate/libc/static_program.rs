//! Isolates a program that is linked statically with glibc. It has glibc's own loader for dlopen(3)
//! in it, iconv(3), locales and name services, and no library of the prefix replaces them.
//!
//! The strings are those of the shared C library and of the loader (see `elf::seal_loader`). They
//! are closed and not pointed into the prefix: modules and locales there belong to the prefix's own
//! release of glibc, and the program has any other one in it.
//!
//! The linker stores equal texts once, and a text that is the end of a longer one within that one.
//! So a path may be the end of a message of the program. The code that uses it is then changed to
//! point to the NUL at its end, and the message stays.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use ::elf::ElfBytes;
use ::elf::abi::PT_LOAD;
use ::elf::endian::AnyEndian;

use crate::base::escape::Escape;
use crate::elf::{self, ElfImage, ObjectKind, Patch};
use crate::relocate::libc::xref::{CodeReference, CodeReferences, LoadedCode};
use crate::relocate::libc::{
    LibcFacility, LibcIsolation, NSS, NSS_SEALED, clear_string, missing_path,
};

/// Variable that every static program has the name of, because glibc ignores it in programs with
/// rights of their own (`sysdeps/generic/unsecvars.h`), and because iconv(3) reads it.
const MARK: &[u8] = b"GCONV_PATH\0";
/// Cache of libraries that dlopen(3) reads. `elf/dl-cache.c` names it twice: to read, to print.
const LIBRARY_CACHE: &[u8] = b"/etc/ld.so.cache";
const MOST_USES: usize = 2;
/// File that glibc reads before it loads name service modules.
const SWITCH: &[u8] = b"/etc/nsswitch.conf\0";

/// Ends of the texts that are looked for, without the NUL behind them: a search for rare bytes
/// would take it for one. None of them is the end of another one.
const ENDS: [&[u8]; 6] = [
    b"/gconv-modules.cache",
    b"/locale-archive",
    b"etc/ld.so.cache",
    b"/etc/nsswitch.conf",
    b"libnss_%s.so%s",
    b"/~/nss_%s.so%s",
];

/// Returns whether the file may be a program that is linked statically with glibc. Static programs
/// of other C libraries and languages load nothing.
pub(crate) fn is_static_glibc(image: &ElfImage, bytes: &[u8]) -> bool {
    matches!(image.kind, ObjectKind::StaticExecutable | ObjectKind::StaticPie)
        && memchr::memmem::find(bytes, MARK).is_some()
}

/// Plans the changes that isolate the static program with these `bytes`. Paths in `eprefix` stay.
pub(crate) fn plan_static_isolation(bytes: &[u8], eprefix: &Path) -> LibcIsolation {
    let Some(mut plan) = StaticPlan::new(bytes, eprefix) else { return LibcIsolation::default() };
    // Every static program of glibc can convert characters. One without the cache is another's.
    let Some(modules) = plan.close_file(b"/gconv-modules.cache", LibcFacility::CharacterSets)
    else {
        return plan.isolation;
    };
    plan.close_directory(&modules, LibcFacility::CharacterSets);
    if let Some(locales) = plan.close_file(b"/locale-archive", LibcFacility::Locales) {
        plan.close_directory(&locales, LibcFacility::Locales);
    }
    plan.close_path(LIBRARY_CACHE, LibcFacility::Libraries);
    plan.close_library_directories();
    plan.close_name_services();
    plan.isolation
}

/// Returns the parts of the file that are loaded.
fn loaded_ranges(bytes: &[u8]) -> Vec<Range<usize>> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok();
    let segments = file.and_then(|file| file.segments());
    let loaded = segments.iter().flat_map(::elf::parse::ParsingTable::iter);
    let ranges = loaded.filter(|segment| segment.p_type == PT_LOAD).filter_map(|segment| {
        let start = usize::try_from(segment.p_offset).ok()?;
        let end = start.checked_add(usize::try_from(segment.p_filesz).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
    });
    ranges.collect()
}

struct StaticPlan<'a> {
    bytes: &'a [u8],
    code: Option<LoadedCode<'a>>,
    /// Parts of the file that are loaded. Others, like debug data, may repeat any text.
    data: Vec<Range<usize>>,
    /// Offsets of each of [`ENDS`] in those parts.
    ends: [Vec<usize>; ENDS.len()],
    /// Code that uses the strings with these ends.
    references: CodeReferences,
    eprefix: &'a Path,
    isolation: LibcIsolation,
}

impl<'a> StaticPlan<'a> {
    /// Finds all texts of [`ENDS`] and their uses. Reads data and code once each.
    fn new(bytes: &'a [u8], eprefix: &'a Path) -> Option<Self> {
        static SEARCH: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
            let mut search = AhoCorasick::builder();
            search.match_kind(MatchKind::LeftmostFirst).build(ENDS).ok()
        });
        let search = SEARCH.as_ref()?;
        let code = LoadedCode::parse(bytes);
        let data = loaded_ranges(bytes);
        let mut ends: [Vec<usize>; ENDS.len()] = Default::default();
        let mut strings = Vec::new();
        for part in &data {
            let bytes = bytes.get(part.clone()).unwrap_or_default();
            for found in search.find_iter(bytes) {
                if bytes.get(found.end()) != Some(&0) {
                    continue;
                }
                ends[found.pattern().as_usize()].push(part.start + found.start());
                let before = memchr::memrchr(0, &bytes[..found.start()]);
                let start = before.map_or(0, |at| at + 1);
                strings.push(part.start + start..part.start + found.end() + 1);
            }
        }
        let references = code.as_ref().map(|code| code.index_references(&strings));
        Some(Self {
            bytes,
            code,
            data,
            ends,
            references: references.unwrap_or_default(),
            eprefix,
            isolation: LibcIsolation::default(),
        })
    }

    /// Returns the offsets of `needle` in the loaded parts. Those that have one of [`ENDS`] are known.
    fn find(&self, needle: &[u8]) -> Vec<usize> {
        let text = needle.strip_suffix(b"\0").unwrap_or(needle);
        let known = ENDS.iter().zip(&self.ends).find(|(end, _)| text.ends_with(end));
        if let Some((end, found)) = known {
            let starts = found.iter().filter_map(|at| (at + end.len()).checked_sub(text.len()));
            return starts.filter(|&at| self.bytes[at..].starts_with(needle)).collect();
        }
        let parts = self.data.iter();
        let found = parts.flat_map(|part| {
            let bytes = self.bytes.get(part.clone()).unwrap_or_default();
            memchr::memmem::find_iter(bytes, needle).map(|at| part.start + at)
        });
        found.collect()
    }

    fn is_start(&self, at: usize) -> bool {
        at.checked_sub(1).and_then(|before| self.bytes.get(before)) == Some(&0)
    }

    /// Returns the code that uses the string at `at`.
    fn references(&self, at: usize) -> &[CodeReference] {
        self.references.get(&at).map_or(&[], Vec::as_slice)
    }

    fn leak(&mut self, facility: LibcFacility, text: String, patches: Vec<Patch>) {
        self.isolation.leaks.push((facility, text));
        self.isolation.patches.extend(patches);
    }

    fn leave(&mut self, facility: LibcFacility, text: &[u8]) {
        let text = format!(
            "uses {} of the target, which cannot be closed, because other code of it may use the \
             same text: link it with the shared C library",
            text.escaped()
        );
        self.isolation.open.push((facility, text));
    }

    fn is_inside(&self, path: &[u8]) -> bool {
        Path::new(OsStr::from_bytes(path)).starts_with(self.eprefix)
    }

    /// Closes the path of a file with this end, and returns its directory. Returns `None` if the
    /// program does not name such a file.
    fn close_file(&mut self, end: &[u8], facility: LibcFacility) -> Option<Vec<u8>> {
        let mut own: Vec<Vec<u8>> = Vec::new();
        let mut ends: Vec<Vec<u8>> = Vec::new();
        let mut closed = None;
        for at in self.find(&[end, b"\0"].concat()) {
            let before = self.bytes.get(..at + end.len())?;
            let start = before.iter().rposition(|byte| !byte.is_ascii_graphic());
            let start = start.map_or(0, |at| at + 1);
            let path = before.get(start..)?;
            if start == at || path.starts_with(b"/usr/share/") {
                continue;
            }
            if path.first() != Some(&b'/') {
                closed = Some([b"/", path].concat());
            } else if self.is_start(start) {
                own.push(path.to_vec());
            } else {
                ends.push(path.to_vec());
            }
        }
        own.dedup();
        let paths = if own.is_empty() { ends } else { own };
        let path = match (&paths[..], closed) {
            ([path], _) => path.clone(),
            ([], Some(closed)) => closed,
            ([], None) => return None,
            ([first, ..], _) => {
                self.leave(facility, first);
                return None;
            }
        };
        if !self.is_inside(&path) {
            self.close_path(&path, facility);
            let what = match facility {
                LibcFacility::Locales => "has no locales but those of the C library itself",
                _ => "has no character sets but those of the C library itself",
            };
            self.isolation
                .unavailable
                .push((facility, format!("{what}, because it is linked statically")));
        }
        path.len().checked_sub(end.len()).map(|length| path[..length].to_vec())
    }

    /// Closes a path that the code passes to open(2).
    fn close_path(&mut self, path: &[u8], facility: LibcFacility) {
        let found = self.find(&[path, b"\0"].concat());
        let text = format!("reads {}", path.escaped());
        if let Some(&at) = found.iter().find(|&&at| self.is_start(at)) {
            if self.references(at).len() > MOST_USES {
                self.leave(facility, path);
            } else {
                self.leak(facility, text, vec![clear_string(at)]);
            }
            return;
        }
        let mut patches = Vec::new();
        let mut is_closed = path
            .get(1..)
            .is_some_and(|rest| !self.find(&[b"\0\0", rest, b"\0"].concat()).is_empty());
        for &at in &found {
            let Some(code) = &self.code else { continue };
            let references = self.references(at);
            is_closed |= !self.references(at + path.len()).is_empty();
            let new = references.iter().filter_map(|of| code.retarget(*of, at + path.len()));
            patches.extend(new.flatten());
            if references.len() > MOST_USES {
                self.leave(facility, path);
                return;
            }
        }
        if !patches.is_empty() {
            self.leak(facility, text, patches);
        } else if !found.is_empty() && !is_closed {
            self.leave(facility, path);
        }
    }

    /// Changes a directory that the code searches to one that no system has.
    fn close_directory(&mut self, directory: &[u8], facility: LibcFacility) {
        if self.is_inside(directory) {
            return;
        }
        match self.find(&[b"\0", directory, b"\0"].concat())[..] {
            [] => {}
            [at] => {
                let bytes = missing_path(directory.len());
                let text = format!("looks into {}", directory.escaped());
                self.leak(facility, text, vec![Patch { offset: at as u64 + 1, bytes }]);
            }
            _ => self.leave(facility, directory),
        }
    }

    fn close_library_directories(&mut self) {
        let lists = self.data.iter().flat_map(|part| {
            let bytes = self.bytes.get(part.clone()).unwrap_or_default();
            elf::library_directory_lists(bytes).into_iter().map(|list| (part.start, list))
        });
        // The linker puts the C library behind the program's own objects, which may have such a
        // list too: ldconfig(8) has one.
        let Some((start, list)) = lists.last() else { return };
        if elf::has_sealed_directories(self.bytes) {
            return;
        }
        let patches = list
            .into_iter()
            .map(|patch| Patch { offset: patch.offset + start as u64, bytes: patch.bytes });
        let patches = patches.collect();
        let text = "looks into the library directories of the target".to_owned();
        self.leak(LibcFacility::Libraries, text, patches);
    }

    fn close_name_services(&mut self) {
        let facility = LibcFacility::NameServices;
        let found = self.find(NSS);
        let own: Vec<usize> = found.iter().copied().filter(|&at| self.is_start(at)).collect();
        match own[..] {
            [at] if self.references(at).len() <= MOST_USES => {
                let text = "loads the name service modules that the target's nsswitch.conf names";
                let patch = Patch { offset: at as u64, bytes: NSS_SEALED.to_vec() };
                self.leak(facility, text.to_owned(), vec![patch]);
            }
            [] if !self.find(NSS_SEALED).is_empty() => {}
            [] if found.is_empty() && self.find(SWITCH).is_empty() => {}
            [] if found.is_empty() => {
                let text = "finds no users and hosts: it was linked with a C library before 2.34, \
                            which has modules alone for that";
                self.isolation.unavailable.push((facility, text.into()));
            }
            _ => self.leave(facility, NSS.strip_suffix(b"\0").unwrap_or(NSS)),
        }
    }
}
