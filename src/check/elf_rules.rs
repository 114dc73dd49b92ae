//! Rules about ELF files. They search for libraries as the loader does (ld.so(8)).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::check::{Detail, Fact, FactKind, Scene};
use crate::elf::{self, ElfClass, ElfImage, ObjectKind};
use crate::fstree::resolve::normalize_path;
use crate::relocate::libc::{
    self, GCONV_CACHE, Libc, LibcFacility, LibcIsolation, is_libc, replace_directory,
};

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns whether the loader ever processes the file.
fn is_dynamic(image: &ElfImage) -> bool {
    matches!(
        image.kind,
        ObjectKind::Executable | ObjectKind::PieExecutable | ObjectKind::SharedObject
    )
}

fn dynamic(fact: &Fact) -> Option<&ElfImage> {
    fact.elf().filter(|image| is_dynamic(image))
}

/// Entries of the file's own search path, unexpanded.
fn entries(image: &ElfImage) -> Vec<&[u8]> {
    // The loader ignores DT_RPATH if there is a DT_RUNPATH.
    match image.runpath.as_ref().or(image.rpath.as_ref()) {
        Some(text) => text.split(|byte| *byte == b':').collect(),
        None => Vec::new(),
    }
}

/// Expands an entry of the search path of the file at `path`, as the loader does.
fn expand(entry: &[u8], path: &Path) -> PathBuf {
    let origin = path.parent().unwrap_or(Path::new("/"));
    for token in ["$ORIGIN", "${ORIGIN}"] {
        if let Some(rest) = entry.strip_prefix(token.as_bytes()) {
            return normalize_path(&origin.join(path_of(rest.strip_prefix(b"/").unwrap_or(rest))));
        }
    }
    path_of(entry).to_owned()
}

pub(super) fn search_dirs(fact: &Fact, image: &ElfImage, scene: &Scene<'_>) -> Vec<PathBuf> {
    // $ORIGIN is the directory of the file after links are resolved.
    let real = scene.find_fact(&fact.path).map_or(&fact.path, |real| &real.path);
    entries(image).into_iter().map(|entry| expand(entry, real)).collect()
}

pub(super) fn check_readable(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    match &fact.kind {
        // It may run, and nothing is known of it.
        FactKind::BrokenElf(why @ elf::Error::LimitExceeded(_)) => {
            vec![Detail::error(format!("cannot be read: {why}"))]
        }
        // No kernel and no loader takes it.
        FactKind::BrokenElf(why) => vec![Detail::note(format!("cannot be read: {why}"))],
        _ => Vec::new(),
    }
}

pub(super) fn check_interpreter(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(interpreter) = dynamic(fact).and_then(|image| image.interpreter.as_deref()) else {
        return Vec::new();
    };
    let path = path_of(interpreter);
    let detail = if !scene.is_inside(path) {
        format!("its interpreter is {}, outside of the prefix", path.escaped())
    } else if scene.find_fact(path).is_none() {
        format!("its interpreter {} is not there", path.escaped())
    } else {
        return Vec::new();
    };
    vec![Detail::error(detail)]
}

pub(super) fn check_needed(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let found = image.needed.iter().zip(scene.libraries(fact));
    found.filter_map(|(name, library)| needed_library(path_of(name), *library, scene)).collect()
}

fn needed_library(name: &Path, found: Option<&Fact>, scene: &Scene<'_>) -> Option<Detail> {
    let shown = name.escaped();
    if let Some(library) = found {
        let text = format!("needs {shown}, which it finds at {}", library.path.escaped());
        return (!scene.is_inside(&library.path)).then(|| Detail::error(text));
    }
    if name.components().count() > 1 {
        return Some(Detail::error(format!("needs {shown}, which is not there")));
    }
    let usual = ["usr/lib64", "usr/lib"]
        .map(|dir| scene.root.eprefix().as_path().join(dir))
        .iter()
        .find_map(|dir| scene.find_fact(&dir.join(name)));
    Some(Detail::error(match usual {
        Some(library) => format!(
            "needs {shown}, which is at {} but not on its own search path: it would be found by \
             chance, or the target's in its place",
            library.path.escaped()
        ),
        None => format!("needs {shown}, which is not in the prefix"),
    }))
}

pub(super) fn check_search_path(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let tag = if image.runpath.is_some() { "runpath" } else { "rpath" };
    let mut details = Vec::new();
    for entry in entries(image) {
        let shown = entry.escaped();
        let dir = expand(entry, &fact.path);
        if entry.is_empty() {
            details.push(Detail::error(format!(
                "has an empty entry in its {tag}, which is the directory that the caller is in"
            )));
        } else if !dir.is_absolute() {
            details.push(Detail::error(format!(
                "names {shown} in its {tag}, relative to the directory that the caller is in"
            )));
        } else {
            let place = scene.find_fact(&dir);
            if !scene.is_inside(place.map_or(&normalize_path(&dir), |place| &place.path)) {
                details.push(Detail::error(format!(
                    "names {shown}, outside of the prefix, in its {tag}"
                )));
            } else if place.is_none() {
                details
                    .push(Detail::note(format!("names {shown}, which is not there, in its {tag}")));
            }
        }
    }
    details
}

