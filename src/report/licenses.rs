//! The licences of packages: Gentoo's LICENSE, the list that Flatcar keeps of it, and SPDX.

use std::collections::{BTreeMap, BTreeSet};

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::data;
use crate::fstree::entries::FileTree;
use crate::report::package::InstalledPackage;
use crate::report::repositories::Repositories;

/// Categories of packages that hold nothing of their own, as in Flatcar's list.
const WITHOUT_LICENSE: &[&str] = &["virtual", "acct-group", "acct-user"];

/// LICENSE as a tree (PMS 7.3, 8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum License {
    /// One licence.
    Name(String),
    /// All of these.
    All(Vec<License>),
    /// One of these.
    Any(Vec<License>),
}

impl License {
    /// Parses a LICENSE.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let all = Self::group(&mut words, 0)?;
        if let Some(word) = words.next() {
            bail!("the licence {text:?} has a {word:?} too many");
        }
        Ok(Self::All(all))
    }

    fn group<'a>(words: &mut impl Iterator<Item = &'a str>, depth: u32) -> Result<Vec<Self>> {
        let mut members = Vec::new();
        while let Some(word) = words.next() {
            match word {
                ")" if depth > 0 => return Ok(members),
                "(" => members.push(Self::All(Self::group(words, depth + 1)?)),
                "||" => {
                    if words.next() != Some("(") {
                        bail!("there is no ( after || in a licence");
                    }
                    members.push(Self::Any(Self::group(words, depth + 1)?));
                }
                ")" => bail!("a licence has a ) too many"),
                name => members.push(Self::Name(name.to_owned())),
            }
        }
        if depth > 0 {
            bail!("a licence has no ) to its (");
        }
        Ok(members)
    }

    /// The licences to comply with: of a choice, the first that is a GPL, else the first.
    fn chosen(&self, chosen: &mut BTreeSet<String>) {
        match self {
            Self::Name(name) => {
                chosen.insert(name.clone());
            }
            Self::All(members) => {
                for member in members {
                    member.chosen(chosen);
                }
            }
            Self::Any(members) => {
                let is_gpl =
                    |member: &&Self| matches!(member, Self::Name(name) if name.contains("GPL"));
                if let Some(one) = members.iter().find(is_gpl).or_else(|| members.first()) {
                    one.chosen(chosen);
                }
            }
        }
    }

    /// All licences that are named.
    pub(super) fn names(&self, names: &mut BTreeSet<String>) {
        match self {
            Self::Name(name) => {
                names.insert(name.clone());
            }
            Self::All(members) | Self::Any(members) => {
                for member in members {
                    member.names(names);
                }
            }
        }
    }

    /// As an SPDX expression.
    pub(super) fn spdx(&self, names: &SpdxNames) -> String {
        let join = |members: &[Self], word: &str| {
            let parts: Vec<String> = members.iter().map(|member| member.spdx(names)).collect();
            match parts.as_slice() {
                [] => "NONE".to_owned(),
                [one] => one.clone(),
                _ => format!("({})", parts.join(word)),
            }
        };
        match self {
            Self::Name(name) => names.of(name),
            Self::All(members) => join(members, " AND "),
            Self::Any(members) => join(members, " OR "),
        }
    }
}

/// What SPDX calls Gentoo's licences.
#[derive(Debug, Deserialize)]
pub(super) struct SpdxNames {
    spdx: BTreeMap<String, String>,
}

impl SpdxNames {
    /// Loads profiles/licenses.toml.
    pub(super) fn load() -> Result<Self> {
        data::toml("licenses.toml")
    }

    /// SPDX's name of the licence that Gentoo calls `name`.
    pub(super) fn of(&self, name: &str) -> String {
        if let Some(known) = self.spdx.get(name) {
            return known.clone();
        }
        if spdx::license_id(name).is_some_and(|id| id.name == name && !id.is_deprecated()) {
            return name.to_owned();
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '-' };
        format!("LicenseRef-Gentoo-{}", name.chars().map(plain).collect::<String>())
    }
}

/// The list of Flatcar's `write_licenses` (flatcar/scripts, `build_library/build_image_util.sh`).
/// The files are those that the image holds.
pub(super) fn list(packages: &[InstalledPackage], plan: &FileTree) -> Value {
    let rows = packages.iter().filter(|package| is_licensed(package)).map(|package| {
        let mut licenses = BTreeSet::new();
        if let Ok(license) = License::parse(&package.license) {
            license.chosen(&mut licenses);
        }
        let source: Vec<&str> = package.sources.iter().map(|(uri, _)| uri.as_str()).collect();
        let files: String =
            held(package, plan).map(|file| format!("/{}\n", file.display())).collect();
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

fn held<'a>(
    package: &'a InstalledPackage,
    plan: &'a FileTree,
) -> impl Iterator<Item = &'a PathBuf> {
    package.files.iter().filter(|file| plan.entries.contains_key(*file))
}

/// The texts of all licences of `packages`.
pub(crate) fn license_texts(
    packages: &[InstalledPackage],
    repositories: &Repositories,
) -> Result<Vec<u8>> {
    let mut names = BTreeSet::new();
    for package in packages.iter().filter(|package| is_licensed(package)) {
        License::parse(&package.license)?.names(&mut names);
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
    !package.license.is_empty() && !WITHOUT_LICENSE.contains(&package.category.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let license = License::parse("GPL-2+ || ( MIT LGPL-3 ( BSD ZLIB ) ) FDL-1.3").unwrap();
        let mut chosen = BTreeSet::new();
        license.chosen(&mut chosen);
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), ["FDL-1.3", "GPL-2+", "LGPL-3"]);
        let names = SpdxNames::load().unwrap();
        let expression = license.spdx(&names);
        assert_eq!(
            expression,
            "(GPL-2.0-or-later AND (MIT OR LGPL-3.0-only OR (BSD-3-Clause AND Zlib)) AND \
             GFDL-1.3-only)"
        );
        assert!(License::parse("|| MIT").is_err() && License::parse("( MIT").is_err());
        assert!(License::parse("MIT )").is_err());
    }

    #[test]
    fn names_are_those_of_spdx() {
        let names = SpdxNames::load().unwrap();
        for (gentoo, name) in &names.spdx {
            assert!(spdx::Expression::parse(name).is_ok(), "{gentoo} is not {name} in SPDX");
        }
        assert_eq!(names.of("Apache-2.0"), "Apache-2.0");
        assert_eq!(names.of("public-domain"), "LicenseRef-Gentoo-public-domain");
    }
}
