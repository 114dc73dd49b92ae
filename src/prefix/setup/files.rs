//! The files of a prefix: Portage's configuration, the repositories that fprefix writes itself.

use std::path::Path;

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::names::Environment;
use crate::base::{files, publish, template};
use crate::host::toolchain::Import;
use crate::host::tools::{self, FoundTool};
use crate::portage::binhost::{self, Binhost};
use crate::portage::repos;
use crate::prefix::broot;
use crate::prefix::definition::{BUILD_EPOCH, Definition, Prefix};
use crate::prefix::layout::PrefixLayout;
use crate::prefix::setup::SetupPlan;
use crate::prefix::setup::package_config::PackageConfig;
use crate::prefix::setup::preflight::MASQUERADES;

impl SetupPlan {
    pub(super) fn write_files(&self) -> Result<()> {
        let prefix = &self.prefix;
        let layout = &prefix.layout;
        for dir in
            [layout.pkgdir(), layout.own_repos(), layout.dir(Environment::Staging).join("cache")]
        {
            fs_err::create_dir_all(dir)?;
        }
        fs_err::create_dir_all(&prefix.definition.distdir)?;
        let imported: Vec<String> =
            self.imports.iter().map(|import| import.package.clone()).collect();
        for environment in [Environment::Staging, Environment::Final] {
            fs_err::create_dir_all(layout.logs(environment))?;
            fs_err::create_dir_all(layout.tmp(environment))?;
            broot::lay_out(prefix, environment)?;
            write_config(prefix, environment)?;
            write_masks(prefix, environment, imported.clone())?;
            self.package_config.write(&layout.config(environment))?;
        }
        fs_err::create_dir_all(layout.pkgdir_mount())?;
        write_data(prefix)?;
        broot::write_masquerades(prefix, &self.compiler, MASQUERADES)?;
        broot::write(prefix, &self.compiler)
    }

    /// Writes the repository with the packages that the toolchain becomes, and their sources.
    pub(super) fn write_toolchain_repo(&self, imports: &[Import]) -> Result<()> {
        let repo = self.prefix.layout.own_repos().join(repos::TOOLCHAIN);
        files::remove(&repo)?;
        let distdir = &self.prefix.definition.distdir;
        publish::remove_unfinished(publish::open_directory(distdir)?)?;
        let mut categories: Vec<&str> = Vec::new();
        for import in imports {
            let dir = repo.join(&import.package);
            let distfile = import.write_distfile(distdir)?;
            let ebuild = import.ebuild(&self.prefix.board, &distfile)?;
            let file = format!("{}-{}.ebuild", import.name(), import.version);
            files::write_atomically(&dir.join(file), ebuild.as_bytes())?;
            files::write_atomically(&dir.join("Manifest"), distfile.manifest.as_bytes())?;
            categories.extend(import.package.split_once('/').map(|(category, _)| category));
        }
        categories.dedup();
        let categories = categories.join("\n") + "\n";
        for (name, text) in [
            ("profiles/repo_name", format!("{}\n", repos::TOOLCHAIN)),
            ("profiles/eapi", "8\n".to_owned()),
            ("profiles/categories", categories),
            (
                "metadata/layout.conf",
                data::text(Folder::Templates, "toolchain/layout.conf")?.into(),
            ),
        ] {
            files::write_atomically(&repo.join(name), text.as_bytes())?;
        }
        Ok(())
    }
}

/// Writes anew what depends on the repositories of `prefix`, and `config`, which came with them;
/// what came with those that there were `before` goes. BROOT's configuration links to staging's.
pub(super) fn write_repositories(
    prefix: &Prefix,
    before: &PackageConfig,
    config: &PackageConfig,
) -> Result<()> {
    let imported = repos::packages(&prefix.layout.own_repos().join(repos::TOOLCHAIN))?;
    for environment in [Environment::Staging, Environment::Final] {
        let dir = prefix.layout.config(environment);
        write_settings(prefix, environment)?;
        write_masks(prefix, environment, imported.clone())?;
        config.write_over(before, &dir)?;
    }
    Ok(())
}

/// Keeps the toolchain of any tree away: the one that was `imported` is the one that programs are
/// built with. The files stand in folders, where users can put more beside them.
fn write_masks(prefix: &Prefix, environment: Environment, mut imported: Vec<String>) -> Result<()> {
    imported.sort();
    for name in ["package.mask", "package.unmask"] {
        let text = template::render(
            Folder::Templates,
            &format!("portage/{name}"),
            minijinja::context! {
                imported,
                repo => repos::TOOLCHAIN,
                doubled => list_overridden(&prefix.definition)?,
                built_in => repos::BUILT_IN,
            },
        )?;
        let file = prefix.layout.config(environment).join(name).join("fprefix");
        files::write_atomically(&file, text.as_bytes())?;
    }
    Ok(())
}

