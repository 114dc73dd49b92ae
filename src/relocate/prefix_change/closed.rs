//! Formats that are not looked into: what they hold is packed, and named by sums of itself, or packed
//! in a way that nothing here unpacks.

/// First bytes of each format, and its name for people.
const MAGIC: [(&[u8], &str); 14] = [
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x04\x22\x4d\x18", "compressed with lz4"),
    (b"\x02\x21\x4c\x18", "compressed with lz4"),
    (b"LZIP\x01", "compressed with lzip"),
    (b"\x89LZO\0\r\n\x1a\n", "compressed with lzop"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"MSCF\0\0\0\0", "a cabinet archive"),
    (b"hsqs", "a squashfs image"),
    (b"PACK\0\0\0\x02", "a pack of git"),
    (b"PACK\0\0\0\x03", "a pack of git"),
    (b"\xed\xab\xee\xdb", "a package of rpm"),
    (b"!<arch>\ndebian-binary", "a package of dpkg"),
    (b"070702", "a cpio archive with sums"),
];

/// Returns the format of a file that is not looked into, or `None` if it has another one.
pub(super) fn format_of(bytes: &[u8]) -> Option<&'static str> {
    let known = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
    known.map(|(_, name)| *name).or_else(|| match bytes {
        [0x1f, 0x9d, flags, _, ..] if flags & 0x60 == 0 && (9..=16).contains(&(flags & 0x1f)) => {
            Some("compressed with compress")
        }
        _ => is_lzma(bytes).then_some("compressed with lzma"),
    })
}

/// Returns whether these bytes begin like a file of lzma, which has no magic: a usual property byte, a
/// dictionary of 2^n or 2^n + 2^(n-1) bytes, a size that is unknown or below 256 GiB, and the first
/// byte of the coder, which is 0 (lzma-file-format.txt of XZ Utils).
fn is_lzma(bytes: &[u8]) -> bool {
    let Some([0x5d, dictionary @ .., 0]) = bytes.first_chunk::<14>() else { return false };
    let ([a, b, c, d], size) = (*dictionary)
        .split_first_chunk()
        .map_or(([0; 4], [].as_slice()), |(first, rest)| (*first, rest));
    let dictionary = u32::from_le_bytes([a, b, c, d]);
    let is_usual =
        dictionary >= 1 << 12 && matches!(dictionary >> dictionary.trailing_zeros(), 1 | 3);
    let is_size = size == [0xff; 8] || size.ends_with(&[0, 0, 0]) && size != [0; 8];
    is_usual && is_size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        assert_eq!(format_of(b"\x1f\x9d\x90\x2f\x5e"), Some("compressed with compress"));
        assert_eq!(format_of(b"\x1f\x9d\xff\x2f\x5e"), None);
        let lzma = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x17";
        assert_eq!(format_of(lzma), Some("compressed with lzma"));
        let sized = b"\x5d\0\0\x80\0\x0a\0\0\0\0\0\0\0\0\x17";
        assert_eq!(format_of(sized), Some("compressed with lzma"));
        for other in [&b"]\0\0\0\0"[..], b"]))}\n and so on to the end", b"", b"070701", b"PACKAGE"]
        {
            assert_eq!(format_of(other), None, "{other:?}");
        }
    }
}
