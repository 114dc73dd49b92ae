//! Plan of the imported toolchain: files of the machine and their places in the packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use crate::base::board::Board;
use crate::base::command::{SYSTEM_PATH, find_program};
use crate::base::data::{self, Folder};
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::{LIBRARY, TEXT};
use crate::host::toolchain::sysroot::Found;
use crate::host::toolchain::{Compiler, Sysroot, include_dirs};

/// Entry of profiles/toolchain.toml for one package.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    package: String,
    description: String,
    homepage: String,
    license: String,
    slot: String,
    #[serde(default)]
    rdepend: String,
    headers: Option<String>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    libraries: Vec<String>,
    #[serde(default)]
    development: Vec<String>,
    #[serde(default)]
    folders: Vec<String>,
    locale: Option<PathBuf>,
    #[serde(default)]
    programs: Vec<String>,
}

/// Content of one path in an imported package.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Copy(PathBuf),
    Link(PathBuf),
    Text(String),
}

/// A package of the imported toolchain, with the sources of its files.
#[derive(Debug)]
pub(crate) struct Import {
    /// Category and name.
    pub package: String,
    /// Its version.
    pub version: String,
    pub(super) recipe: Recipe,
    pub(super) entries: BTreeMap<PathBuf, Content>,
}
/// Recipe of the files that gcc provides.
const OF_COMPILER: &str = "gcc-runtime";

/// Returns the names of the packages of imported toolchains.
pub(crate) fn packages() -> Result<BTreeSet<String>> {
    let recipes: BTreeMap<String, Recipe> = data::toml("toolchain.toml")?;
    Ok(recipes.into_values().map(|recipe| recipe.package).collect())
}

/// Plans the import of the files that `compiler` links programs of `board` with. They come from the
/// board's root directory, if it has one.
pub(crate) fn plan(
    compiler: &Compiler,
    board: &Board,
    sysroot: Option<&Sysroot>,
) -> Result<Vec<Import>> {
    let recipes: BTreeMap<String, Recipe> = data::toml("toolchain.toml")?;
    let mut planner =
        Planner { compiler, board, sysroot, include: Vec::new(), libc_version: String::new() };
    let libc = planner.find("libc.so.6", false)?.with_context(|| {
        format!(
            "{} does not find libc.so.6: a prefix needs the GNU C library and its development \
             files (Debian: libc6-dev)",
            compiler.cc.escaped()
        )
    })?;
    planner.libc_version = libc_version(&libc.real)?;
    planner.include = match sysroot {
        Some(sysroot) => sysroot.headers().to_vec(),
        None => headers_of(compiler)?,
    };
    recipes.into_iter().map(|(name, recipe)| planner.import(&name, recipe)).collect()
}

/// Returns the directories of the C library's and the kernel's headers. gcc's own headers stay with
/// gcc, and files below /usr/local belong to no package.
fn headers_of(compiler: &Compiler) -> Result<Vec<PathBuf>> {
    let install = compiler.install_dir()?;
    let mut include = include_dirs(&compiler.cc, "c")?;
    include.retain(|dir| {
        let real = fs_err::canonicalize(dir).unwrap_or_else(|_| dir.clone());
        !real.starts_with(&install) && !real.starts_with("/usr/local/include")
    });
    Ok(include)
}

struct Planner<'a> {
    compiler: &'a Compiler,
    board: &'a Board,
    sysroot: Option<&'a Sysroot>,
    include: Vec<PathBuf>,
    libc_version: String,
}

