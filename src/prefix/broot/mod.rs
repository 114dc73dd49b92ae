//! BROOT: the machine's build tools as Portage knows them, and the names under which ebuilds look
//! for a compiler.

mod compilers;
mod fixed_places;
pub(crate) mod machine;
mod phases;
mod provided;
mod pypi_tools;
mod shared;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::data::{self, Folder};
use crate::base::inside::{PORTAGE, WRAPPER_DIR};
use crate::base::names::Environment;
use crate::base::{files, template};
use crate::host::toolchain::Compiler;
use crate::portage::installation::Portage;
use crate::prefix::definition::Prefix;
use crate::prefix::layout::PrefixLayout;

pub(crate) use crate::prefix::broot::compilers::write_masquerades;
pub(crate) use crate::prefix::broot::provided::PROVIDED_BESIDES;
pub(crate) use crate::prefix::broot::pypi_tools::{fetch, to_fetch};

/// Directories of BROOT that are written to. Packages are installed there, too.
const WRITTEN: &[&str] = &[
    "etc/portage/profile",
    "share/portage/config",
    "usr/bin",
    "usr/lib",
    "usr/share/aclocal",
    "usr/share/gettext",
    "usr/share/gnuconfig",
    "usr/share/libtool/build-aux",
    "usr/share/misc",
    "var/db/pkg",
    "var/lib/portage",
];

/// Writes BROOT of `prefix`: Portage's configuration for it, and the wrappers.
pub(crate) fn write(prefix: &Prefix, compiler: &Compiler) -> Result<()> {
    let broot = prefix.layout.broot();
    files::create_dirs_below(&broot, [WRAPPER_DIR])?;
    compilers::write(prefix, compiler, &broot.join(WRAPPER_DIR))?;
    files::write_executable(&prefix.layout.phases(), phases::script()?.as_bytes())?;
    let relocation = phases::relocation_script()?;
    files::write_atomically(&prefix.layout.relocation(), relocation.as_bytes())?;
    let Portage::Private(portage) = &prefix.portage else { return Ok(()) };
    files::create_dirs_below(&broot, WRITTEN)?;
    files::create_dirs_below(&broot, [Path::new("usr").join(&prefix.board.libdir)])?;
    // One that an older version made may have directories there, with what was built into them.
    let is_dir = |name: &str| {
        fs_err::symlink_metadata(broot.join(name)).is_ok_and(|metadata| metadata.is_dir())
    };
    if !["bin", "sbin", "usr/sbin", "lib", &prefix.board.libdir].into_iter().any(is_dir) {
        merge_usr(&broot, &prefix.board.libdir)?;
    }
    let config = broot.join("etc/portage");
    write_tools(prefix)?;
    shared::link(&broot)?;
    fixed_places::link_programs(&broot)?;
    fixed_places::link_settings(&prefix.layout)?;
    let script = data::text(Folder::Templates, "broot/meson-format-array")?;
    files::write_executable(
        &broot.join(WRAPPER_DIR).join("meson-format-array"),
        script.as_bytes(),
    )?;
    files::link(&prefix.definition.profile, &config.join("make.profile"))?;
    // BROOT sees the same repositories, and settings that differ from staging's where they must.
    let staging = PrefixLayout::inside(Environment::Staging).join("etc/portage");
    files::link(staging.join("repos.conf"), &config.join("repos.conf"))?;
    link_lists(prefix, &config)?;
    let chost =
        if prefix.board.is_native() { compiler.machine.clone() } else { prefix.board.cbuild()? };
    let text = template::render(
        Folder::Templates,
        "broot/make.conf",
        minijinja::context! {
            chost,
            keywords => prefix.board.keywords,
            use_flags => prefix.definition.use_flags(),
            makeopts => makeopts(),
        },
    )?;
    files::write_atomically(&config.join("make.conf"), text.as_bytes())?;
    // Portage looks for its own defaults below BROOT (make.globals, sets; not its repos.conf,
    // which names a repository that is not here).
    let share = broot.join("share/portage/config");
    for name in ["make.globals", "sets"] {
        let inside = PORTAGE.join("share/portage/config").join(name);
        if portage.join("share/portage/config").join(name).exists() {
            files::link(inside, &share.join(name))?;
        }
    }
    Ok(())
}

/// Tells Portage of the machine's build tools, and of those that were fetched for the trees of
/// `prefix`, which win.
pub(crate) fn write_tools(prefix: &Prefix) -> Result<()> {
    if prefix.portage == Portage::Machine {
        return Ok(());
    }
    let broot = prefix.layout.broot();
    let fetched = pypi_tools::list_fetched(prefix)?;
    pypi_tools::link(&broot, &fetched)?;
    let besides = prefix.layout.config(Environment::Staging).join(PROVIDED_BESIDES);
    let besides =
        if besides.exists() { crate::portage::provided::read(&besides)? } else { Vec::new() };
    let first = fetched.iter().map(pypi_tools::Fetched::programs).collect();
    provided::write(&broot, &provided::detect_provided(first)?, &besides)
}

/// Links staging's settings per package into BROOT: a mask or a keyword that a
/// tree needs is needed wherever its ebuilds are built.
fn link_lists(prefix: &Prefix, config: &Path) -> Result<()> {
    for name in ["accept_keywords", "env", "license", "mask", "unmask", "use"] {
        let name = format!("package.{name}");
        fs_err::create_dir_all(prefix.layout.config(Environment::Staging).join(&name))?;
        files::link(
            PrefixLayout::inside(Environment::Staging).join("etc/portage").join(&name),
            &config.join(name),
        )?;
    }
    for name in ["env", "patches", "mirrors"] {
        files::link(
            PrefixLayout::inside(Environment::Staging).join("etc/portage").join(name),
            &config.join(name),
        )?;
    }
    Ok(())
}

/// MAKEOPTS for this machine.
pub(crate) fn makeopts() -> String {
    format!("-j{}", std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// Makes the directories and links that the prefix's file system has before the first package:
/// Gentoo's merged-usr layout.
pub(crate) fn lay_out(prefix: &Prefix, environment: Environment) -> Result<()> {
    let eroot = prefix.layout.eroot(environment);
    let libdir = &prefix.board.libdir;
    files::create_dirs_below(
        &prefix.layout.root(environment),
        ["usr/bin", "usr/lib", "etc", "var/db/pkg", "var/lib/portage", "var/cache", "tmp"]
            .into_iter()
            .map(PathBuf::from)
            .chain([Path::new("usr").join(libdir)])
            .map(|dir| prefix.layout.eprefix_of(environment).below(Path::new("")).join(dir)),
    )?;
    merge_usr(&eroot, libdir)?;
    if environment == Environment::Staging {
        // portageq looks for the configuration below the EROOT that it is asked about.
        let config = PrefixLayout::inside(environment).join("etc/portage");
        files::link(config, &eroot.join("etc/portage"))?;
    }
    Ok(())
}

/// Makes the links of Gentoo's merged-usr layout in `eroot`. Profiles that have it build nothing for
/// a root that has not.
fn merge_usr(eroot: &Path, libdir: &str) -> Result<()> {
    for (link, target) in
        [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin"), ("lib", "usr/lib")]
    {
        files::link(target, &eroot.join(link))?;
    }
    if libdir != "lib" {
        files::link(format!("usr/{libdir}"), &eroot.join(libdir))?;
    }
    Ok(())
}
