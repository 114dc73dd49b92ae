//! `setup`: everything that a prefix needs before the first package is built.
//!
//! All that can be wrong with what was asked for is found before anything is written. After that
//! each step can be done again, so a set-up that was killed goes on when it is run again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::board::Board;
use crate::command::{Command, look_up};
use crate::data::{self, Folder};
use crate::definition::{Definition, Prefix, Repo};
use crate::environment::{Sandbox, place, prove_bubblewrap};
use crate::layout::{self, Environment, Home, Layout, Owner, PrefixId, owner};
use crate::lock::Busy;
use crate::machine::{self, Machine};
use crate::names::{Eprefix, PrefixName, RepoArgument, UseFlags};
use crate::output::Reporter;
use crate::phases::Phases;
use crate::toolchain::{self, Compiler, Import};
use crate::{broot, repos, template, tree, wrappers};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prefix's name.
    pub name: PrefixName,
    /// EPREFIX.
    pub eprefix: Eprefix,
    /// The board; this machine's when none is given.
    pub board: Option<String>,
    /// Where staging goes, if not to its default place.
    pub staging_dir: Option<PathBuf>,
    /// Where final goes, if not to its default place.
    pub final_dir: Option<PathBuf>,
    /// Where wrappers go, if not to their default place.
    pub wrapper_dir: Option<PathBuf>,
    /// DISTDIR, if not the default.
    pub distdir: Option<PathBuf>,
    /// Replace a prefix of this name.
    pub force: bool,
    /// Repositories by name.
    pub repos: Vec<RepoArgument>,
    /// Further repositories, which name themselves.
    pub overlays: Vec<PathBuf>,
    /// The profile, if not the built-in one: a directory, or a path below a repository's profiles.
    pub profile: Option<String>,
    /// USE flags.
    pub use_flags: Vec<UseFlags>,
}

/// A set-up of which all preconditions hold.
pub struct Plan {
    prefix: Prefix,
    compiler: Compiler,
    imports: Vec<Import>,
    wrapper_dir: PathBuf,
    replace: Option<Prefix>,
}

/// USE flags that prefixes start with, as Flatcar's `setup_prefix` sets them.
const USE: &str = "-desktop -installkernel -llvm -nls -openmp -udev -wayland -X";

