//! Rules about ELF files. How the loader searches is as in ld.so(8).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Detail, Fact, Kind, Scene};
use crate::elf::{Image, Kind as ElfKind};
use crate::libc::{Gconv, gconv, nss};
use crate::rooted::normal;

fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Whether the loader ever works on the file.
fn is_dynamic(image: &Image) -> bool {
    matches!(image.kind, ElfKind::Executable | ElfKind::PieExecutable | ElfKind::SharedObject)
}

fn dynamic(fact: &Fact) -> Option<&Image> {
    fact.elf().filter(|image| is_dynamic(image))
}

/// The entries of the file's own search path, as they are written.
fn entries(image: &Image) -> Vec<&[u8]> {
    // DT_RPATH is not looked at where there is a DT_RUNPATH.
    match image.runpath.as_ref().or(image.rpath.as_ref()) {
        Some(text) => text.split(|byte| *byte == b':').collect(),
        None => Vec::new(),
    }
}

/// An entry of the search path of the file at `path`, as the loader expands it.
fn expand(entry: &[u8], path: &Path) -> PathBuf {
    let origin = path.parent().unwrap_or(Path::new("/"));
    for token in ["$ORIGIN", "${ORIGIN}"] {
        if let Some(rest) = entry.strip_prefix(token.as_bytes()) {
            return normal(&origin.join(path_of(rest.strip_prefix(b"/").unwrap_or(rest))));
        }
    }
    path_of(entry).to_owned()
}

pub(super) fn search_dirs(fact: &Fact, image: &Image, scene: &Scene<'_>) -> Vec<PathBuf> {
    // $ORIGIN is where the file is without links.
    let real = scene.rooted.find(&fact.path).unwrap_or_else(|| fact.path.clone());
    entries(image).into_iter().map(|entry| expand(entry, &real)).collect()
}

pub(super) fn readable(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
    match &fact.kind {
        Kind::BrokenElf(why) => vec![Detail::note(why.clone())],
        _ => Vec::new(),
    }
}

pub(super) fn interpreter(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(interpreter) = dynamic(fact).and_then(|image| image.interpreter.as_deref()) else {
        return Vec::new();
    };
    let path = path_of(interpreter);
    let detail = if !scene.is_inside(path) {
        format!("its interpreter is {}, outside of the prefix", path.display())
    } else if scene.at(path).is_none() {
        format!("its interpreter {} is not there", path.display())
    } else {
        return Vec::new();
    };
    vec![Detail::error(detail)]
}

pub(super) fn needed(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let dirs = search_dirs(fact, image, scene);
    image.needed.iter().filter_map(|name| needed_library(path_of(name), &dirs, scene)).collect()
}

fn needed_library(name: &Path, dirs: &[PathBuf], scene: &Scene<'_>) -> Option<Detail> {
    let shown = name.display();
    if name.components().count() > 1 {
        return match scene.rooted.find(name) {
            Some(place) if scene.is_inside(&place) => None,
            Some(place) => {
                Some(Detail::error(format!("needs {shown}, which is {}", place.display())))
            }
            None => Some(Detail::error(format!("needs {shown}, which is not there"))),
        };
    }
    let found = dirs.iter().find_map(|dir| scene.rooted.find(&dir.join(name)));
    if let Some(place) = found {
        return (!scene.is_inside(&place)).then(|| {
            Detail::error(format!("needs {shown}, which it finds at {}", place.display()))
        });
    }
    let usual = ["usr/lib64", "usr/lib"]
        .map(|dir| scene.root.eprefix().as_path().join(dir))
        .iter()
        .find_map(|dir| scene.rooted.find(&dir.join(name)));
    Some(Detail::error(match usual {
        Some(place) => format!(
            "needs {shown}, which is at {} but not on its own search path: it would be found by \
             chance, or the target's in its place",
            place.display()
        ),
        None => format!("needs {shown}, which is not in the prefix"),
    }))
}

