//! What was written, compared with the plan: an image is published only when it holds exactly
//! what was planned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::digest;
use super::plan::{Entry, Kind, Plan};
use super::survey;

/// How many differences are named.
const NAMED: usize = 10;

/// What a way of unpacking keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keeps {
    /// Which files are one.
    pub hard_links: bool,
    /// Extended attributes.
    pub xattrs: bool,
    /// setuid, setgid and sticky.
    pub special_bits: bool,
}

impl Keeps {
    /// All of it.
    pub const ALL: Self = Self { hard_links: true, xattrs: true, special_bits: true };
}

/// Compares the tree at `dir`, that an image was unpacked to, with `plan`.
pub fn with_tree(plan: &Plan, dir: &Path, keeps: Keeps) -> Result<Vec<String>> {
    let mut found = Plan::new(&plan.eprefix, plan.epoch);
    survey::unpacked(dir, &mut found)?;
    digest::fill(&mut found)?;
    Ok(with_plan(plan, &found, keeps))
}

/// Compares what was `found`, with all digests, with `plan`.
pub fn with_plan(plan: &Plan, found: &Plan, keeps: Keeps) -> Vec<String> {
    differences(&simplify(plan, keeps), &simplify(found, keeps))
}

/// Fails if there are `differences`.
pub fn judge(differences: &[String]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let more = differences.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let named: Vec<&str> = differences.iter().take(NAMED).map(String::as_str).collect();
    bail!("what was written is not what was planned:\n  {}{more}", named.join("\n  "))
}

/// The entries with only what can be compared.
fn simplify(plan: &Plan, keeps: Keeps) -> BTreeMap<PathBuf, Simple> {
    let mut simple = BTreeMap::new();
    for (path, entry) in &plan.entries {
        let kind = match &entry.kind {
            Kind::HardLink(first) if !keeps.hard_links => plan
                .entries
                .get(first)
                .map_or_else(|| entry.kind.clone(), |entry| entry.kind.clone()),
            kind => kind.clone(),
        };
        simple.insert(path.clone(), Simple::new(entry, &kind, keeps));
    }
    simple
}

/// What is compared of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Simple {
    what: String,
    mode: u32,
    owner: (u32, u32),
    mtime: u64,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Simple {
    fn new(entry: &Entry, kind: &Kind, keeps: Keeps) -> Self {
        let what = match kind {
            Kind::Directory => "a directory".to_owned(),
            Kind::File(content) => {
                let digest = content.sha256.as_ref().map(|digest| crate::data::hex(digest));
                format!("a file of {} bytes ({})", content.size, digest.unwrap_or_default())
            }
            Kind::Link(target) => format!("a link to {}", target.display()),
            Kind::HardLink(first) => format!("the same as /{}", first.display()),
        };
        // The attributes of another name are those of the first.
        let has_own = keeps.xattrs && !matches!(kind, Kind::HardLink(_));
        let xattrs = entry.xattrs.iter().filter(|_| has_own);
        Self {
            what,
            mode: if keeps.special_bits { entry.mode } else { entry.mode & 0o777 },
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            xattrs: xattrs.map(|(n, v)| (n.to_string_lossy().into_owned(), v.clone())).collect(),
        }
    }

    fn describe(&self) -> String {
        let (uid, gid) = self.owner;
        let names: Vec<&str> = self.xattrs.iter().map(|(name, _)| name.as_str()).collect();
        format!("{} ({:04o} {uid}:{gid} @{} {})", self.what, self.mode, self.mtime, names.join(","))
    }
}

fn differences(
    planned: &BTreeMap<PathBuf, Simple>,
    found: &BTreeMap<PathBuf, Simple>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, plan) in planned {
        match found.get(path) {
            None => differences.push(format!("/{} is missing", path.display())),
            Some(found) if found != plan => differences.push(format!(
                "/{} is {} and not {}",
                path.display(),
                found.describe(),
                plan.describe()
            )),
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !planned.contains_key(*path)) {
        differences.push(format!("/{} was not planned", path.display()));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_differs() {
        let mut plan = Plan::new(&"/opt/x".parse().unwrap(), 7);
        plan.add("opt/x/a", Entry::made(b"a".to_vec(), 7)).unwrap();
        plan.add("opt/x/b", Entry::made(b"b".to_vec(), 7)).unwrap();
        let mut other = plan.clone();
        other.entries.remove(Path::new("opt/x/b"));
        other.entries.get_mut(Path::new("opt/x/a")).unwrap().mode = 0o755;
        other.add("opt/x/c", Entry::made(Vec::new(), 7)).unwrap();
        let simple = |plan: &Plan| simplify(plan, Keeps::ALL);
        let found = differences(&simple(&plan), &simple(&other));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("/opt/x/a is a file of 1 bytes () (0755 0:0 @7 ) and not"));
        assert_eq!(found[1..], ["/opt/x/b is missing", "/opt/x/c was not planned"]);
        assert!(differences(&simple(&plan), &simple(&plan)).is_empty());
    }
}
