//! Modules of the C library for character sets (iconv(3)) that an extension can need: those of its
//! locales, those that the user named, and, if a program calls iconv(3), those that glibc installs in its
//! base package.

mod modules;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Error, Result, bail};
use memchr::memmem;
use serde::Serialize;

use crate::base::escape::Escape;
use crate::base::limits::TEXT;
use crate::elf;
use crate::fstree::entries::{ContentSource, EntryKind, FileContent, FileTree};
use crate::relocate::libc::{GCONV_CACHE, replace_directory, retain_modules};
use crate::sysext::charsets::modules::CharsetModules;

/// Name of a list of modules, and of the directory of further lists beside it.
const LIST: &str = "gconv-modules";
const LISTS: &str = "gconv-modules.d";

/// Function that programs convert character sets with, among the strings of a file. Linkers let it share
/// the end of a longer name, like `g_iconv_open`.
const ICONV: &[u8] = b"iconv_open\0";

/// Length from which on the name of a character set is searched for in locales: that of `GBK`. Shorter
/// names are aliases that no locale has, and could be anything.
const SHORTEST: usize = 3;

/// A character set that has to be in the extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Charset {
    /// All character sets.
    All,
    /// The character set of this name, in upper case.
    Named(String),
}

impl FromStr for Charset {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:()+".contains(c);
        if text.is_empty() || !text.chars().all(is_plain) {
            bail!("{text:?} has to be a character set, like ISO-8859-15 or EUC-JP, or all");
        }
        Ok(Self::Named(text.to_uppercase()))
    }
}

/// Character sets that have to be in an extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedCharsets<'a> {
    /// Character sets that the user named.
    pub named: &'a [Charset],
    /// Character sets of programs that call iconv(3).
    pub usual: &'a [String],
}

/// Returns those of the modules `candidates` that `plan` cannot need.
pub(super) fn unneeded(
    plan: &FileTree,
    candidates: BTreeSet<PathBuf>,
    wanted: WantedCharsets<'_>,
) -> Result<BTreeSet<PathBuf>> {
    if wanted.named.contains(&Charset::All) {
        return Ok(BTreeSet::new());
    }
    let mut out = candidates;
    for dir in directories(&out) {
        let modules = read_lists(plan, &dir)?;
        let cache = file(plan, &dir.join(GCONV_CACHE)).map(|content| content.source.bytes());
        let is_readable = match cache.transpose()? {
            Some(bytes) => retain_modules(&bytes, |_| true).is_some(),
            None => true,
        };
        if modules.is_empty() || !is_readable {
            out.retain(|path| path.parent() != Some(&dir));
            continue;
        }
        let needed = needed_files(plan, &dir, &modules, wanted)?;
        let is_needed = |path: &PathBuf| {
            path.parent() == Some(&dir)
                && path.file_name().and_then(OsStr::to_str).is_none_or(|name| needed.contains(name))
        };
        out.retain(|path| !is_needed(path));
    }
    Ok(out)
}

/// Makes the lists and caches in the directories of the modules `gone` fit the modules that are left.
pub(super) fn cut_lists(plan: &mut FileTree, gone: &BTreeSet<PathBuf>) -> Result<()> {
    for dir in directories(gone) {
        let modules = read_lists(plan, &dir)?;
        let mut new = Vec::new();
        let has = |name: &str| plan.entries.contains_key(&dir.join(name));
        for path in list_paths(plan, &dir) {
            let text = modules::retain(&read_text(plan, &path)?, &modules, has);
            new.push((path, text.into_bytes()));
        }
        let path = dir.join(GCONV_CACHE);
        if let Some(content) = file(plan, &path) {
            let has = |name: &[u8]| std::str::from_utf8(name).is_ok_and(has);
            let bytes = retain_modules(&content.source.bytes()?, has);
            // Rewriting would leave it like that (rule character-sets of the check).
            let bytes = bytes.and_then(|new| replace_directory(&new, &Path::new("/").join(&dir)));
            let bytes = bytes.with_context(|| format!("/{} cannot be read", path.escaped()))?;
            new.push((path, bytes));
        }
        for (path, bytes) in new {
            if let Some(entry) = plan.entries.get_mut(&path) {
                let size = bytes.len() as u64;
                let content = FileContent::unread(ContentSource::Bytes(bytes), size);
                entry.kind = EntryKind::File(content);
            }
        }
    }
    Ok(())
}

fn directories(modules: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    modules.iter().filter_map(|path| Some(path.parent()?.to_owned())).collect()
}

