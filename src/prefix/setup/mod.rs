//! `setup`: everything that a prefix needs before the first package is built.
//!
//! All that can be wrong with what was asked for is found before anything is written. After that
//! each step can be done again, so a set-up that was killed goes on when it is run again.

mod checkout;
mod files;
mod from_binhost;
mod package_config;
mod preflight;
mod removal;
mod renewed_final;
mod repositories;
mod scratch_final;
mod sudo;

use std::path::PathBuf;

use anyhow::Result;

use crate::base::board::{Board, BoardName};
use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::hint;
use crate::base::input;
use crate::base::lock::{Busy, Lock};
use crate::base::names::{
    Environment, Eprefix, Feature, PrefixId, PrefixName, RepoArgument, UseFlags,
};
use crate::base::output::Reporter;
use crate::host::home::Home;
use crate::host::machine::Machine;
use crate::host::toolchain::{self, Compiler, Import, Sysroot};
use crate::portage::binhost::{self, Binhost};
use crate::portage::cpv::Cpv;
use crate::portage::vdb;
use crate::prefix::definition::{Definition, Prefix, REWRITING};
use crate::prefix::emerge::follow::follow_staging;
use crate::prefix::emerge::phases::Phases;
use crate::prefix::environment::{Sandbox, prove_nesting};
use crate::prefix::layout::{self, Owner, owner};
use crate::prefix::mount_plan::place;
use crate::prefix::setup::package_config::PackageConfig;
use crate::prefix::setup::preflight::{
    absolute, check_apart, check_binhost, check_existing, check_features, check_machine,
    check_outdated, check_owners, check_writable, find_existing, profile, repositories,
    tree as tree_of,
};
use crate::prefix::{broot, wrappers};

pub(crate) use crate::prefix::setup::from_binhost::EmptyPrefix;
pub(crate) use crate::prefix::setup::removal::remove;
pub(crate) use crate::prefix::setup::renewed_final::{FinalLeftovers, renew_final};
pub(crate) use crate::prefix::setup::repositories::{add_repository, remove_repository, sync};
pub(crate) use crate::prefix::setup::scratch_final::another_final;

/// The options of setup, as the user gave them.
#[derive(Clone, Debug)]
pub(crate) struct SetupRequest {
    /// The prefix's name.
    pub name: PrefixName,
    /// EPREFIX.
    pub eprefix: Eprefix,
    /// Build for a path of fprefix's own, and relocate into final.
    pub relocatable: bool,
    /// The board; this machine's when none is given.
    pub board: Option<BoardName>,
    /// The directory of staging; `None` for the default.
    pub staging_dir: Option<PathBuf>,
    /// The directory of final; `None` for the default.
    pub final_dir: Option<PathBuf>,
    /// The directory of wrappers; `None` for the default.
    pub wrapper_dir: Option<PathBuf>,
    /// DISTDIR, if not the default.
    pub distdir: Option<PathBuf>,
    /// Replace a prefix of this name.
    pub force: bool,
    /// A tree: a repository, or a folder of some.
    pub tree: Option<PathBuf>,
    /// Repositories by name.
    pub repos: Vec<RepoArgument>,
    /// Further repositories, which name themselves.
    pub overlays: Vec<PathBuf>,
    /// The profile, if not the built-in one: a directory, or a path below a repository's profiles.
    pub profile: Option<String>,
    /// USE flags.
    pub use_flags: Vec<UseFlags>,
    /// The place of shared binary packages.
    pub binhost: Option<Binhost>,
    /// Words of FEATURES.
    pub features: Vec<Feature>,
    /// Paths of the machine that builds see besides its programs.
    pub sandbox_paths: Vec<PathBuf>,
    /// A folder of package.use, package.mask, patches and their like.
    pub package_config: Option<PathBuf>,
}

/// A set-up of which all preconditions hold.
pub(crate) struct SetupPlan {
    prefix: Prefix,
    compiler: Compiler,
    imports: Vec<Import>,
    wrapper_dir: PathBuf,
    replace: Option<Prefix>,
    /// An existing prefix is brought up to date.
    update: bool,
    package_config: PackageConfig,
    /// The board's own root directory, if the C library comes from there.
    sysroot: Option<PathBuf>,
    /// Why it does not, where there is one.
    missing: Option<String>,
    /// Build tools that the machine lacks, and PyPI has.
    tools: Vec<String>,
}

