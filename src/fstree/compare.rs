//! Comparison of a written image with its plan: an image is published only if it matches the plan
//! exactly.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};

use crate::base::escape::Escape;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::fstree::{digest, scan};

/// Maximum number of differences in an error message.
const NAMED: usize = 10;

/// Properties that an unpacking method keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeps {
    /// True if names of the same file are kept as hard links.
    pub hard_links: bool,
    /// True if extended attributes are kept.
    pub xattrs: bool,
    /// True if setuid, setgid and sticky are kept.
    pub special_bits: bool,
}

impl Keeps {
    /// Keeps every property.
    pub(crate) const ALL: Self = Self { hard_links: true, xattrs: true, special_bits: true };
}

/// Compares the unpacked image in `dir` with `plan` and returns the differences.
pub(crate) fn compare_unpacked(plan: &FileTree, dir: &Path, keeps: Keeps) -> Result<Vec<String>> {
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    scan::scan_unpacked(dir, &mut found)?;
    digest::hash_contents(&mut found)?;
    Ok(compare_trees(plan, &found, keeps))
}

/// Compares `found`, which has all digests, with `plan` and returns the differences.
pub(crate) fn compare_trees(plan: &FileTree, found: &FileTree, keeps: Keeps) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, entry) in &plan.entries {
        let Some(there) = found.entries.get(path) else {
            differences.push(format!("/{} is missing", path.escaped()));
            continue;
        };
        let (planned, there) =
            (Compared::new(plan, entry, keeps), Compared::new(found, there, keeps));
        if !planned.is_like(&there) {
            differences.push(format!(
                "/{} is {} and not {}",
                path.escaped(),
                there.describe(),
                planned.describe()
            ));
        }
    }
    for path in found.entries.keys().filter(|path| !plan.entries.contains_key(*path)) {
        differences.push(format!("/{} was not planned", path.escaped()));
    }
    differences
}

/// Fails if there are `differences`.
pub(crate) fn require_equal(differences: &[String]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let named: Vec<&str> = differences.iter().take(NAMED).map(String::as_str).collect();
    bail!("what was written is not what was planned:\n  {}{more}", named.join("\n  "))
}

/// Properties of an entry that are compared.
struct Compared<'a> {
    kind: &'a EntryKind,
    mode: u32,
    entry: &'a Entry,
    xattrs: Option<&'a BTreeMap<OsString, Vec<u8>>>,
}

impl<'a> Compared<'a> {
    fn new(plan: &'a FileTree, entry: &'a Entry, keeps: Keeps) -> Self {
        let kind = match &entry.kind {
            EntryKind::HardLink(first) if !keeps.hard_links => {
                plan.entries.get(first).map_or(&entry.kind, |entry| &entry.kind)
            }
            kind => kind,
        };
        // The first name of a file carries the attributes of its other names.
        let has_own = keeps.xattrs && !matches!(kind, EntryKind::HardLink(_));
        Self {
            kind,
            mode: if keeps.special_bits { entry.mode } else { entry.mode & 0o777 },
            entry,
            xattrs: has_own.then_some(&entry.xattrs),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let is_same_kind = match (self.kind, other.kind) {
            (EntryKind::File(one), EntryKind::File(two)) => {
                (one.size, one.sha256) == (two.size, two.sha256)
            }
            (one, two) => one == two,
        };
        let facts = |one: &Self| (one.mode, one.entry.uid, one.entry.gid, one.entry.mtime);
        is_same_kind && facts(self) == facts(other) && self.xattrs == other.xattrs
    }

    fn describe(&self) -> String {
        let what = match self.kind {
            EntryKind::Directory => "a directory".to_owned(),
            EntryKind::File(content) => {
                let digest = content.sha256.as_ref().map(|digest| crate::base::data::hex(digest));
                format!("a file of {} bytes ({})", content.size, digest.unwrap_or_default())
            }
            EntryKind::Link(target) => format!("a link to {}", target.escaped()),
            EntryKind::HardLink(first) => format!("the same as /{}", first.escaped()),
        };
        let Entry { uid, gid, mtime, .. } = self.entry;
        let names = self.xattrs.into_iter().flat_map(BTreeMap::keys);
        let names: Vec<_> = names.map(|name| name.escaped().to_string()).collect();
        format!("{what} ({:04o} {uid}:{gid} @{mtime} {})", self.mode, names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_differs() {
        let mut plan = FileTree::new(&"/opt/x".parse().unwrap(), 7);
        plan.add("opt/x/a", Entry::generated(b"a".to_vec(), 7)).unwrap();
        plan.add("opt/x/b", Entry::generated(b"b".to_vec(), 7)).unwrap();
        let mut other = plan.clone();
        other.entries.remove(Path::new("opt/x/b"));
        other.entries.get_mut(Path::new("opt/x/a")).unwrap().mode = 0o755;
        other.add("opt/x/c", Entry::generated(Vec::new(), 7)).unwrap();
        let found = compare_trees(&plan, &other, Keeps::ALL);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("/opt/x/a is a file of 1 bytes () (0755 0:0 @7 ) and not"));
        assert_eq!(found[1..], ["/opt/x/b is missing", "/opt/x/c was not planned"]);
        assert!(compare_trees(&plan, &plan, Keeps::ALL).is_empty());
    }
}
