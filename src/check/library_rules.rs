//! Rules about the libraries of ELF files: each file finds its own, by its own search path, and
//! every program starts.

use std::path::Path;

use crate::base::escape::Escape;
use crate::check::elf_rules::dynamic;
use crate::check::loading::SearchResult;
use crate::check::{Detail, Fact, Scene};
use crate::elf::{ElfIdent, ElfImage, Fit, LibraryTag};
use crate::fstree::resolve::normalize_path;
use crate::relocate::search_path::{entries, has_origin};

/// A name in the dynamic section, and how strictly the loader takes it.
#[derive(Clone, Copy)]
struct NamedLibrary<'a> {
    name: &'a [u8],
    /// `None` for `DT_NEEDED`.
    tag: Option<LibraryTag>,
}

impl NamedLibrary<'_> {
    fn is_optional(&self) -> bool {
        self.tag.is_some_and(LibraryTag::is_optional)
    }

    fn words(&self) -> String {
        let name = self.name.escaped();
        match self.tag {
            None => format!("needs {name}"),
            Some(LibraryTag::Filter) => format!("needs {name} as its filter"),
            Some(LibraryTag::Auxiliary) => format!("uses {name} as its auxiliary library"),
            Some(LibraryTag::Audit | LibraryTag::DepAudit) => format!("is audited by {name}"),
        }
    }
}

/// Returns all libraries that the loader opens for the file.
fn named_libraries(image: &ElfImage) -> Vec<NamedLibrary<'_>> {
    let needed = image.needed.iter().map(|name| NamedLibrary { name, tag: None });
    let other = image
        .other_libraries
        .iter()
        .flat_map(|(tag, text)| tag.names(text).map(|name| NamedLibrary { name, tag: Some(*tag) }));
    needed.chain(other).collect()
}

pub(super) fn check_needed(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let libraries = named_libraries(image);
    let names = || libraries.iter().map(|library| library.name);
    // The libraries of DT_NEEDED were searched for once already.
    let known = scene.libraries(fact).iter().cloned();
    let other = scene.find_names(fact, &fact.path, names().skip(image.needed.len()));
    let found = libraries.iter().zip(known.chain(other));
    let mut details: Vec<Detail> =
        found.filter_map(|(library, found)| judge(fact, image, *library, &found, scene)).collect();
    for path in scene.other_openings(fact) {
        let found = scene.find_names(fact, &path, names());
        let lost = libraries.iter().zip(found).find_map(|(library, found)| {
            let detail = judge(fact, image, *library, &found, scene)?;
            Some(format!("is opened as {} too, where it {}", path.escaped(), detail.text))
        });
        details.extend(lost.map(Detail::error));
    }
    details
}

/// Returns what is wrong with what was found for a library of `fact`.
fn judge(
    fact: &Fact,
    image: &ElfImage,
    library: NamedLibrary<'_>,
    found: &SearchResult<'_>,
    scene: &Scene<'_>,
) -> Option<Detail> {
    let words = library.words();
    let is_read = !library.tag.is_some_and(LibraryTag::is_auditor) || image.interpreter.is_some();
    match found {
        SearchResult::Library(found, _) if scene.is_inside(&found.path) => None,
        SearchResult::Library(found, _) => {
            Some(Detail::error(format!("{words}, which it finds at {}", found.path.escaped())))
        }
        SearchResult::Stopped(found, what) => {
            let text = format!("{words}, and {} {what}", found.path.escaped());
            Some(strict(library, text).not_by_rewriting())
        }
        SearchResult::Missing if library.name.contains(&b'/') => {
            Some(missing_path(fact, image, library, scene))
        }
        // Only LD_LIBRARY_PATH can bring it, which is the caller's own choice.
        SearchResult::Missing if library.is_optional() || !is_read => {
            Some(Detail::note(format!("{words}, which is not in the prefix")))
        }
        SearchResult::Missing => Some(missing_name(fact, image, library, scene)),
    }
}

fn strict(library: NamedLibrary<'_>, text: String) -> Detail {
    if library.is_optional() { Detail::note(text) } else { Detail::error(text) }
}

/// Judges a library that is named by a path at which nothing is.
fn missing_path(
    fact: &Fact,
    image: &ElfImage,
    library: NamedLibrary<'_>,
    scene: &Scene<'_>,
) -> Detail {
    let words = library.words();
    let paths = scene.expand(fact, image, &fact.path, library.name);
    let Some(path) = paths.first().filter(|path| path.is_absolute()) else {
        let text = format!("{words}, relative to the directory that the caller is in");
        return Detail::error(text).not_by_rewriting();
    };
    if !scene.is_inside(&normalize_path(path)) {
        return Detail::error(format!("{words}, which is the target's"));
    }
    strict(library, format!("{words}, which is not there")).not_by_rewriting()
}

