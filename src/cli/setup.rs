use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Context, DONE};
use crate::binhost::Binhost;
use crate::names::{Eprefix, Feature, PrefixName, RepoArgument, UseFlags};
use crate::output;
use crate::setup::{Plan, Request};

/// Create a prefix: staging, final, and the wrappers
///
/// Finds out what kind of machine this is, fetches Portage where there is none, brings the
/// compiler's C library, headers and runtime into the prefix as packages, and writes Portage's
/// configuration and the scripts emerge-prefix-NAME-BOARD and TOOL-prefix-NAME-BOARD.
#[derive(Debug, Args)]
pub struct Setup {
    /// The prefix's name: letters, digits, and - _ . +
    name: PrefixName,
    /// The path that it has on every machine that runs its programs, below /usr or /opt
    eprefix: Eprefix,
    /// The board to build for: amd64-usr or arm64-usr [default: this machine's]
    #[arg(long)]
    board: Option<String>,
    /// Where staging goes
    #[arg(long, alias = "staging_dir", value_name = "DIR")]
    staging_dir: Option<PathBuf>,
    /// Where final goes
    #[arg(long, alias = "final_dir", value_name = "DIR")]
    final_dir: Option<PathBuf>,
    /// Where the wrappers go [default: /usr/local/bin for root, else ~/.local/bin]
    #[arg(long, value_name = "DIR")]
    wrapper_dir: Option<PathBuf>,
    /// Where sources are kept [default: shared by all prefixes]
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
}

impl Setup {
    /// Runs the subcommand.
    pub fn run(self, context: &Context) -> Result<u8> {
        if let Some(obstacle) = self.eprefix.sysext_obstacle() {
            context.reporter.warn(&obstacle);
        }
        let dry_run = self.dry_run;
        let plan = Plan::new(&context.home, &self.into_request())?;
        if dry_run {
            output::answer(&(plan.describe().join("\n") + "\n"))?;
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

    fn into_request(self) -> Request {
        Request {
            name: self.name,
            eprefix: self.eprefix,
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
