//! A first command by which a shell hands a script over to another interpreter. pip, uv, distlib and
//! conda write scripts for sh and Python at once where a `#!` line cannot hold the path of Python:
//! for Python, the line is the beginning of a string. Scripts of Tcl begin with such a command too.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// First command of a shell script, `exec PROGRAM`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExecLine {
    /// The program, without quotes.
    pub program: Vec<u8>,
    /// Place of the program in the file, with its quotes.
    pub place: Range<usize>,
    /// True if the program reads the script: the word `exec` is in quotes for it, or the script is an
    /// argument.
    pub hands_over: bool,
    /// End of the line in the file.
    pub end: usize,
}

impl ExecLine {
    /// Parses the first line after `from` that is no comment. Returns `None` if it is another command,
    /// or if the shell computes the program.
    pub(super) fn parse(start: &[u8], from: usize) -> Option<Self> {
        let line_end =
            |from: usize| Some(from + start.get(from..)?.iter().position(|byte| *byte == b'\n')?);
        let (mut from, mut end) = (from, line_end(from)?);
        while start.get(from) == Some(&b'#') {
            from = end + 1;
            end = line_end(from)?;
        }
        let exec = ShellWord::read(start, from, end)?;
        if exec.value != b"exec" {
            return None;
        }
        let program = ShellWord::read(start, exec.place.end, end)?;
        let is_program = program.is_literal && !program.value.starts_with(b"-");
        is_program.then(|| Self {
            hands_over: exec.place.len() != exec.value.len()
                || start
                    .get(from..end)
                    .is_some_and(|line| memchr::memmem::find(line, b"$0").is_some()),
            program: program.value,
            place: program.place,
            end,
        })
    }

    /// Returns the program as a path or name.
    pub(super) fn program(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.program))
    }
}

struct ShellWord {
    value: Vec<u8>,
    place: Range<usize>,
    is_literal: bool,
}

impl ShellWord {
    /// Reads the first word of `text` from `from` on. Returns `None` if there is none before `end`.
    fn read(text: &[u8], from: usize, end: usize) -> Option<Self> {
        let line = text.get(..end)?;
        let begin = from + line.get(from..)?.iter().position(|byte| !b" \t".contains(byte))?;
        let mut word = Self { value: Vec::new(), place: begin..begin, is_literal: true };
        let mut quote = None;
        for byte in line.get(begin..)? {
            match (byte, quote) {
                (b'\'' | b'"', None) => quote = Some(*byte),
                (byte, Some(open)) if *byte == open => quote = None,
                (b' ' | b'\t' | b';' | b'|' | b'&' | b'<' | b'>' | b'(' | b')', None) => break,
                _ => {
                    word.is_literal &= quote == Some(b'\'') || !b"$`\\*?[~".contains(byte);
                    word.value.push(*byte);
                }
            }
            word.place.end += 1;
        }
        (!word.value.is_empty() && quote.is_none()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_two_interpreters_are_told_from_others() {
        let parse = |line: &str| {
            let found = ExecLine::parse(format!("#!/bin/sh\n{line}\n").as_bytes(), 10)?;
            Some((String::from_utf8(found.program).unwrap(), found.hands_over))
        };
        let both = |path: &str| Some((path.to_owned(), true));
        assert_eq!(parse("'''exec' /a/python3 \"$0\" \"$@\""), both("/a/python3"));
        assert_eq!(parse("'''exec' \"/a b/python3\" \"$0\" \"$@\""), both("/a b/python3"));
        assert_eq!(parse("\"exec\" \"/a/python3\" \"$0\""), both("/a/python3"));
        assert_eq!(parse("''''exec '/a/python3' -O -- \"$0\""), both("/a/python3"));
        assert_eq!(parse("\"\"\"exec\" /a/python3"), both("/a/python3"));
        assert_eq!(parse("# to Tcl \\\nexec /a/tclsh \"$0\" ${1+\"$@\"}"), both("/a/tclsh"));
        assert_eq!(parse(" exec\t/a/b -x"), Some(("/a/b".to_owned(), false)));
        for other in [
            "exec",
            "exec >/dev/null",
            "exec \"$a\"/b",
            "'''exec' \"$(x)\"/'python3' \"$0\"",
            "x exec /a",
            "exec -a x /b",
            "exec `x`",
            "",
            "'exec /a",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
