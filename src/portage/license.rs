//! LICENSE of packages, and the names that SPDX has for Gentoo's licences.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::base::data;

/// LICENSE of which USE conditions are resolved, as a tree (PMS 7.3, 8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LicenseExpression {
    /// One licence.
    Name(String),
    /// All of these.
    All(Vec<LicenseExpression>),
    /// One of these.
    Any(Vec<LicenseExpression>),
}

impl LicenseExpression {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace();
        let all = Self::group(&mut words, 0)?;
        if let Some(word) = words.next() {
            bail!("the licence {text:?} has one {word:?} too many");
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
                        bail!("a licence has no ( after ||");
                    }
                    members.push(Self::Any(Self::group(words, depth + 1)?));
                }
                ")" => bail!("a licence has one ) too many"),
                name => members.push(Self::Name(name.to_owned())),
            }
        }
        if depth > 0 {
            bail!("a licence has a ( without )");
        }
        Ok(members)
    }

    /// Adds the licences to comply with to `chosen`: of a choice, the first GPL, else the first.
    pub(crate) fn collect_chosen(&self, chosen: &mut BTreeSet<String>) {
        match self {
            Self::Name(name) => {
                chosen.insert(name.clone());
            }
            Self::All(members) => {
                for member in members {
                    member.collect_chosen(chosen);
                }
            }
            Self::Any(members) => {
                let is_gpl =
                    |member: &&Self| matches!(member, Self::Name(name) if name.contains("GPL"));
                if let Some(one) = members.iter().find(is_gpl).or_else(|| members.first()) {
                    one.collect_chosen(chosen);
                }
            }
        }
    }

    /// Adds all licences in the expression to `names`.
    pub(crate) fn collect_names(&self, names: &mut BTreeSet<String>) {
        match self {
            Self::Name(name) => {
                names.insert(name.clone());
            }
            Self::All(members) | Self::Any(members) => {
                for member in members {
                    member.collect_names(names);
                }
            }
        }
    }

    /// Renders an SPDX expression (SPDX 2.3, annex D).
    pub(crate) fn spdx(&self, names: &SpdxNames) -> String {
        let join = |members: &[Self], word: &str| {
            let parts: Vec<String> = members.iter().map(|member| member.spdx(names)).collect();
            match parts.as_slice() {
                [] => "NONE".to_owned(),
                [one] => one.clone(),
                _ => format!("({})", parts.join(word)),
            }
        };
        match self {
            Self::Name(name) => names.find(name),
            Self::All(members) => join(members, " AND "),
            Self::Any(members) => join(members, " OR "),
        }
    }
}

/// The SPDX names of Gentoo's licences, from profiles/licenses.toml.
#[derive(Debug, Deserialize)]
pub(crate) struct SpdxNames {
    spdx: BTreeMap<String, String>,
}

impl SpdxNames {
    pub(crate) fn load() -> Result<Self> {
        data::toml("licenses.toml")
    }

    /// Returns the SPDX name of the licence that Gentoo calls `name`: a licence of SPDX's list, else a
    /// `LicenseRef-Gentoo-NAME`.
    pub(crate) fn find(&self, name: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        let license =
            LicenseExpression::parse("GPL-2+ || ( MIT LGPL-3 ( BSD ZLIB ) ) FDL-1.3").unwrap();
        let mut chosen = BTreeSet::new();
        license.collect_chosen(&mut chosen);
        assert_eq!(chosen.into_iter().collect::<Vec<_>>(), ["FDL-1.3", "GPL-2+", "LGPL-3"]);
        let names = SpdxNames::load().unwrap();
        let expression = license.spdx(&names);
        assert_eq!(
            expression,
            "(GPL-2.0-or-later AND (MIT OR LGPL-3.0-only OR (BSD-3-Clause AND Zlib)) AND \
             GFDL-1.3-only)"
        );
        assert!(
            LicenseExpression::parse("|| MIT").is_err()
                && LicenseExpression::parse("( MIT").is_err()
        );
        assert!(LicenseExpression::parse("MIT )").is_err());
    }

    #[test]
    fn names_are_those_of_spdx() {
        let names = SpdxNames::load().unwrap();
        for (gentoo, name) in &names.spdx {
            assert!(spdx::Expression::parse(name).is_ok(), "{gentoo} is not {name} in SPDX");
        }
        assert_eq!(names.find("Apache-2.0"), "Apache-2.0");
        assert_eq!(names.find("public-domain"), "LicenseRef-Gentoo-public-domain");
    }

    #[test]
    fn groups_in_groups() {
        let names = SpdxNames::load().unwrap();
        let spdx = |text: &str| LicenseExpression::parse(text).unwrap().spdx(&names);
        assert_eq!(spdx(""), "NONE");
        assert_eq!(spdx("MIT"), "MIT");
        assert_eq!(spdx("( ( MIT ) )"), "MIT");
        assert_eq!(
            spdx("|| ( MIT ( GPL-2 || ( BSD ZLIB ) ) )"),
            "(MIT OR (GPL-2.0-only AND (BSD-3-Clause OR Zlib)))"
        );
        for bad in ["(", ")", "||", "|| ( MIT", "MIT ) (", "( MIT ) )"] {
            assert!(LicenseExpression::parse(bad).is_err(), "{bad:?}");
        }
        let mut all = BTreeSet::new();
        LicenseExpression::parse("A || ( B ( C ) ) A").unwrap().collect_names(&mut all);
        assert_eq!(all.into_iter().collect::<Vec<_>>(), ["A", "B", "C"]);
    }
}
