//! Checks of a request, before anything is written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::files;
use crate::base::inside::PROFILES;
use crate::base::names::{Feature, PrefixId};
use crate::host::home::Home;
use crate::host::machine::{self, Machine};
use crate::host::toolchain::{Compiler, Import};
use crate::host::tools::{self, ExternalTool};
use crate::portage::binhost::Binhost;
use crate::portage::repos;
use crate::prefix::definition::{Prefix, PrefixRepo};
use crate::prefix::environment::prove_bubblewrap;
use crate::prefix::layout::{Owner, owner};
use crate::prefix::setup::SetupRequest;

pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        bail!("an empty path was given");
    }
    let path = std::path::absolute(path)
        .with_context(|| format!("could not make {} absolute", path.escaped()))?;
    // What exists is named by its real path, so that two spellings cannot hide one place.
    let (ancestor, rest) = files::existing_ancestor(&path);
    let mut real = fs_err::canonicalize(&ancestor)?;
    if !rest.as_os_str().is_empty() && !real.is_dir() {
        bail!("{} cannot be made: {} is not a directory", path.escaped(), ancestor.escaped());
    }
    for part in rest.components() {
        if matches!(part, std::path::Component::ParentDir) {
            bail!("{} has .. in it behind a directory that does not exist", path.escaped());
        }
        real.push(part);
    }
    Ok(real)
}

/// Refuses environments inside each other, and those in which something else would be that must
/// not go with them.
pub(super) fn check_apart(
    home: &Home,
    id: &PrefixId,
    staging: &Path,
    r#final: &Path,
) -> Result<()> {
    if staging.starts_with(r#final) || r#final.starts_with(staging) {
        bail!(
            "staging and final have to be apart: {} and {}",
            staging.escaped(),
            r#final.escaped()
        );
    }
    for kept in [home.prefix(id), home.portage(), home.distfiles()] {
        let kept = absolute(&kept)?;
        if let Some(dir) = [staging, r#final].into_iter().find(|dir| kept.starts_with(dir)) {
            bail!(
                "{} cannot be an environment: fprefix keeps {} in it, which belongs to more than \
                 that",
                dir.escaped(),
                kept.escaped()
            );
        }
    }
    Ok(())
}

/// Refuses directories that belong to another prefix or to no prefix.
pub(super) fn check_owners(id: &PrefixId, dirs: [&Path; 2]) -> Result<()> {
    for dir in dirs {
        match owner(dir)? {
            Owner::Nobody => {}
            Owner::Prefix(other) if other == *id => {}
            Owner::Prefix(other) => bail!(
                "{} belongs to the prefix {other}\n\
                 hint: remove that one with `fprefix remove {other}`, \
                 or name another directory",
                dir.escaped()
            ),
            Owner::Stranger => bail!(
                "{} has something in it that is not of fprefix, and is left alone\n\
                 hint: name another \
                 directory with --staging-dir or --final-dir",
                dir.escaped()
            ),
        }
    }
    Ok(())
}

/// The prefix of this name, if there is one already, complete or not.
pub(super) fn find_existing(home: &Home, id: &PrefixId) -> Result<Option<Prefix>> {
    if !home.prefix(id).join("prefix.toml").exists() {
        return Ok(None);
    }
    Prefix::load(home, id).map(Some)
}