/// Judges a library that no directory of the search path has.
fn missing_name(
    fact: &Fact,
    image: &ElfImage,
    library: NamedLibrary<'_>,
    scene: &Scene<'_>,
) -> Detail {
    let words = library.words();
    let named = scene.named(&ElfIdent::of(image), library.name);
    let path = |(fact, _): &(&Fact, Fit)| fact.path.escaped().to_string();
    let fitting: Vec<String> =
        named.iter().filter(|(_, fit)| *fit == Fit::Loads).map(path).collect();
    let text = match fitting.as_slice() {
        [path] => {
            return Detail::error(format!(
                "{words}, which is at {path} but not on its own search path: it would be found by \
                 chance, or the target's in its place"
            ));
        }
        // Rewriting leaves it like that, because a search path of its own could mean the other one.
        [..] if fitting.len() > 1 && scene.finds_by_inheritance(fact, library.name) => {
            let text = format!("{words}, which it finds by the search paths of its programs alone");
            return Detail::note(text);
        }
        [first, second, ..] => {
            format!("{words}, which is at {first} and {second}, and neither is on its search path")
        }
        [] => match named.first() {
            Some(found @ (_, Fit::Stops(what))) => {
                format!("{words}, which is not in the prefix: {} {what}", path(found))
            }
            Some(found) => format!(
                "{words}, which is not in the prefix: {} is for another machine",
                path(found)
            ),
            None => {
                let text = format!("{words}, which is not in the prefix");
                return Detail::error(text).not_by_rewriting().missing(library.name);
            }
        },
    };
    Detail::error(text).not_by_rewriting()
}

pub(super) fn check_search_path(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let tag = if image.runpath.is_some() { "runpath" } else { "rpath" };
    let mut details = Vec::new();
    for entry in entries(image) {
        let shown = entry.escaped();
        if entry.is_empty() {
            details.push(Detail::error(format!(
                "has an empty entry in its {tag}, which is the directory that the caller is in"
            )));
            continue;
        }
        let dirs = scene.expand(fact, image, &fact.path, entry);
        if dirs.is_empty() && has_origin(entry) {
            details.push(Detail::note(format!(
                "names {shown} in its {tag}, which the loader ignores in a program with rights of \
                 its own"
            )));
        }
        let is_missing = !dirs.is_empty() && dirs.iter().all(|dir| scene.find_fact(dir).is_none());
        if let Some(dir) = dirs.iter().find(|dir| !dir.is_absolute()) {
            let dir = dir.escaped();
            details.push(Detail::error(format!(
                "names {dir} in its {tag}, relative to the directory that the caller is in"
            )));
        } else if dirs.iter().any(|dir| !leads_inside(dir, scene)) {
            details
                .push(Detail::error(format!("names {shown}, outside of the prefix, in its {tag}")));
        } else if is_missing {
            details.push(Detail::note(format!("names {shown}, which is not there, in its {tag}")));
        }
    }
    details
}

/// Returns whether `dir`, or what would be there, is in the prefix.
fn leads_inside(dir: &Path, scene: &Scene<'_>) -> bool {
    let place = scene.find_fact(dir).map(|place| place.path.clone());
    scene.is_inside(&place.unwrap_or_else(|| normalize_path(dir)))
}

/// Requires that a library defines the versions that a file needs of it (`.gnu.version_r` against
/// `.gnu.version_d`).
pub(super) fn check_symbol_versions(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let libraries = scene.libraries(fact);
    let mut details = Vec::new();
    for version in image.needed_versions.iter().filter(|version| !version.weak) {
        let position = image.needed.iter().position(|needed| *needed == version.library);
        let library = position.and_then(|at| libraries.get(at)?.library());
        let Some((library, provider)) = library.and_then(|fact| Some((fact, fact.elf()?))) else {
            continue;
        };
        if !provider.defined_versions.contains(&version.version) {
            details.push(Detail::error(format!(
                "needs the version {} of {}, which {} does not have",
                version.version.escaped(),
                version.library.escaped(),
                library.path.escaped(),
            )));
        }
    }
    details
}

/// Finds programs that do not start because of a library that they need through another one.
pub(super) fn check_start(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(fact) = scene.find_fact(&fact.path) else { return Vec::new() };
    if dynamic(fact).is_none_or(|image| image.interpreter.is_none()) {
        return Vec::new();
    }
    let faults = scene.closure(fact).faults.into_iter();
    // What the program needs itself is a finding of another rule.
    let faults = faults.filter(|fault| !std::ptr::eq(fault.by, fact));
    let detail = faults.map(|fault| {
        let what = match fault.found {
            SearchResult::Stopped(found, what) => format!("and {} {what}", found.path.escaped()),
            _ => "which it does not find".to_owned(),
        };
        let (by, name) = (fault.by.path.escaped(), fault.name.escaped());
        Detail::error(format!("does not start: {by} needs {name}, {what}")).not_by_rewriting()
    });
    detail.collect()
}
