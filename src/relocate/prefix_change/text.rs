//! Paths in texts: a text ends its paths with a blank, a quote or the like, and goes on behind them.

use memchr::memmem::Finder;

use crate::base::escape::Escape;

/// Longest quotation of a path.
const QUOTED: usize = 200;

/// Finds the old path in texts.
#[derive(Clone, Debug)]
pub(super) struct TextReplacer {
    finder: Finder<'static>,
    to: Vec<u8>,
    /// True if nothing else begins or ends with the old path.
    is_unique: bool,
}

impl TextReplacer {
    /// A replacer of `from` by `to`. A path that `is_unique` is replaced wherever it stands.
    pub(super) fn new(from: &str, to: &str, is_unique: bool) -> Self {
        Self { finder: Finder::new(from).into_owned(), to: to.into(), is_unique }
    }

    /// Returns `text` with the new path, or `None` if it has no old one.
    pub(super) fn replace(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut new = Vec::new();
        let mut rest = 0;
        for at in self.find_all(text) {
            new.extend_from_slice(&text[rest..at]);
            new.extend_from_slice(&self.to);
            rest = at + self.finder.needle().len();
        }
        (rest > 0).then(|| {
            new.extend_from_slice(&text[rest..]);
            new
        })
    }

    /// Returns the places of the old path.
    pub(super) fn find_all<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let found = self.find_ended(text);
        found.filter(|at| self.is_unique || !is_inside_path(&text[..*at]))
    }

    /// Returns the first longer path that ends like the old one: `/mnt/opt/x` for `/opt/x`.
    pub(super) fn find_longer(&self, text: &[u8]) -> Option<String> {
        if self.is_unique {
            return None;
        }
        let at = self.find_ended(text).find(|at| is_inside_path(&text[..*at]))?;
        let is_part = |byte: &u8| is_name(*byte) || b"./".contains(byte);
        let before = text[..at].iter().rev().take(QUOTED).take_while(|byte| is_part(byte)).count();
        Some(quote(text[at - before..].iter().copied()))
    }

    /// Returns the places of the old path at which no name goes on.
    fn find_ended<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let found = self.finder.find_iter(text);
        let length = self.finder.needle().len();
        found.filter(move |at| self.is_unique || !goes_on(&text[at + length..]))
    }
}

/// Returns the path at the start of `text`, for people.
pub(super) fn quote(text: impl Iterator<Item = u8>) -> String {
    let is_part = |byte: &u8| byte.is_ascii_graphic() && !b"\"':;,<>()".contains(byte);
    let path: Vec<u8> = text.take(QUOTED).take_while(is_part).collect();
    path.escaped().to_string()
}

/// Returns whether a byte may be one of a file's name in a text.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-+@~".contains(&byte) || !byte.is_ascii()
}

/// Returns whether the last name of a path goes on in `after`: `/opt/x-other` is not below `/opt/x`.
/// A full stop ends a sentence, or goes on with a suffix.
fn goes_on(after: &[u8]) -> bool {
    match after {
        [b'.', next, ..] | [next, ..] => is_name(*next),
        [] => false,
    }
}

/// Returns whether a path that begins after `before` is the end of a longer one: `/mnt/opt/x` is
/// not `/opt/x`. The letters of an option are no path (`-L/opt/x`), nor is the start of a URL.
fn is_inside_path(before: &[u8]) -> bool {
    let is_part = |byte: &u8| is_name(*byte) || *byte == b'.';
    let name = before.iter().rev().take_while(|byte| is_part(byte)).count();
    name > 0 && before[..before.len() - name].ends_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(is_unique: bool, text: &str) -> Option<String> {
        let replacer = TextReplacer::new("/opt/old", "/o", is_unique);
        replacer.replace(text.as_bytes()).map(|new| String::from_utf8(new).unwrap())
    }

    #[test]
    fn paths_are_replaced_as_a_whole() {
        for (text, expected) in [
            ("/opt/old", "/o"),
            ("-L/opt/old/lib:/opt/old;\"/opt/old\"", "-L/o/lib:/o;\"/o\""),
            ("file:///opt/old/x and //opt/old", "file:///o/x and //o"),
            ("${ROOT}/opt/old, $x/opt/old/y. /opt/old.", "${ROOT}/o, $x/o/y. /o."),
            ("in /opt/old..", "in /o.."),
        ] {
            assert_eq!(replaced(false, text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "/opt/older",
            "/opt/old-1",
            "/opt/old.so",
            "/mnt/opt/old/x",
            "./a.b/opt/old",
            "/opt/oldé",
        ] {
            assert_eq!(replaced(false, text), None, "{text}");
        }
    }

    #[test]
    fn longer_paths_are_quoted() {
        let replacer = TextReplacer::new("/opt/old", "/o", false);
        let longer = |text: &str| replacer.find_longer(text.as_bytes());
        assert_eq!(longer("see \"/mnt/opt/old/x\".").as_deref(), Some("/mnt/opt/old/x"));
        assert_eq!(longer("in ./a.b/opt/old").as_deref(), Some("./a.b/opt/old"));
        for text in ["/opt/old/x", "/opt/older", "-L/opt/old", "/mnt/opt/older"] {
            assert_eq!(longer(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_that_nothing_else_has_needs_no_end() {
        assert_eq!(replaced(true, "/mnt/opt/oldfoo").as_deref(), Some("/mnt/ofoo"));
        let replacer = TextReplacer::new("/opt/old", "/o", true);
        assert_eq!(replacer.find_longer(b"/mnt/opt/old"), None);
    }
}
