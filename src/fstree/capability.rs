//! File capabilities as the kernel stores them (capabilities(7), linux/capability.h).

use anyhow::{Result, bail};

/// Name of the attribute that holds file capabilities.
pub(crate) const NAME: &str = "security.capability";

const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Length of revision 2: the magic number, and two words for each of two sets.
const LENGTH_2: usize = 20;
/// Length of revision 3, which adds the user who is root in the namespace that set it.
const LENGTH_3: usize = 24;

/// Returns the same capabilities, valid in the initial user namespace. A build without root sets
/// them in a user namespace, and the kernel then stores the root user of that namespace.
pub(crate) fn drop_namespace(value: &[u8]) -> Result<Vec<u8>> {
    let Some(magic) = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes)) else {
        bail!("{NAME} is too short");
    };
    match (magic & REVISION_MASK, value.len()) {
        (REVISION_3, LENGTH_3) => {
            let magic = REVISION_2 | (magic & !REVISION_MASK);
            let sets = value.get(4..LENGTH_2).unwrap_or_default();
            Ok([&magic.to_le_bytes(), sets].concat())
        }
        (REVISION_2, LENGTH_2) => Ok(value.to_owned()),
        _ => bail!("{NAME} has a form that is not known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_goes() {
        let sets = [0_u8, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let two = [&[1, 0, 0, 2], &sets[..]].concat();
        let three = [&[1, 0, 0, 3], &sets[..], &[0xe8, 3, 0, 0]].concat();
        assert_eq!(drop_namespace(&three).unwrap(), two);
        assert_eq!(drop_namespace(&two).unwrap(), two);
        assert!(drop_namespace(&[1]).is_err());
    }
}
