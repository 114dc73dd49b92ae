//! Package identity: category, name, version and revision (PMS 3.1 and 3.2), and the order of
//! versions (PMS 3.3).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use anyhow::{Context, Error, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// The pattern of a version without its revision (PMS 3.2).
pub(super) const VERSION: &str = r"[0-9]+(?:\.[0-9]+)*[a-z]?(?:_(?:alpha|beta|pre|rc|p)[0-9]*)*";
/// The pattern of a category (PMS 3.1.1).
pub(super) const CATEGORY: &str = "[A-Za-z0-9_][A-Za-z0-9+_.-]*";

/// An ebuild or an installed package: `category/name-version[-rREVISION]`, which Portage calls CPV.
///
/// Two CPVs are equal if their texts are. The order is that of PMS 3.3; versions that PMS treats as
/// equal (`1` and `1-r0`) are ordered by their text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpv {
    category: String,
    name: String,
    version: String,
    /// The digits behind `-r`; `None` where the version has no revision.
    revision: Option<String>,
}

/// The name is lazy, so that it takes no part of the version.
#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static FORM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(&format!(
        "^(?<category>{CATEGORY})/(?<name>[A-Za-z0-9_][A-Za-z0-9+_-]*?)-(?<version>{VERSION})\
         (?:-r(?<revision>[0-9]+))?$"
    ))
    .unwrap()
});

/// The end of a name that PMS 3.1.2 forbids: a hyphen, and what looks like a version.
#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static VERSION_AT_END: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(&format!("-{VERSION}(?:-r[0-9]+)?$")).unwrap());

impl Cpv {
    /// CATEGORY.
    pub fn category(&self) -> &str {
        &self.category
    }

    /// PN: the name without the version.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// PV: the version without the revision.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// PVR: the version with the revision, if there is one.
    pub fn version_with_revision(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{}-r{revision}", self.version),
            None => self.version.clone(),
        }
    }

    /// PF: name, version and revision.
    pub fn pf(&self) -> String {
        format!("{}-{}", self.name, self.version_with_revision())
    }

    /// The package without the version: `category/name`.
    pub fn package(&self) -> String {
        format!("{}/{}", self.category, self.name)
    }

    /// Returns whether this is a version of `package`, which is `category/name`.
    pub fn is_of(&self, package: &str) -> bool {
        package.split_once('/') == Some((&self.category, &self.name))
    }
}

impl FromStr for Cpv {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = FORM.captures(text).filter(|form| !VERSION_AT_END.is_match(&form["name"]));
        let form = form.with_context(|| {
            format!("{text:?} names no version of a package; expected CATEGORY/NAME-VERSION")
        })?;
        Ok(Self {
            category: form["category"].to_owned(),
            name: form["name"].to_owned(),
            version: form["version"].to_owned(),
            revision: form.name("revision").map(|revision| revision.as_str().to_owned()),
        })
    }
}

impl TryFrom<String> for Cpv {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Cpv> for String {
    fn from(cpv: Cpv) -> Self {
        cpv.to_string()
    }
}

impl fmt::Display for Cpv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}", self.category, self.name, self.version)?;
        self.revision.iter().try_for_each(|revision| write!(f, "-r{revision}"))
    }
}

impl Ord for Cpv {
    fn cmp(&self, other: &Self) -> Ordering {
        let names = |cpv: &Self| (cpv.category.clone(), cpv.name.clone());
        let revision = |cpv: &Self| cpv.revision.clone().unwrap_or_default();
        names(self)
            .cmp(&names(other))
            .then_with(|| compare_versions(&self.version, &other.version))
            .then_with(|| compare_numbers(&revision(self), &revision(other)))
            .then_with(|| self.to_string().cmp(&other.to_string()))
    }
}

