use anyhow::Result;
use clap::{Args, CommandFactory};

use crate::base::lock::Busy;
use crate::cli::{Context, DONE};
use crate::prefix::emerge::{self, EmergeTarget};

/// Build packages in staging, and install what they need at run time into final
///
/// Takes everything that emerge(1) takes. Output and exit status are emerge's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix emerge app-misc/jq net-misc/socat
  fprefix -P my-prefix emerge --pretend --verbose app-misc/jq
  fprefix emerge --stage net-misc/socat")]
pub(super) struct EmergeArgs {
    /// Build in staging, do not install into final
    #[arg(long, conflicts_with = "install")]
    stage: bool,
    /// Do not build; install into final what was built before
    #[arg(long)]
    install: bool,
    /// Arguments for emerge: options, packages, sets
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "EMERGE ARGUMENTS")]
    args: Vec<String>,
}

impl EmergeArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if self.args.is_empty() {
            let mut command = crate::cli::Cli::command();
            command.build();
            if let Some(command) = command.find_subcommand_mut("emerge") {
                command.print_help()?;
            }
            return Ok(DONE);
        }
        let target = match (self.stage, self.install) {
            (true, _) => EmergeTarget::Stage,
            (_, true) => EmergeTarget::Install,
            _ => EmergeTarget::Both,
        };
        let prefix = context.prefix()?;
        let what = format!("fprefix emerge {}", self.args.join(" "));
        let tell = |text: &str| context.reporter.step(text);
        let _lock = prefix.lock(&what, &Busy::Wait(&tell))?;
        // Whoever held the lock may have set it up anew, or removed it.
        let prefix = context.prefix()?;
        if target != EmergeTarget::Install {
            prefix.require_staging()?;
        }
        if target != EmergeTarget::Install
            && let Some(warning) = prefix.warn_of_binhost()?
        {
            context.reporter.warn(&warning);
        }
        emerge::answer(&prefix, target, &self.args, &context.reporter)
    }
}
