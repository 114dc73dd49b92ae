//! File capabilities as the kernel stores them (capabilities(7), linux/capability.h).

use anyhow::{Result, bail};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Name of the attribute that holds file capabilities.
pub(crate) const NAME: &str = "security.capability";

const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;

/// Attribute of revision 2 (`struct vfs_cap_data`).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VfsCapData {
    /// Revision and flags.
    magic_etc: U32,
    /// Low and high half of the sets.
    data: [CapabilitySets; 2],
}

/// Half of the permitted and of the inheritable set.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CapabilitySets {
    permitted: U32,
    inheritable: U32,
}

/// Attribute of revision 3 (`struct vfs_ns_cap_data`).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VfsNsCapData {
    sets: VfsCapData,
    /// User who is root in the namespace that set the attribute.
    rootid: U32,
}

/// Returns the same capabilities, valid in the initial user namespace. A build without root sets
/// them in a user namespace, and the kernel then stores the root user of that namespace.
pub(crate) fn drop_namespace(value: &[u8]) -> Result<Vec<u8>> {
    let Ok((magic, _)) = U32::read_from_prefix(value) else { bail!("{NAME} is too short") };
    let magic = magic.get();
    match magic & REVISION_MASK {
        REVISION_3 if let Ok(data) = VfsNsCapData::read_from_bytes(value) => {
            let magic_etc = U32::new(REVISION_2 | (magic & !REVISION_MASK));
            Ok(VfsCapData { magic_etc, ..data.sets }.as_bytes().to_vec())
        }
        REVISION_2 if VfsCapData::read_from_bytes(value).is_ok() => Ok(value.to_owned()),
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
        for wrong in [&[1][..], &[], &two[..19], &three[..23], &[&three[..], &[0]].concat()] {
            assert!(drop_namespace(wrong).is_err(), "{wrong:?}");
        }
    }
}
