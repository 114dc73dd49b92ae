//! The toolchain: the machine's compiler, and its runtime and development files as packages.
//!
//! The compiler itself stays on the machine. What programs need of it when they are linked and
//! when they run (libc, headers, libgcc, libstdc++) becomes a distfile with a hash, from which an
//! ebuild of ours installs it: so it has a version, CONTENTS, a licence and a binpkg like
//! everything else that Portage knows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use crate::board::Board;
use crate::command::{Command, SYSTEM_PATH, find_program};
use crate::data::{self, Folder};
use crate::template;

/// A C and C++ compiler for a board.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compiler {
    /// The gcc driver, links resolved.
    pub cc: PathBuf,
    /// The g++ driver, where there is one.
    pub cxx: Option<PathBuf>,
    /// What it calls the machine that it compiles for, and what its binutils are named after.
    pub machine: String,
    /// Its version.
    pub version: String,
    /// What the sandbox has to show of it in a place of its own, see [`Compiler::inside`].
    pub parts: Vec<PathBuf>,
}

/// The directory of the sandbox below which the compiler is shown once more. gcc finds its
/// libraries relative to where it is itself; below a directory that holds nothing else it finds
/// none but the prefix's.
const INSIDE: &str = "/fprefix/gcc";

impl Compiler {
    /// Finds a compiler for `board` among the machine's own programs.
    pub fn find(board: &Board) -> Result<Self> {
        let mut names: Vec<String> = vec![format!("{}-gcc", board.chost)];
        names.extend(board.compilers.iter().map(|name| format!("{name}-gcc")));
        if board.is_native() {
            names.push("gcc".into());
        }
        let found = names.iter().find_map(|name| find_program(name, SYSTEM_PATH.as_ref()));
        let Some(cc) = found else {
            bail!(
                "there is no gcc for {} ({}); install one (`fprefix doctor` says how); looked \
                 for {} in {SYSTEM_PATH}",
                board.name,
                board.machine,
                names.join(", ")
            );
        };
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
            bail!("{} compiles for {machine}, not for {}", cc.display(), board.machine);
        }
        let mut compiler = Self { cc, cxx, machine, version, parts: Vec::new() };
        compiler.parts = compiler.find_parts()?;
        Ok(compiler)
    }

    /// Where the sandbox shows `part` of the compiler.
    pub fn inside(part: &Path) -> PathBuf {
        Path::new(INSIDE).join(part.strip_prefix("/").unwrap_or(part))
    }

    /// The drivers, gcc's own directories, and those of the C++ headers.
    fn find_parts(&self) -> Result<Vec<PathBuf>> {
        let mut parts = BTreeSet::from([self.cc.clone()]);
        parts.extend(self.cxx.clone());
        parts.insert(self.install_dir()?);
        for program in ["cc1", "cc1plus", "collect2"] {
            let path = PathBuf::from(ask(&self.cc, &[&format!("-print-prog-name={program}")])?);
            if let (true, Some(dir)) = (path.is_absolute(), path.parent()) {
                parts.insert(fs_err::canonicalize(dir)?);
            }
        }
        if let Some(cxx) = &self.cxx {
            let dirs = include_dirs(cxx, "c++")?;
            parts.extend(dirs.into_iter().filter(|dir| {
                dir.components().any(|part| part.as_os_str().to_string_lossy().contains("c++"))
                    || dir.to_string_lossy().contains("/g++-v")
            }));
        }
        // A directory in another that is shown already needs no showing of its own.
        let all = parts.clone();
        parts.retain(|part| !all.iter().any(|other| other != part && part.starts_with(other)));
        Ok(parts.into_iter().collect())
    }

    fn install_dir(&self) -> Result<PathBuf> {
        let dirs = ask(&self.cc, &["-print-search-dirs"])?;
        let line = dirs
            .lines()
            .find_map(|line| line.strip_prefix("install:"))
            .with_context(|| format!("{} does not say where it is", self.cc.display()))?;
        Ok(fs_err::canonicalize(line.trim())?)
    }

    /// Where the compiler finds the file `name` of a library, if it does.
    fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = PathBuf::from(ask(&self.cc, &[&format!("-print-file-name={name}")])?);
        Ok((path.is_absolute() && path.exists()).then_some(path))
    }
}

fn ask(cc: &Path, args: &[&str]) -> Result<String> {
    let answer = Command::new("ask the compiler", cc).args(args).read()?;
    Ok(answer.trim_end().to_owned())
}

/// The directories in which the compiler looks for headers of `language`.
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

/// What profiles/toolchain.toml says of one package.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
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
    #[serde(default)]
    leave_out: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
}

/// What is put at one place of an imported package.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Copy(PathBuf),
    Link(PathBuf),
    Text(String),
}

