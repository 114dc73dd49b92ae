//! A build file whose values have all been parsed and checked.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};
use toml::Spanned;

use crate::base::board::Board;
use crate::base::names::RepoArgument;
use crate::check;
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::Signing;
use crate::imagefmt::signing::pkcs11;
use crate::imagefmt::writer;
use crate::manifest::source::Source;
use crate::manifest::tables::{CheckTable, Emerge, PackTable, PrefixTable, Tables, Trees};
use crate::portage::atom::Atom;
use crate::portage::binhost::Binhost;
use crate::portage::repos;
use crate::prefix::setup;
use crate::sysext::base::Base;
use crate::sysext::expose::Expose;
use crate::sysext::mangle::Mangle;
use crate::sysext::prune::{Locale, PruneRules};
use crate::sysext::release::ReleaseField;
use crate::sysext::services::{StatePath, UnitName};
use crate::sysext::strip::StripOptions;
use crate::sysext::target::{TargetCheck, TargetRule};

/// Default name of a build file.
pub(crate) const FILE: &str = "fprefix.toml";

/// Error for a setting about a target if no target is named.
const NO_TARGET: &str =
    "this is about attaching to a target: name its root directory by target-root";

/// Values of a build file.
#[derive(Debug)]
pub(crate) struct BuildFile {
    /// Path of the file.
    pub path: PathBuf,
    /// The prefix and its trees.
    pub setup: setup::SetupRequest,
    /// Packages to build.
    pub packages: Vec<Atom>,
    /// Lines of package.use.
    pub package_use: Vec<String>,
    /// Lines of `package.accept_keywords`.
    pub package_keywords: Vec<String>,
    /// Number of packages that emerge builds at once. `None` leaves it to emerge.
    pub jobs: Option<u16>,
    /// Rules whose findings do not fail the check.
    pub waive: Vec<String>,
    /// Programs to prove, with their arguments.
    pub runs: Vec<Vec<String>>,
    /// Table `pack`. Its formats and other lists are parsed into the fields below.
    pub pack: PackTable,
    /// Formats to write.
    pub formats: Vec<Format>,
    /// Fields of the extension-release file.
    pub fields: Vec<ReleaseField>,
    /// Programs that get a link in /usr/bin.
    pub expose: Vec<Expose>,
    /// Languages whose translations are kept.
    pub locales: Vec<Locale>,
    /// Strip options. `None` keeps the symbols in the extension.
    pub strip: Option<StripOptions>,
    /// Units that are started when the extension is attached.
    pub start: Vec<UnitName>,
    /// Paths of the prefix that stay writable.
    pub state: Vec<StatePath>,
    /// Output directory of images.
    pub output: PathBuf,
}

impl BuildFile {
    /// Loads the file at `path`. Paths in it are relative to its directory. Errors name the line.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        if !path.exists() {
            anyhow::bail!("there is no build file {}; `fprefix init` writes one", path.display());
        }
        let source = Source::load(path)?;
        let tables: Tables = source.parse()?;
        let path = std::path::absolute(path)
            .with_context(|| format!("could not make {} absolute", path.display()))?;
        let dir = path.parent().unwrap_or(Path::new("/")).to_owned();
        let reader = Reader { source: &source, dir: &dir };
        let setup = reader.setup(tables.prefix, tables.trees)?;
        let packages = reader.packages(&tables.emerge)?;
        let (waive, runs) = reader.check(tables.check)?;
        let output = dir.join(tables.pack.output.clone().unwrap_or_default());
        let formats: Vec<Format> = reader.parse(&tables.pack.format)?;
        let pack = reader.pack(tables.pack, &formats)?;
        let package_lines = package_lines(&tables.emerge);
        Ok(Self {
            setup,
            jobs: tables.emerge.jobs.map(std::num::NonZeroU16::get),
            package_use: package_lines.0,
            package_keywords: package_lines.1,
            packages,
            waive,
            runs,
            fields: reader.parse(&pack.release)?,
            expose: reader.parse(&pack.expose)?,
            locales: reader.parse(&pack.locales)?,
            strip: reader.strip(&pack)?,
            start: reader.parse(&pack.start)?,
            state: reader.parse(&pack.state)?,
            formats,
            pack,
            output,
            path,
        })
    }

    /// Returns the path of its lock file, which is beside it: `fprefix.lock` for `fprefix.toml`.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.path.with_extension("lock")
    }
}

