//! The first line of a script: which program runs it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A `#!` line in its parts (execve(2): one interpreter, then at most one argument).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shebang<'a> {
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
    pub(crate) fn parse(start: &'a [u8]) -> Option<Self> {
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
    pub(crate) fn program(&self) -> Option<&'a OsStr> {
        let name = self.interpreter.file_name()?;
        if name != "env" {
            return Some(name);
        }
        let mut words = self.argument.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).map(OsStr::from_bytes)
    }
}
