//! Portage itself: the machine's own where it has one, else a pinned release from PyPI, checked
//! by hash, in a private directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::command::Command;
use crate::base::files;
use crate::base::input;
use crate::base::inside::{self, InsidePath};
use crate::base::limits::TEXT;
use crate::base::output::Reporter;
use crate::host::home::Home;
use crate::host::machine::Machine;
use crate::host::pypi::{self, Release};
use crate::host::tools;

/// Which Portage works on a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portage {
    /// The machine's own; BROOT is the machine.
    Machine,
    /// A private one, at this directory on disk: a Python virtual environment.
    Private(PathBuf),
}

/// Portage's scripts that load the code of a package.
const PHASE_SCRIPTS: [&str; 2] = ["ebuild.sh", "misc-functions.sh"];
/// Portage's script that changes the prefix of a package that was built for another.
const RELOCATION_SCRIPT: [&str; 1] = ["chpathtool.py"];

impl Portage {
    /// Returns the Portage that a machine of this kind uses; a private one may not be fetched yet.
    pub fn locate(machine: Machine, home: &Home) -> Result<Self> {
        Ok(match machine {
            Machine::Sdk | Machine::Gentoo => Self::Machine,
            Machine::Other => Self::Private(home.portage().join(load_pinned_release()?.version)),
        })
    }

    /// Returns whether it is installed.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Machine => tools::EMERGE.find().is_some(),
            Self::Private(dir) => dir.join("bin/emerge").exists(),
        }
    }

    /// Fetches a private Portage. It appears under its name only when it is complete.
    pub(crate) fn fetch(&self, reporter: &Reporter) -> Result<()> {
        let Self::Private(dir) = self else { return Ok(()) };
        pypi::create_shared_dir(dir, "fprefix setup, fetching Portage", reporter, |work| {
            let venv = work.join("venv");
            tools::PYTHON_VENV
                .command("make a Python environment for Portage")?
                .pass("PATH")
                .args(["-m", "venv", "--without-pip"])
                .arg(&venv)
                .run_quiet()?;
            // venv would do this too, and keep to itself why it failed.
            Command::new(
                "put pip into the Python environment for Portage",
                venv.join("bin/python"),
            )
            .args(["-m", "ensurepip", "--upgrade", "--default-pip"])
            .run_quiet()?;
            pypi::install(&venv.join("bin/python"), &load_pinned_release()?, None, work)?;
            run_inside(&venv)?;
            Ok(venv)
        })
    }

    /// The Python on disk whose pip fetches what else is needed.
    pub fn python(&self) -> Option<PathBuf> {
        match self {
            Self::Machine => None,
            Self::Private(dir) => Some(dir.join("bin/python")),
        }
    }

    /// Returns the directory on disk and its path in the sandbox; `None` for the machine's own Portage,
    /// which needs no mount.
    pub fn binding(&self) -> Option<(&Path, &'static InsidePath)> {
        match self {
            Self::Machine => None,
            Self::Private(dir) => Some((dir, &inside::PORTAGE)),
        }
    }

    /// BROOT as the sandbox sees it; `None` if it is the machine.
    pub fn broot(&self) -> Option<&'static InsidePath> {
        match self {
            Self::Machine => None,
            Self::Private(_) => Some(&inside::BROOT),
        }
    }

    /// The scripts by which it runs a phase of an ebuild: on disk, and as the sandbox shows them.
    pub fn phases(&self) -> Vec<(PathBuf, InsidePath)> {
        self.scripts(&PHASE_SCRIPTS)
    }

    /// The script by which it changes the prefix of a package, likewise.
    pub fn relocation(&self) -> Vec<(PathBuf, InsidePath)> {
        self.scripts(&RELOCATION_SCRIPT)
    }

    fn scripts(&self, names: &[&str]) -> Vec<(PathBuf, InsidePath)> {
        let scripts: Vec<(PathBuf, InsidePath)> = match self {
            Self::Private(dir) => names
                .iter()
                .map(|script| {
                    let below = Path::new("lib/portage/bin").join(script);
                    (dir.join(&below), inside::PORTAGE.join(&below))
                })
                .collect(),
            // Gentoo has one for each Python.
            Self::Machine => ["/usr/lib/portage", "/usr/lib64/portage"]
                .into_iter()
                .filter_map(|dir| fs_err::read_dir(dir).ok())
                .flat_map(Iterator::flatten)
                .flat_map(|entry| names.iter().map(move |script| entry.path().join(script)))
                .filter_map(|script| {
                    let inside = InsidePath::parse(&script).ok()?;
                    Some((script, inside))
                })
                .collect(),
        };
        scripts.into_iter().filter(|(script, _)| script.is_file()).collect()
    }

    /// The name by which one of Portage's programs, or one of the machine's, starts in the sandbox.
    /// Most are for Python and some for a shell, as their first lines say.
    pub fn program(&self, tool: &str) -> String {
        match self {
            Self::Private(dir) if dir.join("bin").join(tool).exists() => {
                inside::PORTAGE.join("bin").join(tool).to_string()
            }
            _ => tool.to_owned(),
        }
    }

    /// The directories of Portage's programs that go onto the search path of the sandbox.
    pub fn path(&self) -> Option<InsidePath> {
        match self {
            Self::Machine => None,
            Self::Private(_) => Some(inside::PORTAGE.join("bin")),
        }
    }

    /// Returns whether Portage or the machine has the program `tool`.
    pub fn has_program(&self, tool: &str) -> bool {
        match self {
            Self::Machine => tools::find_by_name(tool).is_some(),
            Self::Private(dir) => {
                dir.join("bin").join(tool).exists() || tools::find_by_name(tool).is_some()
            }
        }
    }
}

/// Makes the scripts of a virtual environment start where the sandbox shows it: they name the
/// directory that it was made in, which is not the one that it ends in.
fn run_inside(venv: &Path) -> Result<()> {
    let made = format!("#!{}/bin/python", venv.to_string_lossy());
    // Where the path does not fit into a #! line, pip makes the shell start Python, in three lines.
    let long = "#!/bin/sh\n'''exec' ";
    for entry in fs_err::read_dir(venv.join("bin"))? {
        let path = entry?.path();
        let Ok(text) = input::read_text(&path, TEXT) else { continue };
        let lines = if path.is_symlink() {
            continue;
        } else if text.starts_with(&made) {
            1
        } else if text.starts_with(long) {
            3
        } else {
            continue;
        };
        let rest = text.splitn(lines + 1, '\n').nth(lines).unwrap_or_default();
        let script = format!("#!{}/bin/python\n{rest}", inside::PORTAGE);
        files::write_executable(&path, script.as_bytes())?;
    }
    Ok(())
}

/// The release of Portage that profiles/portage-requirements.txt pins.
fn load_pinned_release() -> Result<Release> {
    let mut releases = pypi::load_pinned("portage-requirements.txt")?;
    releases.pop().context("profiles/portage-requirements.txt pins no version of portage")
}
