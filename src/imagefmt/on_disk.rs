//! Reading of structures from the bytes of an image. A structure that is not whole is an error.

use anyhow::{Context, Result, anyhow};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Returns `length` bytes at `start`. With a length of zero, any `start` is valid.
pub(crate) fn slice(bytes: &[u8], start: usize, length: usize) -> Result<&[u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    let end = start.checked_add(length).context("it ends early")?;
    bytes.get(start..end).context("it ends early")
}

/// Returns the structure at `offset`.
pub(crate) fn read_at<T>(bytes: &[u8], offset: usize) -> Result<&T>
where
    T: FromBytes + Immutable + KnownLayout + Unaligned,
{
    let slice = slice(bytes, offset, size_of::<T>())?;
    T::ref_from_bytes(slice).map_err(|_| anyhow!("it ends early"))
}

/// Returns `count` structures, the first at `offset`.
pub(crate) fn read_array_at<T>(bytes: &[u8], offset: usize, count: usize) -> Result<&[T]>
where
    T: FromBytes + Immutable + Unaligned,
{
    let length = count.checked_mul(size_of::<T>()).context("it ends early")?;
    let slice = slice(bytes, offset, length)?;
    <[T]>::ref_from_bytes_with_elems(slice, count).map_err(|_| anyhow!("it ends early"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::little_endian::U32;

    #[test]
    fn structures_are_in_the_bytes_or_errors() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 3];
        assert_eq!(read_at::<U32>(&bytes, 4).unwrap().get(), 2);
        assert_eq!(read_array_at::<U32>(&bytes, 1, 2).unwrap().len(), 2);
        assert!(read_array_at::<U32>(&bytes, usize::MAX, 0).unwrap().is_empty());
        for (offset, count) in [(6, 1), (0, 3), (usize::MAX, 1), (1, usize::MAX), (9, 1)] {
            assert!(read_array_at::<U32>(&bytes, offset, count).is_err(), "{offset} {count}");
        }
        assert!(read_at::<U32>(&bytes, usize::MAX - 2).is_err());
    }
}
