//! The first line of a script, which names the program that runs it, as the kernel reads it
//! (`fs/binfmt_script.c`).

use std::ffi::OsStr;
use std::fmt;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Number of bytes that the kernel reads of a file before it starts it (`BINPRM_BUF_SIZE` in
/// binfmts.h, since Linux 5.1).
const BUFFER: usize = 256;

/// Longest first line, without its newline.
pub(crate) const LONGEST: usize = BUFFER - 1;

/// Parts of a `#!` line (execve(2): one interpreter, then at most one argument).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shebang<'a> {
    /// Path of the interpreter.
    pub interpreter: &'a Path,
    /// Place of the interpreter in the file.
    pub place: Range<usize>,
    /// Argument after the interpreter: the rest of the line. `None` if there is none.
    pub argument: Option<&'a [u8]>,
    /// Place of the argument in the file: after the interpreter, and empty, without one.
    pub argument_place: Range<usize>,
    /// Length of the line in bytes, without its newline.
    pub length: usize,
    /// True if the line has more than the kernel reads, or a NUL.
    pub is_cut: bool,
}

/// Reason why the kernel does not start a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShebangError {
    /// No interpreter follows the `#!`.
    NoInterpreter,
    /// The path of the interpreter does not end in what the kernel reads; the line has this length.
    TooLong(usize),
}

impl fmt::Display for ShebangError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInterpreter => f.write_str("has a first line that names no interpreter"),
            Self::TooLong(length) => write_too_long(f, *length),
        }
    }
}

fn write_too_long(f: &mut impl fmt::Write, length: usize) -> fmt::Result {
    write!(f, "has a first line of {length} characters, of which the kernel reads {LONGEST}")
}

