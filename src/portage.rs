//! Portage itself: the machine's own where it has one, else a pinned release from PyPI, checked
//! by hash, in a private directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{Command, look_up};
use crate::data::{self, Folder};
use crate::layout::Home;
use crate::lock::{Busy, Lock};
use crate::machine::Machine;
use crate::tree;

/// Which Portage works on a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portage {
    /// The machine's own; BROOT is the machine.
    Machine,
    /// A private one, at this directory on disk: a Python virtual environment.
    Private(PathBuf),
}

/// Where the sandbox shows a private Portage.
const INSIDE: &str = "/fprefix/portage";

impl Portage {
    /// The Portage that a machine of this kind uses; a private one may still have to be fetched.
    pub fn of(machine: Machine, home: &Home) -> Result<Self> {
        Ok(match machine {
            Machine::Sdk | Machine::Gentoo => Self::Machine,
            Machine::Other => Self::Private(home.portage().join(pinned_version()?)),
        })
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Machine => look_up("emerge").is_some(),
            Self::Private(dir) => dir.join("bin/emerge").exists(),
        }
    }

    /// Fetches a private Portage. It appears under its name only when it is complete.
    pub fn fetch(&self) -> Result<()> {
        let Self::Private(dir) = self else { return Ok(()) };
        if self.is_there() {
            return Ok(());
        }
        let parent = dir.parent().context("Portage has no directory to be in")?;
        fs_err::create_dir_all(parent)?;
        // Prefixes share it, and may be set up at once.
        let lock = parent.join(".lock");
        let _lock = Lock::take(&lock, "fprefix setup, fetching Portage", &Busy::Wait(&|_| ()))?;
        if self.is_there() {
            return Ok(());
        }
        remove_leftovers(parent)?;
        let work = tempfile::Builder::new()
            .prefix(LEFTOVER)
            .tempdir_in(parent)
            .with_context(|| format!("could not make a directory in {}", parent.display()))?;
        let venv = work.path().join("venv");
        Command::new("make a Python environment for Portage", "python3")
            .pass("PATH")
            .args(["-m", "venv", "--without-pip"])
            .arg(&venv)
            .run_quiet()?;
        // venv would do this too, and keep to itself why it failed.
        Command::new("put pip into the Python environment for Portage", venv.join("bin/python"))
            .args(["-m", "ensurepip", "--upgrade", "--default-pip"])
            .run_quiet()?;
        let requirements = work.path().join("requirements.txt");
        fs_err::write(
            &requirements,
            data::text(Folder::Profiles, "portage-requirements.txt")?.as_bytes(),
        )?;
        let mut pip = Command::new("fetch Portage from PyPI", venv.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements);
        for (name, value) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PIP_") {
                pip = pip.env(name, value);
            }
        }
        pip.run_quiet().map_err(|error| {
            if error.to_string().contains("No space left on device") {
                return error;
            }
            error.context(
                "is the network up? pip reads its own configuration (pip.conf, PIP_INDEX_URL), so \
                 a mirror can be named there; `fprefix setup` can be run again",
            )
        })?;
        run_inside(&venv)?;
        fs_err::rename(&venv, dir)?;
        Ok(())
    }

    /// Where the sandbox has to show what is on disk, if it has to.
    pub fn binding(&self) -> Option<(&Path, &'static Path)> {
        match self {
            Self::Machine => None,
            Self::Private(dir) => Some((dir, Path::new(INSIDE))),
        }
    }

    /// BROOT as the sandbox sees it.
    pub fn broot(&self) -> &'static str {
        match self {
            Self::Machine => "",
            Self::Private(_) => "/fprefix/staging/broot",
        }
    }

    /// The scripts by which it runs a phase of an ebuild: on disk, and as the sandbox shows them.
    pub fn phases(&self) -> Vec<(PathBuf, PathBuf)> {
        let scripts = match self {
            Self::Private(dir) => {
                let below = "lib/portage/bin/ebuild.sh";
                vec![(dir.join(below), Path::new(INSIDE).join(below))]
            }
            // Gentoo has one for each Python.
            Self::Machine => ["/usr/lib/portage", "/usr/lib64/portage"]
                .into_iter()
                .filter_map(|dir| fs_err::read_dir(dir).ok())
                .flat_map(Iterator::flatten)
                .map(|entry| (entry.path().join("ebuild.sh"), entry.path().join("ebuild.sh")))
                .collect(),
        };
        scripts.into_iter().filter(|(script, _)| script.is_file()).collect()
    }

    /// The words that start one of Portage's programs in the sandbox.
    pub fn program(&self, tool: &str) -> Vec<String> {
        match self {
            Self::Private(dir) if dir.join("bin").join(tool).exists() => {
                vec![format!("{INSIDE}/bin/python"), format!("{INSIDE}/bin/{tool}")]
            }
            _ => vec![tool.to_owned()],
        }
    }

    /// The directories of Portage's programs that go onto the search path of the sandbox.
    pub fn path(&self) -> Option<String> {
        match self {
            Self::Machine => None,
            Self::Private(_) => Some(format!("{INSIDE}/bin")),
        }
    }

    /// Whether Portage has the program `tool`.
    pub fn has(&self, tool: &str) -> bool {
        match self {
            Self::Machine => look_up(tool).is_some(),
            Self::Private(dir) => dir.join("bin").join(tool).exists() || look_up(tool).is_some(),
        }
    }
}

/// How the directories begin in which a release is put together.
const LEFTOVER: &str = ".portage-";

/// Removes what a run that was killed left of a fetch.
fn remove_leftovers(dir: &Path) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(LEFTOVER) {
            tree::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Makes the scripts of a virtual environment start where the sandbox shows it: they name the
/// directory that it was made in, which is not the one that it ends in.
fn run_inside(venv: &Path) -> Result<()> {
    let made = format!("#!{}/bin/python", venv.display());
    // Where the path does not fit into a #! line, pip makes the shell start Python, in three lines.
    let long = "#!/bin/sh\n'''exec' ";
    for entry in fs_err::read_dir(venv.join("bin"))? {
        let path = entry?.path();
        let Ok(text) = fs_err::read_to_string(&path) else { continue };
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
        let script = format!("#!{INSIDE}/bin/python\n{rest}");
        tree::write_executable(&path, script.as_bytes())?;
    }
    Ok(())
}

/// The version of Portage that profiles/portage-requirements.txt pins.
pub fn pinned_version() -> Result<String> {
    data::text(Folder::Profiles, "portage-requirements.txt")?
        .lines()
        .find_map(|line| line.strip_prefix("portage=="))
        .and_then(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .context("profiles/portage-requirements.txt pins no version of portage")
}
