//! Extended attributes (xattr(7)): one reader for entries at a path and for open files.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::base::escape::Escape;

/// Maximum length of the list of names, and of a value (xattr(7)).
const MOST: usize = 64 << 10;

/// Length of the list that most entries fit into.
const USUAL: usize = 1024;

/// Entry whose attributes are read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum XattrSource<'a> {
    /// Entry at this path. A link is not followed.
    Path(&'a Path),
    /// Open file.
    File(BorrowedFd<'a>),
}

impl XattrSource<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
            Self::File(file) => rustix::fs::flistxattr(file, buffer),
        }
    }

    fn get(self, name: &OsStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Path(path) => rustix::fs::lgetxattr(path, name, buffer),
            Self::File(file) => rustix::fs::fgetxattr(file, name, buffer),
        }
    }
}

impl fmt::Display for XattrSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.escaped().fmt(f),
            Self::File(_) => f.write_str("an open file"),
        }
    }
}

/// Returns the names of the attributes, sorted; none if the file system has no attributes.
///
/// # Errors
///
/// Fails if the entry cannot be read.
pub(crate) fn list_names(source: XattrSource<'_>) -> Result<Vec<OsString>> {
    let split = |list: &[u8]| {
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<_> = names.map(|name| OsStr::from_bytes(name).to_owned()).collect();
        names.sort();
        names
    };
    let mut usual = [0_u8; USUAL];
    let listed = match source.list(&mut usual) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            let mut most = vec![0_u8; MOST];
            source.list(&mut most).map(|length| split(most.get(..length).unwrap_or_default()))
        }
        listed => listed.map(|length| split(usual.get(..length).unwrap_or_default())),
    };
    listed.with_context(|| format!("could not list the extended attributes of {source}"))
}

/// Returns the attributes that `wanted` selects by name.
///
/// # Errors
///
/// Fails if the entry cannot be read, and if `wanted` fails.
pub(crate) fn read_xattrs(
    source: XattrSource<'_>,
    mut wanted: impl FnMut(&OsStr) -> Result<bool>,
) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for name in list_names(source)? {
        if wanted(&name)? {
            let value = value(source, &name).with_context(|| {
                format!("could not read the extended attribute {} of {source}", name.escaped())
            })?;
            found.insert(name, value);
        }
    }
    Ok(found)
}

fn value(source: XattrSource<'_>, name: &OsStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; 256];
    let length = match source.get(name, &mut value) {
        Err(Errno::RANGE) => {
            value.resize(MOST, 0);
            source.get(name, &mut value)?
        }
        length => length?,
    };
    value.truncate(length);
    Ok(value)
}

/// Copies all attributes of one open file to another: capabilities, labels, `user.*`.
///
/// # Errors
///
/// Fails if an attribute cannot be read or set.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    for (name, value) in read_xattrs(XattrSource::File(from), |_| Ok(true))? {
        rustix::fs::fsetxattr(to, &name, &value, XattrFlags::empty())
            .with_context(|| format!("could not keep the attribute {}", name.escaped()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn attributes_are_sorted_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs_err::write(&path, "x").unwrap();
        let long = vec![b'x'; 3000];
        for (name, value) in [("user.b", &b"1"[..]), ("user.a", b""), ("user.long", &long)] {
            rustix::fs::setxattr(&path, name, value, XattrFlags::empty()).unwrap();
        }
        let source = XattrSource::Path(&path);
        let user = |name: &OsStr| Ok(name.as_bytes().starts_with(b"user."));
        let found = read_xattrs(source, user).unwrap();
        let expected = [("user.a", Vec::new()), ("user.b", b"1".to_vec()), ("user.long", long)];
        assert!(
            found.iter().map(|(name, value)| (name.to_str().unwrap(), value.clone())).eq(expected)
        );
        // More names than the first buffer holds.
        let many: Vec<String> = (0..60).map(|at| format!("user.{at:0>30}")).collect();
        let many_path = dir.path().join("many");
        fs_err::write(&many_path, "x").unwrap();
        for name in &many {
            rustix::fs::setxattr(&many_path, name, b"", XattrFlags::empty()).unwrap();
        }
        let listed = list_names(XattrSource::Path(&many_path)).unwrap();
        assert!(many.iter().all(|name| listed.contains(&name.into())), "{listed:?}");
        assert!(listed.is_sorted());
        // A copy has them too, and a link is not followed.
        let copied = dir.path().join("copy");
        fs_err::write(&copied, "x").unwrap();
        let open = |path: &Path| fs_err::OpenOptions::new().write(true).open(path).unwrap();
        copy(fs_err::File::open(&path).unwrap().file().as_fd(), open(&copied).file().as_fd())
            .unwrap();
        assert_eq!(read_xattrs(XattrSource::Path(&copied), user).unwrap(), found);
        let link = dir.path().join("link");
        fs_err::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(read_xattrs(XattrSource::Path(&link), user).unwrap(), BTreeMap::new());
    }

    #[test]
    fn errors_name_the_path() {
        let error = list_names(XattrSource::Path(Path::new("/none/of/this"))).unwrap_err();
        assert_eq!(error.to_string(), "could not list the extended attributes of /none/of/this");
    }
}