/// Returns the description of a first line of this length, which the kernel does not read whole.
pub(crate) fn describe_too_long(length: usize) -> String {
    ShebangError::TooLong(length).to_string()
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

impl<'a> Shebang<'a> {
    /// Parses the beginning of a file. Returns `None` if it is not a script.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not start the script for its first line (`ENOEXEC`).
    pub(crate) fn parse(start: &'a [u8]) -> Result<Option<Self>, ShebangError> {
        if !start.starts_with(b"#!") {
            return Ok(None);
        }
        // What follows the end of a short file is NUL.
        let at = |index: usize| start.get(index).copied().unwrap_or(0);
        let is_end = |index: usize| is_blank(at(index)) || at(index) == 0;
        let skip_blanks = |from: usize| (from..BUFFER).find(|&index| !is_blank(at(index)));
        let length = start.iter().position(|byte| *byte == b'\n').unwrap_or(start.len());
        let text = start.iter().take(BUFFER).take_while(|byte| **byte != 0);
        let newline = text.clone().position(|byte| *byte == b'\n');
        let mut end = newline.unwrap_or(BUFFER - 1);
        if newline.is_none() {
            let name = skip_blanks(2).ok_or(ShebangError::TooLong(length))?;
            if !(name..BUFFER).any(is_end) {
                return Err(ShebangError::TooLong(length));
            }
        }
        while end > 2 && is_blank(at(end - 1)) {
            end -= 1;
        }
        let name = skip_blanks(2).filter(|name| *name < end && at(*name) != 0);
        let name = name.ok_or(ShebangError::NoInterpreter)?;
        let name_end = (name..end).find(|&index| is_end(index)).unwrap_or(end);
        let argument = Some(name_end).filter(|&index| index < end && is_blank(at(index)));
        let argument = argument.and_then(skip_blanks).filter(|&index| index < end);
        let argument_end =
            argument.map(|from| (from..end).find(|&index| at(index) == 0).unwrap_or(end));
        let argument_place = argument.unwrap_or(name_end)..argument_end.unwrap_or(name_end);
        let bytes = |range: Range<usize>| start.get(range).unwrap_or_default();
        let seen = newline.unwrap_or_else(|| text.count());
        Ok(Some(Self {
            interpreter: Path::new(OsStr::from_bytes(bytes(name..name_end))),
            place: name..name_end,
            argument: argument.map(|_| bytes(argument_place.clone())),
            argument_place,
            length,
            is_cut: seen < length || length > LONGEST,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(text: &str) -> Option<(&str, Option<&str>)> {
        let shebang = Shebang::parse(text.as_bytes()).ok()??;
        let argument = shebang.argument.map(|argument| std::str::from_utf8(argument).unwrap());
        Some((shebang.interpreter.to_str().unwrap(), argument))
    }

    #[test]
    fn first_lines_are_parsed() {
        assert_eq!(parse("#!/bin/sh\n"), Some(("/bin/sh", None)));
        assert_eq!(parse("#!/bin/sh"), Some(("/bin/sh", None)));
        assert_eq!(
            parse("#! \t/usr/bin/perl \t-w -T \t\nx"),
            Some(("/usr/bin/perl", Some("-w -T")))
        );
        assert_eq!(parse("#!/bin/sh -e\r\n"), Some(("/bin/sh", Some("-e\r"))));
        assert_eq!(parse("#!/bin/sh\0-e\n"), Some(("/bin/sh", None)));
        assert_eq!(parse("#!/bin/sh -e\0x\n"), Some(("/bin/sh", Some("-e"))));
        assert_eq!(parse("#!/bin/sh\x0b-e\n"), Some(("/bin/sh\x0b-e", None)));
        assert_eq!(parse("no\n"), None);
        assert_eq!(Shebang::parse(b"#! \n"), Err(ShebangError::NoInterpreter));
        assert_eq!(Shebang::parse(b"#!"), Err(ShebangError::NoInterpreter));
        let long = format!("#!/{}\n", "x".repeat(253));
        assert_eq!(Shebang::parse(long.as_bytes()), Err(ShebangError::TooLong(256)));
        let long = format!("#!/bin/sh {}\n", "x".repeat(300));
        let shebang = Shebang::parse(long.as_bytes()).unwrap().unwrap();
        assert!(shebang.is_cut);
        assert_eq!((shebang.argument.unwrap().len(), shebang.length), (245, 310));
    }

    /// The kernel starts a program that prints its arguments, by first lines of every shape.
    #[test]
    fn the_kernel_reads_lines_in_the_same_way() {
        let dir = tempfile::Builder::new().prefix("k").tempdir().unwrap();
        let printer = dir.path().join("p");
        crate::base::command::Command::new("copy a program", "/bin/cp")
            .args(["-L", "/bin/echo"])
            .arg(&printer)
            .output()
            .unwrap();
        let printer = printer.to_str().unwrap();
        let fill = |length: usize| "a".repeat(length - 3 - printer.len());
        let mut lines: Vec<String> = [
            "#!P\nx",
            "#!P",
            "#! P\n",
            "#!\tP\t-a b \t\n",
            "#!P  a\tb\r\n",
            "#!P a",
            "#!P \n",
            "#!P ",
            "#!P a\0b\n",
            "#!P\0\n",
            "#!P\r\n",
            "#!\n",
            "#!",
            "#! \t ",
            "#!P\x0ba\n",
        ]
        .map(|line| line.replace('P', printer))
        .into();
        lines.extend([250, 253, 254, 255, 256, 257, 300].iter().flat_map(|&length| {
            let line = format!("#!{printer} {}", fill(length));
            let path = format!("#!/{}", "a".repeat(length - 3));
            [format!("{line}\n"), line, format!("{path}\n"), path]
        }));
        let script = dir.path().join("s");
        for line in lines {
            fs_err::write(&script, &line).unwrap();
            fs_err::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            let expected = match Shebang::parse(line.as_bytes()) {
                Ok(Some(shebang)) if shebang.interpreter == Path::new(printer) => {
                    let argument = shebang.argument.map(|argument| [argument, b" "].concat());
                    Some([argument.unwrap_or_default(), b"S\n".to_vec()].concat())
                }
                _ => None,
            };
            let expected = expected.map(|text| {
                String::from_utf8(text)
                    .unwrap()
                    .replace("S\n", &format!("{}\n", script.to_str().unwrap()))
            });
            let output = start(&script);
            assert_eq!(output, expected, "{line:?}");
        }
    }

    /// Returns what the script prints, or `None` if the kernel does not start it.
    fn start(script: &Path) -> Option<String> {
        loop {
            #[expect(clippy::disallowed_methods, reason = "the kernel's own answer is what counts")]
            match std::process::Command::new(script).env_clear().output() {
                Ok(output) => return Some(String::from_utf8(output.stdout).unwrap()),
                // Another thread forked while the file was open for writing.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                Err(_) => return None,
            }
        }
    }
}
