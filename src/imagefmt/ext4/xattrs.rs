//! Extended attributes of an ext4 image: those of an inode are in one block.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result, ensure};
use zerocopy::{FromZeros, IntoBytes};

use crate::base::escape::Escape;
use crate::imagefmt::ext4::structures::{BLOCK, Ext4XattrEntry, Ext4XattrHeader, XATTR_MAGIC};
use crate::imagefmt::on_disk;

/// Prefixes of names by their index (Linux, `fs/ext4/xattr.h`).
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
    (8, b"system.richacl"),
];

/// Attributes of an entry.
type Xattrs = BTreeMap<OsString, Vec<u8>>;

/// Returns the block of `xattrs`.
///
/// # Errors
///
/// Fails if they do not fit, or if one has a name that ext4 has no place for.
pub(super) fn encode(xattrs: &Xattrs) -> Result<Vec<u8>> {
    let mut named = Vec::new();
    for (name, value) in xattrs {
        let (index, rest) = split(name)?;
        named.push((index, rest.len(), rest, value));
    }
    // The kernel searches them in this order.
    named.sort_unstable();
    let mut block = vec![0; BLOCK];
    let (mut start, mut end, mut hash) = (size_of::<Ext4XattrHeader>(), BLOCK, 0_u32);
    for (index, _, name, value) in named {
        let length = size_of::<Ext4XattrEntry>() + name.len().next_multiple_of(4);
        let room = end.checked_sub(value.len().next_multiple_of(4));
        // Four zeros end the entries.
        let room = room.filter(|room| start + length + 4 <= *room);
        end = room.with_context(|| {
            format!("its extended attributes have more than the {BLOCK} bytes of a block")
        })?;
        let entry = Ext4XattrEntry {
            name_length: u8::try_from(name.len())?,
            index,
            offset: if value.is_empty() { 0 } else { u16::try_from(end)? }.into(),
            inode: 0.into(),
            size: u32::try_from(value.len())?.into(),
            hash: hash_entry(name, value).into(),
        };
        hash = hash.rotate_left(16) ^ entry.hash.get();
        put(&mut block, start, entry.as_bytes());
        put(&mut block, start + size_of::<Ext4XattrEntry>(), name);
        put(&mut block, end, value);
        start += length;
    }
    let mut header = Ext4XattrHeader::new_zeroed();
    header.magic = XATTR_MAGIC.into();
    header.references = 1.into();
    header.blocks = 1.into();
    header.hash = hash.into();
    put(&mut block, 0, header.as_bytes());
    Ok(block)
}

/// Returns the attributes in `block`.
///
/// # Errors
///
/// Fails if the block is damaged.
pub(super) fn decode(block: &[u8]) -> Result<Xattrs> {
    let header: &Ext4XattrHeader = on_disk::read_at(block, 0)?;
    ensure!(header.magic.get() == XATTR_MAGIC, "its extended attributes are damaged");
    decode_entries(block, size_of::<Ext4XattrHeader>())
}

/// Returns the attributes at the end of an inode, where debugfs and Linux put short ones.
///
/// # Errors
///
/// Fails if they are damaged.
pub(super) fn decode_inside(end: &[u8]) -> Result<Xattrs> {
    match end.strip_prefix(&XATTR_MAGIC.to_le_bytes()) {
        Some(entries) => decode_entries(entries, 0),
        None => Ok(Xattrs::new()),
    }
}

/// Returns the attributes whose entries begin at `at` in `bytes`.
fn decode_entries(bytes: &[u8], mut at: usize) -> Result<Xattrs> {
    let mut found = Xattrs::new();
    while on_disk::slice(bytes, at, 4)? != [0; 4] {
        let entry: &Ext4XattrEntry = on_disk::read_at(bytes, at)?;
        let name =
            on_disk::slice(bytes, at + size_of::<Ext4XattrEntry>(), entry.name_length.into())?;
        let prefix = PREFIXES.iter().find(|(index, _)| *index == entry.index);
        let (_, prefix) = prefix.context("it has an extended attribute of an unknown kind")?;
        let value = on_disk::slice(bytes, entry.offset.get().into(), entry.size.get().try_into()?)?;
        found.insert(OsString::from_vec([prefix, name].concat()), value.to_owned());
        at += size_of::<Ext4XattrEntry>() + name.len().next_multiple_of(4);
    }
    Ok(found)
}

/// Returns the index of a name's prefix, and the rest of the name.
fn split(name: &OsStr) -> Result<(u8, &[u8])> {
    let found = PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = name.as_bytes().strip_prefix(*prefix)?;
        // A prefix without a dot at its end is the whole name.
        (prefix.ends_with(b".") != rest.is_empty()).then_some((*index, rest))
    });
    found.with_context(|| format!("ext4 has no extended attribute {}", name.escaped()))
}

/// Returns the hash of an attribute (Linux, `ext4_xattr_hash_entry`).
fn hash_entry(name: &[u8], value: &[u8]) -> u32 {
    let hash = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks(4).fold(hash, |hash, chunk| {
        let mut word = [0; 4];
        put(&mut word, 0, chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = block.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattrs(list: &[(&[u8], &[u8])]) -> Xattrs {
        list.iter()
            .map(|(name, value)| (OsStr::from_bytes(name).to_owned(), value.to_vec()))
            .collect()
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let all = xattrs(&[
            (b"security.capability", &[1, 0, 0, 2]),
            (b"user.empty", b""),
            (b"user.\xff\n\"", b"\0odd\xff"),
            (b"user.long", &[7; 3000]),
        ]);
        let block = encode(&all).unwrap();
        assert_eq!(decode(&block).unwrap(), all);
        for at in 0..200 {
            let mut damaged = block.clone();
            damaged[at] = 0xff;
            let _ = decode(&damaged);
        }
        assert!(decode(&block[..40]).is_err());
    }

    #[test]
    fn attributes_without_a_place_are_errors() {
        assert!(encode(&xattrs(&[(b"user.long", &[7; 4096])])).is_err());
        assert!(encode(&xattrs(&[(b"odd.name", b"")])).is_err());
        assert!(encode(&xattrs(&[(b"user.", b"")])).is_err());
    }
}