/// Packages of the built-in repository of which a repository of the user has ebuilds as well. The
/// user's are built, whichever version is newer, except for the packages that every prefix starts
/// with.
fn list_overridden(definition: &Definition) -> Result<Vec<String>> {
    let seeds = [Environment::Staging, Environment::Final]
        .map(crate::prefix::setup::first_packages)
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .concat();
    let mut packages = Vec::new();
    for file in data::files(Folder::Overlay, "")? {
        let ebuild = file.path.extension().is_some_and(|extension| extension == "ebuild");
        let Some(package) = file.path.parent().and_then(Path::to_str).filter(|_| ebuild) else {
            continue;
        };
        let named = definition.repos.iter().filter_map(|repo| repo.path.as_ref());
        if !seeds.iter().any(|seed| seed == package)
            && named.into_iter().any(|path| repos::has_package(path, package))
        {
            packages.push(package.to_owned());
        }
    }
    packages.dedup();
    Ok(packages)
}

fn write_data(prefix: &Prefix) -> Result<()> {
    let profiles = prefix.layout.profiles();
    let overlay = prefix.layout.own_repos().join(repos::BUILT_IN);
    for (folder, below, target) in
        [(Folder::Profiles, "portage", profiles.join("portage")), (Folder::Overlay, "", overlay)]
    {
        files::remove(&target)?;
        data::write_out(folder, below, &target)?;
    }
    Ok(())
}

/// Writes the Portage configuration of an environment.
fn write_config(prefix: &Prefix, environment: Environment) -> Result<()> {
    let definition = &prefix.definition;
    let config = prefix.layout.config(environment);
    write_settings(prefix, environment)?;
    if !config.join("make.conf.user").exists() {
        write_portage(&config, "make.conf.user", minijinja::context! {})?;
    }
    if let (Some(Binhost::Uri(uri)), Some(key)) = (&definition.binhost, &definition.binhost_key) {
        let uri = format!("{uri}/{}", key.to_string_lossy());
        write_portage(&config, "binrepos.conf", minijinja::context! { uri })?;
    }
    write_portage(
        &config,
        "bashrc",
        minijinja::context! { environment => environment.to_string() },
    )?;
    write_portage(&config, "mirrors", minijinja::context! { mirrors => mirrors() })?;
    let packages = data::text(Folder::Profiles, &format!("{environment}/packages"))?;
    files::write_atomically(&config.join("profile/packages"), packages.as_bytes())?;
    files::write_atomically(&config.join("profile/eapi"), b"6\n")?;
    files::link(&definition.profile, &config.join("make.profile"))
}

/// Writes those files of it that depend on the prefix's repositories.
fn write_settings(prefix: &Prefix, environment: Environment) -> Result<()> {
    let definition = &prefix.definition;
    let config = prefix.layout.config(environment);
    let board = &prefix.board;
    let found = tools::WGET.find();
    let fetcher = found.as_ref().map_or_else(|| "wget".to_owned(), FoundTool::program);
    // Not by its name: a package of staging may have a program of that name.
    let path = found.map(|found| found.path().to_owned());
    let path = path.filter(|path| path.starts_with("/usr/bin"));
    let fetch_program = path.map_or_else(|| fetcher.clone(), |path| path.escaped().to_string());
    write_portage(
        &config,
        "make.conf",
        minijinja::context! {
            environment => environment.to_string(),
            name => definition.id.name.as_str(),
            chost => board.chost,
            cbuild => board.cbuild()?,
            build_epoch => BUILD_EPOCH,
            cflags => board.cflags,
            keywords => board.keywords,
            makeopts => broot::makeopts(),
            use_flags => definition.use_flags(),
            inside => PrefixLayout::inside(environment),
            fetch_program,
            fetcher,
            binpkg_options => binhost::options(definition.binhost.as_ref(), environment),
            features => definition.features,
            built_in_only => definition.repos.iter().all(|repo| repo.path.is_none()),
        },
    )?;
    write_portage(&config, "repos.conf", repos_conf(definition))
}

fn write_portage(config: &Path, name: &str, values: minijinja::Value) -> Result<()> {
    let text = template::render(Folder::Templates, &format!("portage/{name}"), values)?;
    files::write_atomically(&config.join(name), text.as_bytes())
}

fn repos_conf(definition: &Definition) -> minijinja::Value {
    let main = definition.main_repo();
    let repos: Vec<_> = definition
        .repos
        .iter()
        .map(|repo| {
            minijinja::context! {
                name => repo.name,
                location => repos::inside(&repo.name),
                priority => repo.priority,
            }
        })
        .collect();
    minijinja::context! { main, repos }
}

/// Mirrors that the machine's package manager uses, by the name that ebuilds know them under.
fn mirrors() -> Vec<minijinja::Value> {
    let Some(apt) = tools::APT_GET.find() else { return Vec::new() };
    let format = "$(ORIGIN) $(LABEL) $(SITE)";
    let Ok(targets) = apt
        .command("ask apt for its mirrors")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .read()
    else {
        return Vec::new();
    };
    let mut urls: Vec<&str> =
        targets.lines().filter_map(|line| line.strip_prefix("Debian Debian ")).collect();
    urls.dedup();
    urls.into_iter().map(|url| minijinja::context! { name => "debian", url }).collect()
}
