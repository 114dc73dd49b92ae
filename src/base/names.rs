//! Names and paths from users, parsed at the boundary: other modules get typed values, not strings.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::base::board::Board;

/// Maximum length of EPREFIX: a `#!` line ends after 255 bytes (Linux 5.1, `BINPRM_BUF_SIZE`), and
/// `<EPREFIX>/usr/bin/<program> <argument>` has to fit in.
pub const EPREFIX_MAX: usize = 160;

/// Name of a prefix. It becomes part of script names, directories and the extension's image name,
/// which systemd uses as a file name (systemd-sysext(8)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrefixName(String);

impl PrefixName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrefixName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        if text.is_empty() {
            bail!("a prefix needs a name");
        }
        if text.len() > 64 {
            bail!("the name {text:?} is longer than 64 characters");
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            bail!("the name {text:?} has to begin with a letter or a digit");
        }
        if let Some(c) = text.chars().find(|c| !plain(*c)) {
            bail!(
                "the name {text:?} has the character {c:?}; letters, digits and - _ . + are \
                 allowed, since it becomes part of file names"
            );
        }
        if text.ends_with(".raw") || text.ends_with(".v") {
            bail!("the name {text:?} ends like an image or a versioned folder of systemd-sysext");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PrefixName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PrefixName> for String {
    fn from(name: PrefixName) -> Self {
        name.0
    }
}

impl fmt::Display for PrefixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// EPREFIX: the absolute path of a prefix on every machine that runs its programs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Eprefix(String);

/// Directories that belong to the machine: a prefix may be below some of them, but never be one.
const NOT_A_PREFIX: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/fprefix",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
    "/usr/sbin",
    "/usr/share",
    "/usr/src",
    "/var",
];

/// Directories that the sandbox or the kernel creates anew: nothing can be installed below them.
const NOT_BELOW: &[&str] = &["/dev", "/proc", "/sys", "/fprefix", "/tmp"];

/// The path at which a relocatable prefix builds. It is as long as paths can be that replace it,
/// and no program has it by chance.
const CANONICAL_EPREFIX: &str =
    "/opt/fprefix-relocatable-a-path-that-each-merge-replaces-by-the-prefix-s-own";

impl Eprefix {
    /// The EPREFIX of staging, if packages are relocated as they are merged into final.
    pub fn canonical() -> Self {
        Self(CANONICAL_EPREFIX.to_owned())
    }

    /// Fails if files that were built for this path cannot be relocated to `to`: the strings in them
    /// have no room for a longer one.
    ///
    /// # Errors
    ///
    /// Fails if `to` is longer.
    pub fn check_room(&self, to: &Self) -> Result<()> {
        let (room, needed) = (self.0.len(), to.0.len());
        ensure!(
            needed <= room,
            "the prefix path {to} has {needed} bytes, and files that were built for {self} have \
             room for {room}\n\
             hint: take a path that is shorter by {} bytes",
            needed.saturating_sub(room)
        );
        Ok(())
    }

    /// Returns the path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Returns the same path below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        root.join(self.0.trim_start_matches('/'))
    }

    /// Returns why this prefix cannot become a sysext, or `None` if it can. systemd merges only
    /// /usr and /opt (systemd-sysext(8)).
    pub fn sysext_obstacle(&self) -> Option<String> {
        let path = self.as_path();
        if path.starts_with("/usr") || path.starts_with("/opt") {
            return None;
        }
        Some(format!(
            "{self} is not below /usr or /opt, and systemd-sysext merges only those: the prefix \
             can be built and checked, but not packed as a sysext"
        ))
    }
}

impl FromStr for Eprefix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+');
        if !text.starts_with('/') {
            bail!("the prefix path {text:?} has to be absolute, like /usr/local/my-stuff");
        }
        if let Some(c) = text.chars().find(|c| !plain(*c)) {
            bail!(
                "the prefix path {text:?} has the character {c:?}; letters, digits and / - _ . + \
                 are allowed, since build systems split or expand anything else"
            );
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            bail!("the prefix path {text:?} may not have . or .. in it");
        }
        let path = format!("/{}", parts.join("/"));
        if parts.is_empty() || NOT_A_PREFIX.contains(&path.as_str()) {
            bail!(
                "{path} belongs to the machine and cannot be a prefix; take a directory of its \
                 own, like /usr/local/my-stuff"
            );
        }
        if let Some(top) = NOT_BELOW.iter().find(|top| Path::new(&path).starts_with(top)) {
            bail!("{path} cannot be a prefix: nothing that is installed below {top} stays there");
        }
        if path.len() > EPREFIX_MAX {
            bail!(
                "the prefix path {path} has {} characters; more than {EPREFIX_MAX} do not fit \
                 into the #! line of a script together with a program's name",
                path.len()
            );
        }
        Ok(Self(path))
    }
}

