//! A prefix as it was set up: its definition file, and the prefix opened from disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::base::board::Board;
use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::lock::{self, Busy, Lock};
use crate::base::names::{Environment, Eprefix, PrefixId, PrefixName};
use crate::base::{data, files, publish};
use crate::host::home::Home;
use crate::host::machine::Machine;
use crate::host::toolchain::Compiler;
use crate::portage::binhost::{self, Binhost};
use crate::portage::installation::Portage;
use crate::portage::repos;
use crate::prefix::layout::{Owner, PrefixLayout, owner};

/// The file of a definition.
const FILE: &str = "prefix.toml";

/// Goes up by one when rewriting begins to make something else of files, so that prefixes from
/// before are known.
pub const REWRITING: u32 = 2;

/// The time that builds take for now, in seconds since 1970: 2000-01-01. No source is that old, so
/// what has this time says nothing of when it was built.
pub const BUILD_EPOCH: u64 = 946_684_800;

/// An ebuild repository in Portage's configuration of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixRepo {
    /// The name in its `profiles/repo_name`.
    pub name: String,
    /// The directory on disk; `None` for repositories that fprefix writes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Portage prefers the higher one.
    pub priority: i32,
}

/// The record that setup keeps of a prefix.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// Which prefix this is.
    pub id: PrefixId,
    /// EPREFIX.
    pub eprefix: Eprefix,
    /// Packages are built for [`Eprefix::canonical`], and relocated as they are merged into final.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relocatable: bool,
    /// The directory of staging.
    pub staging: PathBuf,
    /// The directory of final.
    pub r#final: PathBuf,
    /// The kind of machine that it was set up on.
    pub machine: Machine,
    /// The profile, as `make.profile` has it: a path in the sandbox.
    pub profile: String,
    /// USE flags that the user gave.
    #[serde(default)]
    pub use_flags: Vec<String>,
    /// The folder of package.use and its like that the user gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_config: Option<PathBuf>,
    /// The repositories; the first that the user gave is the main one.
    pub repos: Vec<PrefixRepo>,
    /// The repositories that there were before a change of them that has not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repos_before: Option<Vec<PrefixRepo>>,
    /// DISTDIR.
    pub distdir: PathBuf,
    /// The place of shared binary packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binhost: Option<Binhost>,
    /// The part of a binhost that is for this kind of prefix, see [`crate::portage::binhost::key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binhost_key: Option<PathBuf>,
    /// Staging has no packages: all that final has came from the binhost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_staging: bool,
    /// PKGDIR, if it is shared with other prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkgdir: Option<PathBuf>,
    /// FEATURES that the user gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Paths of the machine that builds see besides its programs, as the user gave them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sandbox_paths: Vec<PathBuf>,
    /// The compiler that it was set up with.
    #[serde(default)]
    pub compiler: Option<Compiler>,
    /// The scripts that were written for it.
    #[serde(default)]
    pub wrappers: Vec<PathBuf>,
    /// The digest of the built-in data that was written out, see [`crate::base::data::stamp`].
    #[serde(default)]
    pub data: String,
    /// The version of rewriting that made its files, see [`REWRITING`].
    #[serde(default)]
    pub rewriting: u32,
    /// Setup was completed.
    #[serde(default)]
    pub complete: bool,
}

/// USE flags that prefixes start with, as Flatcar's `setup_prefix` sets them.
const USE: &str = "-desktop -installkernel -llvm -nls -openmp -udev -wayland -X";

impl Definition {
    /// The name of the main repository, as Portage calls it.
    pub fn main_repo(&self) -> &str {
        let repos: Vec<_> = self
            .repos
            .iter()
            .filter_map(|repo| Some((repo.name.as_str(), repo.path.as_deref()?)))
            .collect();
        repos::find_main(&repos).unwrap_or(repos::BUILT_IN)
    }

    /// USE of the prefix: what prefixes start with, then what the user gave.
    pub fn use_flags(&self) -> String {
        [&[USE.to_owned()], self.use_flags.as_slice()].concat().join(" ")
    }

