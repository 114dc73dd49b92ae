//! Paths in data: the new path takes the place of the old one with slashes up to the same length, in
//! each encoding in which programs have paths.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::Result;

use crate::base::escape::Escape;
use crate::elf::Patch;
use crate::relocate::prefix_change::text::is_name;

/// The sizes of a character in bytes, and the order of the bytes where it matters.
const ENCODINGS: [(usize, bool); 5] = [(1, false), (2, false), (2, true), (4, false), (4, true)];

/// Longest quotation of a path.
const QUOTED: usize = 200;

/// One encoding of the old path and of what takes its place.
#[derive(Clone, Debug)]
struct Spelling {
    /// Number of bytes of a character.
    width: usize,
    is_big_endian: bool,
    new: Vec<u8>,
}

/// Finds the old path in data.
#[derive(Clone, Debug)]
pub(super) struct DataReplacer {
    finder: AhoCorasick,
    spellings: Vec<Spelling>,
}

impl DataReplacer {
    /// A replacer of `from` by `to`, which is not longer.
    ///
    /// # Errors
    ///
    /// Fails if the search cannot be prepared.
    pub(super) fn new(from: &str, to: &str) -> Result<Self> {
        let padded = format!("{to}{}", "/".repeat(from.len().saturating_sub(to.len())));
        let encode = |text: &str, width: usize, is_big_endian| -> Vec<u8> {
            text.bytes().flat_map(|byte| character(byte, width, is_big_endian)).collect()
        };
        let old = ENCODINGS.map(|(width, big)| encode(from, width, big));
        let spellings = ENCODINGS.map(|(width, is_big_endian)| Spelling {
            width,
            is_big_endian,
            new: encode(&padded, width, is_big_endian),
        });
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(old)?;
        Ok(Self { finder, spellings: spellings.into() })
    }

    /// Returns the changes to `bytes`, of which only `extents` are data.
    pub(super) fn patches(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> Vec<Patch> {
        let found = extents.flat_map(|extent| self.find_in(bytes, extent));
        found
            .map(|(at, spelling)| Patch { offset: at as u64, bytes: spelling.new.clone() })
            .collect()
    }

    /// Returns the first place that names the old path, for people.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<String> {
        let (at, spelling) = self.find_in(bytes, 0..bytes.len() as u64).next()?;
        let characters = bytes[at..].chunks_exact(spelling.width);
        let text = characters.map_while(|unit| spelling.decode(unit)).take(QUOTED);
        let is_part = |byte: &u8| byte.is_ascii_graphic() && !b"\"':;,<>()".contains(byte);
        let path: Vec<u8> = text.take_while(is_part).collect();
        Some(path.escaped().to_string())
    }

    fn find_in<'a>(
        &'a self,
        bytes: &'a [u8],
        extent: Range<u64>,
    ) -> impl Iterator<Item = (usize, &'a Spelling)> {
        let [start, end] = [extent.start, extent.end]
            .map(|at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len()));
        let found = self.finder.find_iter(&bytes[start..end]);
        found.filter_map(move |found| {
            let spelling = self.spellings.get(found.pattern().as_usize())?;
            let at = start + found.start();
            spelling.is_whole(bytes, at).then_some((at, spelling))
        })
    }
}

fn character(byte: u8, width: usize, is_big_endian: bool) -> Vec<u8> {
    let mut unit = vec![0; width];
    unit[if is_big_endian { width - 1 } else { 0 }] = byte;
    unit
}

impl Spelling {
    /// Returns the character of `unit`, if it is one of ASCII.
    fn decode(&self, unit: &[u8]) -> Option<u8> {
        let (byte, rest) =
            if self.is_big_endian { unit.split_last()? } else { unit.split_first()? };
        (byte.is_ascii() && rest.iter().all(|byte| *byte == 0)).then_some(*byte)
    }

