//! Stripping: images leave out symbols and debugging information, which programs do not need to
//! run.
//!
//! Headers show which files have symbols. The strip(1) of their machine strips copies, many at
//! once; the root itself does not change. A copy is used only if everything in it that is loaded is
//! unchanged. So a file that strip does not understand is packed as it is.

mod debug;
mod keep;
mod tools;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::input;
use crate::elf::{self, DebugSymbols};
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::prefix::final_root::FinalRoot;

pub(crate) use crate::sysext::strip::debug::of_prefix;
pub(crate) use crate::sysext::strip::keep::{KeepSymbols, KeptSymbols};
use crate::sysext::strip::tools::Binutils;
pub(crate) use crate::sysext::strip::tools::programs;

/// Maximum number of files for one process.
const BATCH: usize = 256;

/// Attributes that hold a signature of the content (IMA of the kernel, `security.ima`, `evm`).
const SIGNATURES: &[&str] = &["security.ima", "security.evm"];

/// Options of stripping.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StripOptions {
    /// Files that keep their symbols.
    pub keep: Vec<KeepSymbols>,
    /// True if the removed symbols become an extension of their own.
    pub splitdebug: bool,
}

/// Summary of the stripped files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stripped {
    /// Number of files.
    pub files: u64,
    /// Number of bytes that they lost.
    pub bytes: u64,
    /// Files that still have symbols, by path.
    pub kept: Vec<KeptSymbols>,
}

/// Files that have symbols.
#[derive(Debug, Default)]
pub(crate) struct StripPlan {
    /// Files that will be stripped.
    pub files: BTreeMap<PathBuf, DebugSymbols>,
    /// Files that will keep their symbols.
    pub kept: Vec<KeptSymbols>,
}