impl PartialOrd for Cpv {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares two versions without revisions (PMS 3.3, algorithm 3.1).
fn compare_versions(left: &str, right: &str) -> Ordering {
    let (left, right) = (VersionParts::split(left), VersionParts::split(right));
    compare_components(&left.numbers, &right.numbers)
        .then_with(|| left.letter.cmp(right.letter))
        .then_with(|| compare_suffixes(&left.suffixes, &right.suffixes))
}

/// The parts of a version: `1.2b_rc3` has the numbers 1 and 2, the letter b, and one suffix.
struct VersionParts<'a> {
    numbers: Vec<&'a str>,
    /// Empty where the version has no letter.
    letter: &'a str,
    /// Names and numbers; a number that is not written is empty, and counts as 0.
    suffixes: Vec<(&'a str, &'a str)>,
}

impl<'a> VersionParts<'a> {
    fn split(version: &'a str) -> Self {
        let mut parts = version.split('_');
        let first = parts.next().unwrap_or_default();
        let numbers = first.trim_end_matches(|c: char| c.is_ascii_lowercase());
        Self {
            numbers: numbers.split('.').collect(),
            letter: &first[numbers.len()..],
            suffixes: parts
                .map(|suffix| {
                    let name = suffix.trim_end_matches(|c: char| c.is_ascii_digit());
                    (name, &suffix[name.len()..])
                })
                .collect(),
        }
    }
}

