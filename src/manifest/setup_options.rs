//! Options of setup: one set for `fprefix setup` and the tables `[prefix]` and `[trees]` of
//! fprefix.toml.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::board::BoardName;
use crate::base::escape::Escape;
use crate::base::names::{Eprefix, Feature, PrefixName, RepoArgument};
use crate::manifest::origin::{OptionOrigin, Setting};
use crate::portage::binhost::Binhost;
use crate::portage::repos;
use crate::prefix::setup::SetupRequest;
use crate::sandbox::machine_view;

/// The prefix: its name and path, and where fprefix keeps it.
#[derive(Clone, Debug, Args, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "prefix")]
pub(crate) struct PrefixOptions {
    /// The prefix's name: letters, digits, and - _ . +
    pub name: PrefixName,
    /// The path that it has on every machine that runs its programs, below /usr or /opt
    #[arg(required_unless_present = "uninstall")]
    #[schemars(required)]
    pub eprefix: Option<Eprefix>,
    /// Build packages for any path: they are given the prefix's own as they are installed
    ///
    /// Binary packages then do not depend on the path, so a binhost has them once for all prefixes.
    /// The path may have at most 76 bytes.
    #[arg(long)]
    #[serde(default)]
    pub relocatable: bool,
    /// The board to build for: amd64-usr or arm64-usr [default: this machine's]
    #[arg(long)]
    pub board: Option<BoardName>,
    /// Directory for staging
    #[arg(long, alias = "staging_dir", value_name = "DIR")]
    pub staging_dir: Option<PathBuf>,
    /// Directory for final
    #[arg(long, alias = "final_dir", value_name = "DIR")]
    pub final_dir: Option<PathBuf>,
    /// Directory for the wrappers [default: /usr/local/bin for root, else ~/.local/bin]
    #[arg(long, value_name = "DIR")]
    pub wrapper_dir: Option<PathBuf>,
    /// Directory for sources (DISTDIR) [default: shared by all prefixes]
    #[arg(long, value_name = "DIR")]
    pub distdir: Option<PathBuf>,
    /// Share binary packages: a directory that others use too, or the URI of a binhost
    ///
    /// Each kind of prefix has its own part of it, by CHOST, toolchain and EPREFIX: what one prefix
    /// built, the next one of the same EPREFIX takes. Packages go to a directory, not to a URI.
    #[arg(long, value_name = "URI|PATH")]
    pub binhost: Option<Binhost>,
    /// A word of Portage's FEATURES, like ccache, distcc, binpkg-signing. Can be given several times
    #[arg(long = "feature", value_name = "FEATURE", allow_hyphen_values = true)]
    #[serde(default)]
    pub features: Vec<Feature>,
    /// A path of this machine that builds see, besides the directories of its programs: a compiler
    /// in /srv, for example. Can be given several times
    #[arg(long = "sandbox-path", value_name = "PATH")]
    #[serde(default)]
    pub sandbox_paths: Vec<PathBuf>,
}

/// Sources of ebuilds and of configuration for packages.
#[derive(Clone, Debug, Default, Args, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(title = "trees")]
pub(crate) struct TreeOptions {
    /// An ebuild tree: Gentoo's repository, or a checkout of flatcar/scripts or its `third_party`
    /// folder; the profile for the board is found in it
    #[arg(long, value_name = "PATH")]
    pub tree: Option<PathBuf>,
    /// An ebuild repository by its name; the first one given is the main one, without --tree
    #[arg(long = "repo", value_name = "NAME=PATH")]
    pub repos: Vec<RepoArgument>,
    /// An ebuild repository to add; later ones win
    #[arg(long = "overlay", value_name = "PATH")]
    pub overlays: Vec<PathBuf>,
    /// The profile: a directory, or its path below profiles/ of a repository
    #[arg(long)]
    pub profile: Option<String>,
    /// A folder of package.use, package.mask, package.env, env, patches and their like, as below
    /// /etc/portage
    #[arg(long, value_name = "DIR")]
    pub package_config: Option<PathBuf>,
}

/// All options of setup.
#[derive(Clone, Debug, Args)]
pub(crate) struct SetupOptions {
    /// The prefix.
    #[command(flatten)]
    pub prefix: PrefixOptions,
    /// Sources of ebuilds.
    #[command(flatten)]
    pub trees: TreeOptions,
}

impl SetupOptions {
    /// Makes the request for setup. The trees that it names must be there.
    ///
    /// # Errors
    ///
    /// Fails with the place of the value that cannot be used.
    pub(crate) fn resolve(self, origin: OptionOrigin<'_>) -> Result<SetupRequest> {
        let Self { prefix, trees } = self;
        let here = |path: Option<PathBuf>| path.map(|path| origin.resolve_path(&path));
        let eprefix = prefix.eprefix.context("a prefix needs a path: name it by eprefix");
        Ok(SetupRequest {
            eprefix: origin.locate(Setting::new("prefix", "eprefix"), eprefix)?,
            relocatable: prefix.relocatable,
            board: prefix.board,
            name: prefix.name,
            staging_dir: here(prefix.staging_dir),
            final_dir: here(prefix.final_dir),
            wrapper_dir: here(prefix.wrapper_dir),
            distdir: here(prefix.distdir),
            force: false,
            repos: origin.locate_each(Setting::new("trees", "repos"), &trees.repos, |repo| {
                let path = find_repository(origin, &repo.path, Some(&repo.name))?;
                Ok(RepoArgument { path, name: repo.name.clone() })
            })?,
            overlays: origin.locate_each(
                Setting::new("trees", "overlays"),
                &trees.overlays,
                |path| find_repository(origin, path, None),
            )?,
            tree: find_directory(origin, "tree", trees.tree)?,
            profile: trees.profile,
            package_config: find_directory(origin, "package-config", trees.package_config)?,
            use_flags: Vec::new(),
            binhost: prefix.binhost.map(|binhost| match binhost {
                Binhost::Directory(path) => Binhost::Directory(origin.resolve_path(&path)),
                uri @ Binhost::Uri(_) => uri,
            }),
            features: prefix.features,
            sandbox_paths: origin.locate_each(
                Setting::new("prefix", "sandbox-paths"),
                &prefix.sandbox_paths,
                |path| machine_view::check(&origin.resolve_path(path)),
            )?,
        })
    }
}

/// Returns the directory that the setting `key` of `trees` names.
fn find_directory(
    origin: OptionOrigin<'_>,
    key: &'static str,
    path: Option<PathBuf>,
) -> Result<Option<PathBuf>> {
    let Some(path) = path else { return Ok(None) };
    let found = || {
        ensure!(!path.as_os_str().is_empty(), "an empty path was given");
        let path = origin.resolve_path(&path);
        ensure!(path.is_dir(), "there is no directory {}", path.escaped());
        Ok(Some(path))
    };
    origin.locate(Setting::new("trees", key), found())
}

/// Returns the path of the repository at `path`. Fails if `name` is given and the repository has
/// another name.
fn find_repository(origin: OptionOrigin<'_>, path: &Path, name: Option<&str>) -> Result<PathBuf> {
    ensure!(!path.as_os_str().is_empty(), "an empty path was given");
    let path = origin.resolve_path(path);
    let own = repos::name_of(&path)?;
    if let Some(name) = name.filter(|name| *name != own) {
        bail!("the repository at {} is called {own}, not {name}", path.escaped());
    }
    Ok(path)
}
