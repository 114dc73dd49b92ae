//! Programs that other files of an extension call by name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use aho_corasick::AhoCorasick;
use anyhow::{Context, Result};

use crate::elf;
use crate::fstree::entries::{EntryKind, FileTree};

/// Kind of a file that may call programs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallerKind {
    /// A program, which has command lines among its strings.
    Elf,
    /// A script for a shell, in which each word can be a command.
    Shell,
    /// Any other text, which has commands in quotes or with their directory.
    Text,
}

impl CallerKind {
    fn of(bytes: &[u8]) -> Self {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.strip_prefix(b"#!").unwrap_or_default().split(|byte| *byte == b' ');
        // The interpreter may be an argument of env(1).
        let is_shell = words.any(|word| word.ends_with(b"sh"));
        match (elf::is_elf(bytes), is_shell) {
            (true, _) => Self::Elf,
            (false, true) => Self::Shell,
            (false, false) => Self::Text,
        }
    }

    /// Returns whether the word between `before` and `after` is a command. A `distinct` one can be nothing
    /// else.
    fn is_command(self, before: &[u8], after: &[u8], is_distinct: bool) -> bool {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.+".contains(byte);
        if before.last().is_some_and(is_word) || after.first().is_some_and(is_word) {
            return false;
        }
        if is_distinct {
            return true;
        }
        let (last, next) = (before.last(), after.first());
        let in_directory = before.ends_with(b"bin/");
        match self {
            Self::Elf => {
                matches!((last, next), (None | Some(0), Some(b' ')))
                    || in_directory && matches!(next, None | Some(0 | b' '))
            }
            Self::Shell => !is_comment(before),
            Self::Text => {
                let quotes = b"\"'`";
                let is_quote = |byte: Option<&u8>| byte.is_some_and(|byte| quotes.contains(byte));
                in_directory || is_quote(last) && (is_quote(next) || next == Some(&b' '))
            }
        }
    }
}

/// Programs of the C library whose names are words of other meanings, too.
const ORDINARY: &[&[u8]] = &[b"iconv", b"locale", b"mtrace", b"nscd", b"xtrace"];

/// Returns whether the line that `before` ends with is a comment of a shell.
fn is_comment(before: &[u8]) -> bool {
    let start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    let line = before.get(start..).unwrap_or_default().trim_ascii_start();
    line.starts_with(b"#") && !line.starts_with(b"#!")
}

/// Returns those of `programs` that no other file of `plan` calls, by their names.
pub(super) fn uncalled(
    plan: &FileTree,
    mut programs: BTreeSet<PathBuf>,
) -> Result<BTreeSet<PathBuf>> {
    if programs.is_empty() {
        return Ok(programs);
    }
    let candidates: Vec<PathBuf> = programs.iter().cloned().collect();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
    let names: Vec<Vec<u8>> = candidates.iter().map(name).collect();
    let search = AhoCorasick::new(&names).context("could not search for the names of programs")?;
    for (path, entry) in &plan.entries {
        let EntryKind::File(content) = &entry.kind else { continue };
        if programs.is_empty() || candidates.contains(path) {
            continue;
        }
        let bytes = content.source.bytes()?;
        let kind = CallerKind::of(&bytes);
        // The C library has the name of getconf's directory.
        let is_libc = path.file_name().is_some_and(|name| name == "libc.so.6");
        for found in search.find_overlapping_iter(&*bytes) {
            let word = names.get(found.pattern().as_usize()).map_or(&[][..], Vec::as_slice);
            let is_distinct = !is_libc && !ORDINARY.contains(&word);
            let before = bytes.get(..found.start()).unwrap_or_default();
            let after = bytes.get(found.end()..).unwrap_or_default();
            if kind.is_command(before, after, is_distinct)
                && let Some(program) = candidates.get(found.pattern().as_usize())
            {
                programs.remove(program);
            }
        }
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fstree::entries::Entry;

    #[test]
    fn commands_are_told_from_words() {
        let is_called = |name: &str, place: &str, text: &str| {
            let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 1);
            let program = PathBuf::from("opt/x/usr/bin").join(name);
            for (path, bytes) in [(Path::new(place), text.as_bytes()), (&program, b"")] {
                plan.add(path, Entry::generated(bytes.to_vec(), 1)).unwrap();
            }
            uncalled(&plan, BTreeSet::from([program])).unwrap().is_empty()
        };
        let called = |text: &str| is_called("locale", "opt/x/a", text);
        for text in [
            "#!/bin/sh\nx=$(locale -a)\n",
            "#!/usr/bin/env bash\nlocale\n",
            "#!/opt/x/usr/bin/python3\nrun(['locale', '-a'])\n",
            "run(\"locale -a\")\n",
            "path = /opt/x/usr/bin/locale\n",
            "\x7fELF\x02\0locale -a\0",
            "\x7fELF\x02\0/usr/bin/locale\0",
        ] {
            assert!(called(text), "{text}");
        }
        for text in [
            "#!/bin/sh\n# The locale of the user\nx=locale_of_user\n",
            "import locale\n# the 'locale.h' of C\n",
            "\x7fELF\x02\0locale\0bad locale name\0",
            "usr/share/locale/de",
        ] {
            assert!(!called(text), "{text}");
        }
        for text in ["# see getent\n", "\x7fELF\x02\0getent\0", "getent=1", "a/getent/b"] {
            assert!(is_called("getent", "opt/x/a", text), "{text}");
        }
        assert!(!is_called("getent", "opt/x/a", "getentropy or forgetent"));
        let libc = "\x7fELF\x02\0/usr/lib/getconf\0";
        assert!(!is_called("getconf", "opt/x/usr/lib64/libc.so.6", libc));
    }
}
