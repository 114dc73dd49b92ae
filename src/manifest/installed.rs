//! Packages of a prefix as a lock file records them: versions, USE, contents, binary packages.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::data::hex;
use crate::base::names::Environment;
use crate::fstree::digest;
use crate::portage::contents;
use crate::portage::cpv::Cpv;
use crate::portage::packages::PackagesIndex;
use crate::portage::vdb::{self, VdbEntry};
use crate::prefix::definition::Prefix;

/// A package that is installed in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub name: Cpv,
    /// Repository of its ebuild.
    repository: String,
    /// Enabled flags among its own USE flags.
    #[serde(rename = "use")]
    use_flags: String,
    /// Digest of the files that it installed into staging: paths, digests of files, targets of
    /// links.
    staging: String,
    /// The same digest for final, if the package is installed there.
    #[serde(rename = "final", default, skip_serializing_if = "Option::is_none")]
    in_final: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    binpkg: Option<Binpkg>,
}

/// A binary package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binpkg {
    /// Path below PKGDIR.
    path: String,
    sha256: String,
}

impl Package {
    /// Describes the first difference from the locked package. A rebuilt binary package has other
    /// bytes, because it contains its build time. Therefore only the installed files must be the
    /// same.
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

/// Returns the packages of `prefix`, by name.
pub(crate) fn packages(prefix: &Prefix) -> Result<Vec<Package>> {
    let staging = prefix.layout.vdb(Environment::Staging);
    let r#final = prefix.layout.vdb(Environment::Final);
    let binpkgs = PackagesIndex::load(&prefix.layout.pkgdir())?;
    let mut all = Vec::new();
    for installed in vdb::installed(&staging)? {
        let name = installed.cpv().clone();
        let in_final = vdb::find(&r#final, &name);
        let path = binpkgs.path(&name, installed.read("BUILD_ID")?.trim());
        all.push(Package {
            repository: installed.read("repository")?.trim().to_owned(),
            use_flags: installed.use_flags()?.join(" "),
            staging: hash_contents(&installed)?,
            in_final: in_final.as_ref().map(hash_contents).transpose()?,
            binpkg: path.map(|path| binpkg(prefix, path)).transpose()?.flatten(),
            name,
        });
    }
    Ok(all)
}

/// Hashes the installed files of a package: CONTENTS without times, in the order of the lines.
fn hash_contents(package: &VdbEntry) -> Result<String> {
    let text = package.read("CONTENTS")?;
    Ok(hex(&Sha256::digest(contents::lines_without_times(&text).join("\n"))))
}

fn binpkg(prefix: &Prefix, path: &str) -> Result<Option<Binpkg>> {
    let file = prefix.layout.pkgdir().join(path);
    if !file.is_file() {
        return Ok(None);
    }
    let sha256 = hex(&digest::hash_file(&file)?.0);
    Ok(Some(Binpkg { path: path.to_owned(), sha256 }))
}