/// Compares the numbers of versions (PMS 3.3, algorithms 3.2 and 3.3). The first one is an integer.
/// A later one with a zero in front is a fraction, as in 1.05 < 1.1.
fn compare_components(left: &[&str], right: &[&str]) -> Ordering {
    for (at, (left, right)) in left.iter().zip(right).enumerate() {
        let ordering = if at > 0 && (left.starts_with('0') || right.starts_with('0')) {
            left.trim_end_matches('0').cmp(right.trim_end_matches('0'))
        } else {
            compare_numbers(left, right)
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    left.len().cmp(&right.len())
}

/// Compares suffixes (PMS 3.3, algorithms 3.5 and 3.6). A version with one more is newer if that is
/// `_p`, and older if it is any other.
fn compare_suffixes(left: &[(&str, &str)], right: &[(&str, &str)]) -> Ordering {
    for ((left_name, left_number), (right_name, right_number)) in left.iter().zip(right) {
        let ordering = suffix_rank(left_name)
            .cmp(&suffix_rank(right_name))
            .then_with(|| compare_numbers(left_number, right_number));
        if ordering.is_ne() {
            return ordering;
        }
    }
    let is_newer = |(name, _): &(&str, &str)| *name == "p";
    match (left.get(right.len()), right.get(left.len())) {
        (Some(more), _) if is_newer(more) => Ordering::Greater,
        (Some(_), _) => Ordering::Less,
        (_, Some(more)) if is_newer(more) => Ordering::Less,
        (_, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

fn suffix_rank(name: &str) -> usize {
    ["alpha", "beta", "pre", "rc", "p"].iter().position(|known| *known == name).unwrap_or_default()
}

/// Compares numbers of any length, as dates with a time are in versions; no digits are 0.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Cpv {
        text.parse().unwrap()
    }

    #[test]
    fn splits_names_and_versions() {
        for (text, package, version, revision) in [
            ("app-misc/jq-1.7.1", "app-misc/jq", "1.7.1", None),
            ("x11-libs/gtk+-2.24.33-r3", "x11-libs/gtk+", "2.24.33", Some("3")),
            ("sys-libs/ncurses-6.5_p20250216", "sys-libs/ncurses", "6.5_p20250216", None),
            ("dev-util/font-9x15-1", "dev-util/font-9x15", "1", None),
            ("media-libs/libsdl2-2.30.11-r0", "media-libs/libsdl2", "2.30.11", Some("0")),
            ("dev-lang/python-3.13.0_rc1_p2-r10", "dev-lang/python", "3.13.0_rc1_p2", Some("10")),
            ("app-text/mupdf-1.2b_alpha", "app-text/mupdf", "1.2b_alpha", None),
            ("a.b+c/x_y-9999", "a.b+c/x_y", "9999", None),
            ("virtual/libc-1-r1", "virtual/libc", "1", Some("1")),
        ] {
            let cpv = parse(text);
            assert_eq!((cpv.package().as_str(), cpv.version()), (package, version), "{text}");
            assert_eq!(cpv.revision.as_deref(), revision, "{text}");
            assert_eq!(cpv.to_string(), text);
            assert_eq!(format!("{}/{}", cpv.category(), cpv.pf()), text);
            assert!(cpv.is_of(package) && !cpv.is_of("a/b") && !cpv.is_of(cpv.name()));
        }
    }

    #[test]
    fn refuses_what_is_no_version_of_a_package() {
        for bad in [
            "",
            "jq-1.7",
            "app-misc/jq",
            "app-misc/jq-",
            "app-misc/-1",
            "/jq-1",
            "app-misc/jq-1.7-r",
            "app-misc/jq-1.7_x2",
            "app-misc/jq-1.7.",
            "app-misc/jq-1bc",
            "-misc/jq-1",
            ".misc/jq-1",
            "app-misc/+jq-1",
            "app-misc/j q-1",
            "app-misc/jq-1/2",
            "app-misc/jq-1.7\n",
            // A name must not end in what looks like a version.
            "app-misc/jq-1-2",
            "app-misc/jq-1-r1-2",
        ] {
            assert!(bad.parse::<Cpv>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn orders_versions() {
        // Each is older than the next.
        for older in [
            &["1_alpha", "1_alpha1", "1_beta", "1_pre", "1_pre2", "1_rc1", "1", "1_p", "1_p1"][..],
            &["1", "1-r1", "1-r2", "1-r10", "1a", "1b", "1.0", "1.1", "1.1.1", "1.2", "2", "10"],
            &["1.0", "1.001", "1.01", "1.05", "1.1", "1.5", "1.9", "1.10", "1.100"],
            &["1_rc1_alpha", "1_rc1", "1_rc1_p1", "1_rc2", "1_p1_rc1", "1_p1"],
            &["20250216", "20250216000000000000000000000000001"],
            &["1.2_p3-r1", "1.2_p3-r2", "1.2_p4", "1.2a_rc1", "1.2a"],
            &["3.13.0_rc3", "3.13.0", "3.13.0_p1", "3.13.1_alpha1", "3.13.1"],
        ] {
            for pair in older.windows(2) {
                let (older, newer) =
                    (parse(&format!("a/b-{}", pair[0])), parse(&format!("a/b-{}", pair[1])));
                assert!(older < newer, "{older} < {newer}");
            }
        }
    }

    #[test]
    fn versions_that_are_equal_for_portage() {
        for (left, right) in
            [("1", "01"), ("1.10", "1.10"), ("1_p", "1_p0"), ("1_alpha01", "1_alpha1")]
        {
            assert_eq!(compare_versions(left, right), Ordering::Equal, "{left} {right}");
        }
        assert_ne!(compare_versions("1.1", "1.10"), Ordering::Equal);
        // 1.010 and 1.01 differ in nothing but trailing zeros behind a leading one.
        assert_eq!(compare_versions("1.010", "1.01"), Ordering::Equal);
        let (plain, zero) = (parse("a/b-1"), parse("a/b-1-r0"));
        assert_ne!(plain, zero);
        assert_eq!(plain.cmp(&zero), "a/b-1".cmp("a/b-1-r0"));
    }

    #[test]
    fn orders_packages_before_versions() {
        let mut all = ["b/a-1", "a/c-1", "a/b-2", "a/b-10", "a/b-2-r1"].map(parse);
        all.sort();
        assert_eq!(
            all.map(|cpv| cpv.to_string()),
            ["a/b-2", "a/b-2-r1", "a/b-10", "a/c-1", "b/a-1"]
        );
    }

    #[test]
    fn keeps_its_text_in_files() {
        let json = serde_json::to_string(&parse("a/b-1-r01")).unwrap();
        assert_eq!(json, "\"a/b-1-r01\"");
        assert_eq!(serde_json::from_str::<Cpv>(&json).unwrap(), parse("a/b-1-r01"));
        assert!(serde_json::from_str::<Cpv>("\"a/b\"").is_err());
    }
}