/// A package of the imported toolchain: where its files come from.
#[derive(Debug)]
pub struct Import {
    /// Category and name.
    pub package: String,
    /// Its version.
    pub version: String,
    recipe: Recipe,
    entries: BTreeMap<PathBuf, Content>,
}

/// A distfile that was written.
#[derive(Debug)]
pub struct Distfile {
    /// Its file name.
    pub name: String,
    /// Its line in a Manifest (GLEP 74).
    pub manifest: String,
}

/// Plans the import of what `compiler` links programs of `board` with.
pub fn plan(compiler: &Compiler, board: &Board) -> Result<Vec<Import>> {
    let recipes: BTreeMap<String, Recipe> = data::toml("toolchain.toml")?;
    let libc = compiler.file("libc.so.6")?.with_context(|| {
        format!(
            "{} does not find libc.so.6: a prefix needs the GNU C library and its development \
             files (Debian: libc6-dev)",
            compiler.cc.display()
        )
    })?;
    // gcc's own headers stay with it, and what stands below /usr/local is nobody's package.
    let install = compiler.install_dir()?;
    let mut include = include_dirs(&compiler.cc, "c")?;
    include.retain(|dir| {
        let real = fs_err::canonicalize(dir).unwrap_or_else(|_| dir.clone());
        !real.starts_with(&install) && !real.starts_with("/usr/local/include")
    });
    let planner = Planner { compiler, board, include, libc_version: libc_version(&libc)? };
    recipes.into_iter().map(|(name, recipe)| planner.import(&name, recipe)).collect()
}

struct Planner<'a> {
    compiler: &'a Compiler,
    board: &'a Board,
    include: Vec<PathBuf>,
    libc_version: String,
}