impl TryFrom<String> for Eprefix {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Eprefix> for String {
    fn from(eprefix: Eprefix) -> Self {
        eprefix.0
    }
}

impl fmt::Display for Eprefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<OsStr> for Eprefix {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

/// Repository that the user named: `NAME=PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoArgument {
    /// Expected name of the repository.
    pub name: String,
    /// Path of the repository.
    pub path: PathBuf,
}

impl FromStr for RepoArgument {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, path)) = text.split_once('=') else {
            bail!("{text:?} has to be NAME=PATH, like gentoo=/var/db/repos/gentoo");
        };
        if !is_repo_name(name) {
            bail!("{name:?} cannot be the name of a repository: letters, digits, - and _ only");
        }
        Ok(Self { name: name.to_owned(), path: path.into() })
    }
}

/// Repository with an optional name: `NAME=PATH` or `PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoPlace {
    /// Expected name of the repository; `None` if any name will do.
    pub name: Option<String>,
    /// Path of the repository.
    pub path: PathBuf,
}

impl FromStr for RepoPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A path may contain an equals sign; the text before it is then no valid repository name.
        Ok(match text.split_once('=') {
            Some((name, path)) if is_repo_name(name) => {
                Self { name: Some(name.to_owned()), path: path.into() }
            }
            _ => Self { name: None, path: text.into() },
        })
    }
}

/// Returns whether `name` is a valid repository name (PMS 3.1.5).
pub fn is_repo_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// USE flags in the form of make.conf(5), in one text: words like `-nls` or `ssl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseFlags(String);

impl UseFlags {
    /// Returns the flags as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UseFlags {
    type Err = Error;

    /// PMS 3.1.4 defines the characters of a flag's name; `-*` removes all flags of the profile.
    fn from_str(text: &str) -> Result<Self> {
        for word in text.split_whitespace() {
            let name = word.strip_prefix(['-', '+']).unwrap_or(word);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_' | '@' | '-');
            let good =
                name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain);
            if !good && word != "-*" {
                bail!("{word:?} cannot be a USE flag: letters, digits and + _ @ - only");
            }
        }
        Ok(Self(text.split_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

/// Word of Portage's FEATURES, like `ccache` or `-strict` (make.conf(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature(String);

impl Feature {
    /// Returns the word as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Feature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.strip_prefix('-').unwrap_or(text);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(plain) {
            bail!("{text:?} is none of Portage's features, like ccache or distcc");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Identity of a prefix: a name and a board. It is written `<name>-<board>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PrefixId {
    /// Name of the prefix.
    pub name: PrefixName,
    /// Name of the board.
    pub board: String,
}

impl PrefixId {
    /// Returns the identity of the prefix `name` for `board`.
    pub fn new(name: &PrefixName, board: &Board) -> Self {
        Self { name: name.clone(), board: board.name.clone() }
    }
}

impl fmt::Display for PrefixId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.board)
    }
}

/// One of the two environments of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// The full build environment.
    Staging,
    /// Only the packages that programs need at run time.
    Final,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staging => "staging",
            Self::Final => "final",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_names() {
        for good in ["demo", "my-prefix", "a", "python3.11", "c++"] {
            assert_eq!(good.parse::<PrefixName>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", ".x", "a b", "a/b", "a$b", "a\nb", "demo.raw", "ä", "a'b"] {
            assert!(bad.parse::<PrefixName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(65).parse::<PrefixName>().is_err());
    }

    #[test]
    fn eprefixes() {
        let parse = |text: &str| text.parse::<Eprefix>();
        assert_eq!(parse("/usr/local//demo/").unwrap().as_str(), "/usr/local/demo");
        assert!(parse("/srv/demo").unwrap().sysext_obstacle().is_some());
        assert!(parse("/opt/demo").unwrap().sysext_obstacle().is_none());
        for bad in ["", "demo", "/", "//", "/usr", "/usr/", "/opt", "/usr/local", "/usr/../opt/x"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["/opt/a b", "/opt/$x", "/opt/a:b", "/opt/a\n", "/proc/x", "/opt/ü", "/opt/a'"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&format!("/opt/{}", "x".repeat(EPREFIX_MAX))).is_err());
    }

    #[test]
    fn use_flags() {
        let parse = |text: &str| text.parse::<UseFlags>();
        assert_eq!(
            parse(" -nls\n ssl  -* python_targets_python3_11 +a@b").unwrap().as_str(),
            "-nls ssl -* python_targets_python3_11 +a@b"
        );
        for bad in ["-", "a$b", "\"", "--a", "a;b", "ü", "*"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn repo_arguments() {
        let repo: RepoArgument = "gentoo=/a b".parse().unwrap();
        assert_eq!((repo.name.as_str(), repo.path.to_str()), ("gentoo", Some("/a b")));
        assert!("gentoo".parse::<RepoArgument>().is_err());
        let place = |text: &str| text.parse::<RepoPlace>().unwrap();
        assert_eq!(place("gentoo=/a").name.as_deref(), Some("gentoo"));
        assert_eq!(place("./gentoo=/a"), RepoPlace { name: None, path: "./gentoo=/a".into() });
        assert!("a b=/x".parse::<RepoArgument>().is_err());
    }
}
