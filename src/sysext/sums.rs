//! SHA256SUMS: the list from which systemd-sysupdate learns the available versions (sysupdate.d(5),
//! "url-file").

use std::collections::BTreeMap;

/// Name of the file.
pub(crate) const FILE_NAME: &str = "SHA256SUMS";

/// Name of the file with its signature (sysupdate.d(5), "Verify=").
pub(crate) const SIGNATURE_NAME: &str = "SHA256SUMS.gpg";

/// Merges the lines of `old` with those of `new` (name and digest), sorted by name. A line of `old`
/// stays only if `is_there` still knows its file.
pub(crate) fn merge_lines(
    old: &str,
    new: &[(String, String)],
    is_there: impl Fn(&str) -> bool,
) -> String {
    let mut sums: BTreeMap<&str, &str> = BTreeMap::new();
    for line in old.lines() {
        // A star marks a file that was read as binary (sha256sum(1)).
        let Some((sum, name)) = line.split_once(' ') else { continue };
        let name = name.strip_prefix([' ', '*']).unwrap_or(name);
        if is_there(name) {
            sums.insert(name, sum);
        }
    }
    sums.extend(new.iter().map(|(name, sum)| (name.as_str(), sum.as_str())));
    sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_stay() {
        let old = "aa *x-1.raw\nbb  x-2.raw\ncc  gone.raw\nnonsense\n";
        let new = [("x-2.raw".to_owned(), "dd".to_owned())];
        assert_eq!(merge_lines(old, &new, |name| name != "gone.raw"), "aa  x-1.raw\ndd  x-2.raw\n");
    }
}
