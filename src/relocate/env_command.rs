//! The command line of env(1) in a `#!` line, as GNU coreutils parse it.

use std::ops::Range;

/// A word of the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word {
    /// Value after quotes and escapes were removed.
    pub value: Vec<u8>,
    /// Place in the argument.
    pub place: Range<usize>,
    /// Number of bytes of the value before the first variable, whose value is unknown. `None` if
    /// there is no variable.
    pub known: Option<usize>,
}

/// Program that env(1) starts, and what else it does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EnvCommand {
    /// The program: a name that env searches for in PATH, or a path.
    pub program: Word,
    /// Words after the program.
    pub words: Vec<Word>,
    /// True if env does nothing but start the program: no options but `-S`, no assignments.
    pub is_plain: bool,
    /// Value of PATH that env sets for the program, and by which it finds it.
    pub path: Option<Vec<u8>>,
}

type Result<T> = std::result::Result<T, &'static str>;

/// Long options, with the short option that does the same. A capital `V` stands for a value.
const LONG: &[(&str, &str)] = &[
    ("argv0", "aV"),
    ("block-signal", ""),
    ("chdir", "CV"),
    ("debug", "v"),
    ("default-signal", ""),
    ("ignore-environment", "i"),
    ("ignore-signal", ""),
    ("list-signal-handling", ""),
    ("null", "0"),
    ("split-string", "SV"),
    ("unset", "uV"),
];

const UNKNOWN: &str = "it has an option that is not known";
const NO_PROGRAM: &str = "it names no program";

/// Parses the argument of env in a `#!` line: all that follows env, with blanks.
pub(crate) fn parse(argument: &[u8]) -> Result<EnvCommand> {
    let whole = Word { value: argument.to_vec(), place: 0..argument.len(), known: None };
    let mut parser = Parser { words: vec![whole], at: 0, is_split: false, is_plain: true };
    parser.parse_options()?;
    if parser.peek().is_some_and(|word| word.value == b"-") {
        parser.is_plain = false;
        parser.at += 1;
    }
    let mut path = None;
    while let Some(word) = parser.peek().filter(|word| word.known_part().contains(&b'=')) {
        path = word.value.strip_prefix(b"PATH=").map(<[u8]>::to_vec).or(path);
        parser.is_plain = false;
        parser.at += 1;
    }
    let program = parser.peek().cloned().ok_or(NO_PROGRAM)?;
    if program.known.is_some() {
        return Err("a variable names the program");
    }
    if program.value.is_empty() {
        return Err(NO_PROGRAM);
    }
    let words = parser.words.get(parser.at + 1..).unwrap_or_default().to_vec();
    Ok(EnvCommand { program, words, is_plain: parser.is_plain, path })
}

impl Word {
    fn known_part(&self) -> &[u8] {
        self.value.get(..self.known.unwrap_or(self.value.len())).unwrap_or_default()
    }
}

struct Parser {
    words: Vec<Word>,
    at: usize,
    is_split: bool,
    is_plain: bool,
}

