use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::board::Board;
use crate::base::names::UseFlags;
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::manifest::origin::OptionOrigin;
use crate::manifest::setup_options::SetupOptions;
use crate::prefix::definition::{self, PrefixChoice};
use crate::prefix::setup::{self, SetupPlan, SetupRequest};

/// Create a prefix: staging, final, and the wrappers
///
/// Finds out what kind of machine this is, fetches Portage where there is none, brings the
/// compiler's C library, headers and runtime into the prefix as packages, and writes Portage's
/// configuration and the scripts emerge-prefix-NAME-BOARD and TOOL-prefix-NAME-BOARD.
///
/// On a prefix that is there, takes over what fprefix or the machine's compiler and C library have
/// become since. Packages stay installed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix setup my-prefix /usr/local/my-stuff
  fprefix setup my-prefix /usr/local/my-stuff --board arm64-usr
  fprefix setup my-prefix /usr/local/my-stuff --tree ~/flatcar/scripts")]
pub(super) struct Setup {
    #[command(flatten)]
    options: SetupOptions,
    /// Replace the prefix of this name, if there is one
    #[arg(long)]
    force: bool,
    /// USE flags for all packages, as in make.conf
    #[arg(long = "use", value_name = "FLAGS", allow_hyphen_values = true)]
    use_flags: Vec<UseFlags>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Remove the prefix of this name, as `setup_prefix` spells it; `fprefix remove` asks first
    #[arg(long)]
    uninstall: bool,
    /// Taken for the sake of those who know `setup_prefix`, and not needed
    #[arg(long, alias = "cross_boss_root", value_name = "DIR", hide = true)]
    cross_boss_root: Option<PathBuf>,
}

impl Setup {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if self.cross_boss_root.is_some() {
            context.reporter.warn(
                "cross-boss is not needed: the C library comes from the machine's toolchain, and \
                 packages are built at their real path",
            );
        }
        if self.uninstall {
            return self.uninstall(context);
        }
        let options = self.options.resolve(OptionOrigin::CommandLine)?;
        let request = SetupRequest { force: self.force, use_flags: self.use_flags, ..options };
        if let Some(obstacle) = request.eprefix.sysext_obstacle() {
            context.reporter.warn(&obstacle);
        }
        let plan = SetupPlan::new(&context.home, &request)?;
        if self.dry_run {
            output::answer(&(plan.describe()?.join("\n") + "\n"))?;
            return Ok(DONE);
        }
        let prefix = plan.apply(&context.reporter)?;
        let id = &prefix.definition.id;
        context.reporter.step(&format!(
            "{id} is ready; build into it with `fprefix -P {} emerge PACKAGE` or \
             `emerge-prefix-{id} PACKAGE`",
            id.name
        ));
        Ok(DONE)
    }

    fn uninstall(self, context: &Context) -> Result<u8> {
        let options = self.options.prefix;
        let board = match &options.board {
            Some(name) => name.board()?,
            None => Board::of_this_machine()?,
        };
        let id = definition::id(&options.name, &board).to_string();
        let prefix = PrefixChoice { name: Some(id.clone()) }.find_any(&context.home)?;
        if self.dry_run {
            context.reporter.step(&format!("would remove {id}"));
            return Ok(DONE);
        }
        setup::remove(&prefix)?;
        context.reporter.step(&format!("removed {id}"));
        Ok(DONE)
    }
}
