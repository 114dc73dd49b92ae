use anyhow::Result;
use clap::Args;

use crate::base::escape::Escape;
use crate::base::lock::Busy;
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::prefix::setup::{self, FinalLeftovers};

/// Install final anew, from the binary packages of what staging has
///
/// Nothing is built. What packages left that are gone, and what was put into final by hand, is not
/// in the new one; what was installed with --oneshot, and nothing needs, is not either. Final stays
/// as it is until the new one is complete.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix renew --dry-run
  fprefix -P my-prefix renew")]
pub(super) struct RenewArgs {
    /// List what final has that no package owns, and the packages that it has had, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl RenewArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let prefix = context.prefix()?;
        if self.dry_run {
            let leftovers = FinalLeftovers::find(&prefix)?;
            let gone = leftovers.gone.iter().map(|package| format!("gone: {package}\n"));
            let unowned = leftovers.unowned.iter();
            let unowned = unowned.map(|path| format!("of no package: {}\n", path.escaped()));
            output::answer(&gone.chain(unowned).collect::<String>())?;
            return Ok(DONE);
        }
        let tell = |text: &str| context.reporter.step(text);
        let _lock = prefix.lock("fprefix renew", &Busy::Wait(&tell))?;
        // Whoever held the lock may have set it up anew, or removed it.
        let prefix = context.prefix()?;
        let code = setup::renew_final(&prefix, &context.reporter)?;
        if code == DONE {
            context.reporter.step("final is new");
        }
        Ok(code)
    }
}
