use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::escape::Escape;
use crate::base::names::RepoPlace;
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::portage::repos;
use crate::prefix::definition::Prefix;
use crate::prefix::setup;

/// List and change the ebuild repositories of a prefix
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix repo list
  fprefix repo add ~/my-overlay")]
pub(super) struct RepoArgs {
    #[command(subcommand)]
    command: RepoCommand,
}

#[derive(Debug, Subcommand)]
enum RepoCommand {
    List(ListRepos),
    Add(AddRepo),
    Remove(RemoveRepo),
    Sync(SyncRepos),
}

/// List the repositories, with their priorities and masters
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix repo list
  fprefix -P my-prefix repo list --json")]
struct ListRepos {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Add a repository, which wins over those that are there
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix repo add ~/my-overlay
  fprefix repo add my-overlay=/srv/overlays/mine")]
struct AddRepo {
    /// Directory of the repository; NAME must be the name that it gives itself
    #[arg(value_name = "[NAME=]PATH")]
    repo: RepoPlace,
}

/// Remove a repository from the prefix; its directory stays
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix repo remove my-overlay")]
struct RemoveRepo {
    /// The repository
    name: String,
}

/// Bring repositories that are git checkouts of yours up to date, as `git pull --ff-only` does
///
/// A checkout with which the prefix could not build any more, because its profile or a master is
/// gone, goes back to the commit that it was at.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix repo sync
  fprefix repo sync my-overlay")]
struct SyncRepos {
    /// The repository [default: all]
    name: Option<String>,
}

impl RepoArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        match self.command {
            RepoCommand::List(command) => command.run(context),
            RepoCommand::Add(command) => command.run(context),
            RepoCommand::Remove(command) => command.run(context),
            RepoCommand::Sync(command) => command.run(context),
        }
    }
}

fn open(context: &Context) -> Result<Prefix> {
    Prefix::open_unsettled(&context.home, &context.choice)
}

impl ListRepos {
    fn run(self, context: &Context) -> Result<u8> {
        let prefix = context.choice.find_any(&context.home)?;
        let definition = &prefix.definition;
        let mut rows = Vec::new();
        let mut text = String::new();
        let width = definition.repos.iter().map(|repo| repo.name.len()).max().unwrap_or_default();
        for repo in &definition.repos {
            let own = prefix.layout.own_repos().join(&repo.name);
            let path = repo.path.as_ref().unwrap_or(&own);
            let masters = repos::masters_of(path)?;
            let is_main = definition.main_repo() == repo.name;
            let main = if is_main { "main" } else { "" };
            let upon = match masters.as_slice() {
                [] => String::new(),
                masters => format!("  (masters: {})", masters.join(" ")),
            };
            let place = repo.path.as_ref().map_or("built in".into(), |p| p.escaped().to_string());
            text +=
                &format!("{:width$}  {:>5}  {main:4}  {place}{upon}\n", repo.name, repo.priority);
            rows.push(json!({
                "name": repo.name,
                "path": path.escaped().to_string(),
                "built_in": repo.path.is_none(),
                "priority": repo.priority,
                "masters": masters,
                "main": is_main,
            }));
        }
        if self.json {
            output::answer_json(&rows)?;
        } else {
            output::answer(&text)?;
        }
        Ok(DONE)
    }
}

impl AddRepo {
    fn run(self, context: &Context) -> Result<u8> {
        let prefix = open(context)?;
        let added = setup::add_repository(&prefix, &self.repo, &context.reporter)?;
        let (id, name) = (&prefix.definition.id, &added.repo.name);
        let what = if added.is_new { "takes" } else { "has" };
        let place = added.repo.path.map(|path| path.escaped().to_string()).unwrap_or_default();
        context.reporter.step(&format!("{id} {what} ebuilds of {name} from {place}"));
        Ok(DONE)
    }
}

impl RemoveRepo {
    fn run(self, context: &Context) -> Result<u8> {
        let prefix = open(context)?;
        let removed = setup::remove_repository(&prefix, &self.name, &context.reporter)?;
        let (id, name) = (&prefix.definition.id, &self.name);
        context.reporter.step(&format!("{id} takes no ebuilds of {name} any more"));
        if !removed.packages.is_empty() {
            context.reporter.warn(&format!("what was built from {name} stays installed:"));
            for (package, place) in removed.packages {
                output::answer(&format!("{package}  {place}\n"))?;
            }
        }
        Ok(DONE)
    }
}

impl SyncRepos {
    fn run(self, context: &Context) -> Result<u8> {
        let prefix = open(context)?;
        let synced = setup::sync(&prefix, self.name.as_deref(), &context.reporter)?;
        for checkout in synced {
            let names = checkout.names.join(", ");
            let said = if checkout.from == checkout.to {
                format!("{names}: up to date, at {}", checkout.to)
            } else {
                format!("{names}: {} is {} now", checkout.from, checkout.to)
            };
            context.reporter.step(&said);
        }
        Ok(DONE)
    }
}