impl Planner<'_> {
    fn import(&self, name: &str, recipe: Recipe) -> Result<Import> {
        let mut entries = BTreeMap::new();
        let of_compiler = name == OF_COMPILER;
        let expand = |text: &String| {
            text.replace("{loader}", &self.board.loader).replace("{version}", &self.libc_version)
        };
        for name in recipe.required.iter().map(expand) {
            if !self.library(&name, of_compiler, &mut entries)? {
                bail!(
                    "{} does not find {name}, which every prefix needs (Debian: libc6-dev; for a \
                     cross compiler libc6-dev-ARCH-cross)",
                    self.compiler.cc.escaped()
                );
            }
        }
        for name in recipe.libraries.iter().chain(&recipe.development).map(expand) {
            self.library(&name, of_compiler, &mut entries)?;
        }
        for folder in &recipe.folders {
            self.folder(folder, &mut entries)?;
        }
        if let Some(locale) = &recipe.locale
            && let Some(dir) = self.locale(locale)
        {
            copy_below(&dir, locale.strip_prefix("/").unwrap_or(locale), &mut entries)?;
        }
        for program in &recipe.programs {
            if let Some(path) = self.program(program)? {
                entries.insert(Path::new("usr/bin").join(program), Content::Copy(path));
            }
        }
        if let Some(list) = &recipe.headers {
            self.headers(list, &mut entries)?;
        }
        let version = match name {
            "glibc" => self.libc_version.clone(),
            "linux-headers" => linux_version(&entries)?,
            _ => self.compiler.version.clone(),
        };
        Ok(Import { package: recipe.package.clone(), version, recipe, entries })
    }

    fn libdir(&self) -> PathBuf {
        Path::new("usr").join(&self.board.libdir)
    }

    /// Finds the library file `name`. All files of the C library come from one place. A library of
    /// gcc is the compiler's if the board has none of the same version.
    fn find(&self, name: &str, of_compiler: bool) -> Result<Option<Found>> {
        let in_sysroot = self.sysroot.and_then(|sysroot| {
            if of_compiler { sysroot.runtime(name) } else { sysroot.library(name) }
        });
        if in_sysroot.is_some() || (self.sysroot.is_some() && !of_compiler) {
            return Ok(in_sysroot);
        }
        let Some(path) = self.compiler.file(name)? else { return Ok(None) };
        let real = fs_err::canonicalize(&path)?;
        Ok(Some(Found { path, real }))
    }

    /// Finds a program of the C library that runs with it. The machine's own programs run on that
    /// machine only.
    fn program(&self, name: &str) -> Result<Option<PathBuf>> {
        if let Some(sysroot) = self.sysroot {
            return Ok(sysroot.file(&Path::new("/usr/bin").join(name)).map(|found| found.real));
        }
        let path = find_program(name, SYSTEM_PATH.as_ref()).filter(|_| self.board.is_native());
        Ok(path.map(fs_err::canonicalize).transpose()?)
    }

    /// Returns the directory of a locale, which is the same on all machines.
    fn locale(&self, path: &Path) -> Option<PathBuf> {
        let in_sysroot = self.sysroot.and_then(|sysroot| sysroot.file(path));
        let dir = in_sysroot.map_or_else(|| path.to_owned(), |found| found.real);
        dir.is_dir().then_some(dir)
    }

    /// Plans a library, a link editor's name for one, an archive or an object.
    fn library(
        &self,
        name: &str,
        of_compiler: bool,
        entries: &mut BTreeMap<PathBuf, Content>,
    ) -> Result<bool> {
        let Some(Found { path: found, real }) = self.find(name, of_compiler)? else {
            return Ok(false);
        };
        let place = self.libdir().join(name);
        let linked = real.file_name() != found.file_name();
        if linked && Path::new(name).extension().is_some_and(|extension| extension == "so") {
            // libfoo.so refers to the library by its soname, which the prefix has.
            let soname = fs_err::read_link(&found)?;
            let soname = soname.file_name().unwrap_or(soname.as_os_str());
            entries.insert(place, Content::Link(soname.into()));
        } else if let Some(script) = linker_script(&real)? {
            let script = self.rewrite_script(&script);
            entries.insert(place, Content::Text(script));
        } else {
            entries.insert(place, Content::Copy(real));
        }
        Ok(true)
    }

    /// Returns a linker script with its absolute paths as the link editor finds them below the
    /// sysroot.
    fn rewrite_script(&self, script: &str) -> String {
        let word = |word: &str| match word.rsplit_once('/') {
            Some((dir, file)) if dir.starts_with('/') => {
                format!("/{}/{file}", self.libdir().to_string_lossy())
            }
            _ => word.to_owned(),
        };
        let line = |line: &str| {
            if !line.starts_with("GROUP") && !line.starts_with("INPUT") {
                return line.to_owned();
            }
            line.split(' ').map(word).collect::<Vec<_>>().join(" ")
        };
        script.lines().map(|text| line(text) + "\n").collect()
    }

    fn folder(&self, name: &str, entries: &mut BTreeMap<PathBuf, Content>) -> Result<()> {
        let Some(dir) = self.find(name, false)? else { return Ok(()) };
        copy_below(&dir.real, &self.libdir().join(name), entries)
    }

    fn headers(&self, list: &str, entries: &mut BTreeMap<PathBuf, Content>) -> Result<()> {
        let list = data::text(Folder::Profiles, list)?;
        for name in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let place = Path::new("usr/include").join(name.trim_end_matches('/'));
            for dir in self.include.iter().rev() {
                let found = dir.join(name);
                if name.ends_with('/') && found.is_dir() {
                    copy_below(&found, &place, entries)?;
                } else if found.is_file() {
                    let real = fs_err::canonicalize(&found)?;
                    entries.insert(place.clone(), Content::Copy(real));
                }
            }
        }
        Ok(())
    }
}

/// Plans all files below `dir`, with links resolved, at `place`.
fn copy_below(dir: &Path, place: &Path, entries: &mut BTreeMap<PathBuf, Content>) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir).follow_links(true) {
        let entry = entry.with_context(|| format!("could not look through {}", dir.escaped()))?;
        if entry.file_type().is_file() {
            let at = place.join(entry.path().strip_prefix(dir)?);
            entries.insert(at, Content::Copy(fs_err::canonicalize(entry.path())?));
        }
    }
    Ok(())
}

/// Returns the text of the file at `path` if it is a linker script, not an ELF file or archive.
fn linker_script(path: &Path) -> Result<Option<String>> {
    let start = input::read_start(path, 4097)?;
    if start.len() > 4096 {
        return Ok(None);
    }
    let text = String::from_utf8(start).ok();
    Ok(text.filter(|text| text.contains("GROUP") || text.contains("INPUT")))
}

/// Reads the version of glibc from its library (`csu/version.c`).
fn libc_version(libc: &Path) -> Result<String> {
    let bytes = input::read(libc, LIBRARY)?;
    let pattern = Regex::new(r"GNU C Library [^\n]*release version (\d+\.\d+)")?;
    let found = pattern.captures(&bytes).and_then(|found| found.get(1)).with_context(|| {
        format!(
            "{} is no GNU C library of a released version; other C libraries are not supported",
            libc.escaped()
        )
    })?;
    Ok(String::from_utf8_lossy(found.as_bytes()).into_owned())
}

/// Reads the version of the kernel's headers from `linux/version.h`.
fn linux_version(entries: &BTreeMap<PathBuf, Content>) -> Result<String> {
    let Some(Content::Copy(path)) = entries.get(Path::new("usr/include/linux/version.h")) else {
        bail!("there are no kernel headers (Debian: linux-libc-dev): linux/version.h is missing");
    };
    let text = input::read_text(path, TEXT)?;
    let code: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("#define LINUX_VERSION_CODE "))
        .and_then(|code| code.trim().parse().ok())
        .with_context(|| format!("{} says no version", path.escaped()))?;
    Ok(format!("{}.{}.{}", code >> 16, (code >> 8) & 0xff, code & 0xff))
}
