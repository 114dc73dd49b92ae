//! The cache of character set modules (gconv-modules.cache), which names their directory. Its
//! format is in glibc's `iconv/iconvconfig.h`.
//!
//! It has a [header](CacheHeader), strings, a hash table, an entry for each [module](ModuleEntry),
//! and entries for [direct conversions](DirectConversion). All of them refer to strings by 16-bit
//! offsets. To change the directory, a string is appended, and the offsets are changed to it.

use std::collections::HashMap;
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

/// Name of a character set or an alias of it (`struct hash_entry`). A lookup goes on to further places
/// of the table until it finds the name or a place with the offset 0.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HashEntry {
    string_offset: U16,
    /// Position of the module.
    module_idx: U16,
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

/// Returns the cache `bytes` without the modules whose files `has` does not confirm by their names, or
/// `None` if it cannot be read.
///
/// Names keep their places in the hash table. The places of names that are gone refer to a string that
/// is no name, so lookups go on as before.
pub(crate) fn retain(bytes: &[u8], has: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let (header, _) = CacheHeader::ref_from_prefix(bytes).ok()?;
    if header.magic.get() != MAGIC {
        return None;
    }
    let cache = OldCache { bytes, header };
    let mut new = NewTables::default();
    let mut places = Vec::new();
    for module in cache.modules()? {
        let names = [
            (module.fromdir_offset, module.fromname_offset),
            (module.todir_offset, module.toname_offset),
        ];
        let is_there = cache.are_there(&names, &has)?;
        places.push(is_there.then(|| u16::try_from(new.modules.len())).transpose().ok()?);
        if is_there {
            let extra_offset = cache.retain_direct(module, &has, &mut new)?;
            let mut string = |offset| new.strings.add(cache.string(offset)?);
            new.modules.push(ModuleEntry {
                canonname_offset: string(module.canonname_offset)?,
                fromdir_offset: string(module.fromdir_offset)?,
                fromname_offset: string(module.fromname_offset)?,
                todir_offset: string(module.todir_offset)?,
                toname_offset: string(module.toname_offset)?,
                extra_offset,
            });
        }
    }
    for entry in cache.hash()? {
        let place = places.get(usize::from(entry.module_idx)).copied().flatten();
        new.hash.push(match (entry.string_offset.get(), place) {
            (0, _) => HashEntry { string_offset: U16::new(0), module_idx: U16::new(0) },
            (_, Some(place)) => HashEntry {
                string_offset: new.strings.add(cache.string(entry.string_offset)?)?,
                module_idx: U16::new(place),
            },
            (_, None) => {
                HashEntry { string_offset: new.strings.add(GONE)?, module_idx: U16::new(0) }
            }
        });
    }
    new.into_bytes()
}

/// Text in the place of a name that is gone. No name of a character set is like it.
const GONE: &[u8] = b"~";

/// A cache that is read.
struct OldCache<'a> {
    bytes: &'a [u8],
    header: &'a CacheHeader,
}