    /// Returns whether the last name of the path at `at` ends with it. In a string whose length is
    /// written before it, anything may follow, as in compiled Python.
    fn is_whole(&self, bytes: &[u8], at: usize) -> bool {
        let after = bytes[at + self.new.len()..].chunks_exact(self.width);
        let mut after = after.map(|unit| self.decode(unit));
        let goes_on = match after.next().flatten() {
            Some(b'.') => after.next().flatten().is_some_and(is_name),
            Some(next) => is_name(next),
            None => false,
        };
        !goes_on || self.has_length(&bytes[..at])
    }

    /// Returns whether `before` ends with the length of the path: in bytes or characters, as one byte
    /// or as a number of two or four.
    fn has_length(&self, before: &[u8]) -> bool {
        let lengths = [self.new.len(), self.new.len() / self.width];
        lengths.iter().filter_map(|length| u32::try_from(*length).ok()).any(|length| {
            let [a, b, _, _] = length.to_le_bytes();
            (b == 0 && before.ends_with(&[a]))
                || before.ends_with(&[a, b])
                || before.ends_with(&length.to_le_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use proptest::prelude::*;

    fn replacer() -> &'static DataReplacer {
        static REPLACER: LazyLock<DataReplacer> =
            LazyLock::new(|| DataReplacer::new("/opt/old-prefix", "/o").unwrap());
        &REPLACER
    }

    fn replace(bytes: &[u8]) -> Vec<u8> {
        let mut new = bytes.to_vec();
        for patch in replacer().patches(bytes, std::iter::once(0..bytes.len() as u64)) {
            let at = usize::try_from(patch.offset).unwrap();
            new[at..at + patch.bytes.len()].copy_from_slice(&patch.bytes);
        }
        new
    }

    #[test]
    fn slashes_keep_the_length() {
        assert_eq!(replace(b"\0/opt/old-prefix/lib\0"), b"\0/o//////////////lib\0");
        assert_eq!(
            replace(b"x/opt/old-prefix:/opt/old-prefix\0"),
            b"x/o/////////////:/o/////////////\0"
        );
        for other in ["/opt/old-prefix2\0", "/opt/old-prefix.so\0", "/opt/old-prefi\0"] {
            assert_eq!(replace(other.as_bytes()), other.as_bytes());
        }
        // Python writes the length of a string, and goes on with the kind of the next object.
        assert_eq!(replace(b"z\x0f/opt/old-prefixz"), b"z\x0f/o/////////////z");
        assert_eq!(replace(b"s\x0f\0\0\0/opt/old-prefixr"), b"s\x0f\0\0\0/o/////////////r");
    }

    #[test]
    fn wide_characters() {
        for (width, big) in ENCODINGS {
            let encode = |text: &str| -> Vec<u8> {
                text.bytes().flat_map(|byte| character(byte, width, big)).collect()
            };
            let new = replace(&encode("a/opt/old-prefix/b\0/opt/old-prefix2"));
            assert_eq!(new, encode("a/o//////////////b\0/opt/old-prefix2"), "{width} {big}");
            let found = replacer().find(&encode("a/opt/old-prefix/b c"));
            assert_eq!(found.as_deref(), Some("/opt/old-prefix/b"));
        }
    }

    proptest! {
        #[test]
        fn nothing_else_changes(
            parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0usize..5), 0..12),
        ) {
            let mut bytes = Vec::new();
            for (noise, encoding) in &parts {
                bytes.extend_from_slice(noise);
                let (width, big) = ENCODINGS[*encoding];
                for byte in "/opt/old-prefix/".bytes() {
                    bytes.extend(character(byte, width, big));
                }
            }
            let new = replace(&bytes);
            prop_assert_eq!(new.len(), bytes.len());
            prop_assert_eq!(replacer().find(&new), None);
            prop_assert_eq!(replace(&new), new.clone(), "twice is once");
            // Every byte that differs is one of a path.
            let back = String::from_utf8_lossy(&new).matches("/o//////////////").count();
            prop_assert!(back >= parts.iter().filter(|(_, encoding)| *encoding == 0).count());
        }
    }
}
