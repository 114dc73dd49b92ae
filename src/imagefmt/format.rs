//! Choice of an image format and its compression.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;

use crate::imagefmt::compression::{Compression, Compressor};
use crate::imagefmt::image_format::{ImageFormat, KernelNeed};
use crate::imagefmt::registry;

/// Format of an image and its compression. As text: `FORMAT[:COMPRESSOR[:LEVEL]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Format {
    kind: &'static dyn ImageFormat,
    compressor: Compressor,
    level: Option<u32>,
}

impl Format {
    /// Returns the format of an image of somebody else, whose compression counts for nothing.
    pub(crate) fn of_image(kind: &'static dyn ImageFormat) -> Self {
        Self { kind, compressor: Compressor::None, level: None }
    }

    /// Returns the format without its compression.
    pub(crate) fn kind(&self) -> &'static dyn ImageFormat {
        self.kind
    }

    /// Returns the name of the format without its compression.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns whether an image of this format can be signed.
    pub(crate) fn can_be_signed(&self) -> bool {
        self.kind.can_be_signed()
    }

    /// Returns the compression.
    pub(crate) fn compression(&self) -> Compression {
        Compression { compressor: self.compressor, level: self.level }
    }

    /// Returns the first kernel that mounts an image of this format; `None` if every kernel that
    /// attaches extensions does.
    pub(crate) fn kernel(&self, signed: bool) -> Option<KernelNeed> {
        self.kind.kernel(self.compressor, signed)
    }

    /// Returns the suffix of the file name.
    pub(crate) fn suffix(&self) -> &'static str {
        self.kind.suffix()
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let Some(kind) = registry::find(name) else {
            bail!("there is no format {name:?}; there are {}", list(registry::FORMATS));
        };
        let known = || kind.compressors().iter().map(|(compressor, _)| *compressor);
        let compressor = match parts.next() {
            None => known().next().unwrap_or(Compressor::None),
            Some(wanted) => match Compressor::find(wanted).filter(|c| known().any(|k| k == *c)) {
                Some(compressor) => compressor,
                None => {
                    bail!("{kind} cannot be compressed with {wanted:?}, but with {}", list(known()))
                }
            },
        };
        let level = parts.next().map(|level| parse_level(kind, compressor, level)).transpose()?;
        if parts.next().is_some() {
            bail!("{text:?} has to be FORMAT[:COMPRESSOR[:LEVEL]]");
        }
        Ok(Self { kind, compressor, level })
    }
}

fn parse_level(kind: &'static dyn ImageFormat, compressor: Compressor, text: &str) -> Result<u32> {
    let mut known = kind.compressors().iter();
    let Some((_, Some(levels))) = known.find(|(known, _)| *known == compressor) else {
        bail!("{kind} takes no level for {compressor}");
    };
    match text.parse() {
        Ok(level) if levels.contains(&level) => Ok(level),
        _ => bail!(
            "{kind} takes levels from {} to {} for {compressor}, and not {text:?}",
            levels.start(),
            levels.end()
        ),
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.kind.compressors().len() > 1 {
            write!(f, ":{}", self.compressor)?;
        }
        self.level.map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

fn list<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        let text = |text: &str| text.parse::<Format>().map(|format| format.to_string());
        assert_eq!(text("squashfs").unwrap(), "squashfs:zstd");
        assert_eq!(text("squashfs:gzip:9").unwrap(), "squashfs:gzip:9");
        assert_eq!(text("erofs").unwrap(), "erofs:lz4hc");
        assert_eq!(text("erofs-tight:lz4hc:12").unwrap(), "erofs-tight:lz4hc:12");
        for bad in [
            "",
            "zip",
            "tar:zstd",
            "squashfs:lzma",
            "squashfs:zstd:23",
            "squashfs:xz:3",
            "squashfs:::",
        ] {
            assert!(text(bad).is_err(), "{bad}");
        }
    }
}