impl Parser {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.at)
    }

    /// Parses options, up to the first word that is none (getopt(3), `+`).
    fn parse_options(&mut self) -> Result<()> {
        while let Some(word) = self.peek().cloned() {
            if word.known.is_some_and(|known| known == 0) {
                return Err("a variable stands before the program");
            }
            if word.value == b"--" {
                self.at += 1;
                return Ok(());
            }
            if let Some(option) = word.value.strip_prefix(b"--") {
                self.parse_long(&word, option)?;
            } else if word.value.len() > 1 && word.value.starts_with(b"-") {
                self.parse_short(&word)?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    fn parse_long(&mut self, word: &Word, option: &[u8]) -> Result<()> {
        let name_end = option.iter().position(|byte| *byte == b'=').unwrap_or(option.len());
        let (name, value) = option.split_at(name_end);
        // A beginning that no other option has is enough.
        let mut fitting = LONG.iter().filter(|(long, _)| long.as_bytes().starts_with(name));
        let exact = LONG.iter().find(|(long, _)| long.as_bytes() == name);
        let (_, short) = match (exact, fitting.next(), fitting.next()) {
            (Some(exact), ..) => exact,
            (None, Some(only), None) => only,
            _ => return Err(UNKNOWN),
        };
        let is_signal = short.is_empty();
        let takes_value = short.ends_with('V');
        if !value.is_empty() && !takes_value && !is_signal {
            return Err(UNKNOWN);
        }
        self.at += 1;
        match (takes_value, short.bytes().next()) {
            (true, Some(letter)) if value.is_empty() => self.take_next(letter),
            (true, Some(letter)) => self.take(letter, word, 2 + name_end + 1),
            (_, letter) => self.set(letter),
        }
    }

    fn parse_short(&mut self, word: &Word) -> Result<()> {
        self.at += 1;
        for (index, letter) in word.value.iter().enumerate().skip(1) {
            match letter {
                b'i' | b'v' | b'0' => self.set(Some(*letter))?,
                b'a' | b'u' | b'C' | b'S' if index + 1 < word.value.len() => {
                    return self.take(*letter, word, index + 1);
                }
                b'a' | b'u' | b'C' | b'S' => return self.take_next(*letter),
                letter if is_space(*letter) => {
                    return Err("without -S, all that follows env is one word");
                }
                _ => return Err(UNKNOWN),
            }
        }
        Ok(())
    }

    fn set(&mut self, letter: Option<u8>) -> Result<()> {
        self.is_plain = false;
        if letter == Some(b'0') { Err("-0 is for no program") } else { Ok(()) }
    }

    /// Takes the next word as the value of an option. The next word of the last one is the path of
    /// the script.
    fn take_next(&mut self, letter: u8) -> Result<()> {
        let next = self.peek().cloned().ok_or(NO_PROGRAM)?;
        self.at += 1;
        self.take(letter, &next, 0)
    }

    /// Takes the end of `word`, from this byte on, as the value of an option.
    fn take(&mut self, letter: u8, word: &Word, from: usize) -> Result<()> {
        if letter != b'S' {
            self.is_plain = false;
            return Ok(());
        }
        if self.is_split {
            return Err("it has -S twice");
        }
        self.words = split(&word.value, from)?;
        self.at = 0;
        self.is_split = true;
        Ok(())
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Splits the string of `-S`, which begins at `from`, into words.
fn split(text: &[u8], from: usize) -> Result<Vec<Word>> {
    let mut splitter = Splitter { text, at: from, ..Splitter::default() };
    while let Some(byte) = splitter.text.get(splitter.at).copied() {
        if !splitter.step(byte)? {
            splitter.quote = None;
            break;
        }
    }
    if splitter.quote.is_some() {
        return Err("a quotation has no end");
    }
    splitter.end_word();
    Ok(splitter.words)
}

/// State of [`split`].
#[derive(Default)]
struct Splitter<'a> {
    text: &'a [u8],
    at: usize,
    quote: Option<u8>,
    word: Option<Word>,
    words: Vec<Word>,
}

impl Splitter<'_> {
    /// Reads on from `byte`. Returns false at the end of the string.
    fn step(&mut self, byte: u8) -> Result<bool> {
        match byte {
            b'\'' | b'"' if self.quote.is_none_or(|quote| quote == byte) => {
                self.quote = if self.quote.is_some() { None } else { Some(byte) };
                self.add(&[], 1);
            }
            _ if is_space(byte) && self.quote.is_none() => {
                self.end_word();
                self.at += 1;
            }
            b'#' if self.word.is_none() => return Ok(false),
            b'\\' => return self.escape(),
            b'$' if self.quote != Some(b'\'') => self.variable()?,
            _ => self.add(&[byte], 1),
        }
        Ok(true)
    }

    /// Reads a backslash and what it makes of the next character.
    fn escape(&mut self) -> Result<bool> {
        let next = self.text.get(self.at + 1).copied();
        if self.quote == Some(b'\'') && !matches!(next, Some(b'\\' | b'\'')) {
            self.add(b"\\", 1);
            return Ok(true);
        }
        let is_quoted = self.quote == Some(b'"');
        match next {
            Some(plain @ (b'"' | b'#' | b'$' | b'\'' | b'\\')) => self.add(&[plain], 2),
            Some(b'_') if is_quoted => self.add(b" ", 2),
            Some(b'_') => {
                self.end_word();
                self.at += 2;
            }
            Some(b'c') if is_quoted => return Err("\\c stands in quotes"),
            Some(b'c') => return Ok(false),
            Some(b'f') => self.add(b"\x0c", 2),
            Some(b'n') => self.add(b"\n", 2),
            Some(b'r') => self.add(b"\r", 2),
            Some(b't') => self.add(b"\t", 2),
            Some(b'v') => self.add(b"\x0b", 2),
            _ => return Err("a backslash begins nothing that env knows"),
        }
        Ok(true)
    }

    /// Reads `${NAME}`.
    fn variable(&mut self) -> Result<()> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let name = rest.strip_prefix(b"${").unwrap_or_default();
        let length = name.iter().position(|byte| *byte == b'}').unwrap_or(0);
        let name = name.get(..length).unwrap_or_default();
        let is_name = name.first().is_some_and(|first| !first.is_ascii_digit())
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if !is_name {
            return Err("of variables, env knows ${NAME} alone");
        }
        let known = self.word.as_ref().map_or(0, |word| word.known.unwrap_or(word.value.len()));
        self.add(&[], length + 3);
        if let Some(word) = &mut self.word {
            word.known = Some(known);
        }
        Ok(())
    }

    /// Adds `value`, which `length` bytes stand for, to the word.
    fn add(&mut self, value: &[u8], length: usize) {
        let at = self.at;
        let word = self.word.get_or_insert_with(|| Word { place: at..at, ..Word::default() });
        word.value.extend_from_slice(value);
        self.at += length;
        word.place.end = self.at;
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the program, the words after it, and the text that stands for the program.
    fn parsed(argument: &str) -> std::result::Result<(String, Vec<String>, &str), &'static str> {
        let command = parse(argument.as_bytes())?;
        let text = |word: &Word| String::from_utf8(word.value.clone()).unwrap();
        let words = command.words.iter().map(text).collect();
        Ok((text(&command.program), words, &argument[command.program.place]))
    }

    #[test]
    fn programs_are_found() {
        for (argument, program, words, place) in [
            ("awk", "awk", &[][..], "awk"),
            ("python3 -u", "python3 -u", &[], "python3 -u"),
            ("-Sawk -v x=1 -f", "awk", &["-v", "x=1", "-f"], "awk"),
            ("-S awk -f", "awk", &["-f"], "awk"),
            ("-vS awk", "awk", &[], "awk"),
            ("-ivS  awk", "awk", &[], "awk"),
            ("--split-string=awk -f", "awk", &["-f"], "awk"),
            ("--split=awk", "awk", &[], "awk"),
            ("-S -i A=1 B='a b' awk A=2", "awk", &["A=2"], "awk"),
            ("-S - A=1 awk", "awk", &[], "awk"),
            ("-S -u X -uY --unset=Z --unset Z -C /x --chdir=/ awk", "awk", &[], "awk"),
            ("-S --default-signal=PIPE --ignore-signal awk", "awk", &[], "awk"),
            ("-S A=${B} awk ${C}", "awk", &[""], "awk"),
            ("-S -- awk", "awk", &[], "awk"),
            ("-S \"a\"w'k' 'a b' \"c\\_d\" e\\_f", "awk", &["a b", "c d", "e", "f"], "\"a\"w'k'"),
            ("-S awk \\t\\n\\$ '\\t\\'' # x", "awk", &["\t\n$", "\\t'"], "awk"),
            ("-S awk a#b a\\c b", "awk", &["a#b", "a"], "awk"),
            ("-S awk ''\r", "awk", &[""], "awk"),
        ] {
            let words = words.iter().map(ToString::to_string).collect();
            assert_eq!(parsed(argument), Ok((program.to_owned(), words, place)), "{argument}");
        }
    }

    #[test]
    fn what_env_refuses_is_refused() {
        for argument in [
            "-i awk",
            "-S",
            "-S ",
            "-i",
            "A=1",
            "-S A=1",
            "-S -0 awk",
            "-Z",
            "-S --none awk",
            "-S 'awk",
            "-S awk \\",
            "-S awk \\x",
            "-S awk $A",
            "-S awk ${1}",
            "-S ${A}",
            "-S ${A} awk",
            "-S -S awk",
            "--help",
            "-S \"a\\c\"",
            "-u",
            "--null awk",
            "--i=1",
            "-S ''",
            "-S # awk",
        ] {
            assert!(parsed(argument).is_err(), "{argument}");
        }
    }

    #[test]
    fn what_env_does_besides_is_told() {
        let plain = |argument: &str| parse(argument.as_bytes()).unwrap().is_plain;
        assert!(plain("-S awk -f") && plain("awk"));
        for argument in ["-S -i awk", "-S A=1 awk", "-vS awk", "-S - awk", "-S --block-signal awk"]
        {
            assert!(!plain(argument), "{argument}");
        }
        let path = |argument: &str| parse(argument.as_bytes()).unwrap().path;
        assert_eq!(path("-S PATH=/a PATH=/b awk"), Some(b"/b".to_vec()));
        assert_eq!(path("-S APATH=/a awk"), None);
    }
}
