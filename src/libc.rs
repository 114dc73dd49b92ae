//! What a copied C library knows of the machine that it was built for, besides what its loader
//! knows (that is `elf::seal_loader`): strings in its read-only data.
//!
//! - The path to its character set modules (iconv(3)), which is replaced where the prefix's fits
//!   into its place.
//! - The names of the modules that nsswitch.conf asks for (nsswitch.conf(5)). From 2.34 on, `files`
//!   and `dns` are in the C library itself, and all that it can still load are the target's.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::elf::{Image, Patch};
use crate::layout::GCONV;
use crate::rooted::Rooted;

/// How the C library makes a name service module's file name of the service's name.
const NSS: &[u8] = b"libnss_%s.so%s\0";
/// The same, as a path that nobody has: a name with a slash is not searched for (dlopen(3)).
const NSS_SEALED: &[u8] = b"/~/nss_%s.so%s\0";

/// What has to change so that the C library with these `bytes` loads none of the target's name
/// service modules, which belong to another C library; nothing where they are closed off, or where
/// the C library is so old that it needs modules of its own.
pub fn nss(bytes: &[u8], image: &Image) -> Option<Patch> {
    if image.soname.as_deref() != Some(b"libc.so.6") {
        return None;
    }
    let mut found = memchr::memmem::find_iter(bytes, NSS);
    let offset = found.next().filter(|_| found.next().is_none())?;
    Some(Patch { offset: u64::try_from(offset).ok()?, bytes: NSS_SEALED.to_vec() })
}

/// What was found of the path to the modules.
#[derive(Debug, PartialEq, Eq)]
pub enum Gconv {
    /// This file has none, or one that is in the prefix.
    Fine,
    /// The string has to change.
    Change(Patch, PathBuf),
    /// It names this directory outside of the prefix, and none of the prefix's fits in its place.
    Outside(PathBuf),
}

/// Looks for the path to the modules in the C library with these `bytes`.
pub fn gconv(bytes: &[u8], image: &Image, eprefix: &Path, rooted: &Rooted) -> Gconv {
    if image.soname.as_deref() != Some(b"libc.so.6") {
        return Gconv::Fine;
    }
    let Some((offset, old)) = find(bytes) else { return Gconv::Fine };
    let path = Path::new(std::ffi::OsStr::from_bytes(old));
    if path.starts_with(eprefix) {
        return Gconv::Fine;
    }
    let fitting = GCONV
        .iter()
        .map(|name| eprefix.join(name))
        .find(|new| new.as_os_str().len() <= old.len() && rooted.find(new).is_some());
    let Some(new) = fitting else { return Gconv::Outside(path.to_owned()) };
    // glibc copies it with strdup(3) (iconv/gconv_conf.c), so a shorter one ends where it ends.
    let mut replacement = new.as_os_str().as_bytes().to_vec();
    replacement.resize(old.len(), 0);
    Gconv::Change(Patch { offset, bytes: replacement }, new)
}

/// The one string that is an absolute path which ends in /gconv, and where it is.
fn find(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut found = None;
    for end in memchr::memmem::find_iter(bytes, b"/gconv\0") {
        let end = end + b"/gconv".len();
        let before = bytes.get(..end)?;
        let start = memchr::memrchr(0, before).map_or(0, |at| at + 1);
        let text = before.get(start..)?;
        if text.starts_with(b"/") && text.iter().all(u8::is_ascii_graphic) {
            if found.is_some() {
                return None;
            }
            found = Some((u64::try_from(start).ok()?, text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_one_path() {
        let bytes = b"\0gconv\0/usr/lib/x86_64-linux-gnu/gconv\0/gconv-modules\0";
        assert_eq!(find(bytes), Some((7, b"/usr/lib/x86_64-linux-gnu/gconv".as_slice())));
        assert_eq!(find(b"\0/a/gconv\0/b/gconv\0"), None);
    }
}
