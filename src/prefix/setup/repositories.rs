//! Changing the repositories of a prefix that is there.
//!
//! The files are those that setup would have written for the new list. The definition has both lists
//! while that goes on, and nobody builds then: a change that was cut short is ended by the next one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::lock::{Busy, Lock};
use crate::base::names::{Environment, RepoPlace};
use crate::base::output::Reporter;
use crate::host::machine::Machine;
use crate::portage::cpv::Cpv;
use crate::portage::{repos, vdb};
use crate::prefix::broot;
use crate::prefix::definition::{Definition, Prefix, PrefixRepo};
use crate::prefix::setup::checkout::{Checkout, CheckoutState};
use crate::prefix::setup::files::write_repositories;
use crate::prefix::setup::package_config::PackageConfig;
use crate::prefix::setup::preflight::{
    check_profile, missing_master, resolve_repository, with_priorities,
};

/// The result of adding a repository.
#[derive(Debug)]
pub(crate) struct Added {
    /// The repository.
    pub repo: PrefixRepo,
    /// It was not there before.
    pub is_new: bool,
}

/// The result of removing a repository.
#[derive(Debug)]
pub(crate) struct Removed {
    /// The packages that were built from it and stay installed, and what they are installed in.
    pub packages: Vec<(Cpv, &'static str)>,
}

/// A checkout that was brought up to date.
#[derive(Debug)]
pub(crate) struct Synced {
    /// The repositories in it.
    pub names: Vec<String>,
    /// The commit that it was at.
    pub from: String,
    /// The commit that it is at.
    pub to: String,
}

/// Adds the repository that `wanted` names to a prefix; it wins over those that are there. One that
/// was moved on disk since it was added keeps its rank.
pub(crate) fn add_repository(
    prefix: &Prefix,
    wanted: &RepoPlace,
    reporter: &Reporter,
) -> Result<Added> {
    let (name, path) = resolve_repository(&wanted.path, wanted.name.as_deref())?;
    let planned = |definition: &Definition| -> Result<Option<Vec<PrefixRepo>>> {
        let there = |repo: &PrefixRepo| repo.name == name && repo.path.as_ref() == Some(&path);
        if definition.repos.iter().any(there) {
            return Ok(None);
        }
        let mut named = list_user_repos(&definition.repos);
        match named.iter_mut().find(|(other, place)| *other == name && !place.is_dir()) {
            Some((_, place)) => place.clone_from(&path),
            None => named.push((name.clone(), path.clone())),
        }
        let all = with_priorities(named)?;
        if let Some((repo, path, master)) = missing_master(&all)? {
            bail!(
                "the repository {repo} at {} builds upon {master} (masters in its \
                 metadata/layout.conf), which {} does not have\n\
                  hint: add that first, with `fprefix repo \
                 add {master}=PATH`",
                path.escaped(),
                definition.id
            );
        }
        check(definition, &all)?;
        Ok(Some(all))
    };
    planned(&prefix.definition)?;
    let (mut prefix, lock) = hold(prefix, &format!("fprefix repo add {name}"))?;
    let all = planned(&prefix.definition)?;
    let is_new = all.is_some();
    if let Some(all) = all {
        change(&mut prefix, all, reporter)?;
    }
    drop(lock);
    let repo = prefix.definition.repos.into_iter().find(|repo| repo.name == name);
    Ok(Added { repo: repo.context("the repository was not added")?, is_new })
}

/// Removes the repository `name` from a prefix; what is in it stays as it is.
pub(crate) fn remove_repository(
    prefix: &Prefix,
    name: &str,
    reporter: &Reporter,
) -> Result<Removed> {
    // A removal that was cut short has it among those before.
    let unsettled = prefix.definition.repos_before.as_deref().unwrap_or_default();
    let is_going = unsettled.iter().any(|repo| repo.name == name)
        && !prefix.definition.repos.iter().any(|repo| repo.name == name);
    if !is_going {
        remove_repo(&prefix.definition, name)?;
    }
    let (mut prefix, lock) = hold(prefix, &format!("fprefix repo remove {name}"))?;
    if !is_going {
        let all = remove_repo(&prefix.definition, name)?;
        change(&mut prefix, all, reporter)?;
    }
    let packages = built_from(&prefix, name)?;
    drop(lock);
    Ok(Removed { packages })
}

/// Updates the checkout of the repository `name`, or all that the user owns, and the configuration
/// that depends on them. Reports how to update the others.
pub(crate) fn sync(
    prefix: &Prefix,
    name: Option<&str>,
    reporter: &Reporter,
) -> Result<Vec<Synced>> {
    checkouts(&prefix.definition, name)?;
    let (prefix, lock) = hold(prefix, "fprefix repo sync")?;
    let (checkouts, others) = checkouts(&prefix.definition, name)?;
    for other in others {
        reporter.step(&other);
    }
    let mut synced = Vec::new();
    for (checkout, names) in checkouts {
        reporter.step(&format!("pulling {}", checkout.top().escaped()));
        let (from, to) = pull(&prefix, &checkout, reporter)?;
        synced.push(Synced { names, from, to });
    }
    drop(lock);
    Ok(synced)
}

/// Takes the lock of a prefix, and ends a change that was cut short.
fn hold(prefix: &Prefix, what: &str) -> Result<(Prefix, Lock)> {
    if let Some(update) = prefix.update_command()? {
        bail!(
            "{} was set up by another version of fprefix\n\
             hint: bring it up to date first: `{update}`",
            prefix.definition.id
        );
    }
    let lock = prefix.lock(what, &Busy::Fail)?;
    // Whoever held it may have changed the prefix.
    let mut prefix = Prefix::load(&prefix.home, &prefix.definition.id)?;
    if !prefix.definition.complete {
        bail!("the prefix {} was changed meanwhile\nhint: try again", prefix.definition.id);
    }
    finish_change(&mut prefix)?;
    Ok((prefix, lock))
}

fn change(prefix: &mut Prefix, all: Vec<PrefixRepo>, reporter: &Reporter) -> Result<()> {
    for note in config(&prefix.definition, &all)?.notes() {
        reporter.detail(note);
    }
    let before = std::mem::replace(&mut prefix.definition.repos, all);
    prefix.definition.repos_before = Some(before);
    prefix.save()?;
    broot::fetch(prefix, reporter)?;
    finish_change(prefix)
}

/// Ends a change of the repositories that the definition tells of.
fn finish_change(prefix: &mut Prefix) -> Result<()> {
    let Some(before) = prefix.definition.repos_before.clone() else { return Ok(()) };
    let before = config(&prefix.definition, &before)?;
    let after = config(&prefix.definition, &prefix.definition.repos)?;
    write_repositories(prefix, &before, &after)?;
    broot::write_tools(prefix)?;
    prefix.definition.repos_before = None;
    prefix.save_after_flush()
}

/// Reads the configuration that the repositories `all` and the user's folder add to etc/portage.
fn config(definition: &Definition, all: &[PrefixRepo]) -> Result<PackageConfig> {
    PackageConfig::read(definition.package_config.as_deref(), all)
}

/// Refuses repositories with which the prefix could not build.
fn check(definition: &Definition, all: &[PrefixRepo]) -> Result<()> {
    check_profile(&definition.profile, all)?;
    config(definition, all).map(drop)
}

/// The repositories that the user gave, in their order.
fn list_user_repos(all: &[PrefixRepo]) -> Vec<(String, PathBuf)> {
    all.iter().filter_map(|repo| Some((repo.name.clone(), repo.path.clone()?))).collect()
}

fn find<'d>(definition: &'d Definition, name: &str) -> Result<&'d PrefixRepo> {
    definition.repos.iter().find(|repo| repo.name == name).with_context(|| {
        let names: Vec<&str> = definition.repos.iter().map(|repo| repo.name.as_str()).collect();
        format!("{} has no repository {name:?}; it has {}", definition.id, names.join(", "))
    })
}