/// Refuses to go on with a prefix, or to bring it up to date, as something else.
pub(super) fn check_existing(
    prefix: &Prefix,
    request: &SetupRequest,
    dirs: [&Path; 2],
) -> Result<()> {
    let definition = &prefix.definition;
    let id = &definition.id;
    let wanted = (&request.eprefix, request.relocatable);
    if (&definition.eprefix, definition.relocatable) != wanted
        || [&definition.staging, &definition.r#final] != dirs
    {
        if definition.complete && prefix.update_command()?.is_none() {
            return Err(is_there(prefix));
        }
        bail!(
            "{id} is a prefix for {} that is not finished or not up to date\n\
             hint: go on with `{}`, or \
             replace it with --force",
            definition.eprefix,
            definition.setup_command(&prefix.home, false)
        );
    }
    Ok(())
}

/// Refuses to set up once more what is whole, with packages in staging, and of this program and this machine's toolchain:
/// `compiler`, and what it imports.
pub(super) fn check_outdated(
    prefix: &Prefix,
    compiler: &Compiler,
    imports: &[Import],
) -> Result<()> {
    let definition = &prefix.definition;
    if !definition.complete || definition.without_staging || prefix.update_command()?.is_some() {
        return Ok(());
    }
    // Definitions that name no compiler are not of this program.
    let Some(before) = &definition.compiler else { return Err(is_there(prefix)) };
    let repository = prefix.layout.own_repos().join(repos::TOOLCHAIN);
    let mut is_same = before == compiler;
    for import in imports {
        is_same = is_same && import.is_in(&repository)?;
    }
    if is_same {
        return Err(is_there(prefix));
    }
    Ok(())
}

fn is_there(prefix: &Prefix) -> Error {
    let (definition, id) = (&prefix.definition, &prefix.definition.id);
    anyhow!(
        "the prefix {id} is there already, at {}\n\
         hint: build into it with `fprefix -P {id} emerge \
         ...`, start over with `{}`, or remove it with `fprefix remove {id}`",
        definition.eprefix,
        definition.setup_command(&prefix.home, true)
    )
}

/// The repositories of what `--tree` names, or the machine's own where nothing else was asked for;
/// there may be none.
pub(super) fn tree(request: &SetupRequest, machine: Machine) -> Result<Vec<(String, PathBuf)>> {
    if let Some(tree) = &request.tree {
        return repos::repositories_of_tree(&absolute(tree)?);
    }
    if !request.repos.is_empty() {
        return Ok(Vec::new());
    }
    match machine {
        Machine::Sdk => repos::repositories_of_tree(&machine::sdk_third_party()),
        Machine::Gentoo => repos::repositories_of_machine(),
        Machine::Other => Ok(Vec::new()),
    }
}

/// All repositories, the main one first among those of the user. Priorities as Flatcar orders its
/// repositories: those of the tree, then what the user adds wins over what is built in, and the
/// toolchain over all.
pub(super) fn repositories(
    request: &SetupRequest,
    tree: Vec<(String, PathBuf)>,
) -> Result<Vec<PrefixRepo>> {
    let mut named = tree;
    for repo in &request.repos {
        named.push(resolve_repository(&repo.path, Some(&repo.name))?);
    }
    for overlay in &request.overlays {
        named.push(resolve_repository(overlay, None)?);
    }
    let all = with_priorities(named)?;
    if let Some((repo, path, master)) = missing_master(&all)? {
        bail!(
            "the repository {repo} at {} builds upon {master} (masters in its \
             metadata/layout.conf), which was not given\n\
              hint: add it with --repo {master}=PATH, or name \
             the folder of both with --tree",
            path.escaped()
        );
    }
    Ok(all)
}

/// The name of the repository at `path`, which may be `expected`, and where that really is.
pub(super) fn resolve_repository(path: &Path, expected: Option<&str>) -> Result<(String, PathBuf)> {
    let path = absolute(path)?;
    let name = repos::name_of(&path)?;
    if let Some(expected) = expected.filter(|expected| *expected != name) {
        bail!("the repository at {} is called {name}, not {expected}", path.escaped());
    }
    Ok((name, path))
}

/// The repositories that the user gave, in their order, with those that every prefix has.
pub(super) fn with_priorities(named: Vec<(String, PathBuf)>) -> Result<Vec<PrefixRepo>> {
    let mut all = vec![
        PrefixRepo { name: repos::BUILT_IN.into(), path: None, priority: -100 },
        PrefixRepo { name: repos::TOOLCHAIN.into(), path: None, priority: 10_000 },
    ];
    for (position, (name, path)) in named.into_iter().enumerate() {
        if let Some(other) = all.iter().find(|repo| repo.name == name) {
            let place = other.path.as_ref().map_or("built in".into(), |p| p.escaped().to_string());
            bail!("two repositories are called {name}: {} ({place})", path.escaped());
        }
        let priority = i32::try_from(position).unwrap_or(i32::MAX - 1).saturating_add(1);
        all.push(PrefixRepo { name, path: Some(path), priority });
    }
    Ok(all)
}

/// A repository that builds upon one that is not there, with its place and the name of that one:
/// its ebuilds would miss eclasses.
pub(super) fn missing_master(all: &[PrefixRepo]) -> Result<Option<(String, PathBuf, String)>> {
    for repo in all {
        let Some(path) = &repo.path else { continue };
        for master in repos::masters_of(path)? {
            if !all.iter().any(|other| other.name == master) {
                return Ok(Some((repo.name.clone(), path.clone(), master)));
            }
        }
    }
    Ok(None)
}

/// Refuses a definition of which the profile builds upon what its repositories do not have.
pub(super) fn check_profile(profile: &str, all: &[PrefixRepo]) -> Result<()> {
    for repo in all {
        let Some(path) = &repo.path else { continue };
        if let Ok(below) = Path::new(profile).strip_prefix(repos::inside(&repo.name)) {
            return repos::check_profile(&path.join(below), &|wanted| place_of(wanted, all));
        }
    }
    Ok(())
}

fn place_of(wanted: &str, all: &[PrefixRepo]) -> Option<PathBuf> {
    all.iter().find(|repo| repo.name == wanted)?.path.clone()
}

/// The profile as make.profile names it in the sandbox.
pub(super) fn profile(
    request: &SetupRequest,
    has_tree: bool,
    all: &[PrefixRepo],
    board: &Board,
) -> Result<String> {
    let located = match (&request.profile, has_tree) {
        (Some(wanted), _) => named_profile(wanted, all, board)?,
        (None, true) => {
            let main = all.iter().find_map(|repo| Some((repo.name.as_str(), repo.path.as_ref()?)));
            let (name, path) = main.context("the tree has no repository")?;
            (
                name.to_owned(),
                path.clone(),
                Path::new("profiles").join(repos::profile_for_board(path, board)?),
            )
        }
        (None, false) => return Ok(PROFILES.join("portage").join(&board.arch).to_string()),
    };
    let (name, path, below) = located;
    repos::check_profile(&path.join(&below), &|wanted| place_of(wanted, all))?;
    Ok(repos::inside(&name).join(below).to_string())
}

/// The repository of the profile that the user named, where that is, and the profile in it.
fn named_profile(
    wanted: &str,
    all: &[PrefixRepo],
    board: &Board,
) -> Result<(String, PathBuf, PathBuf)> {
    for repo in all {
        let Some(path) = &repo.path else { continue };
        let below = match Path::new(wanted).strip_prefix(path) {
            Ok(rest) => rest.to_owned(),
            Err(_) if Path::new(wanted).is_absolute() => continue,
            Err(_) => Path::new("profiles").join(wanted),
        };
        let climbs = below.components().any(|part| part == std::path::Component::ParentDir);
        if !climbs && repos::is_profile(&path.join(&below)) {
            return Ok((repo.name.clone(), path.clone(), below));
        }
    }
    let fitting: Vec<String> = all
        .iter()
        .filter_map(|repo| repos::profile_for_board(repo.path.as_ref()?, board).ok())
        .map(|profile| profile.escaped().to_string())
        .collect();
    let hint = match fitting.as_slice() {
        [] => String::new(),
        fitting => format!("; for prefixes on {} there is {}", board.name, fitting.join(", ")),
    };
    bail!("there is no profile {wanted:?} in any of the repositories that were given{hint}")
}

/// Checks that the machine has the programs and the namespaces that building needs.
pub(super) fn check_machine(prefix: &Prefix) -> Result<()> {
    prove_bubblewrap()?;
    tools::BASH.require()?;
    tools::MAKE.require()?;
    if prefix.definition.machine != Machine::Other {
        if !prefix.portage.is_there() {
            bail!("this looks like {}, and there is no emerge", prefix.definition.machine);
        }
        return Ok(());
    }
    tools::SCANELF.require()?;
    if !prefix.portage.is_there() {
        tools::PYTHON_VENV.require()?;
    }
    Ok(())
}

/// A binhost as it is recorded. A directory has to be there: a name that was mistyped would share
/// nothing with anybody.
pub(super) fn check_binhost(binhost: &Binhost) -> Result<Binhost> {
    let Binhost::Directory(path) = binhost else { return Ok(binhost.clone()) };
    let path = absolute(path)?;
    if !path.is_dir() {
        bail!(
            "there is no directory {}\nhint: make it, or mount it, to share binary packages there",
            path.escaped()
        );
    }
    let writable = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(&path, writable).with_context(|| {
        format!("binary packages cannot go to {}: no permission", path.escaped())
    })?;
    Ok(Binhost::Directory(path))
}

/// The programs that some of Portage's features are made of.
pub(super) const MASQUERADES: &[(&str, ExternalTool)] =
    &[("ccache", tools::CCACHE), ("distcc", tools::DISTCC)];

/// Refuses features of which the program is not there: Portage would go on without.
pub(super) fn check_features(features: &[Feature]) -> Result<()> {
    for (name, tool) in MASQUERADES {
        if features.iter().any(|feature| feature.as_str() == *name) {
            tool.require()?;
        }
    }
    Ok(())
}

/// Checks that the directories that setup writes to are writable.
pub(super) fn check_writable(prefix: &Prefix, wrapper_dir: &Path) -> Result<()> {
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
                dir.escaped()
            );
        }
        let (ancestor, _) = files::existing_ancestor(dir);
        if !ancestor.is_dir() {
            bail!("{} cannot be made: {} is not a directory", dir.escaped(), ancestor.escaped());
        }
        if definition.machine == Machine::Sdk && tools::SUDO.find().is_some() {
            continue;
        }
        rustix::fs::access(&ancestor, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .with_context(|| {
            format!("{} cannot be written: no permission in {}", dir.escaped(), ancestor.escaped())
        })?;
    }
    Ok(())
}
