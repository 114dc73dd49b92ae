//! Binary packages that prefixes and machines share, by Portage's own means: a common PKGDIR or a
//! binhost (make.conf(5), portage(5) binrepos.conf).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::names::{Environment, Eprefix};

/// The place of shared binary packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Binhost {
    /// A directory, from which packages are taken and to which they go.
    Directory(PathBuf),
    /// A URI, from which they are taken.
    Uri(String),
}

/// The URI schemes by which Portage fetches binary packages.
const SCHEMES: &[&str] = &["http", "https", "ftp", "ssh"];

impl FromStr for Binhost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            bail!("a binhost is a directory or a URI");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Directory(text.into()));
        };
        if scheme == "file" {
            return Ok(Self::Directory(rest.into()));
        }
        if !SCHEMES.contains(&scheme) {
            bail!("{text:?} cannot be a binhost: Portage knows {}", SCHEMES.join(", "));
        }
        if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bail!("{text:?} cannot be a binhost: it is no URI");
        }
        Ok(Self::Uri(text.trim_end_matches('/').to_owned()))
    }
}

impl TryFrom<String> for Binhost {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Binhost> for String {
    fn from(binhost: Binhost) -> Self {
        match binhost {
            Binhost::Directory(path) => path.to_string_lossy().into_owned(),
            Binhost::Uri(uri) => uri,
        }
    }
}

impl fmt::Display for Binhost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.escaped()),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

/// The part of a binhost that is for one kind of prefix. Packages know their EPREFIX, and what was
/// linked with one C library may ask too much of an older one.
pub(crate) fn key(board: &Board, toolchain: &[(String, String)], eprefix: &Eprefix) -> PathBuf {
    let versions: Vec<String> = toolchain
        .iter()
        .filter(|(package, _)| !package.starts_with("sys-kernel/"))
        .map(|(package, version)| {
            format!("{}-{version}", package.rsplit('/').next().unwrap_or(package))
        })
        .collect();
    let below = eprefix.as_path().strip_prefix("/").unwrap_or(eprefix.as_path());
    Path::new(&board.chost).join(versions.join("-")).join(below)
}

/// The options by which emerge uses shared packages in an environment.
pub(crate) fn options(binhost: Option<&Binhost>, environment: Environment) -> &'static str {
    match (binhost, environment) {
        (None, _) | (Some(Binhost::Uri(_)), Environment::Final) => "",
        (Some(Binhost::Directory(_)), Environment::Staging) => " --usepkg",
        (Some(Binhost::Uri(_)), Environment::Staging) => " --getbinpkg",
        // Others may have built the same version with other USE flags.
        (Some(Binhost::Directory(_)), Environment::Final) => " --binpkg-respect-use=y",
    }
}

/// Word of FEATURES by which Portage takes signed packages alone (make.conf(5)).
const SIGNED_ONLY: &str = "binpkg-request-signature";

/// Returns whether whoever is on the way to `binhost` can put programs of their own into a prefix:
/// nothing proves who sent a package, and the FEATURES in `settings`, of which later ones win, do
/// not ask for signatures. `settings` are texts of make.conf or values of FEATURES.
pub(crate) fn is_open<'a>(binhost: &Binhost, settings: impl IntoIterator<Item = &'a str>) -> bool {
    let Binhost::Uri(uri) = binhost else { return false };
    if !["http://", "ftp://"].iter().any(|scheme| uri.starts_with(scheme)) {
        return false;
    }
    let lines = settings.into_iter().flat_map(str::lines);
    let code = lines.map(|line| line.split('#').next().unwrap_or_default());
    let mut words =
        code.flat_map(|line| line.split(|c: char| c.is_whitespace() || "\"'=".contains(c)));
    let is_about =
        |word: &str| word.strip_prefix('-').unwrap_or(word) == SIGNED_ONLY || word == "-*";
    let last = words.by_ref().filter(|word| is_about(word)).last();
    last.is_none_or(|word| word.starts_with('-'))
}

/// Returns why emerge could not read the list of a binhost's packages, from its output: the reason
/// stands in the line after the error. `None` where emerge reports no such error.
pub(crate) fn find_fetch_error(said: &str) -> Option<&str> {
    let mut lines = said.lines().skip_while(|line| !line.contains("Error fetching binhost"));
    let reason = lines.nth(1)?;
    Some(reason.trim_start_matches("!!! [fprefix-binhost] ").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_and_uris() {
        let parse = |text: &str| text.parse::<Binhost>();
        assert_eq!(parse("a b").unwrap(), Binhost::Directory("a b".into()));
        assert_eq!(parse("file:///x").unwrap(), Binhost::Directory("/x".into()));
        assert_eq!(parse("https://x/y/").unwrap(), Binhost::Uri("https://x/y".into()));
        for bad in ["", "https://", "gopher://x", "https://a b", "https://a\n[x]"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn binhosts_that_are_down() {
        let said = "\n!!! [fprefix-binhost] Error fetching binhost package info from 'http://x'\n\
                    !!! [fprefix-binhost] <urlopen error refused>\n";
        assert_eq!(find_fetch_error(said), Some("<urlopen error refused>"));
        assert_eq!(find_fetch_error("all is well\n"), None);
    }

    #[test]
    fn what_comes_unproven_is_open() {
        let is_open = |binhost: &str, settings: &[&str]| {
            super::is_open(&binhost.parse().unwrap(), settings.iter().copied())
        };
        for safe in ["https://x", "ssh://x", "/srv", "file:///srv"] {
            assert!(!is_open(safe, &[]), "{safe}");
        }
        let asks = "FEATURES=\"${FEATURES} binpkg-request-signature\"\n";
        for open in ["http://x", "ftp://x"] {
            assert!(is_open(open, &[]) && is_open(open, &["# binpkg-request-signature"]));
            assert!(is_open(open, &["binpkg-request-signatures"]));
            assert!(
                !is_open(open, &["ccache", asks])
                    && !is_open(open, &["-binpkg-request-signature", asks])
            );
            assert!(is_open(open, &[asks, "-binpkg-request-signature"]));
            assert!(is_open(open, &[asks, "-* ccache"]));
        }
    }

    #[test]
    fn keys_tell_prefixes_apart() {
        let board = Board::find("amd64-usr").unwrap();
        let toolchain =
            [("sys-libs/glibc".to_owned(), "2.36".to_owned()), ("sys-kernel/x".into(), "6".into())];
        let key = key(&board, &toolchain, &"/opt/a/b".parse().unwrap());
        assert_eq!(key, Path::new("x86_64-cros-linux-gnu/glibc-2.36/opt/a/b"));
    }
}