/// Renders the lines of package.use and `package.accept_keywords` (portage(5)).
fn package_lines(emerge: &Emerge) -> (Vec<String>, Vec<String>) {
    let everywhere = emerge.use_flags.iter().map(|flags| format!("*/* {}", flags.0.as_str()));
    let single = emerge.package_use.iter();
    let single = single.map(|(atom, flags)| format!("{} {}", atom.0, flags.0.as_str()));
    let keywords = emerge.package_accept_keywords.iter();
    let keywords = keywords.map(|(atom, words)| format!("{} {}", atom.0, words.0.as_str()));
    (everywhere.chain(single).collect(), keywords.collect())
}

struct Reader<'a> {
    source: &'a Source,
    dir: &'a Path,
}

impl Reader<'_> {
    /// Applies `look` to a value of the file. Adds the place of the value to an error.
    fn look<T, U>(&self, spanned: &Spanned<T>, look: impl FnOnce(&T) -> Result<U>) -> Result<U> {
        look(spanned.get_ref())
            .map_err(|error| self.source.at(&spanned.span(), format!("{error:#}")))
    }

    /// Parses the texts of a list.
    fn parse<T: FromStr<Err = anyhow::Error>>(&self, list: &[Spanned<String>]) -> Result<Vec<T>> {
        list.iter().map(|text| self.look(text, |text| text.parse())).collect()
    }

    fn setup(&self, prefix: PrefixTable, trees: Trees) -> Result<setup::SetupRequest> {
        let here = |path: Option<PathBuf>| path.map(|path| self.dir.join(path));
        let board = prefix.board.as_ref();
        Ok(setup::SetupRequest {
            board: board
                .map(|board| self.look(board, |name| Board::named(name)))
                .transpose()?
                .map(|board| board.name),
            name: prefix.name,
            eprefix: prefix.eprefix,
            staging_dir: here(prefix.staging_dir),
            final_dir: here(prefix.final_dir),
            wrapper_dir: here(prefix.wrapper_dir),
            distdir: here(prefix.distdir),
            force: false,
            repos: self.repos(&trees.repos)?,
            overlays: trees
                .overlays
                .iter()
                .map(|overlay| self.look(overlay, |path| self.repo(path, None)))
                .collect::<Result<_>>()?,
            tree: trees.tree.map(|path| self.directory(&path)).transpose()?,
            profile: trees.profile,
            package_config: trees.package_config.map(|path| self.directory(&path)).transpose()?,
            use_flags: Vec::new(),
            binhost: prefix.binhost.map(|binhost| match binhost.0 {
                Binhost::Directory(path) => Binhost::Directory(self.dir.join(path)),
                uri @ Binhost::Uri(_) => uri,
            }),
            features: self.parse(&prefix.features)?,
        })
    }

    fn repos(&self, repos: &[Spanned<String>]) -> Result<Vec<RepoArgument>> {
        let resolve = |text: &String| {
            let repo: RepoArgument = text.parse()?;
            let path = self.repo(&repo.path, Some(&repo.name))?;
            Ok(RepoArgument { path, ..repo })
        };
        repos.iter().map(|repo| self.look(repo, resolve)).collect()
    }

    fn directory(&self, path: &Spanned<PathBuf>) -> Result<PathBuf> {
        self.look(path, |path| {
            let path = self.dir.join(path);
            anyhow::ensure!(path.is_dir(), "there is no directory {}", path.display());
            Ok(path)
        })
    }

    /// Returns the path of the repository at `path`. Fails if `name` is given and the repository
    /// has another name.
    fn repo(&self, path: &Path, name: Option<&str>) -> Result<PathBuf> {
        let path = self.dir.join(path);
        let own = repos::name_of(&path)?;
        if let Some(name) = name.filter(|name| *name != own) {
            anyhow::bail!("the repository at {} is called {own}, not {name}", path.display());
        }
        Ok(path)
    }

    fn packages(&self, emerge: &Emerge) -> Result<Vec<Atom>> {
        self.look(&emerge.packages, |packages| {
            anyhow::ensure!(!packages.is_empty(), "a prefix needs packages");
            Ok(())
        })?;
        let texts = emerge.packages.get_ref();
        let atoms: Vec<Atom> = self.parse(texts)?;
        for (at, atom) in atoms.iter().enumerate() {
            if let (true, Some(text)) = (atoms.iter().take(at).any(|a| a == atom), texts.get(at)) {
                self.look(text, |_| -> Result<()> { anyhow::bail!("{atom} is there twice") })?;
            }
        }
        Ok(atoms)
    }

    fn check(&self, table: CheckTable) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        for id in &table.waive {
            self.look(id, |id| check::rule(id).map(|_| ()))?;
        }
        let words = |line: &String| {
            let words = shlex::split(line).filter(|words| !words.is_empty());
            words.context("it names no program, or has an open quote")
        };
        let runs =
            table.run.iter().map(|line| self.look(line, words)).collect::<Result<Vec<_>>>()?;
        Ok((table.waive.into_iter().map(Spanned::into_inner).collect(), runs))
    }

    /// Opens everything that packing will need. The build then fails early if the image cannot be
    /// made.
    fn pack(&self, mut pack: PackTable, formats: &[Format]) -> Result<PackTable> {
        for id in &pack.keep {
            self.look(id, |id| PruneRules::load(std::slice::from_ref(id), &[]).map(|_| ()))?;
        }
        let paths = pack.base.iter_mut().chain(&mut pack.mangle);
        let paths = paths.chain(&mut pack.target_root).chain(&mut pack.with_extension);
        for path in paths.chain(&mut pack.private_key).chain(&mut pack.certificate) {
            if pkcs11::uri(path.get_ref()).is_none() {
                *path.get_mut() = self.dir.join(path.get_ref());
            }
        }
        for (format, text) in formats.iter().zip(&pack.format) {
            self.look(text, |_| writer::ready(*format))?;
        }
        for path in &pack.base {
            self.look(path, |path| Base::open(path).map(|_| ()))?;
        }
        for path in &pack.mangle {
            self.look(path, |path| Mangle::open(path).map(|_| ()))?;
        }
        if let Some(url) = pack.sysupdate.as_ref().filter(|_| pack.version.is_none()) {
            self.look(url, |_| -> Result<()> {
                anyhow::bail!("systemd-sysupdate goes by versions: give [pack] a version")
            })?;
        }
        if let Some(key) = &pack.sign_sums {
            self.look(key, |_| {
                anyhow::ensure!(pack.reports != Some(false), "without reports there is no list");
                pack.sign_sums()
            })?;
        }
        self.signing(&pack, formats)?;
        self.against(&pack)?;
        Ok(pack)
    }

    fn against(&self, pack: &PackTable) -> Result<()> {
        let rule = |name: &String| {
            let known = TargetRule::named(name).is_some();
            anyhow::ensure!(known, "there is no rule {name:?} about attaching");
            Ok(())
        };
        let path = |path: &PathBuf| {
            anyhow::ensure!(path.exists(), "there is no extension {}", path.display());
            Ok(())
        };
        for name in &pack.waive {
            self.look(name, rule)?;
        }
        for beside in &pack.with_extension {
            self.look(beside, path)?;
        }
        match (&pack.target_root, pack.with_extension.first(), pack.waive.first()) {
            (Some(root), ..) => {
                self.look(root, |root| TargetCheck::open(root, &[], vec![]).map(drop))
            }
            (None, Some(beside), _) => self.look(beside, |_| anyhow::bail!(NO_TARGET)),
            (None, None, Some(waive)) => self.look(waive, |_| anyhow::bail!(NO_TARGET)),
            (None, None, None) => Ok(()),
        }
    }

    fn strip(&self, pack: &PackTable) -> Result<Option<StripOptions>> {
        let keep = self.parse(&pack.keep_symbols)?;
        let splitdebug = pack.splitdebug.as_ref().is_some_and(|split| *split.get_ref());
        if pack.strip == Some(false) {
            if let Some(split) = pack.splitdebug.as_ref().filter(|_| splitdebug) {
                self.look(split, |_| -> Result<()> {
                    anyhow::bail!("nothing is put apart where nothing is stripped (strip = false)")
                })?;
            }
            return Ok(None);
        }
        Ok(Some(StripOptions { keep, splitdebug }))
    }

    fn signing(&self, pack: &PackTable, formats: &[Format]) -> Result<()> {
        let ddi = formats.iter().any(Format::can_be_signed);
        match (&pack.private_key, &pack.certificate) {
            (Some(key), Some(certificate)) => self.look(key, |key| {
                if !ddi {
                    anyhow::bail!("of the formats, only ddi can be signed: add it to format");
                }
                Signing::open(key, certificate.get_ref(), pack.private_key_source()).map(|_| ())
            }),
            (Some(one), None) | (None, Some(one)) => self
                .look(one, |_| anyhow::bail!("private-key and certificate go together: give both")),
            (None, None) => Ok(()),
        }
    }
}
