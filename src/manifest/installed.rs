//! The packages of a prefix as a lock file has them: versions, USE, contents, binary packages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::data::hex;
use crate::base::names::Environment;
use crate::fstree::digest;
use crate::portage::vdb;
use crate::prefix::definition::Prefix;

/// A package that is installed in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    /// Category, name and version.
    pub name: String,
    /// The repository that its ebuild is from.
    repository: String,
    /// Those of its own USE flags that are set.
    #[serde(rename = "use")]
    use_flags: String,
    /// The digest of what it installed into staging: paths, digests of files, targets of links.
    staging: String,
    /// The same of final, where it is installed there.
    #[serde(rename = "final", default, skip_serializing_if = "Option::is_none")]
    in_final: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binpkg: Option<Binpkg>,
}

/// A binary package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binpkg {
    /// Below PKGDIR.
    path: String,
    sha256: String,
}

impl Package {
    /// What differs from the locked one. A binary package that was built anew has other bytes (its
    /// time is in it), so it is what packages install that has to be the same.
    pub(crate) fn difference(&self, locked: &Self, with_final: bool) -> Option<String> {
        let name = &self.name;
        if self.repository != locked.repository {
            return Some(format!(
                "{name} is from the repository {}, locked is {}",
                self.repository, locked.repository
            ));
        }
        if self.use_flags != locked.use_flags {
            return Some(format!(
                "{name} was built with USE={:?}, locked is {:?}",
                self.use_flags, locked.use_flags
            ));
        }
        let same_binpkg = self.binpkg.is_some() && self.binpkg == locked.binpkg;
        if self.staging != locked.staging && !same_binpkg {
            return Some(format!("{name} has other files than the locked one"));
        }
        match (&self.in_final, &locked.in_final) {
            _ if !with_final => None,
            (Some(own), Some(other)) if own == other => None,
            (None, None) => None,
            (None, Some(_)) => Some(format!("{name} is not in final")),
            (Some(_), None) => Some(format!("{name} is in final, and was not when it was locked")),
            _ => Some(format!("{name} has other files in final than the locked one")),
        }
    }
}

/// The packages of `prefix`, by name.
pub(crate) fn packages(prefix: &Prefix) -> Result<Vec<Package>> {
    let staging = prefix.layout.vdb(Environment::Staging);
    let r#final = prefix.layout.vdb(Environment::Final);
    let binpkgs = index(&prefix.layout.pkgdir().join("Packages"))?;
    let mut all = Vec::new();
    for name in vdb::packages(&staging)? {
        let entry = staging.join(&name);
        let value = |key: &str| value(&entry, key);
        let iuse: BTreeSet<String> =
            words(&value("IUSE")?).map(|flag| flag.trim_start_matches(['+', '-']).into()).collect();
        let flags: BTreeSet<String> = words(&value("USE")?).map(Into::into).collect();
        let in_final = r#final.join(&name);
        let path = binpkgs.get(&(name.clone(), value("BUILD_ID")?));
        all.push(Package {
            repository: value("repository")?,
            use_flags: flags.intersection(&iuse).cloned().collect::<Vec<_>>().join(" "),
            staging: contents(&entry)?,
            in_final: in_final.is_dir().then(|| contents(&in_final)).transpose()?,
            binpkg: path.map(|path| binpkg(prefix, path)).transpose()?.flatten(),
            name,
        });
    }
    Ok(all)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

fn value(entry: &Path, key: &str) -> Result<String> {
    let file = entry.join(key);
    if !file.is_file() {
        return Ok(String::new());
    }
    Ok(fs_err::read_to_string(file)?.trim().to_owned())
}

/// A digest of CONTENTS without times, in order of paths.
fn contents(entry: &Path) -> Result<String> {
    let file = entry.join("CONTENTS");
    let text = if file.is_file() { fs_err::read(file)? } else { Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<&str> = text
        .lines()
        .map(|line| match line.split_once(' ') {
            Some(("obj" | "sym", _)) => line.rsplit_once(' ').map_or(line, |(rest, _)| rest),
            _ => line,
        })
        .collect();
    lines.sort_unstable();
    Ok(hex(&Sha256::digest(lines.join("\n"))))
}

/// The binary packages of PKGDIR by package and build: what its index says (`Packages`,
/// portage(5)).
fn index(file: &Path) -> Result<BTreeMap<(String, String), String>> {
    let mut found = BTreeMap::new();
    if !file.is_file() {
        return Ok(found);
    }
    let text = fs_err::read_to_string(file)?;
    for paragraph in text.split("\n\n") {
        let field = |key: &str| {
            let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned());
            paragraph.lines().find_map(value)
        };
        if let (Some(cpv), Some(path)) = (field("CPV"), field("PATH")) {
            found.insert((cpv, field("BUILD_ID").unwrap_or_default()), path);
        }
    }
    Ok(found)
}

fn binpkg(prefix: &Prefix, path: &str) -> Result<Option<Binpkg>> {
    let file = prefix.layout.pkgdir().join(path);
    if !file.is_file() {
        return Ok(None);
    }
    let sha256 = hex(&digest::of_file(&file)?.0);
    Ok(Some(Binpkg { path: path.to_owned(), sha256 }))
}
