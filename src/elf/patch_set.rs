//! A set of writes to a file, in which later ones cover earlier ones, and its difference from the
//! file.

use std::collections::BTreeMap;

use crate::elf::Error;
use crate::elf::codec::slice;
use crate::elf::edit::Patch;

/// Number of equal bytes between two differences that justifies two writes instead of one. A system
/// call costs about as much as copying some hundred bytes.
const WORTH_SPLITTING: usize = 512;
/// Number of bytes that are compared at once.
const BLOCK: usize = 64;

/// Bytes by offset. No two entries overlap.
#[derive(Debug, Default)]
pub(crate) struct PatchSet {
    writes: BTreeMap<u64, Vec<u8>>,
}

/// Differences from the file: inside it, and behind its end.
#[derive(Debug, Default)]
pub(crate) struct PatchDiff {
    pub patches: Vec<Patch>,
    pub appended: Vec<u8>,
}

impl PatchSet {
    /// Puts bytes at an offset, over all bytes put there before. Fails if no file can have that
    /// offset.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let too_large = Error::TooLarge { value: offset };
        let end = offset.checked_add(bytes.len() as u64).ok_or(too_large)?;
        if let Some((&start, write)) = self.writes.range_mut(..=offset).next_back() {
            let at = usize::try_from(offset - start).unwrap_or(usize::MAX);
            if start + write.len() as u64 >= end {
                // The bytes are inside one earlier write: the common case of fields in moved
                // tables.
                if let Some(old) = write.get_mut(at..at + bytes.len()) {
                    old.copy_from_slice(bytes);
                }
                return Ok(());
            }
            write.truncate(at);
        }
        let covered: Vec<u64> = self.writes.range(offset..end).map(|(&start, _)| start).collect();
        for start in covered {
            let Some(old) = self.writes.remove(&start) else { continue };
            let overlap = usize::try_from(end - start).unwrap_or(usize::MAX);
            if let Some(rest) = old.get(overlap..).filter(|rest| !rest.is_empty()) {
                self.writes.insert(end, rest.to_vec());
            }
        }
        self.writes.insert(offset, bytes.to_vec());
        Ok(())
    }

    /// Returns the bytes that differ from the file, by offset.
    pub(super) fn diff_from(self, file: &[u8]) -> PatchDiff {
        let mut diff = PatchDiff::default();
        let file_end = file.len() as u64;
        for (offset, bytes) in self.writes {
            let inside = file_end.saturating_sub(offset).min(bytes.len() as u64);
            let (inner, outer) = bytes.split_at(usize::try_from(inside).unwrap_or(bytes.len()));
            let old = slice(file, offset, inside).unwrap_or_default();
            for (start, end) in find_differences(old, inner) {
                let bytes = inner.get(start..end).unwrap_or_default();
                append_patch(&mut diff.patches, file, offset + start as u64, bytes);
            }
            if !outer.is_empty() {
                let at = usize::try_from(offset.max(file_end) - file_end).unwrap_or(usize::MAX);
                let end = at.saturating_add(outer.len());
                diff.appended.resize(diff.appended.len().max(end), 0);
                if let Some(place) = diff.appended.get_mut(at..end) {
                    place.copy_from_slice(outer);
                }
            }
        }
        diff
    }
}

/// Returns the ranges in which two slices of one length differ, with near ranges joined. Blocks are
/// compared, because most of a moved table differs.
fn find_differences(old: &[u8], new: &[u8]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let blocks = old.chunks(BLOCK).zip(new.chunks(BLOCK)).enumerate();
    for (number, (old, new)) in blocks.filter(|(_, (old, new))| old != new) {
        let unequal = || old.iter().zip(new).map(|(old, new)| old != new);
        let first = unequal().position(|unequal| unequal).unwrap_or(0);
        let last = unequal().rposition(|unequal| unequal).unwrap_or(0);
        let (start, last) = (number * BLOCK + first, number * BLOCK + last);
        match ranges.last_mut() {
            Some((_, end)) if start - *end < WORTH_SPLITTING => *end = last + 1,
            _ => ranges.push((start, last + 1)),
        }
    }
    ranges
}

/// Adds a patch behind the others, and joins it to the last one if that is near.
fn append_patch(patches: &mut Vec<Patch>, file: &[u8], offset: u64, bytes: &[u8]) {
    let last = patches.last_mut().and_then(|last| {
        let end = last.offset + last.bytes.len() as u64;
        let between = slice(file, end, offset.checked_sub(end)?)?;
        (between.len() < WORTH_SPLITTING).then_some((last, between))
    });
    match last {
        Some((last, between)) => {
            last.bytes.extend_from_slice(between);
            last.bytes.extend_from_slice(bytes);
        }
        None => patches.push(Patch { offset, bytes: bytes.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_writes(writes: &[(u64, &[u8])], file: &[u8]) -> (Vec<(u64, Vec<u8>)>, Vec<u8>) {
        let mut patches = PatchSet::default();
        for (offset, bytes) in writes {
            patches.put(*offset, bytes).unwrap();
        }
        let diff = patches.diff_from(file);
        let patches = diff.patches.into_iter();
        (patches.map(|patch| (patch.offset, patch.bytes)).collect(), diff.appended)
    }

    #[test]
    fn later_writes_cover_earlier_ones() {
        let file = [0; 8];
        let writes: [(u64, &[u8]); 4] = [(0, &[1; 4]), (2, &[2; 4]), (1, &[3]), (4, &[4; 1])];
        assert_eq!(apply_writes(&writes, &file).0, [(0, vec![1, 3, 2, 2, 4, 2])]);
        let writes: [(u64, &[u8]); 3] = [(1, &[1; 2]), (4, &[2; 3]), (0, &[3; 5])];
        assert_eq!(apply_writes(&writes, &file).0, [(0, vec![3, 3, 3, 3, 3, 2, 2])]);
    }

    #[test]
    fn only_differences_are_written_and_the_rest_is_a_tail() {
        let mut file = vec![7; 2000];
        file[0] = 1;
        let mut new = vec![7; 2000];
        new[1500] = 2;
        new.extend([5, 6]);
        let writes: [(u64, &[u8]); 2] = [(0, &new), (2004, &[9])];
        let (patches, appended) = apply_writes(&writes, &file);
        assert_eq!(patches, [(0, vec![7]), (1500, vec![2])]);
        assert_eq!(appended, [5, 6, 0, 0, 9]);
        assert_eq!(apply_writes(&[(0, &file)], &file), (vec![], vec![]));
    }
}
