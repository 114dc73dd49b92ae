//! Tables of a build file as they are written: names and types. Parsing them needs neither the
//! machine nor the disk.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error};
use toml::Spanned;

use crate::base::names::{Eprefix, PrefixName, UseFlags};
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::signing::pkcs11::KeySource;
use crate::portage::atom::Atom;
use crate::portage::binhost::Binhost;
use crate::sysext::name::Version;
use crate::sysext::openpgp::SumsKey;
use crate::sysext::sysupdate::SourceUrl;

/// A value that is written as text, in the syntax of the command line. Lists contain plain strings
/// that are parsed later, because this parser knows only the place of a whole list, not of its
/// items.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<T>(pub T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error| D::Error::custom(format!("{error:#}")))
    }
}

/// The whole file: a table for each step.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tables {
    pub prefix: PrefixTable,
    #[serde(default)]
    pub trees: Trees,
    pub emerge: Emerge,
    #[serde(default)]
    pub check: CheckTable,
    #[serde(default)]
    pub pack: PackTable,
}

/// Settings of setup.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PrefixTable {
    pub name: PrefixName,
    pub eprefix: Eprefix,
    pub board: Option<Spanned<String>>,
    pub staging_dir: Option<PathBuf>,
    pub final_dir: Option<PathBuf>,
    pub wrapper_dir: Option<PathBuf>,
    pub distdir: Option<PathBuf>,
    pub binhost: Option<Text<Binhost>>,
    #[serde(default)]
    pub features: Vec<Spanned<String>>,
}

/// Sources of ebuilds.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Trees {
    pub tree: Option<Spanned<PathBuf>>,
    pub repos: Vec<Spanned<String>>,
    pub overlays: Vec<Spanned<PathBuf>>,
    pub profile: Option<String>,
    #[serde(rename = "package-config")]
    pub package_config: Option<Spanned<PathBuf>>,
}

/// Packages to build, and their options.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Emerge {
    pub packages: Spanned<Vec<Spanned<String>>>,
    #[serde(rename = "use")]
    pub use_flags: Option<Text<UseFlags>>,
    #[serde(default)]
    pub package_use: BTreeMap<Text<Atom>, Text<UseFlags>>,
    #[serde(default)]
    pub package_accept_keywords: BTreeMap<Text<Atom>, Text<Keywords>>,
    pub jobs: Option<std::num::NonZeroU16>,
}

/// Settings of the check, and programs to prove.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CheckTable {
    pub waive: Vec<Spanned<String>>,
    pub run: Vec<Spanned<String>>,
}

/// Settings of packing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct PackTable {
    pub name: Option<PrefixName>,
    pub version: Option<Text<Version>>,
    pub architecture: Option<Text<Architecture>>,
    pub release: Vec<Spanned<String>>,
    pub format: Vec<Spanned<String>>,
    pub private_key: Option<Spanned<PathBuf>>,
    pub private_key_source: Option<Text<KeySource>>,
    pub certificate: Option<Spanned<PathBuf>>,
    pub sign_sums: Option<Spanned<String>>,
    pub output: Option<PathBuf>,
    pub keep: Vec<Spanned<String>>,
    pub locales: Vec<Spanned<String>>,
    pub strip: Option<bool>,
    pub keep_symbols: Vec<Spanned<String>>,
    pub splitdebug: Option<Spanned<bool>>,
    pub base: Vec<Spanned<PathBuf>>,
    pub expose: Vec<Spanned<String>>,
    pub start: Vec<Spanned<String>>,
    pub state: Vec<Spanned<String>>,
    pub mangle: Vec<Spanned<PathBuf>>,
    #[serde(alias = "against")]
    pub target_root: Option<Spanned<PathBuf>>,
    #[serde(alias = "beside")]
    pub with_extension: Vec<Spanned<PathBuf>>,
    pub waive: Vec<Spanned<String>>,
    pub pkginfo: bool,
    pub sysupdate: Option<Spanned<Text<SourceUrl>>>,
    pub reports: Option<bool>,
}

impl PackTable {
    /// Opens the key that the list of digests is signed with.
    pub(crate) fn sign_sums(&self) -> anyhow::Result<Option<SumsKey>> {
        self.sign_sums.as_ref().map(|key| SumsKey::open(key.get_ref(), None)).transpose()
    }

    /// Returns the source that keys of tokens are read from, if it is named.
    pub(crate) fn private_key_source(&self) -> Option<&KeySource> {
        self.private_key_source.as_ref().map(|source| &source.0)
    }
}

/// Words of `ACCEPT_KEYWORDS`, like `~amd64` or `**` (portage(5), `package.accept_keywords`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keywords(String);

impl Keywords {
    /// Returns the words as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Keywords {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '~' | '*');
        if let Some(word) = text.split_whitespace().find(|word| !word.chars().all(plain)) {
            anyhow::bail!("{word:?} cannot be a keyword; write ~amd64, arm64 or **");
        }
        Ok(Self(text.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}
