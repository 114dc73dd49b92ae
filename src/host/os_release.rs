//! Parser of os-release files, and of files in the same format (os-release(5)).

use std::collections::BTreeMap;

/// Returns the fields of `text`. Values lose their quotes. If a field occurs twice, the last one
/// counts. Lines that are no field are ignored, as systemd does.
pub(crate) fn parse(text: &str) -> BTreeMap<String, String> {
    let fields = text.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        if key.is_empty() || key.starts_with('#') {
            return None;
        }
        Some((key.to_owned(), shlex::split(value)?.join(" ")))
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_their_quotes() {
        let fields =
            parse("# x=y\nID=debian\nNAME=\"A \\\"b\\\"\"\nID_LIKE='a b'\nID=last\nodd\nE=\n");
        let value = |key: &str| fields.get(key).map(String::as_str);
        assert_eq!(value("ID"), Some("last"));
        assert_eq!(value("NAME"), Some("A \"b\""));
        assert_eq!(value("ID_LIKE"), Some("a b"));
        assert_eq!(value("E"), Some(""));
        assert_eq!(fields.len(), 4);
    }
}
