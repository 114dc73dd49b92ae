//! Streamed JSON lists. A list of all files in memory would be larger than the plan that it is made
//! from.

use serde::{Serialize, Serializer};

/// A list of the items of an iterator. The function makes a new iterator for each serialization.
pub(super) struct Sequence<F>(pub F);

impl<F, I> Serialize for Sequence<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
