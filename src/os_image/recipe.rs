//! Extensions of an image and their packages, in the syntax of Flatcar's `build_image
//! --base_sysexts` (flatcar/scripts): `name|cat/pkg&cat/pkg,name2|cat/pkg`.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

use crate::base::names::PrefixName;
use crate::portage::atom::Atom;

/// An extension and its packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtensionRecipe {
    /// Name under which it is attached.
    pub name: PrefixName,
    /// Requested packages; their dependencies are added.
    pub packages: Vec<Atom>,
}

/// Extensions in the order in which they build on each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtensionRecipes(pub Vec<ExtensionRecipe>);

impl FromStr for ExtensionRecipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, packages)) = text.split_once('|') else {
            bail!("{text:?} has to be NAME|CATEGORY/PACKAGE[&CATEGORY/PACKAGE...]");
        };
        let packages = packages.split('&').map(str::parse).collect::<Result<_>>()?;
        Ok(Self { name: name.parse()?, packages })
    }
}

impl FromStr for ExtensionRecipes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let recipes: Vec<ExtensionRecipe> =
            text.split(',').map(str::parse).collect::<Result<_>>()?;
        let mut seen = BTreeSet::new();
        if let Some(twice) = recipes.iter().find(|recipe| !seen.insert(recipe.name.clone())) {
            bail!("there are two extensions called {}", twice.name);
        }
        Ok(Self(recipes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes() {
        let parse = |text: &str| text.parse::<ExtensionRecipes>();
        let ExtensionRecipes(recipes) =
            parse("one|a-b/c&d/e:0/535,two|=f/g-1.2*::tree[x]").unwrap();
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
