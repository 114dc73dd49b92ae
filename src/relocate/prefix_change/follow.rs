//! Files that say something of others which change.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::LIST;
use crate::relocate::bytecode;
use crate::relocate::scan::ScannedFile;
use crate::relocate::{FileAction, FileChange, SkippedFile};

/// Ends of the names of files with a signature or a digest of the file whose name they extend.
const SIGNATURES: &[&str] =
    &["asc", "md5", "minisig", "p7s", "sha1", "sha256", "sha512", "sig", "sign"];

/// Adds new headers to the compiled copies of the Python modules that change
/// ([`bytecode`]): their code has the new path as data.
pub(super) fn follow_modules(changes: &mut Vec<FileChange>, files: &[ScannedFile]) {
    let by_path: HashMap<&Path, &ScannedFile> = files
        .iter()
        .flat_map(|file| file.paths.iter().map(move |path| (path.as_path(), file)))
        .collect();
    let position = |changes: &[FileChange]| -> HashMap<PathBuf, usize> {
        let each = changes.iter().enumerate();
        each.flat_map(|(at, change)| change.paths.iter().map(move |path| (path.clone(), at)))
            .collect()
    };
    let places = position(changes);
    for file in files {
        let Some(copy) = file.paths.first() else { continue };
        let Some(source) = bytecode::source_of(copy) else { continue };
        let Some((at, disk)) = places.get(&source).zip(by_path.get(source.as_path())) else {
            continue;
        };
        let FileAction::Contents(new) = &changes[*at].action else { continue };
        let Ok(old) = input::read(&disk.disk, LIST) else { continue };
        let Some(patch) = bytecode::follow_source(&file.disk, &old, new) else { continue };
        let description = "header of a compiled copy follows its source".to_owned();
        match places.get(copy).and_then(|at| changes.get_mut(*at)) {
            Some(FileChange { action: FileAction::Bytes(patches), descriptions, .. }) => {
                patches.push(patch);
                descriptions.push(description);
            }
            _ => changes.push(FileChange {
                paths: file.paths.clone(),
                descriptions: vec![description],
                action: FileAction::Bytes(vec![patch]),
            }),
        }
    }
}

/// Returns the files with a signature or a digest of a file that changes: nobody but its maker can
/// write them anew.
pub(super) fn find_signatures(changes: &[FileChange], files: &[ScannedFile]) -> Vec<SkippedFile> {
    let renewed: HashSet<&Path> =
        changes.iter().flat_map(|change| &change.paths).map(PathBuf::as_path).collect();
    let paths = files.iter().flat_map(|file| &file.paths);
    let is_signature = |path: &&PathBuf| {
        path.extension().is_some_and(|end| SIGNATURES.iter().any(|known| end == *known))
            && renewed.contains(path.with_extension("").as_path())
    };
    paths
        .filter(is_signature)
        .map(|path| SkippedFile {
            path: path.clone(),
            reason: format!("it is of {} as that was before", path.with_extension("").escaped()),
        })
        .collect()
}
