//! A set of writes to a file, in which later ones cover earlier ones, and its difference from the
//! file.

use std::collections::BTreeMap;

use crate::elf::edit::Patch;
use crate::elf::raw::slice;

/// Number of equal bytes between two differences that justifies two writes instead of one. A system
/// call costs about as much as copying some hundred bytes.
const WORTH_SPLITTING: usize = 512;
/// Number of bytes that are compared at once.
const BLOCK: usize = 64;

/// Bytes by offset. No two entries overlap.
#[derive(Debug, Default)]
pub(crate) struct PatchSet {
    strokes: BTreeMap<u64, Vec<u8>>,
}

/// Differences from the file: inside it, and behind its end.
#[derive(Debug, Default)]
pub(crate) struct PatchDiff {
    pub patches: Vec<Patch>,
    pub tail: Vec<u8>,
}

impl PatchSet {
    /// Puts bytes at an offset, over all bytes painted there before.
    pub(super) fn paint(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let end = offset.checked_add(bytes.len() as u64)?;
        if let Some((&start, stroke)) = self.strokes.range_mut(..=offset).next_back() {
            let at = usize::try_from(offset - start).ok()?;
            if start + stroke.len() as u64 >= end {
                // The write is inside one stroke: the common case of fields in moved tables.
                stroke.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
                return Some(());
            }
            stroke.truncate(at);
        }
        let covered: Vec<u64> = self.strokes.range(offset..end).map(|(&start, _)| start).collect();
        for start in covered {
            let old = self.strokes.remove(&start)?;
            let overlap = usize::try_from(end - start).ok()?;
            if let Some(rest) = old.get(overlap..).filter(|rest| !rest.is_empty()) {
                self.strokes.insert(end, rest.to_vec());
            }
        }
        self.strokes.insert(offset, bytes.to_vec());
        Some(())
    }

    /// Returns the bytes that differ from the file, by offset.
    pub(super) fn settle(self, file: &[u8]) -> Option<PatchDiff> {
        let mut settled = PatchDiff::default();
        for (offset, bytes) in self.strokes {
            let start = usize::try_from(offset).ok()?;
            let inside = file.len().saturating_sub(start).min(bytes.len());
            let (inner, outer) = bytes.split_at_checked(inside)?;
            let old = file.get(start.min(file.len())..)?.get(..inside)?;
            for (start, end) in differences(old, inner) {
                let bytes = inner.get(start..end)?;
                join(&mut settled.patches, file, offset + start as u64, bytes);
            }
            if !outer.is_empty() {
                let at = (start + inside).checked_sub(file.len())?;
                let end = at.checked_add(outer.len())?;
                settled.tail.resize(settled.tail.len().max(end), 0);
                settled.tail.get_mut(at..end)?.copy_from_slice(outer);
            }
        }
        Some(settled)
    }
}

/// Returns the ranges in which two slices of one length differ, with near ranges joined. Blocks are
/// compared, because most of a moved table differs.
fn differences(old: &[u8], new: &[u8]) -> Vec<(usize, usize)> {
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
fn join(patches: &mut Vec<Patch>, file: &[u8], offset: u64, bytes: &[u8]) {
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

    fn settle(strokes: &[(u64, &[u8])], file: &[u8]) -> (Vec<(u64, Vec<u8>)>, Vec<u8>) {
        let mut canvas = PatchSet::default();
        for (offset, bytes) in strokes {
            canvas.paint(*offset, bytes).unwrap();
        }
        let settled = canvas.settle(file).unwrap();
        let patches = settled.patches.into_iter();
        (patches.map(|patch| (patch.offset, patch.bytes)).collect(), settled.tail)
    }

    #[test]
    fn later_strokes_cover_earlier_ones() {
        let file = [0; 8];
        let strokes: [(u64, &[u8]); 4] = [(0, &[1; 4]), (2, &[2; 4]), (1, &[3]), (4, &[4; 1])];
        assert_eq!(settle(&strokes, &file).0, [(0, vec![1, 3, 2, 2, 4, 2])]);
        let strokes: [(u64, &[u8]); 3] = [(1, &[1; 2]), (4, &[2; 3]), (0, &[3; 5])];
        assert_eq!(settle(&strokes, &file).0, [(0, vec![3, 3, 3, 3, 3, 2, 2])]);
    }

    #[test]
    fn only_differences_are_written_and_the_rest_is_a_tail() {
        let mut file = vec![7; 2000];
        file[0] = 1;
        let mut new = vec![7; 2000];
        new[1500] = 2;
        new.extend([5, 6]);
        let strokes: [(u64, &[u8]); 2] = [(0, &new), (2004, &[9])];
        let (patches, tail) = settle(&strokes, &file);
        assert_eq!(patches, [(0, vec![7]), (1500, vec![2])]);
        assert_eq!(tail, [5, 6, 0, 0, 9]);
        assert_eq!(settle(&[(0, &file)], &file), (vec![], vec![]));
    }
}
