//! Files with a sum or a signature of their own contents: a sum that anybody can compute is mended.

use crc::{CRC_32_ISO_HDLC, Crc};

use crate::relocate::SharedPatch;

/// First bytes of a PNG file (PNG Specification, section 5.2).
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Length and type before the data of a chunk.
const CHUNK_HEADER: usize = 8;

/// Sum of the type and data of a chunk (PNG Specification, section 5.5).
const CHUNK_SUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// Last bytes of a kernel module with a signature (`scripts/sign-file.c` of Linux).
const MODULE_SIGNED: &[u8] = b"~Module signature appended~\n";

/// First bytes of files whose end is a sum of all that is before, and whose name often is, too
/// (gitformat-index(5), gitformat-pack(5)).
const GIT: [&[u8]; 4] = [b"DIRC\0\0\0", b"\xfftOc", b"MIDX\x01", b"CGPH\x01"];

/// Returns changes that mend the sums of the file `old` after `patches`, or the reason for which
/// nobody but its maker can change it.
pub(super) fn mend(old: &[u8], patches: &[SharedPatch]) -> Result<Vec<SharedPatch>, &'static str> {
    if old.ends_with(MODULE_SIGNED) {
        return Err("it has the path, and is a kernel module with a signature");
    }
    if GIT.iter().any(|magic| old.starts_with(magic)) {
        return Err("it has the path, and is a file of git with a sum of itself");
    }
    if old.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") {
        return Err("it has the path, and is signed");
    }
    Ok(if old.starts_with(PNG) { mend_png(old, patches) } else { Vec::new() })
}

fn mend_png(old: &[u8], patches: &[SharedPatch]) -> Vec<SharedPatch> {
    let new = SharedPatch::apply_all(old, patches);
    let mut mended = Vec::new();
    let mut at = PNG.len();
    while let Some(length) = new.get(at..).and_then(|rest| rest.first_chunk().copied()) {
        let length = u32::from_be_bytes(length) as usize;
        let end = at.saturating_add(CHUNK_HEADER).saturating_add(length);
        let (Some(chunk), Some(sum)) = (new.get(at + 4..end), new.get(end..end.saturating_add(4)))
        else {
            break;
        };
        if old.get(at + 4..end) != Some(chunk) {
            let right = CHUNK_SUM.checksum(chunk).to_be_bytes();
            if right != sum {
                mended.push(SharedPatch { offset: end as u64, bytes: right.as_slice().into() });
            }
        }
        at = end + 4;
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(offset: usize, bytes: &[u8]) -> SharedPatch {
        SharedPatch { offset: offset as u64, bytes: bytes.into() }
    }

    fn chunk(kind: &str, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        let body = [kind.as_bytes(), data].concat();
        [&length, body.as_slice(), &CHUNK_SUM.checksum(&body).to_be_bytes()].concat()
    }

    #[test]
    fn sums_of_png_chunks_are_mended() {
        let image = |text: &[u8]| {
            let chunks = [chunk("tEXt", text), chunk("tEXt", b"other"), chunk("IEND", b"")];
            [PNG, &chunks.concat()].concat()
        };
        let old = image(b"Source\0/old/x");
        let at = memchr::memmem::find(&old, b"/old").unwrap();
        let mut patches = vec![patch(at, b"/n//")];
        patches.extend(mend(&old, &patches).unwrap());
        assert_eq!(SharedPatch::apply_all(&old, &patches), image(b"Source\0/n///x"));
        // Of a chunk that is cut off, nothing is known.
        assert_eq!(mend(&old[..at + 6], &[patch(at, b"/n//")]).unwrap(), []);
    }

    #[test]
    fn signed_files_are_left() {
        let module = [b"\x7fELF /old/x ", MODULE_SIGNED].concat();
        assert!(mend(&module, &[patch(5, b"/n//")]).unwrap_err().contains("signature"));
        assert!(mend(b"DIRC\0\0\0\x02/old/x", &[]).unwrap_err().contains("git"));
        assert_eq!(mend(b"\0/old/x", &[patch(1, b"/n//")]).unwrap(), []);
    }
}
