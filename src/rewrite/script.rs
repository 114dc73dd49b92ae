//! Scripts: the interpreter in the first line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{Action, Outcome, Request};
use crate::rooted::Rooted;

/// A `#!` line in its parts (execve(2): one interpreter, then at most one argument).
#[derive(Debug, PartialEq, Eq)]
pub struct Shebang<'a> {
    /// The interpreter.
    pub interpreter: &'a Path,
    /// What follows it.
    pub argument: &'a [u8],
    /// Bytes of the line, without its end.
    pub length: usize,
}

impl<'a> Shebang<'a> {
    /// Parses the beginning of a file; nothing if it is no script, or its first line does not
    /// end in what was read.
    pub fn parse(start: &'a [u8]) -> Option<Self> {
        let length = start.iter().position(|byte| *byte == b'\n')?;
        let line = start.get(2..length)?;
        if !start.starts_with(b"#!") {
            return None;
        }
        let line = line.trim_ascii();
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (interpreter, argument) = line.split_at_checked(end)?;
        if interpreter.is_empty() {
            return None;
        }
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        Some(Self { interpreter, argument: argument.trim_ascii(), length })
    }

    /// The name of the program that runs the script, through env(1) where that is in between.
    pub fn program(&self) -> Option<&'a OsStr> {
        let name = self.interpreter.file_name()?;
        if name != "env" {
            return Some(name);
        }
        let mut words = self.argument.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).map(OsStr::from_bytes)
    }
}

/// A script whose program the prefix has is made to be run by it.
pub(super) fn look_at(request: &Request, start: &[u8], rooted: &Rooted) -> Outcome {
    let Some(shebang) = Shebang::parse(start) else { return Outcome::Nothing };
    let eprefix = request.eprefix.as_path();
    if shebang.interpreter.starts_with(eprefix)
        && shebang.interpreter.file_name() != Some("env".as_ref())
    {
        return Outcome::Nothing;
    }
    let Some(program) = shebang.program() else { return Outcome::Nothing };
    let Some(path) = in_prefix(eprefix, program, rooted) else { return Outcome::Nothing };
    let mut new = b"#!".to_vec();
    new.extend_from_slice(path.as_os_str().as_bytes());
    let argument = argument(&shebang);
    if !argument.is_empty() {
        new.push(b' ');
        new.extend_from_slice(&argument);
    }
    let what = format!("run by {}", path.display());
    Outcome::Change(Action::FirstLine { old: shebang.length, new }, vec![what])
}

/// What the program gets: behind env(1), the words after the program's name.
fn argument(shebang: &Shebang<'_>) -> Vec<u8> {
    if shebang.interpreter.file_name() != Some("env".as_ref()) {
        return shebang.argument.to_vec();
    }
    let words: Vec<&[u8]> =
        shebang.argument.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).collect();
    let program = words.iter().position(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    let rest = program.and_then(|program| words.get(program + 1..)).unwrap_or_default();
    rest.join(b" ".as_slice())
}

fn in_prefix(eprefix: &Path, program: &OsStr, rooted: &Rooted) -> Option<PathBuf> {
    let path = eprefix.join("usr/bin").join(program);
    rooted.find(&path).is_some().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let parse = |text: &'static str| {
            let shebang = Shebang::parse(text.as_bytes())?;
            Some((shebang.program()?.to_str()?, String::from_utf8(argument(&shebang)).ok()?))
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
