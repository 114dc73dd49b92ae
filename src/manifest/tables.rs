//! Tables of fprefix.toml. Parsing them needs neither the machine nor the disk.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::names::UseFlags;
use crate::manifest::pack_options::PackOptions;
use crate::manifest::rules::CheckRuleName;
use crate::manifest::setup_options::{PrefixOptions, TreeOptions};
use crate::portage::atom::Atom;

/// A prefix, what is in it, and the extension that it becomes. Paths are relative to the file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "fprefix.toml")]
pub(crate) struct Tables {
    pub prefix: PrefixOptions,
    #[serde(default)]
    pub trees: TreeOptions,
    pub emerge: EmergeTable,
    #[serde(default)]
    pub check: CheckTable,
    #[serde(default)]
    pub pack: PackOptions,
}

/// Packages to build, and their options.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "emerge")]
pub(crate) struct EmergeTable {
    /// The packages to install; packages that are no longer listed are removed
    #[schemars(length(min = 1))]
    pub packages: Vec<Atom>,
    /// USE flags for all packages
    #[serde(rename = "use")]
    pub use_flags: Option<UseFlags>,
    /// USE flags by package, as in package.use
    #[serde(default)]
    pub package_use: BTreeMap<Atom, UseFlags>,
    /// Keywords by package, as in `package.accept_keywords`
    #[serde(default)]
    pub package_accept_keywords: BTreeMap<Atom, Keywords>,
    /// The number of packages that emerge builds at once [default: emerge decides]
    pub jobs: Option<NonZeroU16>,
}

impl EmergeTable {
    /// Returns the lines of package.use (portage(5)).
    pub(crate) fn package_use_lines(&self) -> Vec<String> {
        let everywhere = self.use_flags.iter().map(|flags| format!("*/* {}", flags.as_str()));
        let single = self.package_use.iter();
        let single = single.map(|(atom, flags)| format!("{atom} {}", flags.as_str()));
        everywhere.chain(single).collect()
    }

    /// Returns the lines of `package.accept_keywords` (portage(5)).
    pub(crate) fn keyword_lines(&self) -> Vec<String> {
        let keywords = self.package_accept_keywords.iter();
        keywords.map(|(atom, words)| format!("{atom} {}", words.0)).collect()
    }
}

/// Settings of the check, and programs to prove.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "check")]
pub(crate) struct CheckTable {
    /// Rules whose findings do not fail the check; `fprefix check --explain all` lists the rules
    pub waive: Vec<CheckRuleName>,
    /// Programs that must exit with status 0 and use no file outside the prefix
    pub run: Vec<ProgramLine>,
}

/// Words of `ACCEPT_KEYWORDS`, like `~amd64` or `**` (portage(5), `package.accept_keywords`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keywords(String);

impl FromStr for Keywords {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '~' | '*');
        if let Some(word) = text.split_whitespace().find(|word| !word.chars().all(plain)) {
            bail!("{word:?} cannot be a keyword; write ~amd64, arm64 or **");
        }
        Ok(Self(text.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

/// A program with its arguments, at least one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramLine(pub Vec<String>);

impl FromStr for ProgramLine {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        words.map(Self).context("it names no program, or has an open quote")
    }
}
