//! Order in which systemd-sysext lays extensions over each other: that of versions, by name
//! (`strverscmp_improved` of systemd; its rules are those of the UAPI Group's Version Format
//! Specification). The extension whose name comes last is on top.

use std::cmp::Ordering;

/// Separators that are compared before the rest, in this order. A version with one of them is older
/// than a version that goes on without it.
const SEPARATORS: &[u8] = b"-^.";

/// Compares two names of extensions.
pub(crate) fn compare_names(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        one = skip(one, |byte| !is_compared(byte));
        other = skip(other, |byte| !is_compared(byte));
        // A tilde is older than everything, the end included.
        if let Some(order) = compare_separator(b'~', &mut one, &mut other) {
            return order;
        }
        if one.is_empty() || other.is_empty() {
            return one.len().min(1).cmp(&other.len().min(1));
        }
        for separator in SEPARATORS {
            if let Some(order) = compare_separator(*separator, &mut one, &mut other) {
                return order;
            }
        }
        let is_number = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let order = if is_number(one) || is_number(other) {
            let [a, b] = [take(&mut one, u8::is_ascii_digit), take(&mut other, u8::is_ascii_digit)];
            let value = |digits: &[u8]| skip(digits, |byte| byte == b'0').to_vec();
            let (x, y) = (value(a), value(b));
            // A number is newer than letters.
            (!a.is_empty()).cmp(&!b.is_empty()).then(x.len().cmp(&y.len())).then(x.cmp(&y))
        } else {
            let letters = u8::is_ascii_alphabetic;
            take(&mut one, letters).cmp(take(&mut other, letters))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn is_compared(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'~' || SEPARATORS.contains(&byte)
}

fn skip(text: &[u8], skipped: impl Fn(u8) -> bool) -> &[u8] {
    let start = text.iter().position(|byte| !skipped(*byte)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

/// Takes the bytes at the start of `text` that are of a class.
fn take<'a>(text: &mut &'a [u8], is_of_class: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !is_of_class(byte)).unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

/// Passes `separator` if both have it; returns the order if one of them alone has it.
fn compare_separator(separator: u8, one: &mut &[u8], other: &mut &[u8]) -> Option<Ordering> {
    match (one.strip_prefix(&[separator]), other.strip_prefix(&[separator])) {
        (Some(rest), Some(other_rest)) => {
            (*one, *other) = (rest, other_rest);
            None
        }
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::Command;

    /// `systemd-analyze compare-versions` calls the function by which systemd-sysext sorts.
    #[test]
    fn the_order_is_that_of_systemd() {
        let mut names = vec![
            "a",
            "b",
            "a10",
            "a9",
            "a09",
            "a-b",
            "a.b",
            "ab",
            "a_b",
            "a1.2",
            "a1-2",
            "a1+2",
            "1",
            "z",
            "k3s",
            "k3s-worker",
            "A",
            "Z",
            "a.1",
            "a1",
            "docker",
            "docker-compose",
            "oem-x",
            "0",
            "ba",
        ];
        names.sort_by(|one, other| compare_names(one, other));
        for pair in names.windows(2) {
            let compared = Command::new("compare names", "systemd-analyze")
                .args(["compare-versions", pair[0], "le", pair[1]])
                .output()
                .unwrap();
            assert!(compared.status.success(), "{pair:?}: {compared:?}");
            assert_eq!(compare_names(pair[1], pair[0]), compare_names(pair[0], pair[1]).reverse());
        }
        assert_eq!(compare_names("a9", "a10"), Ordering::Less);
        assert_eq!(compare_names("a9", "a09"), Ordering::Equal);
    }
}
