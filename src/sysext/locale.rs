//! Languages that an extension has translations into.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;

/// A language, or its variant for a country: `de`, `pt_BR` (locale(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Locale(String);

impl FromStr for Locale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@.-".contains(c);
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(plain) {
            bail!("{text:?} has to be a language, like de or pt_BR");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Locale {
    /// Returns whether the directory `name` is of this language. `de` also wants `de_AT`, and
    /// `de_AT` also wants `de`, on which it is built.
    fn matches(&self, name: &str) -> bool {
        let parts = |text: &str| -> Vec<String> {
            text.split(['_', '.', '@']).map(str::to_owned).collect()
        };
        let (own, name) = (parts(&self.0), parts(name));
        own.iter().zip(&name).all(|(own, name)| own == name)
    }

    /// Returns whether the directory at `path` is of another language than those in `wanted`, if
    /// that lists any.
    pub(super) fn excludes(wanted: &[Self], path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // C and POSIX are no translations, and every program may request them.
        !wanted.is_empty()
            && !matches!(language_of(&name), "C" | "POSIX")
            && !wanted.iter().any(|locale| locale.matches(&name))
    }
}

/// Returns the language in the name of a directory.
fn language_of(name: &str) -> &str {
    name.split(['_', '.', '@']).next().unwrap_or_default()
}
