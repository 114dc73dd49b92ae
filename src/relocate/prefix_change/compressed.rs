//! Files that are compressed as a whole: those of documentation (gzip), fonts and modules.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use flate2::bufread::GzDecoder;
use flate2::{Compression as Level, GzBuilder, GzHeader};

use crate::relocate::prefix_change::room::UnpackRoom;

/// Level of zstd at which any reader has room for what it has to remember: 8 MiB.
const ZSTD_LEVEL: i32 = 19;

/// Contents of a gzip file, and what a new one has to keep.
struct GzipContent {
    header: GzHeader,
    content: Vec<u8>,
    /// True if several were joined.
    has_several: bool,
    /// True if something follows that is no gzip.
    has_more: bool,
}

/// Returns a gzip file with its contents changed by `change`, or `None` if that changes none.
///
/// # Errors
///
/// Fails if the file cannot be read, if it has contents to change and cannot be written anew, or if
/// `rename` has another name for it.
pub(super) fn rewrite_gzip(
    bytes: &[u8],
    room: &UnpackRoom,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    rename: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let old = read_gzip(bytes, room).context("it cannot be decompressed")?;
    let texts = [old.header.filename(), old.header.comment(), old.header.extra()];
    let is_named = texts.into_iter().flatten().any(|text| rename(text).is_some());
    let new = change(&old.content);
    ensure!(!is_named, "its gzip header has the path");
    let Some(new) = new else { return Ok(None) };
    ensure!(!old.has_several, "it is several gzip files, one behind the other");
    ensure!(!old.has_more, "something follows the gzip file in it");
    ensure!(old.header.extra().is_none(), "its gzip header says more of its contents");
    pack_gzip(&old.header, &new).map(Some)
}

/// Returns a file of bzip2 with its contents changed by `change`, or `None` if that changes none.
///
/// # Errors
///
/// Fails like [`rewrite_gzip`].
pub(super) fn rewrite_bzip2(
    bytes: &[u8],
    room: &UnpackRoom,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let content = room.read(bzip2::read::MultiBzDecoder::new(bytes));
    let Some(new) = change(&content.context("it cannot be decompressed")?) else { return Ok(None) };
    let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    writer.write_all(&new)?;
    Ok(Some(writer.finish()?))
}

/// Returns a file of zstd with its contents changed by `change`, or `None` if that changes none.
///
/// # Errors
///
/// Fails like [`rewrite_gzip`].
pub(super) fn rewrite_zstd(
    bytes: &[u8],
    room: &UnpackRoom,
    change: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let content = zstd::Decoder::new(bytes).map_err(Into::into).and_then(|from| room.read(from));
    let Some(new) = change(&content.context("it cannot be decompressed")?) else { return Ok(None) };
    let first = zstd::zstd_safe::find_frame_compressed_size(bytes);
    ensure!(first == Ok(bytes.len()), "it is several zstd files, one behind the other");
    Ok(Some(zstd::bulk::compress(&new, ZSTD_LEVEL)?))
}

/// Reads all members of a gzip file (RFC 1952, section 2.2), and what follows the first.
fn read_gzip(bytes: &[u8], room: &UnpackRoom) -> Result<GzipContent> {
    let mut rest = bytes;
    let mut whole: Option<GzipContent> = None;
    while rest.starts_with(b"\x1f\x8b\x08") {
        let mut decoder = GzDecoder::new(rest);
        let content = room.read(&mut decoder)?;
        let header = decoder.header().context("it has no header")?.clone();
        rest = decoder.into_inner();
        match &mut whole {
            Some(whole) => {
                whole.content.extend_from_slice(&content);
                whole.has_several = true;
            }
            None => {
                whole = Some(GzipContent { header, content, has_several: false, has_more: false });
            }
        }
    }
    let mut whole = whole.context("it has no header")?;
    whole.has_more = !rest.is_empty();
    Ok(whole)
}

/// Compresses `content`, with the names and the time of `header`.
fn pack_gzip(header: &GzHeader, content: &[u8]) -> Result<Vec<u8>> {
    let mut builder =
        GzBuilder::new().mtime(header.mtime()).operating_system(header.operating_system());
    if let Some(name) = header.filename() {
        builder = builder.filename(name);
    }
    if let Some(comment) = header.comment() {
        builder = builder.comment(comment);
    }
    let mut new = builder.write(Vec::new(), Level::best());
    new.write_all(content)?;
    Ok(new.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shout(text: &[u8]) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(text);
        text.contains("old").then(|| text.replace("old", "new").into_bytes())
    }

    fn gzip(builder: GzBuilder, text: &[u8]) -> Vec<u8> {
        let mut writer = builder.write(Vec::new(), Level::fast());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    fn rewrite(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        rewrite_gzip(bytes, &UnpackRoom::of_file(), shout, shout)
    }

    #[test]
    fn gzip_keeps_its_header() {
        let named = || GzBuilder::new().mtime(7).filename("a.1");
        let new = rewrite(&gzip(named(), b"an old man")).unwrap().unwrap();
        let read = read_gzip(&new, &UnpackRoom::of_file()).unwrap();
        assert_eq!(read.content, b"an new man");
        assert_eq!((read.header.mtime(), read.header.filename()), (7, Some(&b"a.1"[..])));
        assert_eq!(rewrite(&gzip(named(), b"a man")).unwrap(), None);
        assert!(rewrite(b"\x1f\x8b\x08rest").is_err());
    }

    #[test]
    fn gzip_that_says_more_is_read_alone() {
        let refused = |bytes: &[u8]| rewrite(bytes).unwrap_err().to_string();
        let (old, other) =
            (gzip(GzBuilder::new(), b"an old man"), gzip(GzBuilder::new(), b"a man"));
        assert!(refused(&[other.as_slice(), &old].concat()).contains("several"));
        assert_eq!(rewrite(&[other.as_slice(), &other].concat()).unwrap(), None);
        assert!(refused(&[old.as_slice(), b"end"].concat()).contains("follows"));
        assert_eq!(rewrite(&[other.as_slice(), b"end"].concat()).unwrap(), None);
        let extra = gzip(GzBuilder::new().extra("BC\0\0"), b"an old man");
        assert!(refused(&extra).contains("header"));
        let named = gzip(GzBuilder::new().filename("/old/a"), b"a man");
        assert!(refused(&named).contains("header has the path"));
    }

    #[test]
    fn others_are_written_too() {
        let room = UnpackRoom::of_file();
        let zstd = zstd::encode_all(&b"an old man"[..], 1).unwrap();
        let new = rewrite_zstd(&zstd, &room, shout).unwrap().unwrap();
        assert_eq!(zstd::decode_all(new.as_slice()).unwrap(), b"an new man");
        let twice = [zstd.as_slice(), &zstd].concat();
        assert!(rewrite_zstd(&twice, &room, shout).unwrap_err().to_string().contains("several"));
        let bzip2 = {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            writer.write_all(b"an old man").unwrap();
            writer.finish().unwrap()
        };
        let new = rewrite_bzip2(&bzip2, &room, shout).unwrap().unwrap();
        let content = room.read(bzip2::read::BzDecoder::new(new.as_slice())).unwrap();
        assert_eq!(content, b"an new man");
        assert!(rewrite_bzip2(b"BZh9rest", &room, shout).is_err());
    }
}
