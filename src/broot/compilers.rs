//! The names under which ebuilds look for a compiler and its tools, in BROOT.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{SYSTEM_PATH, find_program};
use crate::data::Folder;
use crate::definition::Prefix;
use crate::toolchain::Compiler;
use crate::{template, tree};

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

pub(super) fn write(prefix: &Prefix, compiler: &Compiler, dir: &Path) -> Result<()> {
    let chost = &prefix.board.chost;
    let mut drivers = vec![(&compiler.cc, ["gcc", "cc"].as_slice()), (&compiler.cc, &["cpp"])];
    if let Some(cxx) = &compiler.cxx {
        drivers.push((cxx, &["g++", "c++"]));
    }
    for (driver, names) in drivers {
        for name in names {
            let driver = Compiler::inside(driver);
            let text = compiler_script(prefix, &driver, *name == "cpp")?;
            tree::write_executable(&dir.join(name), text.as_bytes())?;
            tree::link(name, &dir.join(format!("{chost}-{name}")))?;
        }
    }
    for name in BINUTILS {
        link_program(
            &[format!("{}-{name}", compiler.machine), (*name).to_owned()],
            dir,
            &[format!("{chost}-{name}"), (*name).to_owned()],
        )?;
    }
    for name in ["gcc-ar", "gcc-nm", "gcc-ranlib"] {
        let own = format!("{}-{name}", compiler.machine);
        link_program(&[own, name.to_owned()], dir, &[format!("{chost}-{name}"), name.to_owned()])?;
    }
    for name in GNU {
        link_program(&[format!("g{name}"), (*name).to_owned()], dir, &[format!("g{name}")])?;
    }
    for name in ["pkg-config", "pkgconf"] {
        if let Some(program) = find_program(name, SYSTEM_PATH.as_ref()) {
            let text = pkg_config_script(prefix, &program)?;
            for alias in ["pkg-config".to_owned(), format!("{chost}-pkg-config")] {
                tree::write_executable(&dir.join(alias), text.as_bytes())?;
            }
            break;
        }
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
