//! Kinds of image that systemd attaches.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::{Deserialize, Serialize};

/// Kind of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FormatKind {
    /// squashfs: every kernel that attaches extensions can mount it.
    Squashfs,
    /// erofs in a form that Linux 5.10 and newer can mount.
    Erofs,
    /// erofs in its smallest form, which Linux 6.1 and newer can mount.
    ErofsTight,
    /// Disk image with a squashfs and the hashes with which kernels verify it.
    Ddi,
    /// btrfs with a read-only top-level subvolume.
    Btrfs,
    /// ext4 without a journal.
    Ext4,
    /// Directory, which systemd attaches as it is.
    Directory,
    /// Tar archive, for other tools.
    Tar,
}

/// Compression algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compressor {
    /// zstd.
    Zstd,
    /// xz.
    Xz,
    /// gzip.
    Gzip,
    /// lz4; in squashfs always in its high compression form.
    Lz4,
    /// lz4 in its high compression form, which is read just as fast.
    Lz4hc,
    /// No compression, for images on a filesystem that compresses.
    None,
}

/// Kind of an image and its compression. As text: `FORMAT[:COMPRESSOR[:LEVEL]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Format {
    kind: FormatKind,
    compressor: Compressor,
    level: Option<u32>,
}

const KINDS: &[(&str, FormatKind)] = &[
    ("squashfs", FormatKind::Squashfs),
    ("erofs", FormatKind::Erofs),
    ("erofs-tight", FormatKind::ErofsTight),
    ("ddi", FormatKind::Ddi),
    ("btrfs", FormatKind::Btrfs),
    ("ext4", FormatKind::Ext4),
    ("directory", FormatKind::Directory),
    ("tar", FormatKind::Tar),
];

const COMPRESSORS: &[(&str, Compressor)] = &[
    ("zstd", Compressor::Zstd),
    ("xz", Compressor::Xz),
    ("gzip", Compressor::Gzip),
    ("lz4", Compressor::Lz4),
    ("lz4hc", Compressor::Lz4hc),
    ("none", Compressor::None),
];

impl FormatKind {
    /// Returns the supported compressors, the default first.
    fn compressors(self) -> &'static [Compressor] {
        use Compressor::{Gzip, Lz4, Lz4hc, None, Xz, Zstd};
        match self {
            Self::Squashfs | Self::Ddi => &[Zstd, Lz4, Xz, Gzip, None],
            // zstd needs Linux 6.10 and erofs-utils 1.8.
            Self::Erofs => &[Lz4hc, Lz4, Zstd, None],
            Self::ErofsTight => &[Lz4hc, Lz4, Zstd],
            Self::Btrfs => &[Zstd, None],
            Self::Ext4 | Self::Directory | Self::Tar => &[None],
        }
    }

    /// Returns the levels that the format's tool accepts for `compressor`; `None` if it accepts
    /// none.
    fn levels(self, compressor: Compressor) -> Option<std::ops::RangeInclusive<u32>> {
        match (self, compressor) {
            (Self::Squashfs | Self::Ddi, Compressor::Zstd) => Some(1..=22),
            (Self::Btrfs, Compressor::Zstd) => Some(1..=15),
            (Self::Squashfs | Self::Ddi, Compressor::Gzip) => Some(1..=9),
            (Self::Erofs | Self::ErofsTight, Compressor::Lz4hc) => Some(0..=12),
            (Self::Erofs | Self::ErofsTight, Compressor::Zstd) => Some(0..=22),
            _ => None,
        }
    }
}

impl Format {
    /// Returns the kind of image.
    pub(crate) fn kind(&self) -> FormatKind {
        self.kind
    }

    /// Returns the name of the format without its compression.
    pub(crate) fn name(&self) -> &'static str {
        name_of(KINDS, self.kind)
    }

    /// Returns whether an image of this format can be signed.
    pub(crate) fn can_be_signed(&self) -> bool {
        self.kind == FormatKind::Ddi
    }

    /// Returns the compressor.
    pub(crate) fn compressor(&self) -> Compressor {
        self.compressor
    }

    /// Returns the compression level, or `None` for the default.
    pub(crate) fn level(&self) -> Option<u32> {
        self.level
    }

    /// Returns the suffix of the file name.
    pub(crate) fn suffix(&self) -> &'static str {
        match self.kind {
            FormatKind::Squashfs
            | FormatKind::Erofs
            | FormatKind::ErofsTight
            | FormatKind::Ddi
            | FormatKind::Btrfs
            | FormatKind::Ext4 => ".raw",
            FormatKind::Directory => "",
            FormatKind::Tar => ".tar",
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let Some(kind) = find(KINDS, name) else {
            bail!("there is no format {name:?}; there are {}", list(KINDS.iter().map(|k| k.0)));
        };
        let known = kind.compressors();
        let compressor = match parts.next() {
            None => known.first().copied().unwrap_or(Compressor::None),
            Some(wanted) => match find(COMPRESSORS, wanted).filter(|c| known.contains(c)) {
                Some(compressor) => compressor,
                None => {
                    bail!("{kind} cannot be compressed with {wanted:?}, but with {}", list(known))
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

fn parse_level(kind: FormatKind, compressor: Compressor, text: &str) -> Result<u32> {
    let Some(levels) = kind.levels(compressor) else {
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

impl fmt::Display for FormatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(KINDS, *self))
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name_of(COMPRESSORS, *self))
    }
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

fn name_of<T: Copy + PartialEq>(table: &'static [(&'static str, T)], value: T) -> &'static str {
    table.iter().find(|(_, known)| *known == value).map_or("", |(name, _)| name)
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