/// Returns the names of the files in `dir` that the extension can need.
fn needed_files(
    plan: &FileTree,
    dir: &Path,
    modules: &CharsetModules,
    wanted: WantedCharsets<'_>,
) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for charset in wanted.named {
        let Charset::Named(name) = charset else { continue };
        let Some(name) = modules.resolve(name) else {
            bail!(
                "/{} has no character set {name}\nhint: `iconv --list` shows those that the C \
                 library has",
                dir.escaped()
            );
        };
        names.insert(name);
    }
    let in_locales = names_in_locales(plan, modules)?;
    names.extend(in_locales.iter().filter_map(|name| modules.resolve(name)));
    if calls_iconv(plan)? {
        names.extend(wanted.usual.iter().filter_map(|name| modules.resolve(name)));
    }
    let mut files: BTreeSet<String> =
        modules.files(&names).into_iter().map(str::to_owned).collect();
    add_libraries(plan, dir, modules, &mut files)?;
    Ok(files)
}

/// Adds the libraries in `dir` that the modules `files` load.
fn add_libraries(
    plan: &FileTree,
    dir: &Path,
    modules: &CharsetModules,
    files: &mut BTreeSet<String>,
) -> Result<()> {
    let in_dir = plan.entries.keys().filter(|path| path.parent() == Some(dir));
    let names = in_dir.filter_map(|path| path.file_name()?.to_str());
    let libraries: Vec<&str> =
        names.filter(|name| name.ends_with(".so") && !modules.has_file(name)).collect();
    let mut open: Vec<String> = files.iter().cloned().collect();
    while let Some(name) = open.pop() {
        let Some(content) = file(plan, &dir.join(&name)) else { continue };
        let bytes = content.source.bytes()?;
        for library in &libraries {
            if memmem::find(&bytes, library.as_bytes()).is_some()
                && files.insert((*library).to_owned())
            {
                open.push((*library).to_owned());
            }
        }
    }
    Ok(())
}

/// Returns the names of character sets that the locales of `plan` contain (locale(5)). It may be more
/// than those that they are encoded in.
fn names_in_locales(plan: &FileTree, modules: &CharsetModules) -> Result<BTreeSet<String>> {
    let names = modules.names();
    let names: Vec<&str> = names.into_iter().filter(|name| name.len() >= SHORTEST).collect();
    let search = AhoCorasick::new(&names).context("could not search for character sets")?;
    let mut found = BTreeSet::new();
    for (path, entry) in &plan.entries {
        let EntryKind::File(content) = &entry.kind else { continue };
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !matches!(name, "LC_CTYPE" | "locale-archive") {
            continue;
        }
        let bytes = content.source.bytes()?;
        for hit in search.find_overlapping_iter(&*bytes) {
            let before = hit.start().checked_sub(1).and_then(|at| bytes.get(at));
            let is_string = bytes.get(hit.end()) == Some(&0)
                && before.is_none_or(|byte| !byte.is_ascii_graphic());
            if let Some(name) = names.get(hit.pattern().as_usize()).filter(|_| is_string) {
                found.insert((*name).to_owned());
            }
        }
    }
    Ok(found)
}

/// Returns whether a program or library in `plan` calls iconv(3). The C library has it.
fn calls_iconv(plan: &FileTree) -> Result<bool> {
    let search = memmem::Finder::new(ICONV);
    for (path, entry) in &plan.entries {
        let EntryKind::File(content) = &entry.kind else { continue };
        let is_libc = path.file_name().is_some_and(|name| name == "libc.so.6");
        if content.size == 0 || is_libc {
            continue;
        }
        let bytes = content.source.bytes()?;
        if elf::is_elf(&bytes) && search.find(&bytes).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn list_paths(plan: &FileTree, dir: &Path) -> Vec<PathBuf> {
    let lists = dir.join(LISTS);
    let is_list = |path: &&PathBuf| {
        path.parent() == Some(&lists) && path.extension().is_some_and(|suffix| suffix == "conf")
    };
    let further = plan.entries.keys().filter(is_list).cloned();
    let all = std::iter::once(dir.join(LIST)).chain(further);
    all.filter(|path| file(plan, path).is_some()).collect()
}

fn read_lists(plan: &FileTree, dir: &Path) -> Result<CharsetModules> {
    let mut modules = CharsetModules::default();
    for path in list_paths(plan, dir) {
        modules.read(&read_text(plan, &path)?);
    }
    Ok(modules)
}

fn read_text(plan: &FileTree, path: &Path) -> Result<String> {
    let Some(content) = file(plan, path).filter(|content| content.size <= TEXT.bytes) else {
        bail!("/{} is too large for a list of modules", path.escaped());
    };
    Ok(String::from_utf8_lossy(&content.source.bytes()?).into_owned())
}

fn file<'p>(plan: &'p FileTree, path: &Path) -> Option<&'p FileContent> {
    match &plan.entries.get(path)?.kind {
        EntryKind::File(content) => Some(content),
        _ => None,
    }
}