/// Result of stripping.
#[derive(Debug, Default)]
pub(crate) struct StripOutcome {
    /// Summary for the report.
    pub stripped: Stripped,
    /// Separate symbols, by their path in an extension of their own.
    pub debug: BTreeMap<PathBuf, Entry>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Finds the files of `plan` that have symbols, and the reasons to keep symbols.
pub(crate) fn choose(
    plan: &FileTree,
    root: &FinalRoot,
    stripping: &StripOptions,
) -> Result<StripPlan> {
    let entries: Vec<(&PathBuf, &Entry)> = plan.entries.iter().collect();
    let found: Vec<(&PathBuf, &Entry, DebugSymbols)> = entries
        .into_par_iter()
        .filter_map(|(path, entry)| match read_symbols(entry) {
            Ok(symbols) => symbols.map(|symbols| Ok((path, entry, symbols))),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_>>()?;
    let exceptions = keep::KeptFiles::collect(root, &stripping.keep)?;
    let mut names: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for (path, entry) in &plan.entries {
        if let EntryKind::HardLink(first) = &entry.kind {
            names.entry(first).or_default().push(path);
        }
    }
    let boards = Board::list()?;
    let mut choice = StripPlan::default();
    for (path, entry, symbols) in found {
        let others = names.get(path.as_path()).into_iter().flatten().copied();
        let why = std::iter::once(path.as_path())
            .chain(others)
            .find_map(|name| exceptions.reason_to_keep(name))
            .or_else(|| symbols.obstacle.map(str::to_owned))
            .or_else(|| find_signature(entry))
            .or_else(|| reject_foreign(&boards, &symbols));
        match why {
            Some(why) => choice.kept.push(kept_symbols(path, why)),
            None => drop(choice.files.insert(path.clone(), symbols)),
        }
    }
    Ok(choice)
}

fn kept_symbols(path: &Path, why: String) -> KeptSymbols {
    KeptSymbols { path: Path::new("/").join(path).escaped().to_string(), why }
}

/// Returns the symbols of a program or a library in the root. A broken file has none.
fn read_symbols(entry: &Entry) -> Result<Option<DebugSymbols>> {
    let EntryKind::File(FileContent { source: ContentSource::Disk(path), .. }) = &entry.kind else {
        return Ok(None);
    };
    let file = input::open_walked(path)?;
    let mut magic = [0; 4];
    let read = std::os::unix::fs::FileExt::read_at(file.file(), &mut magic, 0);
    if read.with_context(|| format!("could not read {}", path.escaped()))? < magic.len()
        || !elf::is_elf(&magic)
    {
        return Ok(None);
    }
    let bytes =
        elf::open(file.file()).with_context(|| format!("could not read {}", path.escaped()))?;
    Ok(elf::find_debug_symbols(&bytes).ok().flatten())
}

/// Returns the reason to leave the content of `entry` as it is, if it is signed.
pub(super) fn find_signature(entry: &Entry) -> Option<String> {
    let name = entry.xattrs.keys().find(|name| SIGNATURES.iter().any(|known| *name == known))?;
    Some(format!("it is signed ({})", name.escaped()))
}

/// Returns the reason to skip a file of another kind of machine: it is firmware, mostly.
fn reject_foreign(boards: &[Board], symbols: &DebugSymbols) -> Option<String> {
    let machine = symbols.machine;
    let is_known = boards.iter().any(|board| board.elf_machine == machine);
    (!is_known).then(|| format!("it is for a machine that no board has (ELF {machine})"))
}

/// A file in work: its copies are `NAME` and `NAME.debug` in the work directory.
struct StripJob<'a> {
    path: &'a Path,
    source: PathBuf,
    size: u64,
    symbols: &'a DebugSymbols,
    name: String,
}

/// Strips the files of `choice` in `plan`. Their content is in `dir` from then on, which is
/// created.
pub(crate) fn apply(
    plan: &mut FileTree,
    choice: StripPlan,
    stripping: &StripOptions,
    dir: &Path,
) -> Result<StripOutcome> {
    let mut outcome = StripOutcome::default();
    outcome.stripped.kept = choice.kept;
    if !choice.files.is_empty() {
        fs_err::create_dir(dir)?;
    }
    let mut machines: BTreeMap<u16, Vec<StripJob<'_>>> = BTreeMap::new();
    for (index, (path, symbols)) in choice.files.iter().enumerate() {
        let Some(EntryKind::File(FileContent {
            source: ContentSource::Disk(source), size, ..
        })) = plan.entries.get(path).map(|entry| &entry.kind)
        else {
            continue;
        };
        let name = index.to_string();
        let work = StripJob { path, source: source.clone(), size: *size, symbols, name };
        machines.entry(symbols.machine).or_default().push(work);
    }
    for (machine, works) in machines {
        let board = Board::of_elf_machine(machine)?.context("a board that was there is gone")?;
        let tools = Binutils::find(&board)?;
        let mut failures = run_on_copies(&works, dir, "", &|names| tools.strip(dir, names))?;
        if stripping.splitdebug {
            let apart =
                run_on_copies(&works, dir, debug::SUFFIX, &|names| tools.keep_debug(dir, names))?;
            failures.extend(apart);
        }
        for work in works {
            let failure = failures.remove(&work.name);
            use_stripped_copy(plan, &work, failure, &tools, stripping, dir, &mut outcome)
                .with_context(|| format!("could not strip {}", work.source.escaped()))?;
        }
    }
    outcome.stripped.kept.sort();
    Ok(outcome)
}

/// Uses the stripped copy of a file, if it is the same program.
fn use_stripped_copy(
    plan: &mut FileTree,
    work: &StripJob<'_>,
    failure: Option<String>,
    tools: &Binutils<'_>,
    stripping: &StripOptions,
    dir: &Path,
    outcome: &mut StripOutcome,
) -> Result<()> {
    let made = dir.join(&work.name);
    let apart = dir.join(format!("{}{}", work.name, debug::SUFFIX));
    let mut place = None;
    let failure = match failure {
        Some(failure) => Some(failure),
        None => compare_copy(work, &made)?,
    };
    let failure = match failure {
        None if stripping.splitdebug => {
            let build_id = work.symbols.build_id.as_deref();
            place = Some(debug::debug_path(work.path, build_id));
            if build_id.is_none() {
                let named = dir.join(format!("{}.d", work.name)).join(debug::debug_name(work.path));
                fs_err::create_dir(named.parent().unwrap_or(dir))?;
                fs_err::hard_link(&apart, &named)?;
                tools.link_debug(&made, &named)?;
            }
            compare_copy(work, &made)?
        }
        failure => failure,
    };
    if let Some(failure) = failure {
        let left = kept_symbols(work.path, failure);
        outcome.warnings.push(format!("{} is not stripped: {}", left.path, left.why));
        outcome.stripped.kept.push(left);
        return Ok(());
    }
    let size = fs_err::metadata(&made)?.len();
    outcome.stripped.files += 1;
    outcome.stripped.bytes += work.size.saturating_sub(size);
    if let Some(place) = place {
        // Copies of a program share one build-id and their symbols.
        outcome.debug.entry(place).or_insert(debug::debug_entry(apart, plan.epoch)?);
    }
    if let Some(entry) = plan.entries.get_mut(work.path) {
        entry.kind = EntryKind::File(FileContent::unread(ContentSource::Disk(made), size));
    }
    Ok(())
}

/// Returns the reason to reject the stripped copy at `made`; `None` if it is good.
fn compare_copy(work: &StripJob<'_>, made: &Path) -> Result<Option<String>> {
    let (before, after) = (input::open_walked(&work.source)?, input::open_walked(made)?);
    let (before, after) = (elf::open(before.file())?, elf::open(after.file())?);
    Ok(match elf::loads_alike(&before, &after) {
        Ok(true) => None,
        Ok(false) => Some("strip changes what is loaded of it".to_owned()),
        Err(error) => Some(format!("strip breaks it: {error}")),
    })
}

/// Copies each file to `NAME` with `suffix` in `dir` and runs `act` on the copies, on all
/// processors. Returns the errors of single files by name.
fn run_on_copies(
    works: &[StripJob<'_>],
    dir: &Path,
    suffix: &str,
    act: &(dyn Fn(&[String]) -> Result<()> + Sync),
) -> Result<BTreeMap<String, String>> {
    let mut order: Vec<&StripJob<'_>> = works.iter().collect();
    order.sort_by_key(|work| std::cmp::Reverse(work.size));
    let workers = rayon::current_num_threads().max(1);
    let count = order.len().div_ceil(BATCH).max(workers).min(order.len());
    let mut batches: Vec<Vec<&StripJob<'_>>> = vec![Vec::new(); count];
    for (index, work) in order.into_iter().enumerate() {
        if let Some(batch) = batches.get_mut(index % count) {
            batch.push(work);
        }
    }
    let copy = |work: &StripJob<'_>| -> Result<String> {
        let name = format!("{}{suffix}", work.name);
        let to = dir.join(&name);
        input::copy_file(&work.source, &to)?;
        fs_err::set_permissions(&to, std::fs::Permissions::from_mode(0o600))?;
        Ok(name)
    };
    let failures = batches.par_iter().map(|batch| {
        let names: Vec<String> = batch.iter().map(|work| copy(work)).collect::<Result<_>>()?;
        if act(&names).is_ok() {
            return Ok(Vec::new());
        }
        // The cause is one of the files or a full disk. strip continues or stops, and prints its
        // own message.
        let mut failures = Vec::new();
        for work in batch {
            if let Err(error) = act(&[copy(work)?]) {
                let text = format!("{error:#}");
                if text.contains(crate::base::command::NO_SPACE) {
                    return Err(error);
                }
                let said = text.lines().last().unwrap_or_default().trim().to_owned();
                failures.push((work.name.clone(), said));
            }
        }
        Ok(failures)
    });
    Ok(failures.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}
