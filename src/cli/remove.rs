use std::io::{BufRead, IsTerminal};

use anyhow::{Result, bail};
use clap::Args;

use crate::base::escape::Escape;
use crate::cli::{Context, DONE, FAILED};
use crate::prefix::definition::PrefixChoice;
use crate::prefix::setup;

/// Remove a prefix: its environments, wrappers, and definition
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix remove my-prefix --dry-run
  fprefix remove my-prefix-arm64-usr --yes")]
pub(super) struct RemoveArgs {
    /// The prefix: NAME, or NAME-BOARD
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Say what would be removed, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl RemoveArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let prefix = PrefixChoice { name: Some(self.name) }.find_any(&context.home)?;
        let definition = &prefix.definition;
        let what = format!(
            "{}: {}, {} and {} wrappers",
            definition.id,
            definition.staging.escaped(),
            definition.r#final.escaped(),
            definition.wrappers.len()
        );
        if self.dry_run {
            context.reporter.step(&format!("would remove {what}"));
            return Ok(DONE);
        }
        if !self.yes && !confirmed(&what)? {
            context.reporter.step("nothing was removed");
            return Ok(FAILED);
        }
        setup::remove(&prefix)?;
        context.reporter.step(&format!("removed {what}"));
        Ok(DONE)
    }
}

fn confirmed(what: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this would remove {what}; say --yes to do it");
    }
    crate::base::output::answer(&format!("Remove {what}? [y/N] "))?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
