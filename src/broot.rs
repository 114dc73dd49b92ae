//! BROOT: the machine's build tools, as Portage is told of them, and the names under which
//! ebuilds look for a compiler.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use rayon::prelude::*;
use regex::Regex;
use serde::Deserialize;

use crate::board::Board;
use crate::command::{Command, SYSTEM_PATH, find_program};
use crate::data::{self, Folder};
use crate::definition::Prefix;
use crate::environment::WRAPPER_DIR;
use crate::layout::{Environment, Layout};
use crate::portage::Portage;
use crate::toolchain::Compiler;
use crate::{template, tree};

/// A program of the machine that stands for a Gentoo package, see profiles/broot.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    program: String,
    package: String,
    #[serde(default = "ask_version")]
    version: Vec<String>,
    pattern: Option<String>,
    fixed: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Tools {
    tool: Vec<Tool>,
}

fn ask_version() -> Vec<String> {
    vec!["--version".into()]
}

/// A version as most programs say it.
#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static VERSION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(\d+(?:\.\d+)+)").unwrap());

impl Tool {
    /// The line of package.provided, if the program is there and says its version.
    fn provided(&self) -> Option<String> {
        let program = find_program(&self.program, SYSTEM_PATH.as_ref())?;
        if let Some(version) = &self.fixed {
            return Some(format!("{}-{version}", self.package));
        }
        let output =
            Command::new("ask for a version", program).args(&self.version).output().ok()?;
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        let version = match &self.pattern {
            Some(pattern) => find(&Regex::new(pattern).ok()?, &said),
            None => find(&VERSION, &said),
        }?;
        Some(format!("{}-{version}", self.package))
    }
}

fn find(pattern: &Regex, said: &str) -> Option<String> {
    Some(pattern.captures(said)?.get(1)?.as_str().to_owned())
}