    /// The command that sets the prefix up as this one was, with --force to replace it.
    pub fn setup_command(&self, home: &Home, force: bool) -> String {
        let mut words: Vec<OsString> = vec!["setup".into()];
        words.extend(force.then(|| "--force".into()));
        words.extend(self.relocatable.then(|| "--relocatable".into()));
        if Board::of_this_machine().is_ok_and(|board| board.name != self.id.board) {
            words.extend(["--board".into(), self.id.board.clone().into()]);
        }
        let defaults = home.default_dirs(&self.id, self.machine);
        for (option, dir, default) in [
            ("--staging-dir", &self.staging, &defaults.0),
            ("--final-dir", &self.r#final, &defaults.1),
            ("--distdir", &self.distdir, &home.default_distdir(self.machine)),
        ] {
            if std::path::absolute(default).ok().as_ref() != Some(dir) {
                words.extend([option.into(), dir.into()]);
            }
        }
        for repo in &self.repos {
            if let Some(path) = &repo.path {
                let mut argument = OsString::from(format!("{}=", repo.name));
                argument.push(path);
                words.extend(["--repo".into(), argument]);
                let below = repos::inside(&repo.name).join("profiles");
                if let Ok(profile) = Path::new(&self.profile).strip_prefix(below) {
                    words.extend(["--profile".into(), profile.into()]);
                }
            }
        }
        if let Some(binhost) = &self.binhost {
            words.extend(["--binhost".into(), String::from(binhost.clone()).into()]);
        }
        for feature in &self.features {
            words.extend([format!("--feature={feature}").into()]);
        }
        for path in &self.sandbox_paths {
            words.extend(["--sandbox-path".into(), path.into()]);
        }
        for flags in &self.use_flags {
            words.extend(["--use".into(), flags.into()]);
        }
        if let Some(dir) = &self.package_config {
            words.extend(["--package-config".into(), dir.into()]);
        }
        words.extend([self.id.name.as_str().into(), self.eprefix.as_str().into()]);
        Command::new("set a prefix up", "fprefix").args(words).to_string()
    }
}

/// A prefix that was set up.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// The record of its setup.
    pub definition: Definition,
    /// Its board.
    pub board: Board,
    /// Its paths on disk.
    pub layout: PrefixLayout,
    /// Which Portage works on it.
    pub portage: Portage,
    /// Whose home it is kept in.
    pub home: Home,
}

impl Prefix {
    /// The prefix that `definition` describes.
    pub fn new(home: &Home, definition: Definition) -> Result<Self> {
        Ok(Self {
            board: Board::find(&definition.id.board)?,
            layout: PrefixLayout::new(
                definition.staging.clone(),
                definition.r#final.clone(),
                definition.eprefix.clone(),
            )
            .relocatable(definition.relocatable)
            .with_pkgdir(definition.pkgdir.clone()),
            portage: Portage::locate(definition.machine, home)?,
            home: home.clone(),
            definition,
        })
    }

    /// Opens the prefix `id`, complete or not.
    pub fn load(home: &Home, id: &PrefixId) -> Result<Self> {
        Self::load_file(home, &home.prefix(id).join(FILE))
    }

    fn load_file(home: &Home, path: &Path) -> Result<Self> {
        let text = input::read_text(path, TEXT)?;
        let definition = toml::from_str(&text).with_context(|| {
            let dir = path.parent().unwrap_or(path).escaped();
            format!(
                "the definition {} cannot be read\nhint: mend it, or remove {dir}, and \
                     the prefix with it",
                path.escaped()
            )
        })?;
        Self::new(home, definition)
    }

    /// Opens a prefix that setup has completed, and whose environments are still there.
    pub fn open(home: &Home, choice: &PrefixChoice) -> Result<Self> {
        let prefix = Self::open_unsettled(home, choice)?;
        if prefix.definition.repos_before.is_some() {
            bail!(
                "a change of the repositories of {} did not come to its end\n\
                 hint: run the same `fprefix \
                 repo` again, or `fprefix -P {} repo sync`",
                prefix.definition.id,
                prefix.definition.id
            );
        }
        Ok(prefix)
    }

    /// The same, also where a change of its repositories was cut short: for whoever ends that.
    pub fn open_unsettled(home: &Home, choice: &PrefixChoice) -> Result<Self> {
        let prefix = choice.find(home)?;
        let id = &prefix.definition.id;
        if !prefix.definition.complete {
            bail!(
                "the set-up of {id} did not come to its end\n\
                 hint: run `{}` again, it goes on where it \
                 stopped",
                prefix.definition.setup_command(home, false)
            );
        }
        for environment in [Environment::Staging, Environment::Final] {
            let dir = prefix.layout.dir(environment);
            if owner(dir)? != Owner::Prefix(id.clone()) {
                bail!(
                    "{environment} of {id} is not at {} any more\n\
                     hint: put it back, or start again \
                     with `{}`",
                    dir.escaped(),
                    prefix.definition.setup_command(home, true)
                );
            }
        }
        Ok(prefix)
    }

    /// The command that brings the prefix up to date, if another version of fprefix made it.
    pub fn update_command(&self) -> Result<Option<String>> {
        let definition = &self.definition;
        let is_current = definition.rewriting == REWRITING
            && definition.data == data::stamp()?
            && definition.binhost_key.is_some();
        Ok((!is_current).then(|| definition.setup_command(&self.home, false)))
    }

    /// Fails if staging was never filled, since final came from the binhost.
    ///
    /// # Errors
    ///
    /// Fails with the command that fills it.
    pub fn require_staging(&self) -> Result<()> {
        if self.definition.without_staging {
            bail!(
                "staging of {} has no packages: all of final came from the binhost\n\
                 hint: fill it with `{}`",
                self.definition.id,
                self.definition.setup_command(&self.home, false)
            );
        }
        Ok(())
    }

    /// Writes the definition.
    pub fn save(&self) -> Result<()> {
        let text = toml::to_string_pretty(&self.definition)
            .context("a directory of the prefix has a name that is not UTF-8")?;
        let path = self.home.prefix(&self.definition.id).join(FILE);
        files::write_durably(&path, text.as_bytes())
    }

