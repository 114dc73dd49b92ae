//! Built-in data: profiles/, wrappers/, templates/ and overlay/ are compiled in, so that the
//! program is one file. `FPREFIX_DATA` names a directory that replaces all of them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use include_dir::{Dir, include_dir};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;

static PROFILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/profiles");
static WRAPPERS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/wrappers");
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates");
static OVERLAY: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/overlay");

/// Variable that names a directory to read instead of the built-in data.
pub const DATA_VARIABLE: &str = "FPREFIX_DATA";

/// One of the four trees of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Portage configuration as data.
    Profiles,
    /// Templates of the scripts that users call.
    Wrappers,
    /// Templates of configuration files, ebuilds and reports.
    Templates,
    /// Built-in ebuild repository.
    Overlay,
}

impl Folder {
    fn name(self) -> &'static str {
        match self {
            Self::Profiles => "profiles",
            Self::Wrappers => "wrappers",
            Self::Templates => "templates",
            Self::Overlay => "overlay",
        }
    }

    fn built_in(self) -> &'static Dir<'static> {
        match self {
            Self::Profiles => &PROFILES,
            Self::Wrappers => &WRAPPERS,
            Self::Templates => &TEMPLATES,
            Self::Overlay => &OVERLAY,
        }
    }
}

/// File of the data, with its path below the folder.
pub struct DataFile {
    /// Path below the folder.
    pub path: PathBuf,
    /// Contents of the file.
    pub contents: Cow<'static, [u8]>,
}

fn replacement(folder: Folder) -> Option<PathBuf> {
    Some(Path::new(&std::env::var_os(DATA_VARIABLE)?).join(folder.name()))
}

/// Returns the text of the file at `path` below `folder`.
pub fn text(folder: Folder, path: &str) -> Result<Cow<'static, str>> {
    if let Some(dir) = replacement(folder) {
        return Ok(Cow::Owned(input::read_text(&dir.join(path), TEXT)?));
    }
    folder
        .built_in()
        .get_file(path)
        .and_then(|file| file.contents_utf8())
        .map(Cow::Borrowed)
        .with_context(|| format!("there is no built-in file {}/{path}", folder.name()))
}

/// Loads the TOML file at `path` below profiles/ as `T`.
pub fn toml<T: DeserializeOwned>(path: &str) -> Result<T> {
    let text = text(Folder::Profiles, path)?;
    toml::from_str(&text).with_context(|| format!("could not load profiles/{path}"))
}

/// Returns all files below `below` of `folder`, sorted by path, which is relative to `below`.
pub fn files(folder: Folder, below: &str) -> Result<Vec<DataFile>> {
    let mut files = match replacement(folder) {
        Some(dir) => files_on_disk(&dir.join(below))?,
        None => built_in_files(folder, below)?,
    };
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn built_in_files(folder: Folder, below: &str) -> Result<Vec<DataFile>> {
    fn collect(dir: &'static Dir<'static>, base: &Path, files: &mut Vec<DataFile>) {
        for file in dir.files() {
            let path = file.path().strip_prefix(base).unwrap_or(file.path()).to_owned();
            files.push(DataFile { path, contents: Cow::Borrowed(file.contents()) });
        }
        for inner in dir.dirs() {
            collect(inner, base, files);
        }
    }
    let top = if below.is_empty() {
        folder.built_in()
    } else {
        folder
            .built_in()
            .get_dir(below)
            .with_context(|| format!("there is no built-in folder {}/{below}", folder.name()))?
    };
    let mut files = Vec::new();
    collect(top, Path::new(below), &mut files);
    Ok(files)
}

fn files_on_disk(dir: &Path) -> Result<Vec<DataFile>> {
    if !dir.is_dir() {
        bail!("{DATA_VARIABLE} is set, and there is no directory {}", dir.escaped());
    }
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(DataFile {
                path: entry.path().strip_prefix(dir)?.to_owned(),
                contents: Cow::Owned(input::read(entry.path(), TEXT)?),
            });
        }
    }
    Ok(files)
}

/// Writes all files below `below` of `folder` to the directory `target`.
pub fn write_out(folder: Folder, below: &str, target: &Path) -> Result<()> {
    for file in files(folder, below)? {
        let path = target.join(&file.path);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(&path, &file.contents)?;
    }
    Ok(())
}

/// Returns a digest of all data, which shows whether files written earlier are from this program.
pub fn stamp() -> Result<String> {
    let mut hash = Sha256::new();
    for folder in [Folder::Profiles, Folder::Wrappers, Folder::Templates, Folder::Overlay] {
        for file in files(folder, "")? {
            hash.update(folder.name());
            hash.update(file.path.as_os_str().as_encoded_bytes());
            hash.update(Sha256::digest(&file.contents));
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Returns `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
