//! Entries of search paths and names of libraries, as the loader expands them (ld.so(8), "Dynamic
//! string tokens"; glibc elf/dl-load.c, `_dl_dst_substitute`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use elf::abi;

use crate::elf::ElfImage;

/// Values of the tokens in one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens<'a> {
    /// `$ORIGIN`: the directory of the file. `None` if the loader does not replace it, as in programs
    /// that run with rights of their own.
    pub origin: Option<&'a Path>,
    /// `$LIB`: a constant of the loader. Empty if it is not known.
    pub lib: &'a str,
    /// Machine of the file (`e_machine`), which decides what `$PLATFORM` can be.
    pub machine: u16,
}

/// A token of the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Origin,
    Lib,
    Platform,
}

/// Values of `$LIB` in the loaders of distributions, for a loader that does not tell its own.
const LIBS: &[&[u8]] = &[b"lib64", b"lib"];

/// Returns the entries of the file's search path, which may be empty texts.
pub(crate) fn entries(image: &ElfImage) -> impl Iterator<Item = &[u8]> {
    // The loader ignores DT_RPATH if there is a DT_RUNPATH.
    let text = image.runpath.as_ref().or(image.rpath.as_ref());
    text.into_iter().flat_map(|text| text.split(|byte| *byte == b':'))
}

/// Returns whether the loader would replace a part of `text`.
pub(crate) fn has_tokens(text: &[u8]) -> bool {
    memchr::memchr_iter(b'$', text).any(|at| next_token(&text[at + 1..]).is_some())
}

/// Returns whether `text` has the token `$ORIGIN`.
pub(crate) fn has_origin(text: &[u8]) -> bool {
    let token = |at: usize| next_token(&text[at + 1..]);
    memchr::memchr_iter(b'$', text).any(|at| matches!(token(at), Some((Token::Origin, _))))
}

/// Returns whether a search path can name this directory as it is.
pub(crate) fn is_expressible(dir: &Path) -> bool {
    let text = dir.as_os_str().as_bytes();
    !text.contains(&b':') && !has_tokens(text)
}

impl Tokens<'_> {
    /// Returns the paths that `text` can stand for: several if `$PLATFORM` depends on the processor or
    /// `$LIB` is not known, and none if the loader does not use the text.
    pub(crate) fn expand(&self, text: &[u8]) -> Vec<PathBuf> {
        let mut paths = vec![Vec::new()];
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'$', rest) {
            let (before, from) = (&rest[..at], &rest[at + 1..]);
            let Some((token, length)) = next_token(from) else {
                append(&mut paths, &[&rest[..=at]]);
                rest = from;
                continue;
            };
            append(&mut paths, &[before]);
            match token {
                Token::Origin => match self.origin {
                    Some(origin) => append(&mut paths, &[origin.as_os_str().as_bytes()]),
                    None => return Vec::new(),
                },
                Token::Lib if self.lib.is_empty() => {
                    append(&mut paths, LIBS);
                }
                Token::Lib => append(&mut paths, &[self.lib.as_bytes()]),
                Token::Platform => {
                    let names: Vec<_> =
                        platforms(self.machine).iter().map(|s| s.as_bytes()).collect();
                    append(&mut paths, &names);
                }
            }
            rest = &from[length..];
        }
        append(&mut paths, &[rest]);
        paths.iter().map(|path| PathBuf::from(OsStr::from_bytes(path))).collect()
    }
}

/// Appends each of `ends` to each of `texts`.
fn append(texts: &mut Vec<Vec<u8>>, ends: &[&[u8]]) {
    // A text of many tokens has no end of meanings; the first ones show where it leads.
    const MOST: usize = 64;
    let joined = texts.iter().flat_map(|text| ends.iter().map(move |end| [text, *end].concat()));
    *texts = joined.take(MOST).collect();
}