pub(super) fn search_path(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let tag = if image.runpath.is_some() { "runpath" } else { "rpath" };
    let mut details = Vec::new();
    for entry in entries(image) {
        let shown = String::from_utf8_lossy(entry).into_owned();
        let dir = expand(entry, &fact.path);
        if entry.is_empty() {
            details.push(Detail::error(format!(
                "its {tag} has an empty entry, which is the directory that the caller is in"
            )));
        } else if !dir.is_absolute() {
            details.push(Detail::error(format!(
                "its {tag} has {shown}, which is relative to the directory that the caller is in"
            )));
        } else {
            let place = scene.rooted.find(&dir).unwrap_or_else(|| normal(&dir));
            if !scene.is_inside(&place) {
                details
                    .push(Detail::error(format!("its {tag} has {shown}, outside of the prefix")));
            } else if scene.at(&dir).is_none() {
                details.push(Detail::note(format!("its {tag} has {shown}, which is not there")));
            }
        }
    }
    details
}

/// The versions that a file needs of a library are those that the library defines
/// (`.gnu.version_r` against `.gnu.version_d`).
pub(super) fn symbol_versions(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact) else { return Vec::new() };
    let dirs = search_dirs(fact, image, scene);
    let mut details = Vec::new();
    for version in image.needed_versions.iter().filter(|version| !version.weak) {
        let Some(library) = scene.library(OsStr::from_bytes(&version.library), &dirs) else {
            continue;
        };
        let Some(provider) = library.elf() else { continue };
        if !provider.defined_versions.contains(&version.version) {
            details.push(Detail::error(format!(
                "needs the version {} of {}, which {} does not have",
                String::from_utf8_lossy(&version.version),
                String::from_utf8_lossy(&version.library),
                library.path.display(),
            )));
        }
    }
    details
}

pub(super) fn machine(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let (Some(image), Some((machine, class))) = (dynamic(fact), scene.machine) else {
        return Vec::new();
    };
    if (image.machine, image.class) == (machine, class) {
        return Vec::new();
    }
    vec![Detail::error(format!(
        "is for another machine (ELF machine {}) than the prefix's loader ({machine})",
        image.machine
    ))]
}

pub(super) fn hardening(fact: &Fact, _: &Scene<'_>) -> Vec<Detail> {
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

/// A loader that still reads the target's configuration.
pub(super) fn loader(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = fact.elf().filter(|image| image.kind == ElfKind::Loader) else {
        return Vec::new();
    };
    if !scene.is_inside(&fact.path) || image.kind != ElfKind::Loader {
        return Vec::new();
    }
    let disk = scene.root.on_disk(&fact.path);
    let Ok(bytes) = crate::tree::map(&disk) else { return Vec::new() };
    match crate::elf::seal_loader(&bytes) {
        Ok(crate::elf::Seal::Already) | Err(crate::elf::SealError::Musl) => Vec::new(),
        Ok(crate::elf::Seal::Needed(_)) => vec![Detail::error(
            "consults ld.so.preload, ld.so.cache and the library directories of the target",
        )],
        Err(error) => vec![Detail::note(format!("whether it is sealed is not known: {error}"))],
    }
}

/// A C library that loads the target's name service modules.
pub(super) fn name_services(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact).filter(|_| scene.is_inside(&fact.path)) else {
        return Vec::new();
    };
    if image.soname.as_deref() != Some(b"libc.so.6") {
        return Vec::new();
    }
    let Ok(bytes) = crate::tree::map(&scene.root.on_disk(&fact.path)) else { return Vec::new() };
    let text = "loads the name service modules that the target's nsswitch.conf names";
    nss(&bytes, image).map(|_| Detail::error(text)).into_iter().collect()
}

/// A C library that looks for its character set modules outside of the prefix.
pub(super) fn character_sets(fact: &Fact, scene: &Scene<'_>) -> Vec<Detail> {
    let Some(image) = dynamic(fact).filter(|_| scene.is_inside(&fact.path)) else {
        return Vec::new();
    };
    if image.soname.as_deref() != Some(b"libc.so.6") {
        return Vec::new();
    }
    let Ok(bytes) = crate::tree::map(&scene.root.on_disk(&fact.path)) else { return Vec::new() };
    match gconv(&bytes, image, scene.root.eprefix().as_path(), &scene.rooted) {
        Gconv::Fine => Vec::new(),
        Gconv::Change(_, dir) => vec![Detail::error(format!(
            "looks for character set modules outside of the prefix, which has them in {}",
            dir.display()
        ))],
        Gconv::Outside(dir) => vec![Detail::note(format!(
            "looks for character set modules in {}; there is no room in it for the prefix's path",
            dir.display()
        ))],
    }
}
