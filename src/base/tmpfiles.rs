//! Rules of tmpfiles.d(5), a line each.

/// A rule, with its fields as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TmpfilesRule<'a> {
    /// Letter of the type.
    pub letter: char,
    /// Type with its modifiers.
    pub kind: &'a str,
    /// Path without quotes. Specifiers, also `%%`, are as they are written.
    pub path: String,
    /// Text after the path: mode, user, group, age and argument.
    pub rest: &'a str,
}

impl<'a> TmpfilesRule<'a> {
    /// Parses a line. Returns `None` for comments and for what is no rule.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        let (kind, rest) = line.split_once(char::is_whitespace)?;
        let mut letters = kind.chars();
        let letter = letters.next().filter(char::is_ascii_alphabetic)?;
        if !letters.all(|c| "!-=~^+$?".contains(c)) {
            return None;
        }
        let (path, rest) = split_word(rest);
        let path = shlex::Shlex::new(path).next()?;
        path.starts_with('/').then_some(Self { letter, kind, path, rest })
    }

    /// Returns the mode, user, group and age, `-` where one is not given, and the argument.
    pub(crate) fn fields(&self) -> ([&'a str; 4], &'a str) {
        let mut rest = self.rest;
        let fields = [(); 4].map(|()| {
            let (word, after) = split_word(rest);
            rest = after;
            if word.is_empty() { "-" } else { word }
        });
        (fields, rest.trim())
    }
}

/// Splits `text` after its first word, which may be quoted.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (mut quote, mut is_escaped) = (None, false);
    let end = text.find(|c: char| {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            is_escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        } else {
            return quote.is_none() && c.is_whitespace();
        }
        false
    });
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_fields() {
        let rule = TmpfilesRule::parse(" d! \"/a b/%m\"\t0755 root - 10d two  words ").unwrap();
        assert_eq!((rule.letter, rule.kind, rule.path.as_str()), ('d', "d!", "/a b/%m"));
        assert_eq!(rule.fields(), (["0755", "root", "-", "10d"], "two  words"));
        let short = TmpfilesRule::parse("r /x").unwrap();
        assert_eq!(short.fields(), (["-"; 4], ""));
        for none in ["", "#d /x", "d", "d x", "dd /x", "d \"/x", "/x d"] {
            assert_eq!(TmpfilesRule::parse(none), None, "{none}");
        }
    }
}
