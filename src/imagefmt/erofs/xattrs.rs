//! Names of extended attributes in an erofs image (Linux, `fs/erofs/erofs_fs.h` and `xattr.c`).

use anyhow::{Context, Result};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::base::escape::Escape;
use crate::fstree::scan::OVERLAY_MARK;
use crate::imagefmt::erofs::inodes::{Image, Place};
use crate::imagefmt::on_disk;

/// Index that stands for `trusted.` at the start of a name (`EROFS_XATTR_INDEX_TRUSTED`).
const TRUSTED: u8 = 4;
const TRUSTED_NAME: &str = "trusted.";
/// Unit in which shared attributes are numbered, and the alignment of all.
const SLOT: usize = 4;

/// `erofs_xattr_ibody_header`, before the numbers of shared attributes and the inode's own.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct XattrHeader {
    name_filter: U32,
    shared: u8,
    reserved: [u8; 7],
}

/// `erofs_xattr_entry`, before a name and a value.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct XattrEntry {
    name_length: u8,
    index: u8,
    value_length: U16,
}

/// Returns the name of an attribute of the image in `bytes` by which overlayfs hides what is below.
pub(super) fn find_overlay_mark(bytes: &[u8]) -> Result<Option<String>> {
    let image = Image::open(bytes)?;
    for place in image.tree()?.values().filter(|place| place.xattrs > 0) {
        if let Some(mark) = find_mark_of(&image, place)? {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

fn find_mark_of(image: &Image<'_>, place: &Place) -> Result<Option<String>> {
    let start = place.tail.checked_sub(place.xattrs).context("it ends early")?;
    let own = image.slice(start, place.xattrs)?;
    let header: &XattrHeader = on_disk::read_at(own, 0)?;
    let shared: &[U32] =
        on_disk::read_array_at(own, size_of::<XattrHeader>(), header.shared.into())?;
    for number in shared {
        let block = image.offset_of(image.shared_xattrs)?;
        let offset = usize::try_from(number.get())?.checked_mul(SLOT);
        let offset =
            offset.and_then(|offset| offset.checked_add(block)).context("it ends early")?;
        if let (Some(mark), _) = read_entry(image.bytes, offset)? {
            return Ok(Some(mark));
        }
    }
    let mut offset = size_of::<XattrHeader>() + size_of_val(shared);
    while offset + size_of::<XattrEntry>() <= own.len() {
        let (mark, length) = read_entry(own, offset)?;
        if mark.is_some() {
            return Ok(mark);
        }
        offset += length;
    }
    Ok(None)
}

/// Returns the name of the attribute at `offset` if it is a mark, and the length of its entry.
fn read_entry(bytes: &[u8], offset: usize) -> Result<(Option<String>, usize)> {
    let entry: &XattrEntry = on_disk::read_at(bytes, offset)?;
    let (name_length, start) = (usize::from(entry.name_length), size_of::<XattrEntry>());
    let length = start + name_length + usize::from(entry.value_length.get());
    let name = on_disk::slice(bytes, offset.saturating_add(start), name_length)?;
    let name = format!("{TRUSTED_NAME}{}", name.escaped());
    let is_mark = entry.index == TRUSTED && name.starts_with(OVERLAY_MARK);
    Ok((is_mark.then_some(name), length.next_multiple_of(SLOT)))
}
