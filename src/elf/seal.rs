//! Blocks the ways in which a copied glibc loader finds the target's libraries.
//!
//! Whatever a program's runpath is, glibc's loader reads `/etc/ld.so.preload`, consults
//! `/etc/ld.so.cache`, and finally searches its built-in directories (ld.so(8)). All of these are
//! strings in its read-only data. The two paths become the empty string, which no system call
//! finds. The directories become missing ones of equal length, because the loader keeps their
//! lengths elsewhere (glibc elf/dl-load.c `system_dirs`). musl's loader has one such list.

use crate::elf::Error;
use crate::elf::edit::Patch;
use crate::elf::image::{ElfImage, ObjectKind, read};

/// Paths that must occur exactly once each.
const FILES: [&str; 2] = ["/etc/ld.so.cache", "/etc/ld.so.preload"];
/// Directories that musl's loader searches last.
const MUSL_DIRECTORIES: &str = "/lib:/usr/local/lib:/usr/lib";
/// Largest number of copies of the directory list in a loader: one to search, one to print.
const MOST_LISTS: usize = 4;
/// Size of the largest loader that is searched for strings, in bytes. One with debug sections has 3 MiB.
const LARGEST_LOADER: usize = 64 << 20;
/// Byte that fills the path of a sealed directory. No system has `/~~~~~`.
const FILL: u8 = b'~';

/// Result of planning the seal of a loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The loader is not sealed: these bytes have to change.
    Needed(Vec<Patch>),
    /// The loader is already sealed.
    Already,
}

/// Reason that a loader cannot be sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file cannot be read.
    #[error(transparent)]
    Elf(#[from] Error),
    /// The file is ELF, but not a loader.
    #[error("not a dynamic loader but a {0}")]
    NotALoader(ObjectKind),
    /// The file is musl's loader, but lacks the list of directories that every release has.
    #[error("the loader is musl's, of a release that is not known")]
    Musl,
    /// A string of every glibc loader is missing, or occurs too often.
    #[error("expected {what} once in the loader, found it {found} times")]
    Unexpected {
        /// Description of the string.
        what: &'static str,
        /// Number of times that the string was found.
        found: usize,
    },
    /// Some of the strings are sealed and some are not.
    #[error("the loader is sealed in part: {0} is not")]
    Partly(&'static str),
}

/// Returns whether the file with these bytes is a loader. Debian's musl loader has no soname; it is
/// recognized by the name of its configuration file.
pub fn is_loader(image: &ElfImage, bytes: &[u8]) -> bool {
    let is_nameless = image.kind == ObjectKind::SharedObject && image.soname.is_none();
    image.kind == ObjectKind::Loader
        || (is_nameless
            && image.needed.is_empty()
            && bytes.len() <= LARGEST_LOADER
            && memchr::memmem::find(bytes, b"/etc/ld-musl-").is_some())
}

/// Plans the bytes of a copied glibc loader that have to change. The loader then consults neither
/// `/etc/ld.so.preload` nor `/etc/ld.so.cache` nor its built-in directories.
///
/// # Errors
///
/// Fails if the file is not a loader, lacks a string that every loader has, or is sealed only in
/// part.
pub fn seal_loader(bytes: &[u8]) -> Result<Seal, SealError> {
    let image = read(bytes)?;
    if !is_loader(&image, bytes) {
        return Err(SealError::NotALoader(image.kind));
    }
    if bytes.len() > LARGEST_LOADER {
        return Err(Error::LimitExceeded("it is a loader of more than 64 MiB").into());
    }
    let soname = image.soname.unwrap_or_default();
    let musl_names: [&[u8]; 3] = [b"libc.so", b"libc.musl-", b"ld-musl-"];
    if soname.is_empty() || musl_names.iter().any(|name| soname.starts_with(name)) {
        return seal_musl(bytes);
    }
    let mut patches = Vec::new();
    let mut unsealed = Vec::new();
    for file in FILES {
        if let Some(patch) = plan_file_patch(bytes, file)? {
            patches.push(patch);
            unsealed.push(file);
        }
    }
    let directories = plan_directory_patches(bytes);
    match (&unsealed[..], directories.is_empty()) {
        ([], true) => Ok(Seal::Already),
        ([], false) => Err(SealError::Partly("the list of built-in directories")),
        ([file], _) => Err(SealError::Partly(file)),
        (_, true) => {
            let what = "the list of built-in directories";
            Err(SealError::Unexpected { what, found: 0 })
        }
        (_, false) => {
            patches.extend(directories);
            patches.sort_by_key(|patch| patch.offset);
            Ok(Seal::Needed(patches))
        }
    }
}

/// Plans the seal of musl's loader. It reads neither of the two files, and finds its list of
/// directories relative to its own place (`etc/ld-musl-ARCH.path`). Without that list it searches
/// the built-in one, which becomes an empty list (ldso/dynlink.c `sys_path`).
fn seal_musl(bytes: &[u8]) -> Result<Seal, SealError> {
    match plan_file_patch(bytes, MUSL_DIRECTORIES) {
        Ok(Some(patch)) => Ok(Seal::Needed(vec![patch])),
        Ok(None) => Ok(Seal::Already),
        Err(_) => Err(SealError::Musl),
    }
}

/// Returns the patch that seals the path of a file. Returns `None` if the path is sealed already:
/// its first byte is then NUL.
fn plan_file_patch(bytes: &[u8], file: &'static str) -> Result<Option<Patch>, SealError> {
    let needle = |text: &str| [text.as_bytes(), b"\0"].concat();
    let found = find_all(bytes, &needle(file));
    match (&found[..], &find_all(bytes, &needle(file.get(1..).unwrap_or_default()))[..]) {
        ([at], [_]) => Ok(Some(Patch { offset: *at as u64, bytes: vec![0] })),
        ([], [at]) if at.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&0) => Ok(None),
        _ => Err(SealError::Unexpected { what: file, found: found.len() }),
    }
}

