//! A build file, with everything opened that it names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::base::escape::Escape;
use crate::check::Rule;
use crate::manifest::origin::{OptionOrigin, Setting};
use crate::manifest::resolve_pack::ResolvedPack;
use crate::manifest::setup_options::SetupOptions;
use crate::manifest::source::Source;
use crate::manifest::tables::{EmergeTable, ProgramLine, Tables};
use crate::portage::atom::Atom;
use crate::prefix::setup::SetupRequest;

/// Default name of a build file.
pub(crate) const FILE: &str = "fprefix.toml";

/// Values of a build file.
#[derive(Debug)]
pub(crate) struct BuildFile {
    /// Path of the file.
    pub path: PathBuf,
    /// The prefix and its trees.
    pub setup: SetupRequest,
    /// Packages to build.
    pub packages: Vec<Atom>,
    /// Lines of package.use.
    pub package_use: Vec<String>,
    /// Lines of `package.accept_keywords`.
    pub package_keywords: Vec<String>,
    /// Number of packages that emerge builds at once. `None` leaves it to emerge.
    pub jobs: Option<u16>,
    /// Rules whose findings do not fail the check.
    pub waived_checks: Vec<&'static Rule>,
    /// Programs to prove, with their arguments.
    pub runs: Vec<ProgramLine>,
    /// Options of packing.
    pub pack: ResolvedPack,
}

impl BuildFile {
    /// Loads the file at `path`, and opens everything that it names. Paths in it are relative to
    /// its directory.
    ///
    /// # Errors
    ///
    /// Fails with the line of the value that cannot be used.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!("there is no build file {}; `fprefix init` writes one", path.escaped());
        }
        let source = Source::load(path)?;
        let Tables { prefix, trees, emerge, check, pack } = source.parse()?;
        let path = std::path::absolute(path)
            .with_context(|| format!("could not make {} absolute", path.escaped()))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let origin = OptionOrigin::File { source: &source, dir };
        check_packages(&emerge, origin)?;
        let waived_checks: Vec<&'static Rule> = check.waive.iter().map(|rule| rule.0).collect();
        let setup = SetupOptions { prefix, trees }.resolve(origin)?;
        let mut pack = pack.resolve(origin)?;
        pack.waived_checks.extend(&waived_checks);
        Ok(Self {
            setup,
            jobs: emerge.jobs.map(std::num::NonZeroU16::get),
            package_use: emerge.package_use_lines(),
            package_keywords: emerge.keyword_lines(),
            packages: emerge.packages,
            waived_checks,
            runs: check.run,
            pack,
            path,
        })
    }

    /// Returns the path of its lock file, which is beside it: `fprefix.lock` for `fprefix.toml`.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.path.with_extension("lock")
    }
}

/// Fails if no package is listed, or one twice.
fn check_packages(emerge: &EmergeTable, origin: OptionOrigin<'_>) -> Result<()> {
    let setting = Setting::new("emerge", "packages");
    let listed = || {
        ensure!(!emerge.packages.is_empty(), "a prefix needs packages");
        Ok(())
    };
    origin.locate(setting, listed())?;
    for (index, atom) in emerge.packages.iter().enumerate() {
        let once = || {
            ensure!(!emerge.packages[..index].contains(atom), "{atom} is there twice");
            Ok(())
        };
        origin.locate(setting.item(index), once())?;
    }
    Ok(())
}
