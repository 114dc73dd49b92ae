//! Licences of packages: Gentoo's LICENSE, Flatcar's list of licences, and SPDX.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use crate::base::escape::Escape;
use crate::fstree::entries::FileTree;
use crate::portage::license::LicenseExpression;
use crate::report::package::InstalledPackage;
use crate::report::repositories::Repositories;

/// Categories of packages without content of their own, as in Flatcar's list.
const WITHOUT_LICENSE: &[&str] = &["virtual", "acct-group", "acct-user"];

/// Makes the list of Flatcar's `write_licenses` (flatcar/scripts,
/// `build_library/build_image_util.sh`). It names only the files that the image holds.
pub(super) fn list(packages: &[InstalledPackage], plan: &FileTree) -> Value {
    let rows = packages.iter().filter(|package| is_licensed(package)).map(|package| {
        let mut licenses = BTreeSet::new();
        if let Ok(license) = LicenseExpression::parse(&package.license) {
            license.collect_chosen(&mut licenses);
        }
        let source: Vec<&str> = package.sources.iter().map(|(uri, _)| uri.as_str()).collect();
        let files: String =
            list_owned_files(package, plan).map(|file| format!("/{}\n", file.escaped())).collect();
        json!({
            "project": package.project(),
            "licenses": licenses,
            "description": package.description,
            "homepage": package.homepage,
            "source": source.join(" "),
            "files": files,
        })
    });
    Value::Array(rows.collect())
}

fn list_owned_files<'a>(
    package: &'a InstalledPackage,
    plan: &'a FileTree,
) -> impl Iterator<Item = &'a PathBuf> {
    package.files.iter().filter(|file| plan.entries.contains_key(*file))
}

/// Returns the texts of all licences of `packages`.
pub(crate) fn license_texts(
    packages: &[InstalledPackage],
    repositories: &Repositories,
) -> Result<Vec<u8>> {
    let mut names = BTreeSet::new();
    for package in packages.iter().filter(|package| is_licensed(package)) {
        LicenseExpression::parse(&package.license)?.collect_names(&mut names);
    }
    let mut text = String::new();
    for name in names {
        let rule = "=".repeat(name.len());
        let license = repositories.license(&name)?;
        let license = license.unwrap_or_else(|| "(the text is in no repository here)\n".to_owned());
        text += &format!("{name}\n{rule}\n\n{}\n\n", license.trim_end());
    }
    Ok(text.into_bytes())
}

fn is_licensed(package: &InstalledPackage) -> bool {
    !package.license.is_empty() && !WITHOUT_LICENSE.contains(&package.cpv.category())
}