/// Requires that a library defines the versions that a file needs of it (`.gnu.version_r` against
/// `.gnu.version_d`).
pub(super) fn check_symbol_versions(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let libraries = scene.libraries(fact);
    let mut details = Vec::new();
    for version in image.needed_versions.iter().filter(|version| !version.weak) {
        let position = image.needed.iter().position(|needed| *needed == version.library);
        let Some(library) = position.and_then(|at| *libraries.get(at)?) else { continue };
        let Some(provider) = library.elf() else { continue };
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

pub(super) fn check_machine(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    if scene.machines.is_empty() || scene.machines.contains(&(image.machine, image.class)) {
        return Vec::new();
    }
    let loaders: Vec<String> =
        scene.machines.iter().map(|(machine, class)| machine_name(*machine, *class)).collect();
    vec![Detail::error(format!(
        "is for {}, and the prefix has a loader for {}",
        machine_name(image.machine, image.class),
        loaders.join(" and ")
    ))]
}

/// Common name of a machine (`e_machine` of the gABI).
fn machine_name(machine: u16, class: ElfClass) -> String {
    let bits = if class == ElfClass::Elf64 { 64 } else { 32 };
    let name = goblin::elf::header::machine_to_str(machine);
    let name = name.strip_prefix("EM_").unwrap_or(name).to_lowercase().replace('_', "-");
    format!("{bits}-bit {name}")
}

pub(super) fn check_hardening(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let mut details = Vec::new();
    if image.text_relocations {
        details
            .push(Detail::note("has text relocations: its code is written to when it is loaded"));
    }
    if image.executable_stack == Some(true) {
        details.push(Detail::note("asks for an executable stack"));
    }
    details
}

/// Finds loaders that still read the target's configuration.
pub(super) fn check_loader(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let may_be = |image: &&ElfImage| image.needed.is_empty() && image.interpreter.is_none();
    let Some(image) = fact
        .elf()
        .filter(|image| image.kind == ObjectKind::Loader)
        .or_else(|| dynamic(fact).filter(may_be))
    else {
        return static_rule(fact, scene, LibcFacility::Libraries);
    };
    if !scene.is_inside(&fact.path) {
        return Vec::new();
    }
    let Ok(bytes) = fact.contents(scene.root) else { return Vec::new() };
    if !crate::elf::is_loader(image, &bytes) {
        return Vec::new();
    }
    match crate::elf::seal_loader(&bytes) {
        Ok(crate::elf::Seal::Already) => Vec::new(),
        Ok(crate::elf::Seal::Needed(_)) => vec![Detail::error(
            "looks into the library directories of the target (glibc: ld.so.preload, ld.so.cache)",
        )],
        Err(error) => vec![Detail::note(format!("may not be sealed: {error}"))],
    }
}

/// Finds C libraries that use modules or locales of the target.
fn libc_rule(fact: &Fact, scene: &Scene<'_>, subject: LibcFacility) -> Vec<Detail> {
    if !scene.is_inside(&fact.path) || !dynamic(fact).is_some_and(is_libc) {
        return static_rule(fact, scene, subject);
    }
    let Ok(bytes) = fact.contents(scene.root) else { return Vec::new() };
    let (eprefix, rooted) = (scene.root.eprefix().as_path(), &scene.rooted);
    let libc = Libc { bytes: &bytes, path: &fact.path, eprefix, rooted };
    if !libc.is_searchable() {
        return vec![Detail::error(format!("cannot be read: {}", libc::TOO_LARGE))];
    }
    list_isolation(libc.plan_isolation(), subject)
}

/// Finds static programs that use modules, libraries or locales of the target.
fn static_rule(fact: &Fact, scene: &Scene<'_>, subject: LibcFacility) -> Vec<Detail> {
    if !fact.static_glibc || !scene.is_inside(&fact.path) {
        return Vec::new();
    }
    let Ok(bytes) = fact.contents(scene.root) else { return Vec::new() };
    list_isolation(libc::plan_static_isolation(&bytes, scene.root.eprefix().as_path()), subject)
}

fn list_isolation(isolation: LibcIsolation, subject: LibcFacility) -> Vec<Detail> {
    let of = |found: Vec<(LibcFacility, String)>| {
        found.into_iter().filter(move |(about, _)| *about == subject).map(|(_, text)| text)
    };
    of(isolation.leaks)
        .chain(of(isolation.open))
        .map(Detail::error)
        .chain(of(isolation.unavailable).map(Detail::note))
        .collect()
}

pub(super) fn check_name_services(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    libc_rule(fact, scene, LibcFacility::NameServices)
}

pub(super) fn check_locales(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    libc_rule(fact, scene, LibcFacility::Locales)
}

/// Finds uses of the target's modules, by the C library or by the cache that it reads.
pub(super) fn check_character_sets(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    if !fact.path.ends_with(GCONV_CACHE) || !scene.is_inside(&fact.path) {
        return libc_rule(fact, scene, LibcFacility::CharacterSets);
    }
    let Ok(bytes) = fact.contents(scene.root) else { return Vec::new() };
    let dir = fact.path.parent().unwrap_or(Path::new("/"));
    match replace_directory(&bytes, dir) {
        Some(new) if new == *bytes => Vec::new(),
        Some(_) => vec![Detail::error("names modules that are not beside it")],
        None => vec![Detail::error("cannot be read")],
    }
}
