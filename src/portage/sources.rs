//! `SRC_URI` of a package that was built, from the environment that Portage keeps in the VDB.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::base::input;
use crate::base::limits::LIST;

use crate::base::escape::Escape;

/// Returns the pairs of URI and file name in the `SRC_URI` of `environment`, an `environment.bz2`;
/// none where it has no `SRC_URI`.
pub(super) fn read_environment(environment: &Path) -> Result<Vec<(String, String)>> {
    let mut bytes = Vec::new();
    bzip2::read::MultiBzDecoder::new(input::open(environment)?)
        .take(LIST.bytes)
        .read_to_end(&mut bytes)
        .with_context(|| format!("could not unpack {}", environment.escaped()))?;
    if bytes.len() as u64 == LIST.bytes {
        bail!("could not unpack {}: it is an environment without end", environment.escaped());
    }
    Ok(parse_environment(&String::from_utf8_lossy(&bytes)))
}

/// Returns the pairs of URI and file name in the `SRC_URI` of an environment.
pub(crate) fn parse_environment(text: &str) -> Vec<(String, String)> {
    let value = text.lines().find_map(|line| {
        let (_, value) = line.strip_prefix("declare ")?.split_once("SRC_URI=")?;
        Some(unquote(value))
    });
    parse(&value.unwrap_or_default())
}

/// Parses a `SRC_URI` (PMS 7.3.3) of which USE conditions are resolved.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut words = text
        .split_whitespace()
        .filter(|word| !matches!(*word, "(" | ")") && !word.ends_with('?'))
        .peekable();
    let mut pairs = Vec::new();
    while let Some(uri) = words.next() {
        let mut name = uri.rsplit('/').next().unwrap_or(uri);
        if words.next_if_eq(&"->").is_some() {
            name = words.next().unwrap_or(name);
        }
        let uri = uri.strip_prefix("fetch+").or_else(|| uri.strip_prefix("mirror+")).unwrap_or(uri);
        pairs.push((uri.to_owned(), name.to_owned()));
    }
    pairs
}

/// Unquotes a value as bash's `declare -p` prints it: in double quotes, or as `$'...'`.
fn unquote(value: &str) -> String {
    let (inner, ansi) = match value.strip_prefix("$'") {
        Some(rest) => (rest.trim_end_matches('\''), true),
        None => (value.trim_matches('"'), false),
    };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, ansi) {
            ('\\', true) => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other) => text.push(other),
                None => {}
            },
            ('\\', false) => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_a_build() {
        let value = r"$'\n\thttps://a.org/v1.tar.gz -> a-1.tar.gz\n\tmirror://gnu/b/b.tar.xz\n'";
        let pair = |uri: &str, name: &str| (uri.to_owned(), name.to_owned());
        assert_eq!(
            parse(&unquote(value)),
            [
                pair("https://a.org/v1.tar.gz", "a-1.tar.gz"),
                pair("mirror://gnu/b/b.tar.xz", "b.tar.xz")
            ]
        );
        assert_eq!(
            parse("doc? ( fetch+https://a/b ) mirror+https://a/c"),
            [pair("https://a/b", "b"), pair("https://a/c", "c")]
        );
        assert_eq!(unquote(r#""a \"b\" \$c""#), r#"a "b" $c"#);
    }
}
