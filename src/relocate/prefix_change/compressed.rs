//! Compressed files. Those of documentation (gzip) and of modules (zip) are written anew; what is
//! compressed otherwise is looked into alone.

use std::io::{Cursor, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use flate2::{Compression as Level, GzBuilder};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::base::escape::Escape;
use crate::base::limits::UNPACKED;

/// Kind of a compressed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompressedFile {
    Gzip,
    Zip,
    Zstd,
    Bzip2,
    Xz,
}

/// First bytes of each kind.
const MAGIC: [(&[u8], CompressedFile); 5] = [
    (b"\x1f\x8b\x08", CompressedFile::Gzip),
    (b"PK\x03\x04", CompressedFile::Zip),
    (b"\x28\xb5\x2f\xfd", CompressedFile::Zstd),
    (b"BZh", CompressedFile::Bzip2),
    (b"\xfd7zXZ\0", CompressedFile::Xz),
];

/// Place of the magic of a tar archive (POSIX, "ustar Interchange Format").
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// Returns whether `bytes` are a tar archive: sums of its headers have to fit.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(TAR_MAGIC).is_some_and(|magic| magic == b"ustar")
}

impl CompressedFile {
    /// Returns the kind of a file with these bytes; `None` if it is not compressed.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let found = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic));
        found.map(|(_, compression)| *compression)
    }

    /// Returns the contents: of each file, if it holds several.
    pub(super) fn unpack(self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let content = match self {
            Self::Gzip => read_limited(MultiGzDecoder::new(bytes)),
            Self::Zstd => read_limited(zstd::Decoder::new(bytes)?),
            Self::Bzip2 => read_limited(bzip2::read::MultiBzDecoder::new(bytes)),
            Self::Xz => bail!("it is compressed with xz, and is not looked into"),
            Self::Zip => return unpack_zip(bytes),
        };
        Ok(vec![content.context("it cannot be decompressed")?])
    }

    /// Returns the file with its contents changed by `change`, or `None` if that changes none.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or has contents to change and cannot be written anew.
    pub(super) fn rewrite(
        self,
        bytes: &[u8],
        change: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        let parts = self.unpack(bytes)?;
        let new: Vec<Option<Vec<u8>>> = parts.iter().map(|part| change(part)).collect();
        if new.iter().all(Option::is_none) {
            return Ok(None);
        }
        if parts.iter().zip(&new).any(|(part, new)| new.is_some() && is_tar(part)) {
            bail!("it holds a tar archive with names or files that have the path");
        }
        match self {
            Self::Gzip => {
                let content = new.into_iter().next().flatten().unwrap_or_default();
                pack_gzip(bytes, &content).map(Some)
            }
            Self::Zip => pack_zip(bytes, &new).map(Some),
            _ => {
                bail!("its contents have the path, and are compressed in a way that is not written")
            }
        }
    }
}

fn read_limited(from: impl Read) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    from.take(UNPACKED.bytes + 1).read_to_end(&mut content)?;
    let mebibytes = UNPACKED.bytes >> 20;
    ensure!(content.len() as u64 <= UNPACKED.bytes, "it holds more than {mebibytes} MiB");
    Ok(content)
}

/// Compresses `content`, with the names and the time of the file with the bytes `old` (RFC 1952).
fn pack_gzip(old: &[u8], content: &[u8]) -> Result<Vec<u8>> {
    let decoder = MultiGzDecoder::new(old);
    let header = decoder.header().context("it has no header")?;
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

fn unpack_zip(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).context("it is no whole zip archive")?;
    let mut room = UNPACKED.bytes;
    let mut parts = Vec::new();
    for at in 0..archive.len() {
        let file = archive.by_index(at)?;
        let name = file.name().escaped().to_string();
        let content = read_limited(file).with_context(|| format!("{name} in it"))?;
        room = room.checked_sub(content.len() as u64).context("its files are too large")?;
        parts.push(content);
    }
    Ok(parts)
}

