//! Which extensions an image gets and what is in them, in the words of Flatcar's `build_image
//! --base_sysexts` (flatcar/scripts): `name|cat/pkg&cat/pkg,name2|cat/pkg`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use anyhow::{Error, Result, bail};
use regex::Regex;
use serde::Serialize;

use crate::names::PrefixName;

/// A package as emerge is asked for it: a package atom with a category (PMS 8.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Atom(String);

/// An extension and its packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recipe {
    /// The name under which it is attached.
    pub name: PrefixName,
    /// What it is for; what these need comes with them.
    pub packages: Vec<Atom>,
}

/// Extensions in the order in which they build on each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipes(pub Vec<Recipe>);

#[expect(clippy::unwrap_used, reason = "a constant that a test compiles")]
static ATOM: LazyLock<Regex> = LazyLock::new(|| {
    let category = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*";
    let package = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*\*?";
    let slot = r"(:[A-Za-z0-9_*=][A-Za-z0-9+_./*=-]*)?";
    let repository = r"(::[A-Za-z0-9_][A-Za-z0-9_-]*)?";
    let flags = r"(\[[A-Za-z0-9+_@()!?=-]+\])?";
    Regex::new(&format!("^(>=|<=|=|~|<|>)?{category}/{package}{slot}{repository}{flags}$")).unwrap()
});

impl FromStr for Atom {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if !ATOM.is_match(text) {
            bail!("{text:?} has to be a package with its category, like app-misc/jq");
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, packages)) = text.split_once('|') else {
            bail!("{text:?} has to be NAME|CATEGORY/PACKAGE[&CATEGORY/PACKAGE...]");
        };
        let packages = packages.split('&').map(str::parse).collect::<Result<_>>()?;
        Ok(Self { name: name.parse()?, packages })
    }
}

impl FromStr for Recipes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let recipes: Vec<Recipe> = text.split(',').map(str::parse).collect::<Result<_>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = recipes.iter().find(|recipe| !seen.insert(recipe.name.clone())) {
            bail!("there are two extensions called {}", twice.name);
        }
        Ok(Self(recipes))
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Atom> for String {
    fn from(atom: Atom) -> Self {
        atom.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes() {
        let parse = |text: &str| text.parse::<Recipes>();
        let Recipes(recipes) = parse("one|a-b/c&d/e:0/535,two|=f/g-1.2*::tree[x]").unwrap();
        assert_eq!(recipes.len(), 2);
        assert_eq!(recipes[0].name.as_str(), "one");
        assert_eq!(recipes[0].packages[1].to_string(), "d/e:0/535");
        for bad in ["", "one", "one|", "one|jq", "one|a/b&", "|a/b", "one|a/b,one|c/d", "one|a/b,"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["one|--pretend", "one|a/b;c", "one|a/b c/d", "../x|a/b", "one|-a/b"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
