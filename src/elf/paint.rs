//! Writes over a file, later ones over earlier ones, and what then differs from the file.

use std::collections::BTreeMap;

use super::edit::Patch;

/// Equal bytes between two differences that are worth two writes instead of one.
const WORTH_SPLITTING: usize = 64;

/// Bytes by offset, none overlapping.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    strokes: BTreeMap<u64, Vec<u8>>,
}

/// What differs: inside the file, and behind its end.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub patches: Vec<Patch>,
    pub tail: Vec<u8>,
}

impl Canvas {
    /// Put bytes at an offset, over whatever was painted there.
    pub fn paint(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let end = offset.checked_add(bytes.len() as u64)?;
        if let Some((&start, stroke)) = self.strokes.range_mut(..=offset).next_back() {
            let at = usize::try_from(offset - start).ok()?;
            if start + stroke.len() as u64 >= end {
                // Inside one stroke: the common case of fields in moved tables.
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

    /// Only what differs from the file, in the order of the offsets.
    pub fn settle(self, file: &[u8]) -> Option<Settled> {
        let mut settled = Settled::default();
        for (offset, bytes) in self.strokes {
            let start = usize::try_from(offset).ok()?;
            let inside = file.len().saturating_sub(start).min(bytes.len());
            let (inner, outer) = bytes.split_at_checked(inside)?;
            let old = file.get(start.min(file.len())..)?.get(..inside)?;
            differences(offset, old, inner, &mut settled.patches);
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

fn differences(offset: u64, old: &[u8], new: &[u8], patches: &mut Vec<Patch>) {
    let mut open: Option<(usize, usize)> = None;
    let mut emit = |(start, end): (usize, usize)| {
        if let Some(bytes) = new.get(start..end) {
            patches.push(Patch { offset: offset + start as u64, bytes: bytes.to_vec() });
        }
    };
    for (at, _) in old.iter().zip(new).enumerate().filter(|(_, (old, new))| old != new) {
        open = match open {
            Some((start, end)) if at - end < WORTH_SPLITTING => Some((start, at + 1)),
            Some(range) => {
                emit(range);
                Some((at, at + 1))
            }
            None => Some((at, at + 1)),
        };
    }
    open.into_iter().for_each(emit);
}
