//! Answer to the question which libraries a program loads, as `ldd` gives it of a machine's own
//! programs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::Serialize;

use crate::base::escape::{self, Escape};
use crate::check::changes::TreeChanges;
use crate::check::loading::{Closure, SearchResult};
use crate::check::{Fact, Scene, collect};
use crate::elf::ObjectKind;
use crate::prefix::final_root::FinalRoot;

/// Files that the loader loads for one file.
#[derive(Debug, Serialize)]
pub(crate) struct LoadedFiles {
    /// The program or library, as programs see it.
    #[serde(serialize_with = "escape::path::serialize")]
    pub file: PathBuf,
    /// Libraries, in the order of the search for symbols.
    pub libraries: Vec<LoadedLibrary>,
}

/// A library that the loader searches for.
#[derive(Debug, Serialize)]
pub(crate) struct LoadedLibrary {
    /// Name by which it is needed first.
    pub name: String,
    /// Path by which it is opened; `None` if it is not found.
    #[serde(serialize_with = "escape::optional_path::serialize")]
    pub path: Option<PathBuf>,
    /// Fault of the file at which the loader gives up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Returns what the prefix's loader loads for `files`, or for all programs and libraries of the
/// prefix if there are none.
pub(crate) fn list_loaded(root: &FinalRoot, files: &[PathBuf]) -> Result<Vec<LoadedFiles>> {
    let facts = collect::collect_facts(root, &TreeChanges::default())?;
    let scene = Scene::new(root, &facts);
    if files.is_empty() {
        let all = facts.iter().filter(|fact| scene.is_inside(&fact.path) && is_dynamic(fact));
        let mut all: Vec<LoadedFiles> =
            all.par_bridge().map(|fact| describe(&fact.path, &scene.closure(fact))).collect();
        all.sort_by(|a, b| a.file.cmp(&b.file));
        return Ok(all);
    }
    let one = |path: &PathBuf| {
        let place = root.eprefix().as_path().join("usr/bin").join(path);
        let Some(fact) = scene.find_fact(&place) else {
            bail!("there is no {} in {}", place.escaped(), root.path().escaped());
        };
        if !is_dynamic(fact) {
            bail!("{} is no program or library that a loader loads", place.escaped());
        }
        Ok(describe(&place, &scene.closure(fact)))
    };
    files.iter().map(one).collect()
}

fn is_dynamic(fact: &Fact) -> bool {
    let kind = fact.elf().map(|image| image.kind);
    matches!(
        kind,
        Some(ObjectKind::Executable | ObjectKind::PieExecutable | ObjectKind::SharedObject)
    )
}

fn describe(path: &Path, closure: &Closure<'_>) -> LoadedFiles {
    let name = |name: &[u8]| name.escaped().to_string();
    let loaded = closure.loaded.iter().skip(1).map(|loaded| LoadedLibrary {
        name: name(&loaded.name),
        path: Some(loaded.path.clone()),
        fault: None,
    });
    let faults = closure.faults.iter().map(|fault| LoadedLibrary {
        name: name(&fault.name),
        path: None,
        fault: match fault.found {
            SearchResult::Stopped(found, what) => Some(format!("{} {what}", found.path.escaped())),
            _ => None,
        },
    });
    LoadedFiles { file: path.to_owned(), libraries: loaded.chain(faults).collect() }
}
