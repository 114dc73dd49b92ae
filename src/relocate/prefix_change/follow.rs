//! Files that say something of others which change.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::LIST;
use crate::relocate::bytecode;
use crate::relocate::scan::ScannedFile;
use crate::relocate::{FileAction, FileChange, SkippedFile};

/// Ends of the names of files with a signature or a digest of the file whose name they extend.
const SIGNATURES: &[&str] = &[
    "asc",
    "b2",
    "chk",
    "hmac",
    "md5",
    "md5sum",
    "minisig",
    "p7s",
    "sha1",
    "sha1sum",
    "sha224",
    "sha256",
    "sha256sum",
    "sha384",
    "sha512",
    "sha512sum",
    "sig",
    "sign",
];

/// Directories of digests of the files beside them (fipscheck).
const DIGEST_DIRS: &[&str] = &["fipscheck", "hmac", ".hmac"];

/// Names of lists with digests of files, as sha256sum(1) writes them.
const LISTS: &[&str] = &["SUMS", "SUMS.txt", "sums", "sums.txt"];

const HINT_SIGN: &str =
    "sign the files anew, or make their digests (fipshmac, shlibsign), or leave these out";

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
                patches.push(patch.into());
                descriptions.push(description);
            }
            _ => changes.push(FileChange {
                paths: file.paths.clone(),
                descriptions: vec![description],
                action: FileAction::Bytes(vec![patch.into()]),
            }),
        }
    }
}

/// Returns the files with a signature or a digest of a file that changes: nobody but its maker can
/// write them anew. Libraries refuse to work in FIPS mode if such a digest does not fit.
pub(super) fn find_signatures(changes: &[FileChange], files: &[ScannedFile]) -> Vec<SkippedFile> {
    let renewed: HashSet<&Path> =
        changes.iter().flat_map(|change| &change.paths).map(PathBuf::as_path).collect();
    if renewed.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for file in files {
        for path in &file.paths {
            let is_renewed = |of: &PathBuf| renewed.contains(of.as_path());
            let of = signed_paths(path).into_iter().find(is_renewed);
            let Some(of) = of.or_else(|| listed_paths(path, file).into_iter().find(is_renewed))
            else {
                continue;
            };
            found.push(SkippedFile {
                path: path.clone(),
                reason: format!("it is of {} as that was before", of.escaped()),
                hint: Some(HINT_SIGN),
            });
        }
    }
    found
}

/// Returns the paths of which the file at `path` may be a signature or a digest.
fn signed_paths(path: &Path) -> Vec<PathBuf> {
    let end = path.extension().filter(|end| SIGNATURES.iter().any(|known| end == known));
    let (Some(end), Some(name), Some(dir)) = (end, path.file_stem(), path.parent()) else {
        return Vec::new();
    };
    let mut names = vec![PathBuf::from(name)];
    // libgcrypt and GnuTLS hide the digest of a library (`.libgcrypt.so.20.hmac`).
    let shown = name.as_bytes().strip_prefix(b".");
    names.extend(shown.map(|name| PathBuf::from(OsStr::from_bytes(name))));
    // NSS names it without the end of the library (`libsoftokn3.chk`).
    if end == "chk" {
        names.push(Path::new(name).with_extension("so"));
    }
    let is_apart = dir.file_name().is_some_and(|name| DIGEST_DIRS.iter().any(|dir| name == *dir));
    let dirs = std::iter::once(dir).chain(dir.parent().filter(|_| is_apart));
    dirs.flat_map(|dir| names.iter().map(move |name| dir.join(name))).collect()
}

/// Returns the paths of which the file at `path` lists the digests, if it is such a list.
fn listed_paths(path: &Path, file: &ScannedFile) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !LISTS.iter().any(|end| name.ends_with(end)) {
        return Vec::new();
    }
    let (Some(dir), Ok(text)) = (path.parent(), input::read_lossy(&file.disk, LIST)) else {
        return Vec::new();
    };
    let listed = text.lines().filter_map(|line| line.split_once([' ', '\t']));
    listed
        .map(|(_, name)| name.trim_start_matches([' ', '*']).trim_start_matches("./"))
        .map(|name| dir.join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_digests() {
        for (path, of) in [
            ("/o/lib/.libgcrypt.so.20.hmac", "/o/lib/libgcrypt.so.20"),
            ("/o/lib/libsoftokn3.chk", "/o/lib/libsoftokn3.so"),
            ("/o/lib/fipscheck/libssl.so.3.hmac", "/o/lib/libssl.so.3"),
            ("/o/a.tar.sig", "/o/a.tar"),
        ] {
            let found = signed_paths(Path::new(path));
            assert!(found.contains(&PathBuf::from(of)), "{path}: {found:?}");
        }
        assert_eq!(signed_paths(Path::new("/o/a.so")), Vec::<PathBuf>::new());
    }
}
