//! Libraries that nothing in an extension loads.
//!
//! A library is used if a file that is no library of this kind, or a used library, has one of its
//! names in it: as a needed library, a filter, an auditor, a note about dlopen(3), or any other text.
//! So a name that only a script or a configuration file mentions keeps a library, too. Names that are
//! put together at run time are listed in profiles/slim.toml (`[[names]]`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Error, Result, bail};
use globset::GlobSet;
use serde::Serialize;

use crate::elf::{self, ElfImage, ObjectKind};
use crate::fstree::entries::{EntryKind, FileTree};
use crate::sysext::library_names::pointed_at;

/// Packages whose unused libraries are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) enum UnusedLibraries {
    /// Those of the imported toolchain.
    #[default]
    Toolchain,
    /// All packages that nobody asked for.
    All,
}

impl FromStr for UnusedLibraries {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "toolchain" => Ok(Self::Toolchain),
            "all" => Ok(Self::All),
            _ => bail!("{text:?} has to be toolchain or all"),
        }
    }
}

/// Names of libraries that a file puts together at run time.
#[derive(Debug)]
pub(super) struct ComposedNames {
    /// Text that the file has in it.
    pub text: String,
    /// File names of the libraries.
    pub libraries: GlobSet,
}

/// Libraries, and the names by which they can be loaded.
struct Libraries {
    paths: Vec<PathBuf>,
    /// Names, each with the positions of its libraries.
    names: Vec<(Vec<u8>, Vec<usize>)>,
}

impl Libraries {
    /// Collects those of `candidates` that are libraries.
    fn of(
        plan: &FileTree,
        candidates: BTreeSet<PathBuf>,
        composed: &[ComposedNames],
    ) -> Result<Self> {
        let mut paths = Vec::new();
        let mut names: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for path in candidates {
            let Some(EntryKind::File(content)) = plan.entries.get(&path).map(|e| &e.kind) else {
                continue;
            };
            let Ok(image) = elf::read(&content.source.bytes()?) else { continue };
            if is_library(&image) {
                let soname = image.soname.filter(|soname| !soname.is_empty());
                for name in soname.into_iter().chain(file_name(&path)) {
                    names.entry(name).or_default().push(paths.len());
                }
                paths.push(path);
            }
        }
        for (link, at) in links_to(plan, &paths) {
            if let Some(name) = file_name(link) {
                names.entry(name).or_default().push(at);
            }
        }
        for composed in composed {
            let is_match = |(_, path): &(usize, &PathBuf)| {
                path.file_name().is_some_and(|name| composed.libraries.is_match(name))
            };
            let all = paths.iter().enumerate().filter(is_match).map(|(at, _)| at);
            names.entry(composed.text.clone().into_bytes()).or_default().extend(all);
        }
        Ok(Self { paths, names: names.into_iter().collect() })
    }
}

fn is_library(image: &ElfImage) -> bool {
    let is_other = image.kind.is_program() || image.kind == ObjectKind::Loader;
    image.interpreter.is_none() && !is_other
}

fn file_name(path: &Path) -> Option<Vec<u8>> {
    Some(path.file_name()?.as_encoded_bytes().to_vec())
}

/// Returns the links that lead to `paths`, each with the position of its path.
fn links_to<'p>(plan: &'p FileTree, paths: &[PathBuf]) -> Vec<(&'p PathBuf, usize)> {
    let mut places: BTreeMap<PathBuf, usize> =
        paths.iter().enumerate().map(|(at, path)| (path.clone(), at)).collect();
    let mut links: Vec<(&PathBuf, PathBuf)> = Vec::new();
    for (path, entry) in &plan.entries {
        match &entry.kind {
            EntryKind::Link(target) => links.push((path, pointed_at(path, target))),
            EntryKind::HardLink(first) => links.push((path, first.clone())),
            EntryKind::File(_) | EntryKind::Directory => {}
        }
    }
    let mut found = Vec::new();
    // A link may lead to another one.
    loop {
        let known = found.len();
        links.retain(|(path, target)| {
            let at = places.get(target).copied();
            found.extend(at.map(|at| (*path, at)));
            places.extend(at.map(|at| ((*path).clone(), at)));
            at.is_none()
        });
        if found.len() == known {
            return found;
        }
    }
}

/// Returns those of `candidates` that are libraries and that nothing in `plan` loads. `is_usual` tells
/// the places of libraries: a link to one from anywhere else uses it.
pub(super) fn unused(
    plan: &FileTree,
    candidates: BTreeSet<PathBuf>,
    composed: &[ComposedNames],
    is_usual: impl Fn(&Path) -> bool,
) -> Result<BTreeSet<PathBuf>> {
    let libraries = Libraries::of(plan, candidates, composed)?;
    let texts = libraries.names.iter().map(|(name, _)| name);
    let search = AhoCorasick::new(texts).context("could not search for names of libraries")?;
    let mut out: BTreeSet<PathBuf> = libraries.paths.iter().cloned().collect();
    let linked = links_to(plan, &libraries.paths);
    let linked = linked.into_iter().filter(|(link, _)| !is_usual(link)).map(|(_, at)| at);
    let mut used: Vec<usize> = linked.collect();
    let name = |path: &PathBuf, used: &mut Vec<usize>| -> Result<()> {
        let Some(EntryKind::File(content)) = plan.entries.get(path).map(|entry| &entry.kind) else {
            return Ok(());
        };
        for found in search.find_overlapping_iter(&*content.source.bytes()?) {
            let named = libraries.names.get(found.pattern().as_usize());
            used.extend(named.into_iter().flat_map(|(_, at)| at));
        }
        Ok(())
    };
    for path in plan.entries.keys().filter(|path| !out.contains(*path)) {
        name(path, &mut used)?;
    }
    while let Some(at) = used.pop() {
        if let Some(path) = libraries.paths.get(at).filter(|path| out.remove(*path)) {
            name(path, &mut used)?;
        }
    }
    Ok(out)
}
