//! Names and paths that come from an image. Whoever made the image chose them, so each is checked
//! before it becomes part of a path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::base::escape::Escape;

/// Limit of the length of a name, as in `linux/limits.h`.
pub(crate) const NAME_MAX: usize = 255;
/// Limit of the length of a path and of the target of a link, with a NUL, as in `linux/limits.h`.
pub(crate) const PATH_MAX: usize = 4096;

/// Returns `name` if it names one entry of a directory.
///
/// # Errors
///
/// Fails if `name` is empty, `.` or `..`, is too long, or has a `/` or a NUL.
pub(crate) fn check_name(name: &[u8]) -> Result<&OsStr> {
    let problem = match name {
        b"" => "is empty",
        b"." | b".." => "stands for a directory that is elsewhere",
        _ if name.len() > NAME_MAX => "is longer than a name can be",
        _ if name.contains(&b'/') => "has a slash",
        _ if name.contains(&0) => "has a NUL",
        _ => return Ok(OsStr::from_bytes(name)),
    };
    bail!("the name {:?} in the image {problem}", name.escaped())
}

/// Returns the path of the entry `name` of the directory `dir`. The path of the root directory is
/// empty.
///
/// # Errors
///
/// Fails if [`check_name`] refuses `name`, or if the path is too long.
pub(crate) fn join(dir: &Path, name: &[u8]) -> Result<PathBuf> {
    let path = dir.join(check_name(name)?);
    // Without a limit, a small image may have paths of gigabytes.
    ensure!(path.as_os_str().len() < PATH_MAX, "a path in the image has {PATH_MAX} bytes or more");
    Ok(path)
}

/// Returns the path below the root directory that the list of an image has as `text`, with or
/// without a slash at the start.
///
/// # Errors
///
/// Fails if [`join`] refuses one of its names.
pub(crate) fn parse(text: &[u8]) -> Result<PathBuf> {
    let below = text.strip_prefix(b"/").unwrap_or(text);
    if below.is_empty() {
        return Ok(PathBuf::new());
    }
    below.split(|byte| *byte == b'/').try_fold(PathBuf::new(), |dir, name| join(&dir, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_entry() {
        for good in ["a", "...", ".a", "a b", "\n", "\\", "é"] {
            assert_eq!(check_name(good.as_bytes()).unwrap(), good);
        }
        assert_eq!(check_name(b"\xff").unwrap().as_bytes(), b"\xff");
        assert!(check_name(&[b'x'; NAME_MAX]).is_ok());
        for bad in ["", ".", "..", "/", "/etc", "a/b", "a/", "../a", "a\0b", "\0"] {
            assert!(check_name(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(check_name(&[b'x'; NAME_MAX + 1]).is_err());
    }

    #[test]
    fn paths_below_the_root() {
        let path = |text: &str| parse(text.as_bytes());
        assert_eq!(path("/").unwrap(), Path::new(""));
        assert_eq!(path("/usr/lib").unwrap(), Path::new("usr/lib"));
        assert_eq!(path("usr").unwrap(), Path::new("usr"));
        for bad in ["//", "//usr", "usr/", "a//b", "a/../b", "..", "/..", "a/./b", "a\0"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        let mut long = PathBuf::new();
        while let Ok(longer) = join(&long, b"x") {
            long = longer;
        }
        assert_eq!(long.as_os_str().len(), PATH_MAX - 1);
    }
}