/// The build tools that this machine has, as lines of package.provided (portage(5)).
pub fn provided() -> Result<Vec<String>> {
    let tools: Tools = data::toml("broot.toml")?;
    let mut lines: Vec<String> = tools.tool.par_iter().filter_map(Tool::provided).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Writes BROOT of `prefix`: Portage's configuration for it, and the wrappers.
pub fn write(prefix: &Prefix, compiler: &Compiler) -> Result<()> {
    let broot = prefix.layout.broot();
    write_compilers(prefix, compiler, &broot.join(WRAPPER_DIR))?;
    let Portage::Private(portage) = &prefix.portage else { return Ok(()) };
    let config = broot.join("etc/portage");
    let provided = provided()?;
    let text = template::render(
        Folder::Templates,
        "broot/package.provided",
        minijinja::context! { packages => provided },
    )?;
    tree::write_atomically(&config.join("profile/package.provided"), text.as_bytes())?;
    tree::link(&prefix.definition.profile, &config.join("make.profile"))?;
    // BROOT sees the same repositories, and settings that differ from staging's where they must.
    let staging = Path::new("/fprefix/staging/etc/portage");
    tree::link(staging.join("repos.conf"), &config.join("repos.conf"))?;
    let text = template::render(
        Folder::Templates,
        "broot/make.conf",
        minijinja::context! {
            chost => compiler.machine,
            keywords => prefix.board.keywords,
        },
    )?;
    tree::write_atomically(&config.join("make.conf"), text.as_bytes())?;
    // Portage looks for its own defaults below BROOT (make.globals, sets; not its repos.conf,
    // which names a repository that is not here).
    let share = broot.join("share/portage/config");
    for name in ["make.globals", "sets"] {
        let inside = Path::new("/fprefix/portage/share/portage/config").join(name);
        if portage.join("share/portage/config").join(name).exists() {
            tree::link(inside, &share.join(name))?;
        }
    }
    for dir in ["var/db/pkg", "var/lib/portage", "usr/bin"] {
        fs_err::create_dir_all(broot.join(dir))?;
    }
    Ok(())
}

/// Programs of binutils and of gcc that ebuilds call as `${CHOST}-NAME` or by their plain name.
const BINUTILS: &[&str] = &[
    "addr2line",
    "ar",
    "as",
    "c++filt",
    "elfedit",
    "gprof",
    "ld",
    "ld.bfd",
    "ld.gold",
    "nm",
    "objcopy",
    "objdump",
    "ranlib",
    "readelf",
    "size",
    "strings",
    "strip",
];

/// GNU programs that ebuilds call by a name with a g.
const GNU: &[&str] = &["awk", "find", "grep", "install", "make", "patch", "sed", "tar", "xargs"];

fn write_compilers(prefix: &Prefix, compiler: &Compiler, dir: &Path) -> Result<()> {
    let chost = &prefix.board.chost;
    let mut drivers = vec![(&compiler.cc, ["gcc", "cc"].as_slice()), (&compiler.cc, &["cpp"])];
    if let Some(cxx) = &compiler.cxx {
        drivers.push((cxx, &["g++", "c++"]));
    }
    let native = prefix.board.is_native();
    for (driver, names) in drivers {
        for name in names {
            let driver = Compiler::inside(driver);
            let text = compiler_script(prefix, &driver, *name == "cpp")?;
            let own = format!("{chost}-{name}");
            tree::write_executable(&dir.join(&own), text.as_bytes())?;
            if native {
                tree::link(own, &dir.join(name))?;
            }
        }
    }
    for name in BINUTILS.iter().chain(&["gcc-ar", "gcc-nm", "gcc-ranlib"]) {
        let machine = format!("{}-{name}", compiler.machine);
        let own = format!("{chost}-{name}");
        if native {
            link_program(&[machine, (*name).to_owned()], dir, &[own, (*name).to_owned()])?;
        } else {
            // A plain name is a program for this machine, which knows nothing of the board's.
            link_program(&[machine], dir, &[own])?;
        }
    }
    if !native {
        name_build_tools(dir)?;
    }
    for name in GNU {
        link_program(&[format!("g{name}"), (*name).to_owned()], dir, &[format!("g{name}")])?;
    }
    for name in ["pkg-config", "pkgconf"] {
        if let Some(program) = find_program(name, SYSTEM_PATH.as_ref()) {
            let text = pkg_config_script(prefix, &program)?;
            let own = format!("{chost}-pkg-config");
            tree::write_executable(&dir.join(&own), text.as_bytes())?;
            if native {
                tree::link(own, &dir.join("pkg-config"))?;
            }
            break;
        }
    }
    Ok(())
}

/// Makes the directories of links by which Portage puts `programs` before the compiler: it looks
/// for them below EPREFIX (make.conf(5), FEATURES: ccache, distcc).
pub fn write_masquerades(prefix: &Prefix, programs: &[&str]) -> Result<()> {
    let chost = &prefix.board.chost;
    for name in programs {
        if !prefix.definition.features.iter().any(|feature| feature == name) {
            continue;
        }
        let program = find_program(name, SYSTEM_PATH.as_ref())
            .with_context(|| format!("{name} is not there"))?;
        let eroot = prefix.layout.eroot(Environment::Staging);
        let dir = eroot.join("usr/lib").join(name).join("bin");
        for compiler in ["gcc", "g++", "cc", "c++"] {
            tree::link(&program, &dir.join(format!("{chost}-{compiler}")))?;
        }
    }
    Ok(())
}

/// Gives the machine's own tools the name of CBUILD too: with them packages build what they run
/// while they are built for another machine.
fn name_build_tools(dir: &Path) -> Result<()> {
    let cbuild = Board::of_this_machine()?.chost;
    for name in BINUTILS.iter().chain(&["gcc", "cc", "cpp", "g++", "c++", "pkg-config"]) {
        link_program(&[(*name).to_owned()], dir, &[format!("{cbuild}-{name}")])?;
    }
    Ok(())
}

/// Links `names` in `dir` to the first of `programs` that the machine has.
fn link_program(programs: &[String], dir: &Path, names: &[String]) -> Result<()> {
    let found = programs.iter().find_map(|name| find_program(name, SYSTEM_PATH.as_ref()));
    if let Some(program) = found {
        for name in names {
            tree::link(&program, &dir.join(name))?;
        }
    }
    Ok(())
}

fn compiler_script(prefix: &Prefix, driver: &Path, preprocess: bool) -> Result<String> {
    let libdir = libdir(prefix);
    template::render(
        Folder::Templates,
        "broot/compiler",
        minijinja::context! {
            driver => driver.to_str().context("the compiler's path is not UTF-8")?,
            eprefix => prefix.layout.eprefix().as_str(),
            loader => libdir.join(&prefix.board.loader),
            libdir,
            preprocess,
        },
    )
}

fn pkg_config_script(prefix: &Prefix, program: &Path) -> Result<String> {
    template::render(
        Folder::Templates,
        "broot/pkg-config",
        minijinja::context! {
            program => program.to_str().context("the path of pkg-config is not UTF-8")?,
            eprefix => prefix.layout.eprefix().as_str(),
            libdir => libdir(prefix),
        },
    )
}

/// The directory of native libraries in the prefix, as programs see it.
fn libdir(prefix: &Prefix) -> PathBuf {
    prefix.layout.eprefix().as_path().join("usr").join(&prefix.board.libdir)
}

/// Makes the directories and links that the prefix's file system has before the first package:
/// Gentoo's merged-usr layout.
pub fn lay_out(prefix: &Prefix, environment: Environment) -> Result<()> {
    let eroot = prefix.layout.eroot(environment);
    for dir in ["usr/bin", "usr/lib", "etc", "var/db/pkg", "var/lib/portage", "var/cache", "tmp"] {
        fs_err::create_dir_all(eroot.join(dir))?;
    }
    let libdir = &prefix.board.libdir;
    fs_err::create_dir_all(eroot.join("usr").join(libdir))?;
    for (link, target) in
        [("bin", "usr/bin"), ("sbin", "usr/bin"), ("usr/sbin", "bin"), ("lib", "usr/lib")]
    {
        tree::link(target, &eroot.join(link))?;
    }
    if environment == Environment::Staging {
        // portageq looks for the configuration below the EROOT that it is asked about.
        let config = Layout::inside(environment).join("etc/portage");
        tree::link(config, &eroot.join("etc/portage"))?;
    }
    if libdir != "lib" {
        tree::link(format!("usr/{libdir}"), &eroot.join(libdir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        let said = "cmake version 3.25.1\n\nCMake suite maintained";
        assert_eq!(find(&VERSION, said).unwrap(), "3.25.1");
        let tools: Tools = data::toml("broot.toml").unwrap();
        for tool in &tools.tool {
            assert!(tool.pattern.iter().all(|pattern| Regex::new(pattern).is_ok()), "{tool:?}");
        }
    }
}
