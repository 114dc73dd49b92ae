//! A package as Portage's database knows it (PMS 12, and the files in `var/db/pkg`).

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use regex::Regex;

use crate::portage::vdb;

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InstalledPackage {
    /// CATEGORY.
    pub category: String,
    /// PN.
    pub name: String,
    /// PVR: the version with the revision.
    pub version: String,
    /// The repository that its ebuild is from.
    pub repository: String,
    /// LICENSE, with the conditions of USE flags resolved.
    pub license: String,
    /// DESCRIPTION.
    pub description: String,
    /// HOMEPAGE.
    pub homepage: String,
    /// `SRC_URI` as pairs of URI and file name.
    pub sources: Vec<(String, String)>,
    /// The files and links that it installed, as paths without a slash in front.
    pub files: Vec<PathBuf>,
}

impl InstalledPackage {
    /// `category/PF`.
    pub(crate) fn cpv(&self) -> String {
        format!("{}/{}-{}", self.category, self.name, self.version)
    }

    /// `category/PF::repository`, as Flatcar's lists have it.
    pub(crate) fn project(&self) -> String {
        format!("{}::{}", self.cpv(), self.repository)
    }

    fn load(vdb: &Path, cpv: &str) -> Result<Self> {
        let dir = vdb.join(cpv);
        let read = |name: &str| -> Result<String> { Ok(one_line(&vdb::fact(&dir, name)?)) };
        let (category, pf) = cpv.split_once('/').unwrap_or(("", cpv));
        let (name, version) = split(pf)?;
        let environment = dir.join("environment.bz2");
        let sources = if environment.is_file() { sources(&environment)? } else { Vec::new() };
        Ok(Self {
            category: category.to_owned(),
            name,
            version,
            repository: read("repository")?,
            license: read("LICENSE")?,
            description: read("DESCRIPTION")?,
            homepage: read("HOMEPAGE")?,
            sources,
            files: vdb::files(&dir)?,
        })
    }
}

/// All packages in the database at `vdb`, sorted.
pub(crate) fn installed(vdb: &Path) -> Result<Vec<InstalledPackage>> {
    vdb::packages(vdb)?
        .iter()
        .map(|cpv| {
            InstalledPackage::load(vdb, cpv)
                .with_context(|| format!("could not read what Portage knows of {cpv}"))
        })
        .collect()
}

/// A line per package: `category/PF::repository`.
pub(super) fn list(packages: &[InstalledPackage]) -> String {
    packages.iter().map(|package| package.project() + "\n").collect()
}

/// PN and PVR of a PF (PMS 3.2).
fn split(pf: &str) -> Result<(String, String)> {
    let version = r"[0-9]+(\.[0-9]+)*[a-z]?((_alpha|_beta|_pre|_rc|_p)[0-9]*)*(-r[0-9]+)?";
    let pattern = Regex::new(&format!("^(?<pn>.+)-(?<pvr>{version})$"))?;
    let parts = pattern.captures(pf).with_context(|| format!("{pf:?} has no version"))?;
    Ok((parts["pn"].to_owned(), parts["pvr"].to_owned()))
}

/// `SRC_URI` out of the environment that Portage kept of the build.
fn sources(environment: &Path) -> Result<Vec<(String, String)>> {
    let mut bytes = Vec::new();
    bzip2::read::MultiBzDecoder::new(fs_err::File::open(environment)?)
        .read_to_end(&mut bytes)
        .with_context(|| format!("could not unpack {}", environment.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let value = text.lines().find_map(|line| {
        let (_, value) = line.strip_prefix("declare ")?.split_once("SRC_URI=")?;
        Some(unquote(value))
    });
    Ok(uris(&value.unwrap_or_default()))
}

/// The pairs of URI and file name in a `SRC_URI` without conditions (PMS 7.3.3).
fn uris(text: &str) -> Vec<(String, String)> {
    let mut words = text
        .split_whitespace()
        .filter(|word| !matches!(*word, "(" | ")") && !word.ends_with('?'))
        .peekable();
    let mut pairs = Vec::new();
    while let Some(uri) = words.next() {
        let mut name = uri.rsplit('/').next().unwrap_or(uri);
        if words.next_if_eq(&"->").is_some() {
            name = words.next().unwrap_or(name);
        }
        let uri = uri.strip_prefix("fetch+").or_else(|| uri.strip_prefix("mirror+")).unwrap_or(uri);
        pairs.push((uri.to_owned(), name.to_owned()));
    }
    pairs
}

/// A value as bash's `declare -p` writes it: in double quotes, or as `$'...'`.
fn unquote(value: &str) -> String {
    let (inner, ansi) = match value.strip_prefix("$'") {
        Some(rest) => (rest.trim_end_matches('\''), true),
        None => (value.trim_matches('"'), false),
    };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, ansi) {
            ('\\', true) => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(other) => text.push(other),
                None => {}
            },
            ('\\', false) => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        let split = |pf: &str| split(pf).unwrap();
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(split("jq-1.7.1"), pair("jq", "1.7.1"));
        assert_eq!(split("gtk+-2.24.33-r3"), pair("gtk+", "2.24.33-r3"));
        assert_eq!(split("ncurses-6.5_p20250216"), pair("ncurses", "6.5_p20250216"));
        assert!(crate::report::package::split("jq").is_err());
    }

    #[test]
    fn sources_of_a_build() {
        let value = r"$'\n\thttps://a.org/v1.tar.gz -> a-1.tar.gz\n\tmirror://gnu/b/b.tar.xz\n'";
        let pair = |uri: &str, name: &str| (uri.to_owned(), name.to_owned());
        assert_eq!(
            uris(&unquote(value)),
            [
                pair("https://a.org/v1.tar.gz", "a-1.tar.gz"),
                pair("mirror://gnu/b/b.tar.xz", "b.tar.xz")
            ]
        );
        assert_eq!(unquote(r#""a \"b\" \$c""#), r#"a "b" $c"#);
    }
}
