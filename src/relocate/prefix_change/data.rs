//! Paths in data: the new path takes the place of the old one with slashes up to the same length, in
//! each encoding in which programs have paths.
//!
//! Nothing ends a string in the data of Rust, Go or Pascal: the next one begins there. So a path that
//! nothing else begins with is replaced wherever it stands. Any other may be the beginning of a longer
//! name where one goes on behind it, which is left as it is, and told.

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use anyhow::Result;

use crate::relocate::SharedPatch;
use crate::relocate::prefix_change::text::{self, is_name};

/// The sizes of a character in bytes, and the order of the bytes where it matters.
const ENCODINGS: [(usize, bool); 5] = [(1, false), (2, false), (2, true), (4, false), (4, true)];

/// One encoding of the old path and of what takes its place.
#[derive(Clone, Debug)]
struct Spelling {
    /// Number of bytes of a character.
    width: usize,
    is_big_endian: bool,
    new: Arc<[u8]>,
}

/// Finds the old path in data.
#[derive(Clone, Debug)]
pub(super) struct DataReplacer {
    finder: AhoCorasick,
    spellings: Vec<Spelling>,
    /// True if nothing else begins with the old path.
    is_unique: bool,
}

/// Place in data at which the bytes of the old path are.
struct Occurrence<'a> {
    at: usize,
    spelling: &'a Spelling,
    /// False if a name goes on behind it, and nothing says that it ends there.
    is_certain: bool,
}

/// Changes to data, and what is left of the old path.
#[derive(Debug, Default)]
pub(super) struct DataPatches {
    pub patches: Vec<SharedPatch>,
    /// The first name that begins like the old path and goes on.
    pub doubtful: Option<String>,
}

impl DataReplacer {
    /// A replacer of `from` by `to`, which is not longer. A path that `is_unique` is replaced wherever
    /// it stands.
    ///
    /// # Errors
    ///
    /// Fails if the search cannot be prepared.
    pub(super) fn new(from: &str, to: &str, is_unique: bool) -> Result<Self> {
        let padded = format!("{to}{}", "/".repeat(from.len().saturating_sub(to.len())));
        let encode = |text: &str, width: usize, is_big_endian| -> Vec<u8> {
            text.bytes().flat_map(|byte| character(byte, width, is_big_endian)).collect()
        };
        let old = ENCODINGS.map(|(width, big)| encode(from, width, big));
        let spellings = ENCODINGS.map(|(width, is_big_endian)| Spelling {
            width,
            is_big_endian,
            new: encode(&padded, width, is_big_endian).into(),
        });
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(old)?;
        Ok(Self { finder, spellings: spellings.into(), is_unique })
    }

    /// Returns the changes to `bytes`, of which only `extents` are data.
    pub(super) fn plan(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> DataPatches {
        let mut plan = DataPatches::default();
        for found in extents.flat_map(|extent| self.find_in(bytes, extent)) {
            if found.is_certain {
                let bytes = Arc::clone(&found.spelling.new);
                plan.patches.push(SharedPatch { offset: found.at as u64, bytes });
            } else if plan.doubtful.is_none() {
                plan.doubtful = Some(found.quote(bytes));
            }
        }
        plan
    }

    /// Returns the changes to a text of which nothing may move, with the old path at `places`.
    pub(super) fn plan_text(&self, places: impl Iterator<Item = usize>) -> Vec<SharedPatch> {
        let Some(ascii) = self.spellings.first() else { return Vec::new() };
        places.map(|at| SharedPatch { offset: at as u64, bytes: Arc::clone(&ascii.new) }).collect()
    }

    /// Returns the first place that names the old path, for people; and the first of which that is
    /// in doubt, if none does for certain.
    pub(super) fn find(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> (Option<String>, Option<String>) {
        let mut doubtful = None;
        for found in extents.flat_map(|extent| self.find_in(bytes, extent)) {
            if found.is_certain {
                return (Some(found.quote(bytes)), None);
            }
            doubtful.get_or_insert_with(|| found.quote(bytes));
        }
        (None, doubtful)
    }

    fn find_in<'a>(
        &'a self,
        bytes: &'a [u8],
        extent: Range<u64>,
    ) -> impl Iterator<Item = Occurrence<'a>> {
        let [start, end] = [extent.start, extent.end]
            .map(|at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len()));
        let found = self.finder.find_iter(&bytes[start..end]);
        found.filter_map(move |found| {
            let spelling = self.spellings.get(found.pattern().as_usize())?;
            let at = start + found.start();
            let is_certain = self.is_unique || spelling.is_whole(bytes, at);
            Some(Occurrence { at, spelling, is_certain })
        })
    }
}

impl Occurrence<'_> {
    /// Returns the path, for people.
    fn quote(&self, bytes: &[u8]) -> String {
        let characters = bytes[self.at..].chunks_exact(self.spelling.width);
        text::quote(characters.map_while(|unit| self.spelling.decode(unit)))
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
            LazyLock::new(|| DataReplacer::new("/opt/old-prefix", "/o", false).unwrap());
        &REPLACER
    }

    fn all(bytes: &[u8]) -> std::iter::Once<Range<u64>> {
        std::iter::once(0..bytes.len() as u64)
    }

    fn replace(bytes: &[u8]) -> Vec<u8> {
        SharedPatch::apply_all(bytes, &replacer().plan(bytes, all(bytes)).patches)
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
            let bytes = encode("a/opt/old-prefix/b c");
            let (found, _) = replacer().find(&bytes, all(&bytes));
            assert_eq!(found.as_deref(), Some("/opt/old-prefix/b"));
        }
    }

    #[test]
    fn a_name_that_goes_on_is_in_doubt() {
        let bytes = b"\0/opt/old-prefixfoo\0/opt/old-prefix2\0";
        assert_eq!(replace(bytes), bytes);
        let plan = replacer().plan(bytes, all(bytes));
        assert_eq!(plan.doubtful.as_deref(), Some("/opt/old-prefixfoo"));
        let found = replacer().find(bytes, all(bytes));
        assert_eq!(found, (None, Some("/opt/old-prefixfoo".to_owned())));
    }

    #[test]
    fn a_path_that_nothing_else_begins_with_needs_no_end() {
        let unique = DataReplacer::new("/opt/old-prefix", "/o", true).unwrap();
        for (width, big) in ENCODINGS {
            let encode = |text: &str| -> Vec<u8> {
                text.bytes().flat_map(|byte| character(byte, width, big)).collect()
            };
            // Strings without an end, side by side as Rust and Go have them.
            let bytes = encode("name/opt/old-prefixfoo/opt/old-prefix.so/opt/old-prefix/x");
            let plan = unique.plan(&bytes, all(&bytes));
            let new = SharedPatch::apply_all(&bytes, &plan.patches);
            assert_eq!(
                new,
                encode("name/o/////////////foo/o/////////////.so/o//////////////x"),
                "{width} {big}"
            );
            assert_eq!(plan.doubtful, None);
            let first = &plan.patches[0].bytes;
            assert!(plan.patches.iter().all(|patch| Arc::ptr_eq(&patch.bytes, first)), "shared");
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
            prop_assert_eq!(replacer().find(&new, all(&new)).0, None);
            prop_assert_eq!(replace(&new), new.clone(), "twice is once");
            // Every byte that differs is one of a path.
            let back = String::from_utf8_lossy(&new).matches("/o//////////////").count();
            prop_assert!(back >= parts.iter().filter(|(_, encoding)| *encoding == 0).count());
        }
    }
}