impl Planner<'_> {
    fn import(&self, name: &str, recipe: Recipe) -> Result<Import> {
        let mut entries = BTreeMap::new();
        let expand = |text: &String| {
            text.replace("{loader}", &self.board.loader).replace("{version}", &self.libc_version)
        };
        for name in recipe.required.iter().map(expand) {
            if !self.library(&name, &mut entries)? {
                bail!(
                    "{} does not find {name}, which every prefix needs (Debian: libc6-dev; for a \
                     cross compiler libc6-dev-ARCH-cross)",
                    self.compiler.cc.display()
                );
            }
        }
        for name in recipe.libraries.iter().chain(&recipe.development).map(expand) {
            self.library(&name, &mut entries)?;
        }
        for folder in &recipe.folders {
            self.folder(folder, &mut entries)?;
        }
        entries.retain(|place, _| {
            !recipe.leave_out.iter().any(|name| place.file_name() == Some(name.as_ref()))
        });
        if self.board.is_native() {
            for program in &recipe.programs {
                if let Some(path) = find_program(program, SYSTEM_PATH.as_ref()) {
                    let place = Path::new("usr/bin").join(program);
                    entries.insert(place, Content::Copy(fs_err::canonicalize(path)?));
                }
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

    /// Plans a library, a link editor's name for one, an archive or an object.
    fn library(&self, name: &str, entries: &mut BTreeMap<PathBuf, Content>) -> Result<bool> {
        let Some(found) = self.compiler.file(name)? else { return Ok(false) };
        let place = self.libdir().join(name);
        let real = fs_err::canonicalize(&found)?;
        let linked = real.file_name() != found.file_name();
        if linked && Path::new(name).extension().is_some_and(|extension| extension == "so") {
            // libfoo.so names the library by its soname, which the prefix has.
            let soname = fs_err::read_link(&found)?;
            let soname = soname.file_name().unwrap_or(soname.as_os_str());
            entries.insert(place, Content::Link(soname.into()));
        } else if let Some(script) = linker_script(&real)? {
            let script = self.adapt(&script);
            entries.insert(place, Content::Text(script));
        } else {
            entries.insert(place, Content::Copy(real));
        }
        Ok(true)
    }

    /// A linker script with its absolute paths as the link editor finds them below the sysroot.
    fn adapt(&self, script: &str) -> String {
        let word = |word: &str| match word.rsplit_once('/') {
            Some((dir, file)) if dir.starts_with('/') => {
                format!("/{}/{file}", self.libdir().display())
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
        let Some(dir) = self.compiler.file(name)? else { return Ok(()) };
        copy_below(&dir, &self.libdir().join(name), entries)
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

/// Plans all files below `dir`, links resolved, at `place`.
fn copy_below(dir: &Path, place: &Path, entries: &mut BTreeMap<PathBuf, Content>) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir).follow_links(true) {
        let entry = entry.with_context(|| format!("could not look through {}", dir.display()))?;
        if entry.file_type().is_file() {
            let at = place.join(entry.path().strip_prefix(dir)?);
            entries.insert(at, Content::Copy(fs_err::canonicalize(entry.path())?));
        }
    }
    Ok(())
}

/// The text of the file at `path` if it is a linker script and no ELF file or archive.
fn linker_script(path: &Path) -> Result<Option<String>> {
    if fs_err::metadata(path)?.len() > 4096 {
        return Ok(None);
    }
    let text = String::from_utf8(fs_err::read(path)?).ok();
    Ok(text.filter(|text| text.contains("GROUP") || text.contains("INPUT")))
}

/// glibc says its version in its own file (`csu/version.c`).
fn libc_version(libc: &Path) -> Result<String> {
    let bytes = fs_err::read(libc)?;
    let pattern = Regex::new(r"GNU C Library [^\n]*release version (\d+\.\d+)")?;
    let found = pattern.captures(&bytes).and_then(|found| found.get(1)).with_context(|| {
        format!(
            "{} is no GNU C library of a released version; other C libraries are not supported",
            libc.display()
        )
    })?;
    Ok(String::from_utf8_lossy(found.as_bytes()).into_owned())
}

/// The kernel's headers say their version in `linux/version.h`.
fn linux_version(entries: &BTreeMap<PathBuf, Content>) -> Result<String> {
    let Some(Content::Copy(path)) = entries.get(Path::new("usr/include/linux/version.h")) else {
        bail!("there are no kernel headers (Debian: linux-libc-dev): linux/version.h is missing");
    };
    let text = fs_err::read_to_string(path)?;
    let code: u32 = text
        .lines()
        .find_map(|line| line.strip_prefix("#define LINUX_VERSION_CODE "))
        .and_then(|code| code.trim().parse().ok())
        .with_context(|| format!("{} says no version", path.display()))?;
    Ok(format!("{}.{}.{}", code >> 16, (code >> 8) & 0xff, code & 0xff))
}

impl Import {
    /// The package's name without its category.
    pub fn name(&self) -> &str {
        self.package.split_once('/').map_or(self.package.as_str(), |(_, name)| name)
    }

    /// The ebuild that installs `distfile`.
    pub fn ebuild(&self, board: &Board, distfile: &Distfile) -> Result<String> {
        template::render(
            Folder::Templates,
            "toolchain/import.ebuild",
            minijinja::context! {
                recipe => self.recipe,
                keyword => board.arch,
                distfile => distfile.name,
            },
        )
    }

    /// Writes the distfile into `distdir`. It is named after its content, so the same toolchain
    /// makes the same file, and one that changed makes another.
    ///
    /// Until it is whole its name begins with `unfinished`.
    pub fn write_distfile(&self, distdir: &Path, unfinished: &str) -> Result<Distfile> {
        let mut file = tempfile::Builder::new()
            .prefix(unfinished)
            .tempfile_in(distdir)
            .with_context(|| format!("could not write to {}", distdir.display()))?;
        let (hash, size) = self
            .write_hashed(file.as_file_mut())
            .with_context(|| format!("could not archive the files of {}", self.package))?;
        let digest = data::hex(&hash.finalize());
        let tag = digest.get(..16).unwrap_or(&digest);
        let name = format!("fprefix-{}-{}-{tag}.tar", self.name(), self.version);
        let path = distdir.join(&name);
        if !path.exists() {
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.persist(&path).with_context(|| format!("could not write {}", path.display()))?;
        }
        let manifest = format!("DIST {name} {size} SHA512 {digest}\n");
        Ok(Distfile { name, manifest })
    }

    fn write_hashed(&self, file: &mut std::fs::File) -> Result<(Sha512, u64)> {
        let inner = std::io::BufWriter::new(file);
        let mut hashing = Hashing { inner, hash: Sha512::new(), size: 0 };
        self.write_tar(&mut hashing)?;
        hashing.flush()?;
        Ok((hashing.hash, hashing.size))
    }

    fn write_tar(&self, out: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(out);
        for (place, content) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_uid(0);
            header.set_gid(0);
            header.set_mode(0o644);
            match content {
                Content::Copy(source) => {
                    let file = fs_err::File::open(source)?;
                    let meta = file.metadata()?;
                    header.set_metadata_in_mode(&meta, tar::HeaderMode::Complete);
                    header.set_uid(0);
                    header.set_gid(0);
                    let executable = std::os::unix::fs::PermissionsExt::mode(&meta.permissions());
                    header.set_mode(if executable & 0o111 == 0 { 0o644 } else { 0o755 });
                    tar.append_data(&mut header, place, file)?;
                }
                Content::Text(text) => {
                    header.set_size(text.len() as u64);
                    tar.append_data(&mut header, place, text.as_bytes())?;
                }
                Content::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    tar.append_link(&mut header, place, target)?;
                }
            }
        }
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// Counts and digests what is written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha512,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
