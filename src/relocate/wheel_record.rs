//! Lists of the files of a Python package (`NAME.dist-info/RECORD`), with their hashes and sizes
//! (packaging.python.org, "Recording installed projects"). They follow the files that change.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::base::escape::Escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::LIST;
use crate::fstree::resolve::normalize_path;
use crate::relocate::scan::ScannedFile;
use crate::relocate::{FileAction, FileChange};

/// Plans new lines for the files that change. A list that is no text stays.
pub(super) fn plan_records(changes: &[FileChange], files: &[ScannedFile]) -> Vec<FileChange> {
    let rewritten: HashSet<&Path> =
        changes.iter().flat_map(|change| &change.paths).map(PathBuf::as_path).collect();
    if rewritten.is_empty() {
        return Vec::new();
    }
    let records =
        files.iter().filter(|file| file.paths.first().is_some_and(|path| is_record(path)));
    records.filter_map(|record| plan_record(record, &rewritten)).collect()
}

fn is_record(path: &Path) -> bool {
    let dir = path.parent().and_then(Path::extension);
    path.file_name() == Some(OsStr::new("RECORD")) && dir == Some(OsStr::new("dist-info"))
}

fn plan_record(record: &ScannedFile, changed: &HashSet<&Path>) -> Option<FileChange> {
    let path = record.paths.first()?;
    let text = input::read_text(&record.disk, LIST).ok()?;
    let listed = text.lines().filter_map(|line| listed_file(path, line));
    let listed: HashSet<PathBuf> = listed.filter(|file| changed.contains(file.as_path())).collect();
    (!listed.is_empty()).then(|| FileChange {
        paths: record.paths.clone(),
        descriptions: vec![format!("hashes of {} rewritten files", listed.len())],
        action: FileAction::Record(listed),
    })
}

/// Returns the file of which this line of the list at `record` has a hash. Paths are relative to the
/// directory of the packages, and in quotes if they have a comma.
fn listed_file(record: &Path, line: &str) -> Option<PathBuf> {
    let (path, _) = split_line(line)?;
    let path = path.strip_prefix('"').and_then(|path| path.strip_suffix('"')).unwrap_or(path);
    Some(normalize_path(&record.parent()?.parent()?.join(path.replace("\"\"", "\""))))
}

/// Returns the path and what stands before the hash, if the line has one that is known.
fn split_line(line: &str) -> Option<(&str, &str)> {
    let (path, rest) = line.rsplit_once(",sha256=")?;
    rest.contains(',').then_some((path, rest))
}

/// Returns the text of the list at `record` with hashes and sizes of the files `changed`, as they are
/// in `tree` now.
pub(super) fn renew(
    tree: &Path,
    record: &Path,
    text: &str,
    changed: &HashSet<PathBuf>,
) -> Result<String> {
    let mut new = String::with_capacity(text.len());
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        let Some(file) = listed_file(record, line).filter(|file| changed.contains(file)) else {
            new.push_str(whole);
            continue;
        };
        let disk = tree.join(file.strip_prefix("/").unwrap_or(&file));
        let bytes = files::map(&disk)
            .with_context(|| format!("could not read {} for its hash", file.escaped()))?;
        let path = split_line(line).map_or(line, |(path, _)| path);
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes[..]));
        new.push_str(&format!("{path},sha256={hash},{}", bytes.len()));
        new.push_str(whole.get(line.len()..).unwrap_or_default());
    }
    Ok(new)
}