/// The repositories of a prefix without the one called `name`, if it can do without.
fn remove_repo(definition: &Definition, name: &str) -> Result<Vec<PrefixRepo>> {
    if find(definition, name)?.path.is_none() {
        bail!("the repository {name} comes with fprefix, and every prefix needs it");
    }
    let mut named = list_user_repos(&definition.repos);
    named.retain(|(other, _)| other != name);
    for (other, path) in &named {
        if repos::masters_of(path)?.iter().any(|master| master == name) {
            bail!("the repository {other} builds upon {name}\nhint: remove {other} first");
        }
    }
    if Path::new(&definition.profile).starts_with(repos::inside(name)) {
        bail!(
            "the profile {} is from the repository {name}\n\
             hint: set the prefix up with another one to \
             do without it",
            definition.profile
        );
    }
    if definition.main_repo() == name && !named.is_empty() {
        bail!(
            "{name} is the main repository, which the others take eclasses and licences from\n\
             hint: set the prefix up with another one to do without it"
        );
    }
    let all = with_priorities(named)?;
    check(definition, &all)
        .with_context(|| format!("{} cannot do without {name}", definition.id))?;
    Ok(all)
}

fn built_from(prefix: &Prefix, name: &str) -> Result<Vec<(Cpv, &'static str)>> {
    let layout = &prefix.layout;
    let mut packages = Vec::new();
    for (place, vdb) in [
        ("staging", layout.vdb(Environment::Staging)),
        ("final", layout.vdb(Environment::Final)),
        ("BROOT", layout.broot().join(vdb::BELOW_EROOT)),
    ] {
        let from = vdb::from_repository(&vdb, name)?;
        packages.extend(from.into_iter().map(|package| (package, place)));
    }
    Ok(packages)
}

