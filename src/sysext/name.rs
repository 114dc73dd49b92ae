//! Names of the files of an extension.
//!
//! systemd uses the part before `.raw` as the extension's name. It requires an extension-release
//! file of exactly that name in the image. One image with another name keeps *every* extension of a
//! machine from being attached. So a version is never part of the name that is attached: the
//! versioned file has a link without the version beside it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};

use crate::base::names::PrefixName;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;

/// Version of an extension, which is part of a file name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version(String);

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
        if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
            bail!(
                "the version {text:?} has to be letters, digits and . _ + ~ ^ - up to 64, since \
                 it becomes part of a file name"
            );
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            bail!("the version {text:?} has to begin with a letter or a digit");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Parts of the name of an extension.
#[derive(Clone, Debug)]
pub(crate) struct Naming {
    /// Name under which it is attached.
    pub name: PrefixName,
    /// Its version.
    pub version: Option<Version>,
    /// Architecture of the machines that it is for.
    pub architecture: Option<Architecture>,
}

/// Names of the output in one format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileNames {
    /// Name of the file or directory itself.
    pub file: String,
    /// Name of the link under which it can be attached; `None` if there is no link.
    pub link: Option<String>,
}

impl Naming {
    /// Returns the file name without its suffix: `NAME-VERSION-ARCH`, or `NAME` if there is no
    /// version.
    pub(crate) fn stem(&self) -> String {
        let mut stem = self.name.to_string();
        if let Some(version) = &self.version {
            stem += &format!("-{version}");
            if let Some(architecture) = self.architecture {
                stem += &format!("-{architecture}");
            }
        }
        stem
    }

    /// Returns the names in each of `formats`. If several of them make a `.raw` file, the format is
    /// part of the file name, and the first one gets the link.
    pub(crate) fn files(&self, formats: &[Format]) -> Vec<FileNames> {
        let several = formats.iter().filter(|format| format.suffix() == ".raw").count() > 1;
        let mut taken = Vec::new();
        formats
            .iter()
            .map(|format| {
                let suffix = format.suffix();
                let attached = format!("{}{suffix}", self.name);
                let kind = if several && suffix == ".raw" {
                    format!(".{}", format.name())
                } else {
                    String::new()
                };
                let file = format!("{}{kind}{suffix}", self.stem());
                let first = !taken.contains(&suffix);
                taken.push(suffix);
                let link = (first && file != attached).then_some(attached);
                FileNames { file, link }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(version: Option<&str>) -> Naming {
        Naming {
            name: "demo".parse().unwrap(),
            version: version.map(|version| version.parse().unwrap()),
            architecture: Some(Architecture::X86_64),
        }
    }

    #[test]
    fn what_gets_attached_has_no_version() {
        let squashfs = ["squashfs".parse().unwrap()];
        let names = |file: &str, link: Option<&str>| {
            vec![FileNames { file: file.into(), link: link.map(Into::into) }]
        };
        assert_eq!(naming(None).files(&squashfs), names("demo.raw", None));
        assert_eq!(
            naming(Some("1.0")).files(&squashfs),
            names("demo-1.0-x86-64.raw", Some("demo.raw"))
        );
    }

    #[test]
    fn versions() {
        for good in ["1", "1.0.2_p3-r1", "2024a", "1+git~3"] {
            assert!(good.parse::<Version>().is_ok(), "{good}");
        }
        for bad in ["", "-1", "../1", "1/2", "1 2", "1\n", "ä"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
