//! PyPI releases that profiles/ pins, checked by hash, in separate directories.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::command::Command;
use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::files;
use crate::base::lock::{Busy, Lock};
use crate::base::output::Reporter;

/// A pinned release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// Name of the project on PyPI.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// Line of pip's requirements file, with the hashes of the release's files.
    requirement: String,
}

/// Returns the releases that the requirements file `name` of profiles/ pins (pip's hash-checking
/// mode).
pub(crate) fn load_pinned(name: &str) -> Result<Vec<Release>> {
    let text = data::text(Folder::Profiles, name)?;
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, rest) = line.split_once("==").context("no version is pinned")?;
            let version = rest.split_whitespace().next().context("no version is pinned")?;
            Ok(Release {
                name: name.to_owned(),
                version: version.to_owned(),
                requirement: line.to_owned(),
            })
        })
        .collect::<Result<_>>()
        .with_context(|| format!("profiles/{name} is not as expected"))
}

/// Prefix of the names of directories in which a release is assembled.
const LEFTOVER: &str = ".fetch-";

/// Creates the directory `dir`, which prefixes share and may need at the same time. `make` gets a
/// work directory and returns the directory in it that becomes `dir` when it is complete.
pub(crate) fn create_shared_dir(
    dir: &Path,
    what: &str,
    reporter: &Reporter,
    make: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<()> {
    if dir.exists() {
        return Ok(());
    }
    let parent = dir.parent().with_context(|| format!("{} has no parent", dir.escaped()))?;
    fs_err::create_dir_all(parent)?;
    let _lock =
        Lock::acquire(&parent.join(".lock"), what, &Busy::Wait(&|text| reporter.step(text)))?;
    if dir.exists() {
        return Ok(());
    }
    remove_leftovers(parent)?;
    let work = tempfile::Builder::new()
        .prefix(LEFTOVER)
        .tempdir_in(parent)
        .with_context(|| format!("could not make a directory in {}", parent.escaped()))?;
    fs_err::rename(make(work.path())?, dir)?;
    Ok(())
}

/// Removes the files of a fetch that a killed run left.
fn remove_leftovers(dir: &Path) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(LEFTOVER) {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Installs `release` with the pip of `python`: into that environment or, with `--target`, into
/// another directory. `work` holds the list that pip reads.
pub(crate) fn install(
    python: &Path,
    release: &Release,
    target: Option<&Path>,
    work: &Path,
) -> Result<()> {
    let requirements = work.join("requirements.txt");
    fs_err::write(&requirements, &release.requirement)?;
    let mut pip = Command::new(format!("fetch {} from PyPI", release.name), python)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"])
        .args(["--only-binary", ":all:", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements)
        // What pip unpacks goes with this directory, should the run be killed.
        .env("TMPDIR", work);
    if let Some(target) = target {
        pip = pip.arg("--target").arg(target);
    }
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
            "is the network up? pip reads its own configuration (pip.conf, PIP_INDEX_URL), so a \
             mirror can be named there; `fprefix setup` can be run again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::output::{ColourChoice, Verbosity};

    #[test]
    fn what_is_pinned() {
        for (file, names) in [
            ("portage-requirements.txt", &["portage"][..]),
            ("tools-requirements.txt", &["cmake", "meson"]),
        ] {
            let releases = load_pinned(file).unwrap();
            let found: Vec<&str> = releases.iter().map(|release| &*release.name).collect();
            assert_eq!(found, names);
            for release in releases {
                assert!(release.version.starts_with(|c: char| c.is_ascii_digit()));
                assert!(release.requirement.contains(" --hash=sha256:"));
            }
        }
    }

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("tools/one");
        let reporter = Reporter::new(Verbosity::Quiet, ColourChoice::Auto);
        let failed = create_shared_dir(&dir, "test", &reporter, |work| {
            fs_err::write(work.join("half"), "")?;
            anyhow::bail!("no network")
        });
        assert!(failed.is_err() && !dir.exists());
        create_shared_dir(&dir, "test", &reporter, |work| {
            fs_err::create_dir(work.join("whole"))?;
            Ok(work.join("whole"))
        })
        .unwrap();
        assert!(dir.is_dir());
        let left: Vec<_> = fs_err::read_dir(home.path().join("tools")).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
