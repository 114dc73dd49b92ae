//! The cache of character set modules (gconv-modules.cache), which names their directory. Its
//! format is in glibc's `iconv/iconvconfig.h`.
//!
//! It has a [header](CacheHeader), strings, a hash table, an entry for each [module](ModuleEntry),
//! and entries for [direct conversions](DirectConversion). All of them refer to strings by 16-bit
//! offsets. To change the directory, a string is appended, and the offsets are changed to it.

use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `GCONVCACHE_MAGIC`.
const MAGIC: u32 = 0x2001_0324;

/// Name of the file.
pub(crate) const NAME: &str = "gconv-modules.cache";

/// Start of the cache (`struct gconvcache_header`).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CacheHeader {
    magic: U32,
    string_offset: U16,
    hash_offset: U16,
    hash_size: U16,
    module_offset: U16,
    otherconv_offset: U16,
}

/// Module from and to the internal character set (`struct module_entry`).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(clippy::struct_field_names, reason = "the names of glibc")]
struct ModuleEntry {
    canonname_offset: U16,
    fromdir_offset: U16,
    fromname_offset: U16,
    todir_offset: U16,
    toname_offset: U16,
    /// Position of the direct conversions behind `otherconv_offset`, counted from 1; 0 for none.
    extra_offset: U16,
}

/// Step of a direct conversion (`struct extra_entry_module`). A number of steps begins each
/// conversion, and 0 ends the list.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[expect(clippy::struct_field_names, reason = "the names of glibc")]
struct DirectConversion {
    outname_offset: U16,
    dir_offset: U16,
    name_offset: U16,
}

/// Returns the cache `bytes` changed for modules in `dir`, or `None` if it cannot be read.
pub(crate) fn replace_directory(bytes: &[u8], dir: &Path) -> Option<Vec<u8>> {
    let (header, _) = CacheHeader::ref_from_prefix(bytes).ok()?;
    if header.magic.get() != MAGIC {
        return None;
    }
    let strings = usize::from(header.string_offset);
    let is_directory = |offset: U16| {
        bytes.get(strings + usize::from(offset)..).is_some_and(|s| s.starts_with(b"/"))
    };
    let end = each_directory(bytes, header, |_, _| Some(()))?;
    let new_offset = U16::new(u16::try_from(end.checked_sub(strings)?).ok()?);
    let mut new = bytes.get(..end)?.to_vec();
    each_directory(bytes, header, |place, offset| {
        if is_directory(offset) {
            new_offset.write_to_prefix(new.get_mut(place..)?).ok()?;
        }
        Some(())
    })?;
    new.extend(dir.as_os_str().as_bytes());
    new.extend(b"/\0");
    Some(new)
}

/// Calls `see` with the position of each offset of a directory, and with the offset. Returns the
/// end of the tables, or `None` if they cannot be read.
fn each_directory(
    bytes: &[u8],
    header: &CacheHeader,
    mut see: impl FnMut(usize, U16) -> Option<()>,
) -> Option<usize> {
    let direct = usize::from(header.otherconv_offset);
    let mut end = direct;
    for at in (usize::from(header.module_offset)..direct).step_by(size_of::<ModuleEntry>()) {
        let module: &ModuleEntry = at_place(bytes, at)?;
        see(at + offset_of!(ModuleEntry, fromdir_offset), module.fromdir_offset)?;
        see(at + offset_of!(ModuleEntry, todir_offset), module.todir_offset)?;
        let Some(extra) = usize::from(module.extra_offset).checked_sub(1) else { continue };
        let mut at = direct + extra;
        loop {
            let steps = usize::from(*at_place::<U16>(bytes, at)?);
            at += size_of::<U16>();
            if steps == 0 {
                break;
            }
            for _ in 0..steps {
                let step: &DirectConversion = at_place(bytes, at)?;
                see(at + offset_of!(DirectConversion, dir_offset), step.dir_offset)?;
                at += size_of::<DirectConversion>();
            }
        }
        end = end.max(at);
    }
    Some(end)
}

fn at_place<T: FromBytes + Immutable + KnownLayout + Unaligned>(
    bytes: &[u8],
    at: usize,
) -> Option<&T> {
    Some(T::ref_from_prefix(bytes.get(at..)?).ok()?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRINGS: &[u8] = b"\0/old/\0A.so\0";

    /// A cache with two modules. The second has one direct conversion of two steps.
    fn cache() -> Vec<u8> {
        let number = U16::new;
        let start = size_of::<CacheHeader>();
        let modules = start + STRINGS.len();
        let direct = modules + 2 * size_of::<ModuleEntry>();
        let header = CacheHeader {
            magic: U32::new(MAGIC),
            string_offset: number(u16::try_from(start).unwrap()),
            hash_offset: number(0),
            hash_size: number(0),
            module_offset: number(u16::try_from(modules).unwrap()),
            otherconv_offset: number(u16::try_from(direct).unwrap()),
        };
        let module = |dir, extra| ModuleEntry {
            canonname_offset: number(7),
            fromdir_offset: number(dir),
            fromname_offset: number(7),
            todir_offset: number(dir),
            toname_offset: number(7),
            extra_offset: number(extra),
        };
        let step = |dir| DirectConversion {
            outname_offset: number(7),
            dir_offset: number(dir),
            name_offset: number(7),
        };
        [
            header.as_bytes(),
            STRINGS,
            // A module of the C library itself has an empty directory.
            module(0, 0).as_bytes(),
            module(1, 1).as_bytes(),
            &[2, 0],
            step(1).as_bytes(),
            step(0).as_bytes(),
            &[0, 0],
        ]
        .concat()
    }

    fn directories(cache: &[u8]) -> Vec<&[u8]> {
        let (header, _) = CacheHeader::ref_from_prefix(cache).unwrap();
        let mut found = Vec::new();
        each_directory(cache, header, |_, offset| {
            let start = usize::from(header.string_offset) + usize::from(offset);
            found.push(cache[start..].split(|byte| *byte == 0).next()?);
            Some(())
        });
        found
    }

    #[test]
    fn directories_are_replaced() {
        let cache = cache();
        let none = &b""[..];
        assert_eq!(directories(&cache), [none, none, b"/old/", b"/old/", b"/old/", none]);
        let new = replace_directory(&cache, Path::new("/opt/x/gconv")).unwrap();
        let dir = &b"/opt/x/gconv/"[..];
        assert_eq!(directories(&new), [none, none, dir, dir, dir, none]);
        // The second run changes nothing, since strings behind the tables are dropped.
        assert_eq!(replace_directory(&new, Path::new("/opt/x/gconv")).unwrap(), new);
    }

    #[test]
    fn broken_caches_are_refused() {
        let cache = cache();
        for length in 0..cache.len() {
            assert_eq!(replace_directory(&cache[..length], Path::new("/x")), None, "{length}");
        }
        let mut other = cache.clone();
        other[0] ^= 1;
        assert_eq!(replace_directory(&other, Path::new("/x")), None);
    }
}
