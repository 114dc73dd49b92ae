//! Access control lists (acl(5)). Users and groups in them are numbers of one machine, so a tree that
//! is packed leaves them behind.

/// Attribute with the list of an entry.
pub(crate) const ACCESS: &str = "system.posix_acl_access";

/// Attribute with the list that new entries of a directory get.
pub(crate) const DEFAULT: &str = "system.posix_acl_default";

/// Number of the format, which the attribute begins with (`linux/posix_acl_xattr.h`).
const VERSION: u32 = 2;

/// Tag of the entry for the group of the file.
const GROUP: u16 = 0x04;

/// Tag of the mask.
const MASK: u16 = 0x10;

/// Returns `mode` with the rights that the group has by the list `value`. With a list, the mode has
/// the mask in their place, which limits all groups and named users. Returns `None` if it is no list.
pub(crate) fn without_list(mode: u32, value: &[u8]) -> Option<u32> {
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let rights = |wanted: u16| {
        entries.iter().find_map(|&[tag, tag_high, rights, rights_high, ..]| {
            let is_wanted = u16::from_le_bytes([tag, tag_high]) == wanted;
            is_wanted.then(|| u32::from(u16::from_le_bytes([rights, rights_high])) & 0o7)
        })
    };
    let group = rights(GROUP)? & rights(MASK).unwrap_or(0o7);
    Some(mode & !0o070 | group << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_has_its_own_rights() {
        let list = |entries: &[(u16, u16)]| {
            let mut value = VERSION.to_le_bytes().to_vec();
            for (tag, rights) in entries {
                value.extend(tag.to_le_bytes());
                value.extend(rights.to_le_bytes());
                value.extend(u32::MAX.to_le_bytes());
            }
            value
        };
        let named = list(&[(1, 7), (2, 7), (GROUP, 5), (MASK, 7), (0x20, 4)]);
        assert_eq!(without_list(0o2774, &named), Some(0o2754));
        assert_eq!(without_list(0o774, &list(&[(GROUP, 7), (MASK, 4)])), Some(0o744));
        assert_eq!(without_list(0o774, &list(&[(GROUP, 0)])), Some(0o704));
        for other in [&named[..7], &named[..named.len() - 1], &[], &list(&[(MASK, 7)])[..]] {
            assert_eq!(without_list(0o774, other), None);
        }
        let mut newer = named;
        newer[0] = 3;
        assert_eq!(without_list(0o774, &newer), None);
    }
}