/// Checkouts with the repositories in each, and how other repositories are brought up to date.
type Checkouts = (Vec<(Checkout, Vec<String>)>, Vec<String>);

/// The checkouts to pull: that of the repository `name`, which has to be one, or all.
fn checkouts(definition: &Definition, name: Option<&str>) -> Result<Checkouts> {
    let mut named = list_user_repos(&definition.repos);
    if let Some(name) = name {
        if find(definition, name)?.path.is_none() {
            bail!("the repository {name} comes with fprefix, and is as new as that");
        }
        named.retain(|(other, _)| other == name);
    }
    let of_machine = match definition.machine {
        Machine::Gentoo => repos::repositories_of_machine()?,
        Machine::Sdk | Machine::Other => Vec::new(),
    };
    let mut found: Vec<(Checkout, Vec<String>)> = Vec::new();
    let mut others = Vec::new();
    for (repo, path) in named {
        if of_machine.iter().any(|(_, place)| *place == path) {
            others.push(format!(
                "{repo} at {} is the machine's own, whose Portage brings it up to date: `emaint \
                 sync --repo {repo}`",
                path.escaped()
            ));
            continue;
        }
        match CheckoutState::detect(&path)? {
            CheckoutState::Own(checkout) => {
                match found.iter_mut().find(|(other, _)| other.top() == checkout.top()) {
                    Some((_, repos)) => repos.push(repo),
                    None => found.push((checkout, vec![repo])),
                }
            }
            CheckoutState::OfAnotherUser(top) => others.push(format!(
                "{repo} is in a checkout of another user, who brings it up to date: `git -C {} \
                 pull --ff-only`",
                top.escaped()
            )),
            CheckoutState::None => others.push(format!(
                "{repo} at {} is no git checkout; whatever brought it there brings it up to date, \
                 and the next build takes it as it is",
                path.escaped()
            )),
        }
    }
    if let (Some(_), Some(other)) = (name, others.first()) {
        bail!("{other}");
    }
    for (checkout, _) in &found {
        checkout.check()?;
    }
    Ok((found, others))
}

/// Pulls a checkout; one with which the prefix could not build any more goes back to what it was.
fn pull(prefix: &Prefix, checkout: &Checkout, reporter: &Reporter) -> Result<(String, String)> {
    let definition = &prefix.definition;
    let before = config(definition, &definition.repos)?;
    let from = checkout.commit()?;
    checkout.pull()?;
    let to = checkout.commit()?;
    if let Err(error) = still_fits(definition) {
        checkout.go_back(&from)?;
        return Err(error.context(format!(
            "{} fits the prefix no more at {to}, and is at {from} again",
            checkout.top().escaped()
        )));
    }
    let after = config(definition, &definition.repos)?;
    for note in after.notes() {
        reporter.detail(note);
    }
    write_repositories(prefix, &before, &after)?;
    Ok((from, to))
}

/// Refuses repositories on disk that are not any more what the definition says.
fn still_fits(definition: &Definition) -> Result<()> {
    for (name, path) in list_user_repos(&definition.repos) {
        resolve_repository(&path, Some(&name))?;
    }
    if let Some((repo, _, master)) = missing_master(&definition.repos)? {
        bail!("the repository {repo} builds upon {master} now, which the prefix does not have");
    }
    check(definition, &definition.repos)
}
