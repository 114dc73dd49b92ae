//! The first line of a script, which names the program that runs it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Parts of a `#!` line (execve(2): one interpreter, then at most one argument).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shebang<'a> {
    /// Path of the interpreter.
    pub interpreter: &'a Path,
    /// Argument after the interpreter; empty if there is none.
    pub argument: &'a [u8],
    /// Length of the line in bytes, without its newline.
    pub length: usize,
}

impl<'a> Shebang<'a> {
    /// Parses the beginning of a file. Returns `None` if it is not a script, or if its first line
    /// does not end within `start`.
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

    /// Returns the name of the program that runs the script, also if env(1) starts it.
    pub(crate) fn program(&self) -> Option<&'a OsStr> {
        let name = self.interpreter.file_name()?;
        if name != "env" {
            return Some(name);
        }
        let mut words = self.argument.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')).map(OsStr::from_bytes)
    }
}