/// Writes the zip archive `old` with the files that have `new` contents. All others are copied as
/// they are.
fn pack_zip(old: &[u8], new: &[Option<Vec<u8>>]) -> Result<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(old))?;
    ensure!(archive.offset() == 0, "it is a program in front of a zip archive");
    let is_signed = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.starts_with("META-INF/")
            && [".SF", ".RSA", ".DSA", ".EC"].iter().any(|end| name.ends_with(end))
    };
    ensure!(!archive.file_names().any(is_signed), "it is a signed archive");
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.set_raw_comment(archive.comment().into())?;
    for (at, new) in new.iter().enumerate() {
        let file = archive.by_index_raw(at)?;
        let Some(content) = new else {
            writer.raw_copy_file(file)?;
            continue;
        };
        let mut options = SimpleFileOptions::default().compression_method(file.compression());
        if let Some(time) = file.last_modified() {
            options = options.last_modified_time(time);
        }
        if let Some(mode) = file.unix_mode() {
            options = options.unix_permissions(mode);
        }
        writer.start_file(file.name(), options)?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shout(text: &[u8]) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(text);
        text.contains("old").then(|| text.replace("old", "new").into_bytes())
    }

    #[test]
    fn gzip_keeps_its_header() {
        let pack = |text: &[u8]| {
            let mut writer =
                GzBuilder::new().mtime(7).filename("a.1").write(Vec::new(), Level::fast());
            writer.write_all(text).unwrap();
            writer.finish().unwrap()
        };
        let new = CompressedFile::Gzip.rewrite(&pack(b"an old man"), shout).unwrap().unwrap();
        assert_eq!(CompressedFile::of(&new), Some(CompressedFile::Gzip));
        assert_eq!(CompressedFile::Gzip.unpack(&new).unwrap(), [b"an new man"]);
        let decoder = MultiGzDecoder::new(new.as_slice());
        let header = decoder.header().unwrap();
        assert_eq!((header.mtime(), header.filename()), (7, Some(&b"a.1"[..])));
        assert_eq!(CompressedFile::Gzip.rewrite(&pack(b"a man"), shout).unwrap(), None);
        assert!(CompressedFile::Gzip.rewrite(b"\x1f\x8b\x08rest", shout).is_err());
    }

    #[test]
    fn zip_archives() {
        let pack = |name: &str, text: &[u8]| {
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default();
            writer.start_file("same", options).unwrap();
            writer.write_all(b"this").unwrap();
            writer.start_file(name, options.unix_permissions(0o755)).unwrap();
            writer.write_all(text).unwrap();
            writer.finish().unwrap().into_inner()
        };
        let new =
            CompressedFile::Zip.rewrite(&pack("x.py", b"an old man"), shout).unwrap().unwrap();
        assert_eq!(CompressedFile::Zip.unpack(&new).unwrap(), [&b"this"[..], b"an new man"]);
        let mut archive = ZipArchive::new(Cursor::new(new.as_slice())).unwrap();
        assert_eq!(archive.by_index(1).unwrap().unix_mode().unwrap() & 0o777, 0o755);
        let error = CompressedFile::Zip.rewrite(&pack("META-INF/a.SF", b"old"), shout).unwrap_err();
        assert!(error.to_string().contains("signed"), "{error}");
        let behind = [b"#!/bin/sh\n".as_slice(), &pack("a", b"old")].concat();
        let error = CompressedFile::Zip.rewrite(&behind, shout).unwrap_err();
        assert!(error.to_string().contains("in front of"), "{error}");
    }

    #[test]
    fn others_are_looked_into() {
        let zstd = zstd::encode_all(&b"an old man"[..], 1).unwrap();
        assert_eq!(CompressedFile::of(&zstd), Some(CompressedFile::Zstd));
        assert!(CompressedFile::Zstd.rewrite(&zstd, shout).is_err());
        let zstd = zstd::encode_all(&b"a man"[..], 1).unwrap();
        assert_eq!(CompressedFile::Zstd.rewrite(&zstd, shout).unwrap(), None);
    }
}
