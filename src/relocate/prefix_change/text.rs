//! Paths in texts: the new path takes the place of the old one as it is.

use memchr::memmem;

/// Returns `text` with `to` in the place of the path `from`, or `None` if it has none.
pub(super) fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let mut new = Vec::new();
    let mut rest = 0;
    for at in memmem::find_iter(text, from) {
        let (before, after) = (&text[..at], &text[at + from.len()..]);
        if goes_on(after) || is_inside_path(before) {
            continue;
        }
        new.extend_from_slice(&text[rest..at]);
        new.extend_from_slice(to);
        rest = at + from.len();
    }
    (rest > 0).then(|| {
        new.extend_from_slice(&text[rest..]);
        new
    })
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

    #[test]
    fn paths_are_replaced_as_a_whole() {
        let replaced = |text: &str| {
            let new = replace(text.as_bytes(), b"/opt/old", b"/o");
            new.map(|new| String::from_utf8(new).unwrap())
        };
        for (text, expected) in [
            ("/opt/old", "/o"),
            ("-L/opt/old/lib:/opt/old;\"/opt/old\"", "-L/o/lib:/o;\"/o\""),
            ("file:///opt/old/x and //opt/old", "file:///o/x and //o"),
            ("${ROOT}/opt/old, $x/opt/old/y. /opt/old.", "${ROOT}/o, $x/o/y. /o."),
            ("in /opt/old..", "in /o.."),
        ] {
            assert_eq!(replaced(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "/opt/older",
            "/opt/old-1",
            "/opt/old.so",
            "/mnt/opt/old/x",
            "./a.b/opt/old",
            "/opt/oldé",
        ] {
            assert_eq!(replaced(text), None, "{text}");
        }
    }
}
