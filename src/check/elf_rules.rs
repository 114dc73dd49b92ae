//! Rules about ELF files by themselves: their loader, machine and hardening, and the C library.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::base::escape::Escape;
use crate::check::{Detail, Fact, FactKind, Scene};
use crate::elf::{self, ElfClass, ElfIdent, ElfImage, Fit, ObjectKind};
use crate::relocate::libc::{
    self, GCONV_CACHE, Libc, LibcFacility, LibcIsolation, is_libc, replace_directory,
};

pub(super) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Returns whether the loader ever processes the file.
fn is_dynamic(image: &ElfImage) -> bool {
    matches!(
        image.kind,
        ObjectKind::Executable | ObjectKind::PieExecutable | ObjectKind::SharedObject
    )
}

pub(super) fn dynamic(fact: &Fact) -> Option<&ElfImage> {
    fact.elf().filter(|image| is_dynamic(image))
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
    let shown = path.escaped();
    let Some(loader) = scene.find_fact(path).filter(|_| scene.is_inside(path)) else {
        return vec![Detail::error(if scene.is_inside(path) {
            format!("its interpreter {shown} is not there")
        } else {
            format!("its interpreter is {shown}, outside of the prefix")
        })];
    };
    if !scene.is_inside(&loader.path) {
        let place = loader.path.escaped();
        return vec![Detail::error(format!("its interpreter {shown} leads to {place}"))];
    }
    let own = dynamic(fact).map(ElfIdent::of);
    if let Some((_, Fit::OtherMachine | Fit::Stops(_))) =
        own.and_then(|own| scene.judge(&own, path))
    {
        return vec![Detail::error(format!("its interpreter {shown} is no loader for it"))];
    }
    check_release(fact, loader, scene).into_iter().collect()
}

/// Requires that the loader and the C library are of one build, which share data without a stable
/// form (`GLIBC_PRIVATE`).
fn check_release(fact: &Fact, loader: &Fact, scene: &Scene<'_>) -> Option<Detail> {
    // An extension may have the path in the place of the name.
    let is_libc = |name: &Vec<u8>| name.rsplit(|byte| *byte == b'/').next() == Some(b"libc.so.6");
    let needed = dynamic(fact)?.needed.iter().position(is_libc)?;
    let libc = scene.libraries(fact).get(needed)?.library()?;
    let (own, other) = (scene.release(loader)?, scene.release(libc)?);
    (own != other).then(|| {
        Detail::error(format!(
            "its interpreter is of {own}, and its C library {} of {other}",
            libc.path.escaped()
        ))
        .not_by_rewriting()
    })
}

/// Returns the release that the loader or the C library prints as its version: `(Debian GLIBC
/// 2.36-9) stable release version 2.36`. Loaders before 2.33 do not have one.
pub(super) fn find_release(bytes: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(bytes, b") stable release version ")?;
    let start = memchr::memrchr(b'(', bytes.get(..at)?)?;
    let text = bytes.get(start..)?.split(|byte| b"\n\0".contains(byte)).next()?;
    // The loader's line ends with a full stop, and so does the library's.
    Some(text.escaped().to_string().trim_end_matches('.').to_owned())
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
    list_isolation(&libc.plan_isolation(), subject)
}

/// Finds static programs that use modules, libraries or locales of the target.
fn static_rule(fact: &Fact, scene: &Scene<'_>, subject: LibcFacility) -> Vec<Detail> {
    if !fact.static_glibc || !scene.is_inside(&fact.path) {
        return Vec::new();
    }
    scene.isolation(fact).map(|plan| list_isolation(plan, subject)).unwrap_or_default()
}

fn list_isolation(isolation: &LibcIsolation, subject: LibcFacility) -> Vec<Detail> {
    let of = |found: &[(LibcFacility, String)]| -> Vec<String> {
        found.iter().filter(|(about, _)| *about == subject).map(|(_, text)| text.clone()).collect()
    };
    let errors = of(&isolation.leaks).into_iter().chain(of(&isolation.open));
    errors
        .map(Detail::error)
        .chain(of(&isolation.unavailable).into_iter().map(Detail::note))
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
