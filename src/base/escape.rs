//! Text of others in messages, lists and JSON: names of files, targets of links, texts out of
//! files, the output of programs.
//!
//! A name can hold any byte but NUL. On a terminal, ESC begins a sequence that moves the cursor or
//! sets colours and titles; in a list, a newline begins an entry of its own; in JSON, bytes that are
//! no UTF-8 cannot stand at all. [`Escape::escaped`] shows such a name: `\n`, `\r` and `\t`, `\x1b`
//! for another byte, and `\\` for a backslash, so that two names never look alike and
//! [`parse_escaped`] gets the name back. Every message shows a name by it.
//!
//! [`visible`] is the last net: whatever is printed passes through it (`base::output`).

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Bytes that are shown escaped: as they are by `{}`, in quotes by `{:?}`.
#[derive(Clone, Copy)]
pub(crate) struct Escaped<'a>(&'a [u8]);

/// Things of others that messages show.
pub(crate) trait Escape {
    /// Returns the text that stands for `self` in a message, a list or JSON.
    fn escaped(&self) -> Escaped<'_>;
}

impl Escape for [u8] {
    fn escaped(&self) -> Escaped<'_> {
        Escaped(self)
    }
}

impl Escape for str {
    fn escaped(&self) -> Escaped<'_> {
        Escaped(self.as_bytes())
    }
}

impl Escape for OsStr {
    fn escaped(&self) -> Escaped<'_> {
        Escaped(self.as_bytes())
    }
}

impl Escape for Path {
    fn escaped(&self) -> Escaped<'_> {
        Escaped(self.as_os_str().as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&write_visible(self.0, |c| c != '\\' && !is_hidden(c)))
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Returns whether a character does something other than to appear: a control character, a
/// separator of lines, or an invisible character, among them those that turn the direction of what
/// follows (Unicode, categories Cc, Cf, Zl and Zp).
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns the text of `bytes`, with each character that is not `plain` and each byte that is no
/// UTF-8 escaped.
fn write_visible(bytes: &[u8], plain: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            match byte {
                b'\\' => text.push_str("\\\\"),
                b'\n' => text.push_str("\\n"),
                b'\r' => text.push_str("\\r"),
                b'\t' => text.push_str("\\t"),
                byte => text.push_str(&format!("\\x{byte:02x}")),
            }
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if plain(c) {
                text.push(c);
            } else {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// Returns the bytes that [`Escape::escaped`] shows as `text`; `None` if it shows none so.
pub(crate) fn parse_escaped(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        rest = more;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&kind, more) = rest.split_first()?;
        rest = more;
        bytes.push(match kind {
            b'\\' => b'\\',
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let (digits, more) = rest.split_at_checked(2)?;
                rest = more;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(OsString::from_vec(bytes))
}

/// Returns `text` with all characters visible that would do something to a terminal. Lines and tabs
/// stay, and so do backslashes, which may belong to names that are escaped already.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let plain = |c| matches!(c, '\n' | '\t') || !is_hidden(c);
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(write_visible(text.as_bytes(), plain))
}

/// Returns a line that a program printed, or that a file of somebody else has, as [`visible`] does:
/// the line stays one.
pub(crate) fn visible_line(line: &[u8]) -> String {
    write_visible(line, |c| c == '\t' || !is_hidden(c))
}

/// Serializes paths as the text that messages show, and reads them back: `#[serde(with = ...)]`.
pub(crate) mod path {
    use std::path::{Path, PathBuf};

    use serde::de::{Deserialize, Deserializer, Error, Unexpected};
    use serde::ser::Serializer;

    use super::{Escape, parse_escaped};

    pub(crate) fn serialize<S: Serializer>(
        path: impl AsRef<Path>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&path.as_ref().escaped())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        parse(&String::deserialize(deserializer)?)
    }

    pub(super) fn parse<E: Error>(text: &str) -> Result<PathBuf, E> {
        let path = parse_escaped(text).map(PathBuf::from);
        path.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &"an escaped path"))
    }
}

/// Serializes several paths as [`path`] does.
pub(crate) mod paths {
    use std::path::{Path, PathBuf};

    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    use super::Escape;

    pub(crate) fn serialize<'a, C, S>(paths: &'a C, serializer: S) -> Result<S::Ok, S::Error>
    where
        &'a C: IntoIterator<Item: AsRef<Path>>,
        S: Serializer,
    {
        serializer.collect_seq(paths.into_iter().map(|path| path.as_ref().escaped().to_string()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| super::path::parse(text)).collect()
    }
}

/// Serializes a path that may be missing as [`path`] does.
pub(crate) mod optional_path {
    use std::path::PathBuf;

    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    use super::Escape;

    #[expect(clippy::ref_option, reason = "serde hands the field over")]
    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => serializer.serialize_some(&path.escaped().to_string()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::path::parse(&text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_shown_in_one_line() {
        for (name, shown) in [
            (&b"usr/bin/jq"[..], "usr/bin/jq"),
            ("usr/share/gr\u{fc}\u{df}e".as_bytes(), "usr/share/gr\u{fc}\u{df}e"),
            (b"a\x1b[31mb\x07", "a\\x1b[31mb\\x07"),
            (b"a\nforged: b\r\t", "a\\nforged: b\\r\\t"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"\\xff", "\\\\xff"),
            ("\u{9b}2J\u{7f}".as_bytes(), "\\xc2\\x9b2J\\x7f"),
            ("a\u{202e}b\u{2028}".as_bytes(), "a\\xe2\\x80\\xaeb\\xe2\\x80\\xa8"),
        ] {
            assert_eq!(name.escaped().to_string(), shown);
        }
        assert_eq!(format!("{:>4}|", Path::new("a").escaped()), "   a|");
        for bad in ["\\", "\\x", "\\x1", "\\xzz", "\\a"] {
            assert_eq!(parse_escaped(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_printed_has_lines_and_nothing_else_that_acts() {
        let text = "one\n\ttwo \\x1b\n";
        assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        assert_eq!(visible("a\x1b[31m\r\nb\u{9b}"), "a\\x1b[31m\\r\nb\\xc2\\x9b");
        assert_eq!(visible_line(b"a\n\xff\\"), "a\\n\\xff\\");
    }

    proptest! {
        #[test]
        fn every_name_is_got_back(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let shown = name.escaped().to_string();
            prop_assert!(!shown.chars().any(is_hidden));
            prop_assert_eq!(parse_escaped(&shown).unwrap().into_vec(), name);
        }

        #[test]
        fn the_net_changes_no_shown_name(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let shown = name.escaped().to_string();
            prop_assert_eq!(visible(&shown), shown.as_str());
        }
    }
}
