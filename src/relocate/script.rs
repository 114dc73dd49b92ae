//! Scripts: the interpreter in the first line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::fstree::resolve::RootResolver;
use crate::relocate::shebang::Shebang;
use crate::relocate::{FileAction, FileOutcome, RelocateOptions};

/// Plans a new first line if the prefix has the program that runs the script.
pub(super) fn plan_first_line(
    options: &RelocateOptions,
    start: &[u8],
    rooted: &RootResolver,
) -> FileOutcome {
    let Some(shebang) = Shebang::parse(start) else { return FileOutcome::Nothing };
    let eprefix = options.eprefix.as_path();
    if shebang.interpreter.starts_with(eprefix)
        && shebang.interpreter.file_name() != Some("env".as_ref())
    {
        return FileOutcome::Nothing;
    }
    let Some(program) = shebang.program() else { return FileOutcome::Nothing };
    let Some(path) = find_in_prefix(eprefix, program, rooted) else { return FileOutcome::Nothing };
    let mut new = b"#!".to_vec();
    new.extend_from_slice(path.as_os_str().as_bytes());
    let argument = program_argument(&shebang);
    if !argument.is_empty() {
        new.push(b' ');
        new.extend_from_slice(&argument);
    }
    let change = format!("run by {}", path.escaped());
    FileOutcome::Changed(FileAction::FirstLine { old: shebang.length, new }, vec![change])
}

/// Returns the argument for the program. After env(1), these are the words behind the program's
/// name.
fn program_argument(shebang: &Shebang<'_>) -> Vec<u8> {
    if shebang.interpreter.file_name() != Some("env".as_ref()) {
        return shebang.argument.to_vec();
    }
    let words: Vec<&[u8]> =
        shebang.argument.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).collect();
    let program = words.iter().position(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    let rest = program.and_then(|program| words.get(program + 1..)).unwrap_or_default();
    rest.join(b" ".as_slice())
}

fn find_in_prefix(eprefix: &Path, program: &OsStr, rooted: &RootResolver) -> Option<PathBuf> {
    let path = eprefix.join("usr/bin").join(program);
    rooted.find(&path).is_some().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_parsed() {
        let parse = |text: &'static str| {
            let shebang = Shebang::parse(text.as_bytes())?;
            Some((
                shebang.program()?.to_str()?,
                String::from_utf8(program_argument(&shebang)).ok()?,
            ))
        };
        assert_eq!(parse("#!/bin/sh\n"), Some(("sh", String::new())));
        assert_eq!(parse("#! /usr/bin/perl  -w \nx"), Some(("perl", "-w".into())));
        assert_eq!(parse("#!/usr/bin/env python3\n"), Some(("python3", String::new())));
        assert_eq!(parse("#!/usr/bin/env -S A=1 awk -f\n"), Some(("awk", "-f".into())));
        assert_eq!(parse("#!\n"), None);
        assert_eq!(parse("#!/bin/sh"), None);
        assert_eq!(parse("no\n"), None);
    }
}
