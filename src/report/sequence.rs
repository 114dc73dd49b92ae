//! Lists in JSON that are made as they are written: a list of all files would be larger than
//! what is known of them.

use serde::{Serialize, Serializer};

/// A list of what the iterators that this makes give.
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