impl Plan {
    /// Checks a request against this machine and what is on disk, and plans the set-up.
    pub fn new(home: &Home, request: &Request) -> Result<Self> {
        let board = match &request.board {
            Some(name) => Board::named(name)?,
            None => Board::of_this_machine()?,
        };
        let id = PrefixId::new(&request.name, &board);
        let machine = Machine::this();
        let existing = existing(home, &id)?;
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
                    check_existing(prefix, &request.eprefix, [&staging, &r#final])?;
                }
                prefix.definition.wrappers.clone()
            }
            None => Vec::new(),
        };
        let repos = repositories(request)?;
        let definition = Definition {
            profile: profile(request, &repos, &board)?,
            eprefix: request.eprefix.clone(),
            distdir: absolute(request.distdir.as_ref().unwrap_or(&home.distfiles()))?,
            use_flags: request.use_flags.iter().map(|flags| flags.as_str().to_owned()).collect(),
            compiler: None,
            wrappers,
            data: data::stamp()?,
            complete: false,
            id,
            staging,
            r#final,
            machine,
            repos,
        };
        let mut prefix = Prefix::new(home, definition)?;
        place(prefix.layout.eprefix().as_path())?;
        check_machine(&prefix)?;
        let compiler = Compiler::find(&board)?;
        let imports = toolchain::plan(&compiler, &board)?;
        prefix.definition.compiler = Some(compiler.clone());
        let wrapper_dir = match &request.wrapper_dir {
            Some(dir) => absolute(dir)?,
            None => wrappers::default_dir()?,
        };
        wrappers::check(&prefix, &wrapper_dir)?;
        check_writable(&prefix, &wrapper_dir)?;
        let replace = existing.filter(|_| request.force);
        Ok(Self { prefix, compiler, imports, wrapper_dir, replace })
    }

    /// The prefix as it will be.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// What will be done, a line a step.
    pub fn describe(&self) -> Vec<String> {
        let definition = &self.prefix.definition;
        let mut lines = Vec::new();
        if self.replace.is_some() {
            lines.push(format!("remove the prefix {} that is there", definition.id));
        }
        if !self.prefix.portage.is_there() {
            lines.push("fetch Portage from PyPI".to_owned());
        }
        lines.push(format!("make staging at {}", definition.staging.display()));
        lines.push(format!("make final at {}", definition.r#final.display()));
        lines.extend(
            self.imports
                .iter()
                .map(|import| format!("import {}-{}", import.package, import.version)),
        );
        lines.push(format!("write wrappers to {}", self.wrapper_dir.display()));
        lines
    }

    /// Carries the plan out.
    pub fn apply(mut self, reporter: &Reporter) -> Result<Prefix> {
        if let Some(old) = self.replace.take() {
            reporter.step(&format!("removing the prefix {} that is there", old.definition.id));
            remove(&old)?;
        }
        // The lock is in staging. Nothing else is written before it is ours.
        self.mark(Environment::Staging)?;
        let what = format!("fprefix setup {}", self.prefix.definition.id.name);
        let lock = self.prefix.lock(&what, &Busy::Fail)?;
        self.mark(Environment::Final)?;
        self.prefix.save()?;
        if !self.prefix.portage.is_there() {
            reporter.step("fetching Portage from PyPI");
            self.prefix.portage.fetch()?;
        }
        reporter.step("importing the toolchain");
        self.write_files()?;
        reporter.step("installing the toolchain's packages into staging");
        seed(&self.prefix, Environment::Staging, reporter)?;
        reporter.step("installing the runtime into final");
        seed(&self.prefix, Environment::Final, reporter)?;
        self.prefix.definition.wrappers = wrappers::write(&self.prefix, &self.wrapper_dir)?;
        self.prefix.definition.complete = true;
        self.prefix.save()?;
        drop(lock);
        Ok(self.prefix)
    }

    fn mark(&self, environment: Environment) -> Result<()> {
        let (dir, id) = (self.prefix.layout.dir(environment), &self.prefix.definition.id);
        if owner(dir)? == Owner::Prefix(id.clone()) {
            return Ok(());
        }
        layout::mark(dir, id, environment)
    }

    fn write_files(&self) -> Result<()> {
        let prefix = &self.prefix;
        let layout = &prefix.layout;
        for dir in
            [layout.pkgdir(), layout.own_repos(), layout.dir(Environment::Staging).join("cache")]
        {
            fs_err::create_dir_all(dir)?;
        }
        fs_err::create_dir_all(&prefix.definition.distdir)?;
        for environment in [Environment::Staging, Environment::Final] {
            fs_err::create_dir_all(layout.logs(environment))?;
            fs_err::create_dir_all(layout.tmp(environment))?;
            broot::lay_out(prefix, environment)?;
            write_config(prefix, environment)?;
            self.write_masks(environment)?;
        }
        write_data(prefix)?;
        self.write_toolchain_repo()?;
        broot::write(prefix, &self.compiler)
    }

    /// Keeps the toolchain of any tree away: the imported one is the one that programs are built
    /// with. The files stand in folders, where users can put more beside them.
    fn write_masks(&self, environment: Environment) -> Result<()> {
        let imported: Vec<&str> =
            self.imports.iter().map(|import| import.package.as_str()).collect();
        for name in ["package.mask", "package.unmask"] {
            let text = template::render(
                Folder::Templates,
                &format!("portage/{name}"),
                minijinja::context! { imported, repo => repos::TOOLCHAIN },
            )?;
            let file = self.prefix.layout.config(environment).join(name).join("fprefix");
            tree::write_atomically(&file, text.as_bytes())?;
        }
        Ok(())
    }

    fn write_toolchain_repo(&self) -> Result<()> {
        let repo = self.prefix.layout.own_repos().join(repos::TOOLCHAIN);
        tree::remove(&repo)?;
        let distdir = &self.prefix.definition.distdir;
        let unfinished = format!(".{}-", self.prefix.definition.id);
        remove_beginning(distdir, &unfinished)?;
        let mut categories: Vec<&str> = Vec::new();
        for import in &self.imports {
            let dir = repo.join(&import.package);
            let distfile = import.write_distfile(distdir, &unfinished)?;
            let ebuild = import.ebuild(&self.prefix.board, &distfile)?;
            let file = format!("{}-{}.ebuild", import.name(), import.version);
            tree::write_atomically(&dir.join(file), ebuild.as_bytes())?;
            tree::write_atomically(&dir.join("Manifest"), distfile.manifest.as_bytes())?;
            categories.extend(import.package.split_once('/').map(|(category, _)| category));
        }
        categories.dedup();
        let categories = categories.join("\n") + "\n";
        for (name, text) in [
            ("profiles/repo_name", format!("{}\n", repos::TOOLCHAIN)),
            ("profiles/eapi", "8\n".to_owned()),
            ("profiles/categories", categories),
            (
                "metadata/layout.conf",
                data::text(Folder::Templates, "toolchain/layout.conf")?.into(),
            ),
        ] {
            tree::write_atomically(&repo.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

/// Removes the files of `dir` whose names begin with `start`: a run that was killed left them.
fn remove_beginning(dir: &Path, start: &str) -> Result<()> {
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(start) {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        bail!("an empty path was given");
    }
    let path = std::path::absolute(path)
        .with_context(|| format!("could not make {} absolute", path.display()))?;
    // What exists is named by its real path, so that two spellings can not hide one place.
    let (ancestor, rest) = tree::existing_ancestor(&path);
    let mut real = fs_err::canonicalize(&ancestor)?;
    if !rest.as_os_str().is_empty() && !real.is_dir() {
        bail!("{} can not be made: {} is not a directory", path.display(), ancestor.display());
    }
    for part in rest.components() {
        if matches!(part, std::path::Component::ParentDir) {
            bail!("{} has .. in it behind a directory that does not exist", path.display());
        }
        real.push(part);
    }
    Ok(real)
}

/// Refuses environments inside each other, and those in which something else would be that must
/// not go with them.
fn check_apart(home: &Home, id: &PrefixId, staging: &Path, r#final: &Path) -> Result<()> {
    if staging.starts_with(r#final) || r#final.starts_with(staging) {
        bail!(
            "staging and final have to be apart: {} and {}",
            staging.display(),
            r#final.display()
        );
    }
    for kept in [home.prefix(id), home.portage(), home.distfiles()] {
        let kept = absolute(&kept)?;
        if let Some(dir) = [staging, r#final].into_iter().find(|dir| kept.starts_with(dir)) {
            bail!(
                "{} can not be an environment: fprefix keeps {} in it, which belongs to more than \
                 that",
                dir.display(),
                kept.display()
            );
        }
    }
    Ok(())
}

/// Refuses directories that are not ours.
fn check_owners(id: &PrefixId, dirs: [&Path; 2]) -> Result<()> {
    for dir in dirs {
        match owner(dir)? {
            Owner::Nobody => {}
            Owner::Prefix(other) if other == *id => {}
            Owner::Prefix(other) => bail!(
                "{} belongs to the prefix {other}; remove that one with `fprefix remove {other}`, \
                 or name another directory",
                dir.display()
            ),
            Owner::Stranger => bail!(
                "{} has something in it that is not of fprefix, and is left alone; name another \
                 directory with --staging-dir or --final-dir",
                dir.display()
            ),
        }
    }
    Ok(())
}

/// The prefix of this name, if there is one already, complete or not.
fn existing(home: &Home, id: &PrefixId) -> Result<Option<Prefix>> {
    if !home.prefix(id).join("prefix.toml").exists() {
        return Ok(None);
    }
    Prefix::load(home, id).map(Some)
}

/// Refuses to set up once more what is there, or to go on with what was cut short as something
/// else.
fn check_existing(prefix: &Prefix, eprefix: &Eprefix, dirs: [&Path; 2]) -> Result<()> {
    let definition = &prefix.definition;
    let id = &definition.id;
    if definition.complete {
        bail!(
            "the prefix {id} is there already, at {}; build into it with `fprefix -P {id} emerge \
             ...`, start over with `{}`, or remove it with `fprefix remove {id}`",
            definition.eprefix,
            definition.setup_command(&prefix.home, true)
        );
    }
    if definition.eprefix != *eprefix || [&definition.staging, &definition.r#final] != dirs {
        bail!(
            "a set-up of {id} for {} was cut short; finish it with `{}`, or replace it with \
             --force",
            definition.eprefix,
            definition.setup_command(&prefix.home, false)
        );
    }
    Ok(())
}

/// Priorities as Flatcar orders its repositories: what the user adds wins over what is built in,
/// and the toolchain over all.
fn repositories(request: &Request) -> Result<Vec<Repo>> {
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    for repo in &request.repos {
        let path = absolute(&repo.path)?;
        let name = repos::name_of(&path)?;
        if name != repo.name {
            bail!("the repository at {} is called {name}, not {}", path.display(), repo.name);
        }
        named.push((name, path));
    }
    for overlay in &request.overlays {
        let path = absolute(overlay)?;
        named.push((repos::name_of(&path)?, path));
    }
    let mut all = vec![
        Repo { name: repos::BUILT_IN.into(), path: None, priority: -100 },
        Repo { name: repos::TOOLCHAIN.into(), path: None, priority: 10_000 },
    ];
    for (position, (name, path)) in named.into_iter().enumerate() {
        if let Some(other) = all.iter().find(|repo| repo.name == name) {
            let place = other.path.as_ref().map_or("built in".into(), |p| p.display().to_string());
            bail!("two repositories are called {name}: {} ({place})", path.display());
        }
        let priority = i32::try_from(position).unwrap_or(i32::MAX - 1).saturating_add(1);
        all.push(Repo { name, path: Some(path), priority });
    }
    Ok(all)
}

/// The profile as make.profile names it in the sandbox.
fn profile(request: &Request, all: &[Repo], board: &Board) -> Result<String> {
    let Some(wanted) = &request.profile else {
        return Ok(format!("/fprefix/staging/profiles/portage/{}", board.arch));
    };
    for repo in all {
        let Some(path) = &repo.path else { continue };
        let below = match Path::new(wanted).strip_prefix(path) {
            Ok(rest) => rest.to_owned(),
            Err(_) if Path::new(wanted).is_absolute() => continue,
            Err(_) => Path::new("profiles").join(wanted),
        };
        let climbs = below.components().any(|part| part == std::path::Component::ParentDir);
        if !climbs && is_profile(&path.join(&below)) {
            let inside = repos::inside(&repo.name).join(below);
            return Ok(inside.display().to_string());
        }
    }
    bail!("there is no profile {wanted:?} in any of the repositories that were given")
}

/// Whether `dir` is a profile, and not a folder that holds some (PMS 5.2).
fn is_profile(dir: &Path) -> bool {
    ["parent", "make.defaults"].iter().any(|name| dir.join(name).is_file())
}

/// What the machine has to have, asked before anything is written.
fn check_machine(prefix: &Prefix) -> Result<()> {
    prove_bubblewrap()?;
    for (program, why) in
        [("bash", "ebuilds are written for it"), ("make", "packages are built with it")]
    {
        if look_up(program).is_none() {
            bail!("{program} is not there: {why}; `fprefix doctor` says how to install it");
        }
    }
    if prefix.definition.machine != Machine::Other {
        if !prefix.portage.is_there() {
            bail!("this looks like {}, and there is no emerge", prefix.definition.machine);
        }
        return Ok(());
    }
    if look_up("python3").is_none() {
        bail!("python3 is not there: Portage runs on it; `fprefix doctor` says how to install it");
    }
    if !prefix.portage.is_there() {
        Command::new("find Python's venv module", "python3")
            .pass("PATH")
            .args(["-c", "import venv, ensurepip"])
            .run_quiet()
            .context(
                "python3 needs the modules venv and ensurepip to keep Portage in a directory of \
                 its own (Debian: the package python3-venv)",
            )?;
    }
    Ok(())
}

/// Whether we may write where we will have to.
fn check_writable(prefix: &Prefix, wrapper_dir: &Path) -> Result<()> {
    let definition = &prefix.definition;
    for dir in [
        prefix.home.path(),
        &definition.staging,
        &definition.r#final,
        &definition.distdir,
        wrapper_dir,
    ] {
        if dir.to_str().is_none() {
            bail!(
                "{} has a name that is not UTF-8, which neither the definition nor the wrappers of \
                 a prefix can say",
                dir.display()
            );
        }
        let (ancestor, _) = tree::existing_ancestor(dir);
        if !ancestor.is_dir() {
            bail!("{} can not be made: {} is not a directory", dir.display(), ancestor.display());
        }
        rustix::fs::access(&ancestor, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .with_context(|| {
            format!("{} can not be written: no permission in {}", dir.display(), ancestor.display())
        })?;
    }
    Ok(())
}

fn write_data(prefix: &Prefix) -> Result<()> {
    let profiles = prefix.layout.profiles();
    let overlay = prefix.layout.own_repos().join(repos::BUILT_IN);
    for (folder, below, target) in
        [(Folder::Profiles, "portage", profiles.join("portage")), (Folder::Overlay, "", overlay)]
    {
        tree::remove(&target)?;
        data::write_out(folder, below, &target)?;
    }
    Ok(())
}

/// Writes the Portage configuration of an environment.
fn write_config(prefix: &Prefix, environment: Environment) -> Result<()> {
    let definition = &prefix.definition;
    let config = prefix.layout.config(environment);
    let write = |name: &str, values: minijinja::Value| -> Result<()> {
        let text = template::render(Folder::Templates, &format!("portage/{name}"), values)?;
        tree::write_atomically(&config.join(name), text.as_bytes())
    };
    let board = &prefix.board;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let use_flags = [USE.to_owned(), definition.use_flags.join(" ")].join(" ");
    let fetcher =
        if look_up("wget").is_none() && look_up("curl").is_some() { "curl" } else { "wget" };
    write(
        "make.conf",
        minijinja::context! {
            environment => environment.to_string(),
            name => definition.id.name.as_str(),
            chost => board.chost,
            cflags => board.cflags,
            keywords => board.keywords,
            makeopts => format!("-j{jobs}"),
            use_flags => use_flags.trim(),
            inside => Layout::inside(environment),
            fetcher,
            built_in_only => definition.repos.iter().all(|repo| repo.path.is_none()),
        },
    )?;
    let user = config.join("make.conf.user");
    if !user.exists() {
        write("make.conf.user", minijinja::context! {})?;
    }
    write("repos.conf", repos_conf(definition))?;
    write("bashrc", minijinja::context! { environment => environment.to_string() })?;
    write("mirrors", minijinja::context! { mirrors => mirrors() })?;
    let packages = data::text(Folder::Profiles, &format!("{environment}/packages"))?;
    tree::write_atomically(&config.join("profile/packages"), packages.as_bytes())?;
    tree::write_atomically(&config.join("profile/eapi"), b"8\n")?;
    tree::link(&definition.profile, &config.join("make.profile"))
}

fn repos_conf(definition: &Definition) -> minijinja::Value {
    let main = definition.repos.iter().find(|repo| repo.path.is_some());
    let main = main.map_or(repos::BUILT_IN, |repo| repo.name.as_str());
    let repos: Vec<_> = definition
        .repos
        .iter()
        .map(|repo| {
            minijinja::context! {
                name => repo.name,
                location => repos::inside(&repo.name),
                priority => repo.priority,
            }
        })
        .collect();
    minijinja::context! { main, repos }
}

/// Mirrors that the machine's package manager uses, by the name that ebuilds know them under.
fn mirrors() -> Vec<minijinja::Value> {
    let Some(apt) = look_up("apt-get") else { return Vec::new() };
    let format = "$(ORIGIN) $(LABEL) $(SITE)";
    let Ok(targets) = Command::new("ask apt for its mirrors", apt)
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .read()
    else {
        return Vec::new();
    };
    let mut urls: Vec<&str> =
        targets.lines().filter_map(|line| line.strip_prefix("Debian Debian ")).collect();
    urls.dedup();
    urls.into_iter().map(|url| minijinja::context! { name => "debian", url }).collect()
}

/// Installs the packages that every prefix starts with.
fn seed(prefix: &Prefix, environment: Environment, reporter: &Reporter) -> Result<()> {
    let sandbox = Sandbox::open(prefix)?;
    let log = prefix.layout.logs(environment).join("setup.log");
    let bar = reporter.spinner();
    let follower = Phases::begin(prefix)?.follow(&bar);
    let result = sandbox
        .portage(environment, "emerge", &format!("install the first packages into {environment}"))
        .args(["--oneshot", "--noreplace", "--quiet", "--color=n", "--jobs=2"])
        .args(first_packages(environment)?)
        .run_logged(&log);
    drop(follower);
    bar.finish_and_clear();
    result
}

/// The packages that an environment starts with: those that profiles/ adds to its @system. A real
/// tree's profile has more in there, which prefixes do without.
fn first_packages(environment: Environment) -> Result<Vec<String>> {
    let text = data::text(Folder::Profiles, &format!("{environment}/packages"))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix('*')).map(str::to_owned).collect())
}

/// Removes a prefix: its environments where they carry its marker, its wrappers, its definition.
pub fn remove(prefix: &Prefix) -> Result<()> {
    let id = &prefix.definition.id;
    for environment in [Environment::Staging, Environment::Final] {
        let dir = prefix.layout.dir(environment);
        match owner(dir)? {
            Owner::Prefix(other) if other == *id => {}
            Owner::Nobody => {}
            _ => bail!("{} does not carry the marker of {id} and is left alone", dir.display()),
        }
    }
    let lock = prefix.lock(&format!("fprefix remove {id}"), &Busy::Fail)?;
    // Should this be cut short, nobody takes what is left for a prefix that is whole.
    let mut half = prefix.clone();
    half.definition.complete = false;
    half.save()?;
    wrappers::remove(prefix)?;
    for environment in [Environment::Final, Environment::Staging] {
        let dir = prefix.layout.dir(environment);
        remove_contents(dir)?;
    }
    drop(lock);
    tree::remove(&prefix.home.prefix(id))
}

/// Removes all that is in an environment's directory, its marker last: should this be cut short,
/// what is left is still known to be ours.
fn remove_contents(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    // What carries the marker is removed where it is, should somebody have put a link to it here.
    let real = fs_err::canonicalize(dir)?;
    for entry in fs_err::read_dir(&real)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != ".fprefix") {
            if path.is_dir() && !path.is_symlink() {
                tree::remove(&path)?;
            } else {
                fs_err::remove_file(&path)?;
            }
        }
    }
    tree::remove(&real)?;
    tree::remove(dir)
}

/// Whether what setup would remove or write needs root that we are not.
pub fn needs_root(prefix: &Prefix) -> bool {
    prefix.definition.machine == Machine::Sdk && !machine::is_root()
}
