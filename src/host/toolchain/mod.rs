//! Toolchain: the machine's compiler, and its runtime and development files as packages.
//!
//! The compiler itself stays on the machine. Programs need other files of it to link and to run:
//! libc, headers, libgcc, libstdc++. These files, or those in the board's own root directory,
//! become a distfile with a hash. An ebuild of fprefix installs it. So the files have a version,
//! CONTENTS, a licence and a binpkg, as all packages in Portage do.

mod distfile;
mod plan;
mod sysroot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::board::Board;
use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::inside::{self, InsidePath};
use crate::host::tools;

pub(crate) use crate::host::toolchain::plan::{Import, packages, plan};
pub(crate) use crate::host::toolchain::sysroot::Sysroot;

/// A C and C++ compiler for a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// The gcc driver, links resolved.
    pub cc: PathBuf,
    /// The g++ driver; `None` if there is none beside gcc.
    pub cxx: Option<PathBuf>,
    /// Machine that it compiles for, in its own spelling, which also prefixes the names of its
    /// binutils.
    pub machine: String,
    /// Version of the compiler.
    pub version: String,
    /// Paths of the compiler that the sandbox must show in a separate place, see
    /// [`Compiler::inside`].
    pub parts: Vec<PathBuf>,
}

impl Compiler {
    /// Finds a compiler for `board` among the machine's own programs.
    pub fn find(board: &Board) -> Result<Self> {
        let found = tools::GCC.for_board(board).require()?;
        let cc = found.path();
        let beside = cc.to_string_lossy().into_owned();
        let cxx = beside
            .strip_suffix("gcc")
            .map(|stem| PathBuf::from(format!("{stem}g++")))
            .filter(|path| path.exists())
            .map(fs_err::canonicalize)
            .transpose()?;
        let cc = fs_err::canonicalize(cc)?;
        let machine = ask(&cc, &["-dumpmachine"])?;
        let version = ask(&cc, &["-dumpfullversion", "-dumpversion"])?;
        if !machine.starts_with(&board.machine) {
            bail!("{} compiles for {machine}, not for {}", cc.escaped(), board.machine);
        }
        let mut compiler = Self { cc, cxx, machine, version, parts: Vec::new() };
        compiler.parts = compiler.find_parts()?;
        Ok(compiler)
    }

    /// Returns the path at which the sandbox shows `part` of the compiler.
    pub fn inside(part: &Path) -> InsidePath {
        inside::COMPILER.join(part)
    }

    /// Finds the drivers, gcc's own directories, and those of the C++ headers.
    fn find_parts(&self) -> Result<Vec<PathBuf>> {
        let mut parts = BTreeSet::from([self.cc.clone()]);
        parts.extend(self.cxx.clone());
        parts.insert(self.install_dir()?);
        // A cross compiler has links to its assembler and link editor, by their plain names, in a
        // separate directory.
        for program in ["cc1", "cc1plus", "collect2", "as", "ld"] {
            let path = PathBuf::from(ask(&self.cc, &[&format!("-print-prog-name={program}")])?);
            if let (true, Some(dir)) = (path.is_absolute(), path.parent()) {
                parts.insert(fs_err::canonicalize(dir)?);
                parts.insert(fs_err::canonicalize(&path)?);
            }
        }
        if let Some(cxx) = &self.cxx {
            let dirs = include_dirs(cxx, "c++")?;
            parts.extend(dirs.into_iter().filter(|dir| {
                dir.components().any(|part| part.as_os_str().to_string_lossy().contains("c++"))
                    || dir.to_string_lossy().contains("/g++-v")
            }));
        }
        // A directory inside another one is already visible.
        let all = parts.clone();
        parts.retain(|part| !all.iter().any(|other| other != part && part.starts_with(other)));
        Ok(parts.into_iter().collect())
    }

    fn install_dir(&self) -> Result<PathBuf> {
        let dirs = ask(&self.cc, &["-print-search-dirs"])?;
        let line = dirs
            .lines()
            .find_map(|line| line.strip_prefix("install:"))
            .with_context(|| format!("{} does not say where it is", self.cc.escaped()))?;
        Ok(fs_err::canonicalize(line.trim())?)
    }

    /// Returns the path at which the compiler finds the library file `name`; `None` if it does not.
    fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = PathBuf::from(ask(&self.cc, &[&format!("-print-file-name={name}")])?);
        Ok((path.is_absolute() && path.exists()).then_some(path))
    }
}

fn ask(cc: &Path, args: &[&str]) -> Result<String> {
    let answer = Command::new("ask the compiler", cc).args(args).read()?;
    Ok(answer.trim_end().to_owned())
}

/// Returns the directories in which the compiler looks for headers of `language`.
fn include_dirs(cc: &Path, language: &str) -> Result<Vec<PathBuf>> {
    let output = Command::new("ask the compiler where headers are", cc)
        .args(["-E", "-v", "-x", language, "/dev/null"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text
        .lines()
        .skip_while(|line| !line.starts_with("#include <"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .map(|line| PathBuf::from(line.trim()))
        .filter(|dir| dir.is_dir())
        .collect())
}
