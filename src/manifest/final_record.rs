//! Content of final as a lock file records it: all of it, also what no package owns.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::base::names::Environment;
use crate::fstree::digest;
use crate::fstree::entries::FileTree;
use crate::fstree::scan::scan_prefix;
use crate::portage::ownership::{PackageOwnership, STATE};
use crate::prefix::definition::Prefix;

/// Digests of final: paths, types, modes, owners, attributes and content, without times and
/// Portage's own state.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinalRecord {
    /// Digest of everything.
    digest: String,
    /// Paths that no package owns, each with the digest of it alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unowned: BTreeMap<String, String>,
}

impl FinalRecord {
    /// Reads all of `prefix`'s final.
    pub(crate) fn read(prefix: &Prefix) -> Result<Self> {
        let layout = &prefix.layout;
        let (root, eroot) = (layout.root(Environment::Final), layout.eroot(Environment::Final));
        let mut tree = FileTree::new(layout.eprefix(), 0);
        scan_prefix(&eroot, &root, &mut tree)?;
        let prefix_path = tree.prefix_path().to_owned();
        tree.entries.retain(|path, _| {
            let below = path.strip_prefix(&prefix_path).unwrap_or(path);
            !STATE.iter().any(|state| below.starts_with(state))
        });
        digest::hash_contents(&mut tree)?;
        let eprefix = layout.eprefix().as_path();
        let ownership = PackageOwnership::read(&root, eprefix, &layout.vdb(Environment::Final))?;
        let mut unowned = BTreeMap::new();
        for (path, entry) in &tree.entries {
            let inside = std::path::Path::new("/").join(path);
            if ownership.as_ref().is_some_and(|ownership| ownership.is_unowned(&inside)) {
                let mut alone = FileTree::new(layout.eprefix(), 0);
                alone.entries.insert(path.clone(), entry.clone());
                unowned.insert(inside.escaped().to_string(), digest_of(&alone));
            }
        }
        Ok(Self { digest: digest_of(&tree), unowned })
    }

    /// Describes the differences from the locked record, a line each.
    pub(crate) fn differences(&self, locked: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (path, digest) in &self.unowned {
            match locked.unowned.get(path) {
                None => differences
                    .push(format!("{path} is in final, belongs to no package, and was not there")),
                Some(locked) if locked != digest => differences.push(format!(
                    "{path}, which belongs to no package, is another one than the locked one"
                )),
                Some(_) => {}
            }
        }
        let gone = locked.unowned.keys().filter(|path| !self.unowned.contains_key(*path));
        differences.extend(
            gone.map(|path| format!("{path}, which belongs to no package, is not in final")),
        );
        if differences.is_empty() && self.digest != locked.digest {
            differences.push(
                "a mode, an owner or an attribute in final is another one than the locked one"
                    .to_owned(),
            );
        }
        differences
    }
}

fn digest_of(tree: &FileTree) -> String {
    hex(&digest::hash_tree(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(digest: &str, unowned: &[(&str, &str)]) -> FinalRecord {
        let pair = |(path, digest): &(&str, &str)| ((*path).to_owned(), (*digest).to_owned());
        FinalRecord { digest: digest.to_owned(), unowned: unowned.iter().map(pair).collect() }
    }

    #[test]
    fn differences() {
        let locked = record("1", &[("/p/same", "a"), ("/p/other", "b"), ("/p/gone", "c")]);
        assert!(locked.differences(&locked).is_empty());
        let now = record("2", &[("/p/same", "a"), ("/p/other", "x"), ("/p/new", "c")]);
        let [new, other, gone] = now.differences(&locked).try_into().unwrap();
        assert!(new.starts_with("/p/new is in final"), "{new}");
        assert!(other.starts_with("/p/other, which belongs to no package, is another"), "{other}");
        assert!(gone.starts_with("/p/gone, which belongs to no package, is not in"), "{gone}");
        let modes = record("2", &[("/p/same", "a"), ("/p/other", "b"), ("/p/gone", "c")]);
        assert!(modes.differences(&locked)[0].starts_with("a mode"));
    }
}