impl<'a> OldCache<'a> {
    fn string(&self, offset: U16) -> Option<&'a [u8]> {
        let start = usize::from(self.header.string_offset) + usize::from(offset);
        let rest = self.bytes.get(start..)?;
        rest.get(..memchr::memchr(0, rest)?)
    }

    fn modules(&self) -> Option<&'a [ModuleEntry]> {
        let (start, end) = (self.header.module_offset, self.header.otherconv_offset);
        let table = self.bytes.get(usize::from(start)..usize::from(end))?;
        <[ModuleEntry]>::ref_from_bytes(table).ok()
    }

    fn hash(&self) -> Option<&'a [HashEntry]> {
        let (start, length) = (self.header.hash_offset, usize::from(self.header.hash_size));
        let table = self.bytes.get(usize::from(start)..)?;
        Some(<[HashEntry]>::ref_from_prefix_with_elems(table, length).ok()?.0)
    }

    /// Returns whether all files, given as directories and names, are there. A part of the C library
    /// itself has no directory.
    fn are_there(&self, files: &[(U16, U16)], has: impl Fn(&[u8]) -> bool) -> Option<bool> {
        for (dir, name) in files {
            if !self.string(*dir)?.is_empty() && !has(self.string(*name)?) {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Copies the direct conversions of `module` whose files are all there. Returns their place.
    fn retain_direct(
        &self,
        module: &ModuleEntry,
        has: impl Fn(&[u8]) -> bool,
        new: &mut NewTables,
    ) -> Option<U16> {
        let Some(extra) = usize::from(module.extra_offset).checked_sub(1) else {
            return Some(U16::new(0));
        };
        let place = U16::new(u16::try_from(new.direct.len() + 1).ok()?);
        let mut at = usize::from(self.header.otherconv_offset) + extra;
        let mut is_empty = true;
        loop {
            let count = usize::from(*at_place::<U16>(self.bytes, at)?);
            at += size_of::<U16>();
            if count == 0 {
                break;
            }
            let table = self.bytes.get(at..)?;
            let (steps, _) = <[DirectConversion]>::ref_from_prefix_with_elems(table, count).ok()?;
            at += size_of_val(steps);
            let files: Vec<_> =
                steps.iter().map(|step| (step.dir_offset, step.name_offset)).collect();
            if !self.are_there(&files, &has)? {
                continue;
            }
            is_empty = false;
            new.direct.extend(U16::new(u16::try_from(count).ok()?).as_bytes());
            for step in steps {
                let mut string = |offset| new.strings.add(self.string(offset)?);
                let step = DirectConversion {
                    outname_offset: string(step.outname_offset)?,
                    dir_offset: string(step.dir_offset)?,
                    name_offset: string(step.name_offset)?,
                };
                new.direct.extend(step.as_bytes());
            }
        }
        if is_empty {
            return Some(U16::new(0));
        }
        new.direct.extend([0; size_of::<U16>()]);
        Some(place)
    }
}

/// Strings of a new cache. The first one is empty.
#[derive(Default)]
struct StringTable {
    bytes: Vec<u8>,
    offsets: HashMap<Vec<u8>, u16>,
}

impl StringTable {
    /// Returns the offset of `text`; adds it if it is new.
    fn add(&mut self, text: &[u8]) -> Option<U16> {
        if self.bytes.is_empty() {
            self.bytes.push(0);
        }
        if text.is_empty() {
            return Some(U16::new(0));
        }
        if let Some(offset) = self.offsets.get(text) {
            return Some(U16::new(*offset));
        }
        let offset = u16::try_from(self.bytes.len()).ok()?;
        self.offsets.insert(text.to_vec(), offset);
        self.bytes.extend(text);
        self.bytes.push(0);
        Some(U16::new(offset))
    }
}

/// Tables of a new cache.
#[derive(Default)]
struct NewTables {
    strings: StringTable,
    hash: Vec<HashEntry>,
    modules: Vec<ModuleEntry>,
    direct: Vec<u8>,
}

impl NewTables {
    fn into_bytes(mut self) -> Option<Vec<u8>> {
        // The tables hold 16-bit numbers, and programs map the file.
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(4), 0);
        pad(&mut self.strings.bytes);
        let start = size_of::<CacheHeader>().next_multiple_of(4);
        let hash = start + self.strings.bytes.len();
        let modules = hash + size_of_val(self.hash.as_slice());
        let direct = modules + size_of_val(self.modules.as_slice());
        let number = |number: usize| u16::try_from(number).map(U16::new).ok();
        let header = CacheHeader {
            magic: U32::new(MAGIC),
            string_offset: number(start)?,
            hash_offset: number(hash)?,
            hash_size: number(self.hash.len())?,
            module_offset: number(modules)?,
            otherconv_offset: number(direct)?,
        };
        let mut bytes = header.as_bytes().to_vec();
        pad(&mut bytes);
        bytes.extend(self.strings.bytes);
        bytes.extend(self.hash.as_bytes());
        bytes.extend(self.modules.as_bytes());
        bytes.extend(self.direct);
        Some(bytes)
    }
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
        let hash = start + STRINGS.len();
        let modules = hash + 3 * size_of::<HashEntry>();
        let direct = modules + 2 * size_of::<ModuleEntry>();
        let header = CacheHeader {
            magic: U32::new(MAGIC),
            string_offset: number(u16::try_from(start).unwrap()),
            hash_offset: number(u16::try_from(hash).unwrap()),
            hash_size: number(3),
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
        let name = |string, module| HashEntry {
            string_offset: number(string),
            module_idx: number(module),
        };
        [
            header.as_bytes(),
            STRINGS,
            name(7, 0).as_bytes(),
            name(0, 0).as_bytes(),
            name(1, 1).as_bytes(),
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
    fn modules_that_are_gone_leave_the_cache() {
        let cache = cache();
        let all = retain(&cache, |_| true).unwrap();
        assert_eq!(directories(&all), directories(&cache));
        assert_eq!(retain(&all, |_| true).unwrap(), all);
        let few = retain(&all, |_| false).unwrap();
        assert_eq!(directories(&few), [&b""[..]; 2], "the C library's own stays");
        let names = |bytes: &[u8]| {
            let (header, _) = CacheHeader::ref_from_prefix(bytes).unwrap();
            let cache = OldCache { bytes, header };
            let name = |entry: &HashEntry| cache.string(entry.string_offset).unwrap().to_vec();
            cache.hash().unwrap().iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(names(&all), [&b"A.so"[..], b"", b"/old/"]);
        assert_eq!(names(&few), [&b"A.so"[..], b"", GONE]);
    }

    #[test]
    fn broken_caches_are_refused() {
        let cache = cache();
        for length in 0..cache.len() {
            assert_eq!(replace_directory(&cache[..length], Path::new("/x")), None, "{length}");
            assert_eq!(retain(&cache[..length], |_| true), None, "{length}");
        }
        let mut other = cache.clone();
        other[0] ^= 1;
        assert_eq!(replace_directory(&other, Path::new("/x")), None);
    }
}
