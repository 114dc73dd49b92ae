use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::board::Board;
use crate::base::names::{Eprefix, Feature, PrefixName, RepoArgument, UseFlags};
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::portage::binhost::Binhost;
use crate::prefix::definition::{self, PrefixChoice};
use crate::prefix::setup::{self, SetupPlan, SetupRequest};

/// Create a prefix: staging, final, and the wrappers
///
/// Finds out what kind of machine this is, fetches Portage where there is none, brings the
/// compiler's C library, headers and runtime into the prefix as packages, and writes Portage's
/// configuration and the scripts emerge-prefix-NAME-BOARD and TOOL-prefix-NAME-BOARD.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix setup my-prefix /usr/local/my-stuff
  fprefix setup my-prefix /usr/local/my-stuff --board arm64-usr
  fprefix setup my-prefix /usr/local/my-stuff --tree ~/flatcar/scripts")]
pub(super) struct Setup {
    /// The prefix's name: letters, digits, and - _ . +
    name: PrefixName,
    /// The path that it has on every machine that runs its programs, below /usr or /opt
    #[arg(required_unless_present = "uninstall")]
    eprefix: Option<Eprefix>,
    /// The board to build for: amd64-usr or arm64-usr [default: this machine's]
    #[arg(long)]
    board: Option<String>,
    /// Directory for staging
    #[arg(long, alias = "staging_dir", value_name = "DIR")]
    staging_dir: Option<PathBuf>,
    /// Directory for final
    #[arg(long, alias = "final_dir", value_name = "DIR")]
    final_dir: Option<PathBuf>,
    /// Directory for the wrappers [default: /usr/local/bin for root, else ~/.local/bin]
    #[arg(long, value_name = "DIR")]
    wrapper_dir: Option<PathBuf>,
    /// Directory for sources (DISTDIR) [default: shared by all prefixes]
    #[arg(long, value_name = "DIR")]
    distdir: Option<PathBuf>,
    /// Replace the prefix of this name, if there is one
    #[arg(long)]
    force: bool,
    /// An ebuild tree: Gentoo's repository, or a checkout of flatcar/scripts or its `third_party`
    /// folder; the profile for the board is found in it
    #[arg(long, value_name = "PATH")]
    tree: Option<PathBuf>,
    /// An ebuild repository by its name; the first one given is the main one, without --tree
    #[arg(long = "repo", value_name = "NAME=PATH")]
    repos: Vec<RepoArgument>,
    /// An ebuild repository to add; later ones win
    #[arg(long = "overlay", value_name = "PATH")]
    overlays: Vec<PathBuf>,
    /// The profile: a directory, or its path below profiles/ of a repository
    #[arg(long)]
    profile: Option<String>,
    /// USE flags for all packages, as in make.conf
    #[arg(long = "use", value_name = "FLAGS", allow_hyphen_values = true)]
    use_flags: Vec<UseFlags>,
    /// Share binary packages: a directory that others use too, or the URI of a binhost
    ///
    /// Each kind of prefix has its own part of it, by CHOST, toolchain and EPREFIX: what one prefix
    /// built, the next one of the same EPREFIX takes. Packages go to a directory, not to a URI.
    #[arg(long, value_name = "URI|PATH")]
    binhost: Option<Binhost>,
    /// A word of Portage's FEATURES, like ccache, distcc, binpkg-signing. Can be given several times
    #[arg(long = "feature", value_name = "FEATURE", allow_hyphen_values = true)]
    features: Vec<Feature>,
    /// A folder of package.use, package.mask, package.env, env, patches and their like, as below
    /// /etc/portage
    #[arg(long, value_name = "DIR")]
    package_config: Option<PathBuf>,
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
        // clap sees to it that one is there.
        let Some(eprefix) = self.eprefix.clone().filter(|_| !self.uninstall) else {
            return self.uninstall(context);
        };
        if let Some(obstacle) = eprefix.sysext_obstacle() {
            context.reporter.warn(&obstacle);
        }
        let dry_run = self.dry_run;
        let plan = SetupPlan::new(&context.home, &self.into_request(eprefix))?;
        if dry_run {
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
        let board = match &self.board {
            Some(name) => Board::named(name)?,
            None => Board::of_this_machine()?,
        };
        let id = definition::id(&self.name, &board).to_string();
        let prefix = PrefixChoice { name: Some(id.clone()) }.find_any(&context.home)?;
        if self.dry_run {
            context.reporter.step(&format!("would remove {id}"));
            return Ok(DONE);
        }
        setup::remove(&prefix)?;
        context.reporter.step(&format!("removed {id}"));
        Ok(DONE)
    }

    fn into_request(self, eprefix: Eprefix) -> SetupRequest {
        SetupRequest {
            name: self.name,
            eprefix,
            board: self.board,
            staging_dir: self.staging_dir,
            final_dir: self.final_dir,
            wrapper_dir: self.wrapper_dir,
            distdir: self.distdir,
            force: self.force,
            tree: self.tree,
            repos: self.repos,
            overlays: self.overlays,
            profile: self.profile,
            use_flags: self.use_flags,
            binhost: self.binhost,
            features: self.features,
            package_config: self.package_config,
        }
    }
}