    /// Returns a warning if others on the network can put programs of their own into the prefix, by
    /// its binhost.
    pub(crate) fn warn_of_binhost(&self) -> Result<Option<String>> {
        let Some(binhost) = &self.definition.binhost else { return Ok(None) };
        let file = self.layout.config(Environment::Staging).join("make.conf.user");
        let user = if file.is_file() { input::read_text(&file, TEXT)? } else { String::new() };
        let caller = std::env::var("FEATURES").unwrap_or_default();
        let settings = [self.definition.features.join(" "), user, caller];
        let warning = format!(
            "packages of the binhost {binhost} are neither encrypted nor checked for a signature, so \
             whoever is on the way to it can put programs of their own into the prefix\n\
             hint: use https, or ask for signatures: FEATURES=\"${{FEATURES}} \
             binpkg-request-signature\" in make.conf.user of both environments ({}), with the \
             keys in {}",
            file.escaped(),
            self.layout.config(Environment::Staging).join("gnupg").escaped()
        );
        Ok(binhost::is_open(binhost, settings.iter().map(String::as_str)).then_some(warning))
    }

    /// Writes the definition, which says that the environments are whole, after their files are on the
    /// disk. They are thousands, so their filesystems are flushed instead of each of them.
    pub fn save_after_flush(&self) -> Result<()> {
        for environment in [Environment::Staging, Environment::Final] {
            publish::flush_filesystem(self.layout.dir(environment))?;
        }
        self.save()
    }

    /// Takes the lock of the prefix for `what`.
    pub fn lock(&self, what: &str, busy: &Busy<'_>) -> Result<Lock> {
        let marker = self.layout.marker(Environment::Staging);
        fs_err::create_dir_all(&marker)?;
        Lock::acquire(&lock::path_below(&marker), what, busy)
    }
}

/// Which prefix the user means.
#[derive(Clone, Debug, Default)]
pub struct PrefixChoice {
    /// The value of `-P` or `FPREFIX`: a name, or `<name>-<board>`.
    pub name: Option<String>,
}

impl PrefixChoice {
    fn find(&self, home: &Home) -> Result<Prefix> {
        let found = list_prefixes(home)?;
        let broken = found.broken;
        let mut all = found.prefixes;
        let names = |prefixes: &[Prefix]| {
            prefixes.iter().map(|p| p.definition.id.to_string()).collect::<Vec<_>>().join(", ")
        };
        let known = names(&all);
        let Some(wanted) = &self.name else {
            return match all.len() {
                // Without a name, a prefix that cannot be read may be the one that is meant.
                _ if !broken.is_empty() => Err(one_of(broken)),
                0 => bail!(
                    "there is no prefix yet\nhint: make one with `fprefix setup NAME EPREFIX`, for \
                     example `fprefix setup demo /usr/local/demo`"
                ),
                1 => Ok(all.remove(0)),
                _ => bail!("which prefix? Name it with -P NAME; there are {known}"),
            };
        };
        // The whole name wins: another prefix may be called what this one is with its board.
        if let Some(exact) = all.iter().position(|p| p.definition.id.to_string() == *wanted) {
            return Ok(all.swap_remove(exact));
        }
        all.retain(|prefix| prefix.definition.id.name.as_str() == wanted);
        match all.len() {
            0 if !broken.is_empty() => Err(one_of(broken)),
            0 if known.is_empty() => bail!("there is no prefix {wanted:?}, nor any other"),
            0 => bail!("there is no prefix {wanted:?}; there are {known}"),
            1 => Ok(all.remove(0)),
            _ => {
                bail!("{wanted:?} names several prefixes: {}\nhint: give one of these", names(&all))
            }
        }
    }

    /// The prefix, complete or not: for those who only look or remove.
    pub fn find_any(&self, home: &Home) -> Result<Prefix> {
        self.find(home)
    }
}

/// The prefixes of a home.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// Those that can be opened, by name.
    pub prefixes: Vec<Prefix>,
    /// The errors of those that cannot be opened.
    pub broken: Vec<Error>,
}

/// All prefixes of a home.
pub fn list_prefixes(home: &Home) -> Result<Prefixes> {
    let dir = home.prefixes();
    let mut all = Prefixes::default();
    if !dir.is_dir() {
        return Ok(all);
    }
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs_err::read_dir(&dir)? {
        let file = entry?.path().join(FILE);
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    for file in files {
        match Prefix::load_file(home, &file) {
            Ok(prefix) => all.prefixes.push(prefix),
            Err(error) => all.broken.push(error),
        }
    }
    Ok(all)
}

fn one_of(broken: Vec<Error>) -> Error {
    broken.into_iter().next().unwrap_or_else(|| anyhow!("a definition cannot be read"))
}

/// The name under which `-P` finds the prefix `name` on `board`, were it set up.
pub fn id(name: &PrefixName, board: &Board) -> PrefixId {
    PrefixId::new(name, board)
}
