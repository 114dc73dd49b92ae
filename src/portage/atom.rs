//! Package dependency atoms, as users write them.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use anyhow::{Error, Result, bail};
use regex::Regex;

/// An atom (PMS 8.3): which packages are meant. Only its form is looked at; Portage knows what
/// there is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Atom {
    text: String,
    package: String,
}

/// Operator, category/package with or without a version, slot, repository, USE dependencies.
#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static FORM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^ (?<operator> >=|<=|>|<|=|~ )?
        (?<package> [A-Za-z0-9_][A-Za-z0-9+_.-]* / [A-Za-z0-9_][A-Za-z0-9+_-]*?
          (?<version> -[0-9]+(\.[0-9]+)*[a-z]?(_(alpha|beta|pre|rc|p)[0-9]*)*(-r[0-9]+)?\*? )? )
        (:[A-Za-z0-9_][A-Za-z0-9+_./-]*)?
        (::[A-Za-z0-9_][A-Za-z0-9_-]*)?
        (\[[A-Za-z0-9+_@,!=?()-]+\])? $",
    )
    .unwrap()
});

impl Atom {
    /// The atom as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The category and the name, without version and all the rest.
    pub(crate) fn package(&self) -> &str {
        &self.package
    }
}

impl FromStr for Atom {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('-') {
            bail!("{text:?} is an option of emerge and no package");
        }
        let Some(found) = FORM.captures(text) else {
            bail!(
                "{text:?} names no package; write CATEGORY/NAME, like app-misc/jq, or \
                 =CATEGORY/NAME-VERSION"
            );
        };
        let part = |name: &str| found.name(name).map(|part| part.as_str());
        let package = part("package").unwrap_or_default();
        let package = match (part("operator"), part("version")) {
            (Some(_), Some(version)) => package.strip_suffix(version).unwrap_or(package),
            (Some(operator), None) => bail!("{text:?} has {operator} and no version"),
            (None, Some(version)) => bail!(
                "{text:?} has the version {} and no operator; write ={text}",
                version.trim_start_matches('-')
            ),
            (None, None) => package,
        };
        Ok(Self { text: text.to_owned(), package: package.to_owned() })
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_and_what_is_none() {
        for (text, package) in [
            ("app-misc/jq", "app-misc/jq"),
            ("=app-misc/jq-1.7.1", "app-misc/jq"),
            (">=dev-lang/python-3.13_rc1-r2:3.13", "dev-lang/python"),
            ("=dev-libs/openssl-3*", "dev-libs/openssl"),
            ("x11-libs/gtk+:3::gentoo[-cups,wayland?]", "x11-libs/gtk+"),
            ("media-libs/libsdl2", "media-libs/libsdl2"),
            ("dev-util/font-9x15", "dev-util/font-9x15"),
        ] {
            assert_eq!(text.parse::<Atom>().unwrap().package(), package, "{text}");
        }
        for bad in
            ["", "jq", "--ask", "a/b/c", "app-misc/jq-1.7.1", ">=app-misc/jq", "a b/c", "a/$x"]
        {
            assert!(bad.parse::<Atom>().is_err(), "{bad:?}");
        }
    }
}
