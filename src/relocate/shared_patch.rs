//! Bytes that take the place of as many others. A file may have the same ones at millions of places.

use std::sync::Arc;

use crate::elf::Patch;

/// Bytes at an offset of a file. Patches with the same bytes share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPatch {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes to write.
    pub bytes: Arc<[u8]>,
}

impl From<Patch> for SharedPatch {
    fn from(patch: Patch) -> Self {
        Self { offset: patch.offset, bytes: patch.bytes.into() }
    }
}

impl SharedPatch {
    /// Returns `bytes` with all of `patches`. What would be behind their end is left out.
    pub(super) fn apply_all(bytes: &[u8], patches: &[Self]) -> Vec<u8> {
        let mut new = bytes.to_vec();
        for patch in patches {
            let start = usize::try_from(patch.offset).unwrap_or(usize::MAX);
            let rest = new.get_mut(start..);
            if let Some(place) = rest.and_then(|rest| rest.get_mut(..patch.bytes.len())) {
                place.copy_from_slice(&patch.bytes);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_stay_within_the_file() {
        let patch = |offset, bytes: &[u8]| SharedPatch { offset, bytes: bytes.into() };
        let patches = [patch(1, b"xy"), patch(4, b"z"), patch(5, b"ab"), patch(u64::MAX, b"c")];
        assert_eq!(SharedPatch::apply_all(b"012345", &patches), b"0xy3z5");
        // A place in a file of many costs little, however long the path is.
        assert!(size_of::<SharedPatch>() <= 24);
    }
}
