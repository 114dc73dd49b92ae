//! Build tools that eclasses of real trees want newer than the machine has them, from PyPI. Portage
//! could build them into BROOT, but with what is built with them: meson needs a Python of the tree,
//! and that needs packages that are built with meson.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::command::{MACHINE_PATH, find_program};
use crate::base::escape::Escape;
use crate::base::files;
use crate::base::hint;
use crate::base::input;
use crate::base::inside::{TOOLS, WRAPPER_DIR};
use crate::base::limits::TEXT;
use crate::base::output::Reporter;
use crate::host::doctor;
use crate::host::pypi::{self, Release};
use crate::portage::installation::Portage;
use crate::prefix::definition::Prefix;

/// The list of profiles/ that pins them.
const LIST: &str = "tools-requirements.txt";

/// A release that a prefix builds with, and its directory on disk.
pub(super) struct Fetched {
    name: String,
    dir: PathBuf,
}

impl Fetched {
    /// The directory of its programs on disk. They start from there as well.
    pub(super) fn programs(&self) -> PathBuf {
        self.dir.join("bin")
    }
}

/// Returns the releases that [`fetch`] would fetch, as names and versions.
pub(crate) fn to_fetch(prefix: &Prefix) -> Result<Vec<String>> {
    let mut releases = list_needed(prefix)?;
    releases.retain(|release| !dir(prefix, release).exists());
    Ok(releases.iter().map(|Release { name, version, .. }| format!("{name} {version}")).collect())
}

/// Fetches what the ebuilds of `prefix` want and this machine lacks. Without a network they are left
/// to Portage, which takes longer.
pub(crate) fn fetch(prefix: &Prefix, reporter: &Reporter) -> Result<()> {
    let Some(python) = prefix.portage.python() else { return Ok(()) };
    for release in list_needed(prefix)? {
        let dir = dir(prefix, &release);
        if dir.exists() {
            continue;
        }
        let Release { name, version, .. } = &release;
        reporter.step(&format!(
            "fetching {name} {version} from PyPI: the machine has none that is new enough for most \
             ebuilds"
        ));
        let what = format!("fprefix setup, fetching {name}");
        let fetched = pypi::create_shared_dir(&dir, &what, reporter, |work| {
            let target = work.join("tool");
            pypi::install(&python, &release, Some(&target), work)?;
            stand_alone(&target.join("bin"))?;
            Ok(target)
        });
        if let Err(error) = fetched {
            let why = hint::render_error(&error);
            reporter.warn(&format!("{name} is left to Portage to build: {why}"));
        }
    }
    Ok(())
}

/// Those that are there.
pub(super) fn list_fetched(prefix: &Prefix) -> Result<Vec<Fetched>> {
    Ok(list_needed(prefix)?
        .into_iter()
        .map(|release| Fetched { dir: dir(prefix, &release), name: release.name })
        .filter(|fetched| fetched.dir.exists())
        .collect())
}

/// Links their programs into BROOT, before those of the machine, and no longer what was taken before.
pub(super) fn link(broot: &Path, fetched: &[Fetched]) -> Result<()> {
    let dir = broot.join(WRAPPER_DIR);
    fs_err::create_dir_all(&dir)?;
    for entry in fs_err::read_dir(&dir)? {
        let path = entry?.path();
        if fs_err::read_link(&path).is_ok_and(|target| target.starts_with(&TOOLS)) {
            fs_err::remove_file(&path)?;
        }
    }
    for tool in fetched {
        let inside = TOOLS.join(tool.dir.file_name().unwrap_or(tool.name.as_ref()));
        for entry in fs_err::read_dir(tool.programs())? {
            let name = entry?.file_name();
            files::link(inside.join("bin").join(&name), &dir.join(&name))?;
        }
    }
    Ok(())
}

/// Returns the tools that eclasses in the trees of `prefix` need and this machine lacks.
fn list_needed(prefix: &Prefix) -> Result<Vec<Release>> {
    let mut releases = pypi::load_pinned(LIST)?;
    releases.retain(|release| {
        let eclass = format!("eclass/{}.eclass", release.name);
        let mut trees = prefix.definition.repos.iter().filter_map(|repo| repo.path.as_ref());
        trees.any(|tree| tree.join(&eclass).exists())
    });
    if releases.is_empty() || prefix.portage == Portage::Machine {
        return Ok(Vec::new());
    }
    let lacking = doctor::lacking_for_trees()?;
    releases.retain(|release| lacking.contains(&release.name));
    Ok(releases)
}

fn dir(prefix: &Prefix, release: &Release) -> PathBuf {
    prefix.home.tools().join(format!("{}-{}", release.name, release.version))
}

/// Makes the scripts that pip wrote work without its environment, wherever their directory is shown,
/// with the Python that the machine's own tools run on.
fn stand_alone(programs: &Path) -> Result<()> {
    let python = find_program("python3", MACHINE_PATH.as_ref());
    let python = python.unwrap_or_else(|| "/usr/bin/python3".into());
    for entry in fs_err::read_dir(programs)? {
        let path = entry?.path();
        let Ok(text) = input::read_text(&path, TEXT) else { continue };
        let Some((_, rest)) = text.split_once("import ") else { continue };
        let script = format!(
            "#!{}\nimport os, sys\n\
             sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))\n\
             import {rest}",
            python.escaped()
        );
        files::write_executable(&path, script.as_bytes())?;
    }
    Ok(())
}