impl SetupPlan {
    /// Checks a request against this machine and what is on disk, and plans the set-up.
    pub(crate) fn new(home: &Home, request: &SetupRequest) -> Result<Self> {
        let board = match &request.board {
            Some(name) => name.board()?,
            None => Board::of_this_machine()?,
        };
        let id = PrefixId::new(&request.name, &board);
        let machine = Machine::detect_running();
        let existing = find_existing(home, &id)?;
        // A set-up that was cut short goes on where it was.
        let defaults = match &existing {
            Some(prefix) if !request.force => {
                (prefix.definition.staging.clone(), prefix.definition.r#final.clone())
            }
            _ => home.default_dirs(&id, machine),
        };
        let staging = absolute(request.staging_dir.as_ref().unwrap_or(&defaults.0))?;
        let r#final = absolute(request.final_dir.as_ref().unwrap_or(&defaults.1))?;
        check_apart(home, &id, &staging, &r#final)?;
        check_owners(&id, [&staging, &r#final])?;
        let wrappers = match &existing {
            Some(prefix) => {
                if !request.force {
                    check_existing(prefix, request, [&staging, &r#final])?;
                }
                prefix.definition.wrappers.clone()
            }
            None => Vec::new(),
        };
        let tree = tree_of(request, machine)?;
        let has_tree = !tree.is_empty();
        let repos = repositories(request, tree)?;
        let package_config = PackageConfig::read(request.package_config.as_deref(), &repos)?;
        let definition = Definition {
            profile: profile(request, has_tree, &repos, &board)?,
            package_config: package_config.source(),
            eprefix: request.eprefix.clone(),
            relocatable: request.relocatable,
            distdir: absolute(request.distdir.as_ref().unwrap_or(&home.default_distdir(machine)))?,
            use_flags: request.use_flags.iter().map(|flags| flags.as_str().to_owned()).collect(),
            binhost: request.binhost.as_ref().map(check_binhost).transpose()?,
            binhost_key: None,
            without_staging: false,
            pkgdir: None,
            features: request.features.iter().map(|f| f.as_str().to_owned()).collect(),
            sandbox_paths: request.sandbox_paths.clone(),
            compiler: None,
            wrappers,
            data: data::stamp()?,
            rewriting: REWRITING,
            repos_before: None,
            complete: false,
            id,
            staging,
            r#final,
            machine,
            repos,
        };
        let mut prefix = Prefix::new(home, definition)?;
        for environment in [Environment::Staging, Environment::Final] {
            place(prefix.layout.eprefix_of(environment).as_path())?;
        }
        if request.relocatable {
            Eprefix::canonical().check_room(&request.eprefix)?;
        }
        check_machine(&prefix)?;
        let compiler = Compiler::find(&board)?;
        let (sysroot, missing) = Sysroot::find(machine, &board, &compiler)?;
        let imports = toolchain::plan(&compiler, &board, sysroot.as_ref())?;
        if let Some(existing) = existing.as_ref().filter(|_| !request.force) {
            check_outdated(existing, &compiler, &imports)?;
        }
        let sysroot = sysroot.map(|sysroot| sysroot.dir().to_owned());
        prefix.definition.compiler = Some(compiler.clone());
        let prefix = share(prefix, home, &imports)?;
        check_features(&request.features)?;
        let before = prefix.definition.wrappers.first().and_then(|wrapper| wrapper.parent());
        let wrapper_dir = match (&request.wrapper_dir, before) {
            (Some(dir), _) => absolute(dir)?,
            (None, Some(before)) => before.to_owned(),
            (None, None) => wrappers::default_dir(machine)?,
        };
        wrappers::check(&prefix, &wrapper_dir)?;
        check_writable(&prefix, &wrapper_dir)?;
        let update = existing.is_some() && !request.force;
        let replace = existing.filter(|_| request.force);
        Ok(Self {
            tools: broot::to_fetch(&prefix)?,
            prefix,
            compiler,
            imports,
            wrapper_dir,
            replace,
            update,
            package_config,
            sysroot,
            missing,
        })
    }

    /// The prefix as it will be.
    pub(crate) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Returns the packages that the toolchain becomes.
    pub(crate) fn toolchain(&self) -> Result<Vec<Cpv>> {
        let cpv = |import: &Import| format!("{}-{}", import.package, import.version).parse();
        self.imports.iter().map(cpv).collect()
    }

    /// Describes the steps, a line each.
    pub(crate) fn describe(&self) -> Result<Vec<String>> {
        let definition = &self.prefix.definition;
        let mut lines = Vec::new();
        lines.extend(self.package_config.notes().map(str::to_owned));
        if self.replace.is_some() {
            lines.push(format!("remove the prefix {} that is there", definition.id));
        }
        if !self.prefix.portage.is_there() {
            lines.push("fetch Portage from PyPI".to_owned());
        }
        lines.extend(self.tools.iter().map(|tool| format!("fetch {tool} from PyPI")));
        for repo in &definition.repos {
            if let Some(path) = &repo.path {
                lines.push(format!("take ebuilds of {} from {}", repo.name, path.escaped()));
            }
        }
        if definition.repos.iter().any(|repo| repo.path.is_some()) {
            lines.push(format!("build by the profile {}", definition.profile));
        }
        lines.push(format!("make staging at {}", definition.staging.escaped()));
        lines.push(format!("make final at {}", definition.r#final.escaped()));
        lines.extend(self.missing.clone());
        if let Some(dir) = &self.sysroot {
            lines.push(format!("take the C library of the board from {}", dir.escaped()));
        }
        lines.extend(self.toolchain()?.iter().map(|package| format!("import {package}")));
        lines.push(format!("write wrappers to {}", self.wrapper_dir.escaped()));
        Ok(lines)
    }

    /// Carries the plan out.
    pub(crate) fn apply(mut self, reporter: &Reporter) -> Result<Prefix> {
        let lock = self.begin(reporter)?;
        broot::fetch(&self.prefix, reporter)?;
        if let Err(error) = prove_nesting() {
            reporter.warn(&hint::render_error(&error));
        }
        if let Some(missing) = &self.missing {
            reporter.warn(missing);
        }
        if let Some(warning) = self.prefix.warn_of_binhost()? {
            reporter.warn(&warning);
        }
        reporter.step(&match &self.sysroot {
            Some(dir) => {
                format!("importing the toolchain, with the C library of {}", dir.escaped())
            }
            None => "importing the toolchain".to_owned(),
        });
        self.write_files()?;
        self.write_toolchain_repo(&self.imports)?;
        reporter.step("installing the toolchain's packages into staging");
        self.install_seeds(Environment::Staging, reporter)?;
        reporter.step("installing the runtime into final");
        // PKGDIR may have a newer one: the machine may have gone back to an older toolchain.
        follow_staging(&self.prefix)?;
        self.install_seeds(Environment::Final, reporter)?;
        self.prefix.definition.wrappers = wrappers::write(&self.prefix, &self.wrapper_dir)?;
        self.prefix.definition.complete = true;
        self.prefix.save_after_flush()?;
        drop(lock);
        Ok(self.prefix)
    }

    /// Makes the directories of the prefix, and its record, which is not complete. Returns its lock.
    fn begin(&mut self, reporter: &Reporter) -> Result<Lock> {
        if let Some(old) = self.replace.take() {
            reporter.step(&format!("removing the prefix {} that is there", old.definition.id));
            remove(&old)?;
        }
        for note in self.package_config.notes() {
            reporter.detail(note);
        }
        sudo::make_directories(&self.prefix)?;
        // The lock is in staging. Nothing else is written before it is held.
        self.mark(Environment::Staging)?;
        let what = format!("fprefix setup {}", self.prefix.definition.id.name);
        let lock = self.prefix.lock(&what, &Busy::Fail)?;
        self.mark(Environment::Final)?;
        self.prefix.save()?;
        if !self.prefix.portage.is_there() {
            reporter.step("fetching Portage from PyPI");
            self.prefix.portage.fetch(reporter)?;
        }
        Ok(lock)
    }

    fn mark(&self, environment: Environment) -> Result<()> {
        let (dir, id) = (self.prefix.layout.dir(environment), &self.prefix.definition.id);
        if owner(dir)? == Owner::Prefix(id.clone()) {
            return Ok(());
        }
        layout::mark(dir, id, environment)
    }

    /// Installs the packages that every prefix starts with. In one that is brought up to date, what
    /// came from the toolchain is installed anew.
    fn install_seeds(&self, environment: Environment, reporter: &Reporter) -> Result<()> {
        let installed = vdb::packages(&self.prefix.layout.vdb(environment))?;
        let is_installed = |import: &&Import| {
            self.update && installed.iter().any(|cpv| cpv.is_of(&import.package))
        };
        let again: Vec<_> = self.imports.iter().filter(is_installed).collect();
        if !again.is_empty() {
            let packages: Vec<String> =
                again.into_iter().map(|import| import.package.clone()).collect();
            // Shared binary packages may be of the toolchain that was there before.
            let exclude = format!("--usepkg-exclude={}", packages.join(" "));
            let options: &[&str] = match environment {
                Environment::Staging => &[&exclude],
                Environment::Final => &[],
            };
            install(&self.prefix, environment, options, packages, reporter)?;
        }
        install_first(&self.prefix, environment, reporter)
    }
}

/// Installs the packages that every prefix starts with into an environment.
fn install_first(prefix: &Prefix, environment: Environment, reporter: &Reporter) -> Result<()> {
    install(prefix, environment, &["--noreplace"], first_packages(environment)?, reporter)
}

fn install(
    prefix: &Prefix,
    environment: Environment,
    options: &[&str],
    packages: Vec<String>,
    reporter: &Reporter,
) -> Result<()> {
    let sandbox = Sandbox::open(prefix)?;
    let log = prefix.layout.logs(environment).join("setup.log");
    let bar = reporter.spinner();
    let follower = Phases::start(prefix, environment)?.follow(&bar, *reporter);
    let purpose = format!("install the first packages into {environment}");
    let result = sandbox
        .portage(environment, "emerge", &purpose)?
        .args(["--oneshot", "--quiet", "--color=n", "--jobs=2"])
        // As long as there is no virtual/libc, Portage does not know for its own the dependency on
        // libc that it wrote into shared packages, and would build them anew.
        .args((environment == Environment::Staging).then_some("--binpkg-changed-deps=n"))
        .args(options)
        .args(packages)
        .run_logged(&log);
    drop(follower);
    bar.finish_and_clear();
    result?;
    if let Some(Binhost::Uri(uri)) = &prefix.definition.binhost
        && let Some(line) = binhost::find_fetch_error(&input::read_end(&log)?)
    {
        reporter.warn(&format!(
            "nothing can be had from the binhost {uri} now: {line}; what would come from there is \
             built"
        ));
    }
    Ok(())
}

/// The prefix with its part of a binhost.
fn share(mut prefix: Prefix, home: &Home, imports: &[Import]) -> Result<Prefix> {
    let definition = &mut prefix.definition;
    let toolchain: Vec<(String, String)> =
        imports.iter().map(|import| (import.package.clone(), import.version.clone())).collect();
    let built_for = prefix.layout.eprefix_of(Environment::Staging);
    let key = binhost::key(&prefix.board, &toolchain, built_for);
    if let Some(Binhost::Directory(dir)) = &definition.binhost {
        definition.pkgdir = Some(dir.join(&key));
    }
    definition.binhost_key = Some(key);
    Prefix::new(home, prefix.definition)
}

/// The packages that an environment starts with: those that profiles/ adds to its @system. A real
/// tree's profile has more in there, which prefixes do without.
fn first_packages(environment: Environment) -> Result<Vec<String>> {
    let text = data::text(Folder::Profiles, &format!("{environment}/packages"))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix('*')).map(str::to_owned).collect())
}
