//! Compressors of images, and their levels.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

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

const NAMES: &[(&str, Compressor)] = &[
    ("zstd", Compressor::Zstd),
    ("xz", Compressor::Xz),
    ("gzip", Compressor::Gzip),
    ("lz4", Compressor::Lz4),
    ("lz4hc", Compressor::Lz4hc),
    ("none", Compressor::None),
];

impl Compressor {
    /// Returns the compressor `name`, or `None` if there is none.
    pub(crate) fn find(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, compressor)| *compressor)
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, known)| known == self).map_or("", |(name, _)| name))
    }
}

/// Levels that the tool of a format accepts for a compressor; `None` if it accepts none.
pub(crate) type Levels = Option<RangeInclusive<u32>>;

/// Compression of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compression {
    /// Compressor, one of those that the format supports.
    pub compressor: Compressor,
    /// Level, or `None` for the default.
    pub level: Option<u32>,
}