fn find_all(bytes: &[u8], needle: &[u8]) -> Vec<usize> {
    let Some(&first) = needle.first() else { return Vec::new() };
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts
        .map(|(at, _)| at)
        .filter(|&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(needle)))
        .collect()
}

/// Returns patches for the lists of built-in directories.
fn plan_directory_patches(bytes: &[u8]) -> Vec<Patch> {
    let lists = library_directory_lists(bytes);
    if lists.len() > MOST_LISTS { Vec::new() } else { lists.concat() }
}

/// Returns whether a list of directories was sealed before.
pub(crate) fn has_sealed_directories(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"~/\0/~").is_some()
}

/// Returns patches that seal each list of library directories. A list is two or more strings in a
/// row, each a library directory with a slash at its end.
pub(crate) fn library_directory_lists(bytes: &[u8]) -> Vec<Vec<Patch>> {
    let mut lists = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let list = list_directories(rest);
        if list.len() < 2 {
            let next = memchr::memchr(b'/', rest.get(1..).unwrap_or_default());
            let Some(next) = next else { break };
            at += next + 1;
            continue;
        }
        let mut patches = Vec::new();
        for directory in list {
            patches.push(Patch { offset: at as u64, bytes: missing_directory(directory) });
            at += directory.len() + 1;
        }
        lists.push(patches);
    }
    lists
}

/// Returns the library directories at the beginning of `bytes`, one NUL-terminated string after
/// another.
fn list_directories(bytes: &[u8]) -> Vec<&[u8]> {
    let strings = bytes.split(|&byte| byte == 0);
    strings.take_while(|string| is_library_directory(string)).collect()
}

/// Returns whether the string is a library directory, as `/lib/`, `/lib64/`,
/// `/usr/lib/x86_64-linux-gnu/`, `/usr/local/lib32/` and `/opt/prefix/lib64/` are.
fn is_library_directory(string: &[u8]) -> bool {
    let Some(inner) = string.strip_prefix(b"/").and_then(|rest| rest.strip_suffix(b"/")) else {
        return false;
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(byte);
    string.len() < 4096
        && inner.iter().all(plain)
        && inner.split(|&byte| byte == b'/').any(|part| part.starts_with(b"lib"))
}

/// Returns a directory of the same length that no system has.
fn missing_directory(directory: &[u8]) -> Vec<u8> {
    let mut out = vec![FILL; directory.len()];
    for end in [0, directory.len().saturating_sub(1)] {
        if let Some(byte) = out.get_mut(end) {
            *byte = b'/';
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_those_of_libraries_in_a_row() {
        let data = b"/usr/share/\0/lib/x86_64-linux-gnu/\0/usr/lib/\0/etc/\0/lib/\0x";
        let patches = plan_directory_patches(data);
        let at: Vec<u64> = patches.iter().map(|patch| patch.offset).collect();
        assert_eq!(at, [12, 35], "a single one is no list");
        assert_eq!(patches[1].bytes, b"/~~~~~~~/");
        assert_eq!(patches[0].bytes.len(), "/lib/x86_64-linux-gnu/".len());
    }
}
