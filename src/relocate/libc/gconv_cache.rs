//! The cache of character set modules (gconv-modules.cache), which names their directory. Its
//! format is in glibc's `iconv/iconvconfig.h`.
//!
//! It has a header, strings, a hash table, an entry for each module, and entries for direct
//! conversions. All of them refer to strings by 16-bit offsets. To change the directory, a string
//! is appended, and the offsets are changed to it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `GCONVCACHE_MAGIC`.
const MAGIC: u32 = 0x2001_0324;
/// Size of a module's entry, and of an entry for a direct conversion, in bytes.
const MODULE: usize = 12;
const DIRECT: usize = 6;

/// Name of the file.
pub(crate) const NAME: &str = "gconv-modules.cache";

/// Returns the cache `bytes` changed for modules in `dir`, or `None` if it cannot be read.
pub(crate) fn replace_directory(bytes: &[u8], dir: &Path) -> Option<Vec<u8>> {
    if u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let number =
        |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let (strings, modules, direct) = (number(4)?, number(10)?, number(12)?);
    let is_directory =
        |at: usize| Some(bytes.get(strings + number(at)?..)?.starts_with(b"/")).filter(|is| *is);
    let mut names = Vec::new();
    let mut end = direct;
    for entry in (modules..direct).step_by(MODULE) {
        names.extend([entry + 2, entry + 6]);
        let mut at = match number(entry + 10)? {
            0 => continue,
            offset => direct + offset - 1,
        };
        while number(at)? != 0 {
            let count = number(at)?;
            names.extend((0..count).map(|index| at + 2 + index * DIRECT + 2));
            at += 2 + count * DIRECT;
        }
        end = end.max(at + 2);
    }
    let mut new = bytes.get(..end)?.to_vec();
    let offset = u16::try_from(end.checked_sub(strings)?).ok()?.to_le_bytes();
    for at in names.into_iter().filter(|at| is_directory(*at).is_some()) {
        new.get_mut(at..at + 2)?.copy_from_slice(&offset);
    }
    new.extend(dir.as_os_str().as_bytes());
    new.extend(b"/\0");
    Some(new)
}
