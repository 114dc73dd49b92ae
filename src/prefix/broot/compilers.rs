//! The names under which ebuilds look for a compiler and its tools, in BROOT.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::command::{SYSTEM_PATH, find_program};
use crate::base::data::Folder;
use crate::base::inside::InsidePath;
use crate::base::names::Environment;
use crate::base::{files, template};
use crate::host::toolchain::Compiler;
use crate::host::tools::ExternalTool;
use crate::prefix::definition::Prefix;

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

/// Programs of binutils that gcc starts with its plug-in for link-time optimization.
const BINUTILS_OF_GCC: &[&str] = &["gcc-ar", "gcc-nm", "gcc-ranlib"];

/// GNU programs that ebuilds call by a name with a g.
const GNU: &[&str] = &["awk", "find", "grep", "install", "make", "patch", "sed", "tar", "xargs"];

pub(super) fn write(prefix: &Prefix, compiler: &Compiler, dir: &Path) -> Result<()> {
    let chost = &prefix.board.chost;
    let mut drivers = vec![(&compiler.cc, ["gcc", "cc"].as_slice()), (&compiler.cc, &["cpp"])];
    if let Some(cxx) = &compiler.cxx {
        drivers.push((cxx, &["g++", "c++"]));
    }
    let native = prefix.board.is_native();
    for (driver, names) in drivers {
        for name in names {
            let driver = Compiler::inside(driver);
            let compiler_use =
                if *name == "cpp" { CompilerUse::ToPreprocess } else { CompilerUse::Plainly };
            let text = compiler_script(prefix, &driver, compiler_use)?;
            write_named(dir, chost, name, native, &text)?;
        }
    }
    for name in BINUTILS.iter().chain(BINUTILS_OF_GCC) {
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
        name_build_tools(dir, &prefix.board.cbuild()?)?;
    }
    for name in GNU {
        link_program(&[format!("g{name}"), (*name).to_owned()], dir, &[format!("g{name}")])?;
    }
    for name in ["pkg-config", "pkgconf"] {
        if let Some(program) = find_program(name, SYSTEM_PATH.as_ref()) {
            let text = pkg_config_script(prefix, &program)?;
            write_named(dir, chost, "pkg-config", native, &text)?;
            break;
        }
    }
    Ok(())
}

/// Writes the script CHOST-NAME, and where it is for this machine, too, a link to it.
fn write_named(dir: &Path, chost: &str, name: &str, native: bool, text: &str) -> Result<()> {
    let own = format!("{chost}-{name}");
    // An older fprefix wrote the script under the plain name, and a link beside it.
    for name in [own.as_str(), name] {
        if dir.join(name).symlink_metadata().is_ok() {
            fs_err::remove_file(dir.join(name))?;
        }
    }
    files::write_executable(&dir.join(&own), text.as_bytes())?;
    if native {
        files::link(own, &dir.join(name))?;
    }
    Ok(())
}

/// Makes the directories in which Portage finds `programs` before the compiler: it looks for them
/// below EPREFIX (make.conf(5), FEATURES: ccache, distcc).
pub(crate) fn write_masquerades(
    prefix: &Prefix,
    compiler: &Compiler,
    programs: &[(&str, ExternalTool)],
) -> Result<()> {
    let chost = &prefix.board.chost;
    for (name, tool) in programs {
        if !prefix.definition.features.iter().any(|feature| feature == name) {
            continue;
        }
        let program = tool.require()?.path().to_owned();
        let eroot = prefix.layout.eroot(Environment::Staging);
        let dir = eroot.join("usr/lib").join(name).join("bin");
        let cxx = compiler.cxx.iter().flat_map(|cxx| [(cxx, "g++"), (cxx, "c++")]);
        for (driver, name_of_it) in
            [(&compiler.cc, "gcc"), (&compiler.cc, "cc")].into_iter().chain(cxx)
        {
            let place = dir.join(format!("{chost}-{name_of_it}"));
            if *name == "distcc" {
                let driver = Compiler::inside(driver);
                let script = compiler_script(prefix, &driver, CompilerUse::Distributed(&program))?;
                files::write_executable(&place, script.as_bytes())?;
            } else {
                files::link(&program, &place)?;
            }
        }
    }
    Ok(())
}

/// Gives the machine's own tools the name of CBUILD too: with them packages build what they run
/// while they are built for another machine.
fn name_build_tools(dir: &Path, cbuild: &str) -> Result<()> {
    let drivers = ["gcc", "cc", "cpp", "g++", "c++", "pkg-config"];
    for name in BINUTILS.iter().chain(BINUTILS_OF_GCC).chain(&drivers) {
        link_program(&[(*name).to_owned()], dir, &[format!("{cbuild}-{name}")])?;
    }
    Ok(())
}

/// Links `names` in `dir` to the first of `programs` that the machine has.
fn link_program(programs: &[String], dir: &Path, names: &[String]) -> Result<()> {
    let found = programs.iter().find_map(|name| find_program(name, SYSTEM_PATH.as_ref()));
    if let Some(program) = found {
        for name in names {
            files::link(&program, &dir.join(name))?;
        }
    }
    Ok(())
}

/// The use of a compiler by a wrapper script.
enum CompilerUse<'a> {
    Plainly,
    /// As the preprocessor.
    ToPreprocess,
    /// Through distcc, which is at this path.
    Distributed(&'a Path),
}

fn compiler_script(
    prefix: &Prefix,
    driver: &InsidePath,
    compiler_use: CompilerUse<'_>,
) -> Result<String> {
    let libdir = libdir(prefix);
    let driver = driver.as_path();
    let text = |path: Option<&Path>| {
        path.and_then(Path::to_str).context("the compiler's path is not UTF-8").map(str::to_owned)
    };
    let distcc = match compiler_use {
        CompilerUse::Distributed(distcc) => Some(text(Some(distcc))?),
        CompilerUse::Plainly | CompilerUse::ToPreprocess => None,
    };
    template::render(
        Folder::Templates,
        "broot/compiler",
        minijinja::context! {
            driver => text(Some(driver))?,
            directory => text(driver.parent())?,
            name => text(driver.file_name().map(Path::new))?,
            eprefix => prefix.layout.eprefix_of(Environment::Staging).as_str(),
            loader => libdir.join(&prefix.board.loader),
            libdir,
            preprocess => matches!(compiler_use, CompilerUse::ToPreprocess),
            distcc,
        },
    )
}

fn pkg_config_script(prefix: &Prefix, program: &Path) -> Result<String> {
    template::render(
        Folder::Templates,
        "broot/pkg-config",
        minijinja::context! {
            program => program.to_str().context("the path of pkg-config is not UTF-8")?,
            eprefix => prefix.layout.eprefix_of(Environment::Staging).as_str(),
            libdir => libdir(prefix),
        },
    )
}

/// The directory of native libraries in the prefix, as programs see it.
fn libdir(prefix: &Prefix) -> PathBuf {
    prefix.layout.eprefix_of(Environment::Staging).as_path().join("usr").join(&prefix.board.libdir)
}