/// Returns the token that follows a `$`, and its length.
fn next_token(text: &[u8]) -> Option<(Token, usize)> {
    let (braces, text) = match text.strip_prefix(b"{") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let known = [("ORIGIN", Token::Origin), ("LIB", Token::Lib), ("PLATFORM", Token::Platform)];
    let (name, token) = known.into_iter().find(|(name, _)| text.starts_with(name.as_bytes()))?;
    let next = text.get(name.len());
    if braces {
        return (next == Some(&b'}')).then_some((token, name.len() + 2));
    }
    let goes_on = next.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (!goes_on).then_some((token, name.len()))
}

/// Returns what `$PLATFORM` can be on processors of a machine: what the kernel says (`AT_PLATFORM`
/// in getauxval(3)), and what glibc puts in its place on newer ones.
fn platforms(machine: u16) -> &'static [&'static str] {
    match machine {
        abi::EM_X86_64 => &["x86_64", "haswell", "xeon_phi"],
        abi::EM_386 => &["i686", "i586", "i486", "i386"],
        abi::EM_AARCH64 => &["aarch64"],
        abi::EM_ARM => &["v7l", "v8l", "v6l"],
        abi::EM_PPC64 => &["power8", "power9", "power10"],
        abi::EM_S390 => &["z13", "z14", "z15", "z16"],
        _ => &[],
    }
}

/// Returns what `$LIB` stands for in the loader with these bytes: a string that is alone in its
/// read-only data (`DL_DST_LIB`). Returns `None` if there is none, or several.
pub(crate) fn find_lib(loader: &[u8]) -> Option<&str> {
    let mut found = memchr::memmem::find_iter(loader, b"\0lib").filter_map(|at| {
        let text = &loader[at + 1..];
        let text = std::str::from_utf8(&text[..memchr::memchr(0, text)?]).ok()?;
        is_lib(text).then_some(text)
    });
    found.next().filter(|_| found.next().is_none())
}

/// Returns whether `text` can be the value of `$LIB`: `lib64`, `lib/x86_64-linux-gnu`, `lib64/lp64d`.
fn is_lib(text: &str) -> bool {
    let (dir, below) = text.split_once('/').unwrap_or((text, ""));
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    ["lib", "lib32", "lib64", "libx32"].contains(&dir)
        && (!text.ends_with('/') && below.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_expanded_as_the_loader_does() {
        let origin = Path::new("/opt/x/bin");
        let tokens = Tokens { origin: Some(origin), lib: "lib64", machine: abi::EM_AARCH64 };
        for (text, expected) in [
            ("$ORIGIN/../lib", "/opt/x/bin/../lib"),
            ("${ORIGIN}", "/opt/x/bin"),
            ("/opt/x/$LIB/y${PLATFORM}", "/opt/x/lib64/yaarch64"),
            ("/opt/$ORIGINAL/${LIB/$", "/opt/$ORIGINAL/${LIB/$"),
            ("$$LIB", "$lib64"),
            ("", ""),
        ] {
            assert_eq!(tokens.expand(text.as_bytes()), [Path::new(expected)], "{text}");
        }
        let privileged = Tokens { origin: None, lib: "", machine: abi::EM_X86_64 };
        assert!(privileged.expand(b"$ORIGIN/x").is_empty());
        let paths = privileged.expand(b"/$LIB/$PLATFORM");
        assert_eq!(paths.len(), 6);
        assert_eq!(paths[0], Path::new("/lib64/x86_64"));
        assert_eq!(privileged.expand(&b"$PLATFORM".repeat(100)).len(), 64);
    }

    #[test]
    fn the_loader_tells_its_lib() {
        assert_eq!(find_lib(b"x\0libc.so.6\0lib64\0lib.so\0"), Some("lib64"));
        assert_eq!(find_lib(b"\0lib/x86_64-linux-gnu\0"), Some("lib/x86_64-linux-gnu"));
        assert_eq!(find_lib(b"\0lib64\0lib\0"), None);
        assert_eq!(find_lib(b"\0lib64/\0libs\0lib"), None);
    }
}
