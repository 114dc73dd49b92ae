//! Zip archives: of Java and Python, also behind a program or a first line that runs them.

use std::io::{Cursor, Seek, SeekFrom, Write};

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::base::escape::Escape;
use crate::relocate::prefix_change::room::UnpackRoom;

/// Record at the end of an archive, without its comment (APPNOTE.TXT, section 4.3.16).
const END: usize = 22;
/// Header of a file, without its name (section 4.3.7).
const HEADER: usize = 30;
const END_MAGIC: &[u8] = b"PK\x05\x06";

/// Returns whether these are the bytes of a zip archive: alone, or behind something that is run.
pub(super) fn is_zip(bytes: &[u8]) -> bool {
    let is_run = ["#!".as_bytes(), b"\x7fELF", b"MZ"].iter().any(|magic| bytes.starts_with(magic));
    bytes.starts_with(b"PK\x03\x04") || is_run && find_end(bytes).is_some()
}

/// Returns the record at the end of an archive, whose comment ends with the file.
fn find_end(bytes: &[u8]) -> Option<&[u8]> {
    let from = bytes.len().saturating_sub(END + usize::from(u16::MAX));
    let rest = bytes.get(from..)?;
    memmem::rfind_iter(rest, END_MAGIC).filter_map(|at| rest.get(at..)).find(|end| {
        let comment = end.get(END - 2..END).and_then(|field| field.try_into().ok());
        comment.is_some_and(|field| usize::from(u16::from_le_bytes(field)) + END == end.len())
    })
}

/// Returns a zip archive with its files changed by `change`, or `None` if that changes none. So are
/// the bytes in front of the archive, if their number stays the same: they may find things in it by
/// their places.
///
/// # Errors
///
/// Fails if the archive cannot be read, if it has files to change and cannot be written anew, or if
/// `rename` has another name for one.
pub(super) fn rewrite(
    bytes: &[u8],
    room: &UnpackRoom,
    mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    rename: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).context("it is no whole zip archive")?;
    let mut begin = bytes.len();
    let (mut new, mut is_plain) = (Vec::new(), true);
    let mut is_named = rename(archive.comment()).is_some();
    for at in 0..archive.len() {
        let file = archive.by_index(at)?;
        let name = file.name().escaped().to_string();
        begin = begin.min(usize::try_from(file.header_start())?);
        let is_link = file.is_symlink();
        is_named |= rename(file.name_raw()).is_some();
        let content = room.read(file).with_context(|| format!("{name} in it cannot be read"))?;
        let content = change(&content);
        is_plain &= content.is_none() || !is_link;
        new.push(content);
    }
    let front = bytes.get(..begin).unwrap_or_default();
    // The header that follows has zeros, and makes data of a text: its length is kept.
    let with_header = bytes.get(..begin.saturating_add(HEADER)).unwrap_or(front);
    let new_front = if front.is_empty() { None } else { change(with_header) };
    ensure!(
        new_front.as_ref().is_none_or(|new| new.get(begin..) == with_header.get(begin..)),
        "the path is across the beginning of a zip archive"
    );
    let new_front = new_front.and_then(|new| Some(new.get(..begin)?.to_vec()));
    ensure!(!is_named, "names of files in it have the path");
    // The reader keeps one file of each name.
    let has_twins = find_end(bytes).is_some_and(|end| {
        let count = end.get(10..12).and_then(|field| field.try_into().ok()).map(u16::from_le_bytes);
        count.is_some_and(|count| count != u16::MAX && usize::from(count) != archive.len())
    });
    ensure!(!has_twins, "it has several files of one name");
    if new.iter().all(Option::is_none) {
        return Ok(new_front.map(|new| [&new, bytes.get(begin..).unwrap_or_default()].concat()));
    }
    ensure!(is_plain, "a link in it has the path");
    ensure!(
        front.is_empty() || front.starts_with(b"#!"),
        "it is a program in front of a zip archive"
    );
    pack(&mut archive, new_front.as_deref().unwrap_or(front), &new).map(Some)
}

/// Writes the archive behind `front` with the files that have `new` contents. All others are copied
/// as they are.
fn pack(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    front: &[u8],
    new: &[Option<Vec<u8>>],
) -> Result<Vec<u8>> {
    let is_signed = |name: &str| {
        let name = name.to_ascii_uppercase();
        name.starts_with("META-INF/")
            && [".SF", ".RSA", ".DSA", ".EC"].iter().any(|end| name.ends_with(end))
    };
    ensure!(!archive.file_names().any(is_signed), "it is a signed archive");
    // Python counts offsets from the start of the file, others from that of the archive.
    let is_relative = archive.offset() != 0;
    let mut place = Cursor::new(if is_relative { Vec::new() } else { front.to_vec() });
    place.seek(SeekFrom::End(0))?;
    let mut writer = ZipWriter::new(place);
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
    let written = writer.finish()?.into_inner();
    Ok(if is_relative { [front, &written].concat() } else { written })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shout(text: &[u8]) -> Option<Vec<u8>> {
        let at = memmem::find(text, b"old")?;
        Some([&text[..at], b"new", &text[at + 3..]].concat())
    }

    fn change(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        rewrite(bytes, &UnpackRoom::of_file(), shout, |_| None)
    }

    fn refused(bytes: &[u8]) -> String {
        change(bytes).unwrap_err().to_string()
    }

    fn files(bytes: &[u8]) -> Vec<String> {
        let mut files = Vec::new();
        let keep = |content: &[u8]| {
            if !content.starts_with(b"#!") {
                files.push(String::from_utf8_lossy(content).into_owned());
            }
            None
        };
        rewrite(bytes, &UnpackRoom::of_file(), keep, |_| None).unwrap();
        files
    }

    fn pack_behind(front: &str, name: &str, text: &str) -> Vec<u8> {
        let mut place = Cursor::new(front.as_bytes().to_vec());
        place.seek(SeekFrom::End(0)).unwrap();
        let mut writer = ZipWriter::new(place);
        let options = SimpleFileOptions::default();
        writer.start_file("same", options).unwrap();
        writer.write_all(b"this").unwrap();
        writer.start_file(name, options.unix_permissions(0o755)).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn files_are_written_anew() {
        let new = change(&pack_behind("", "x.py", "an old man")).unwrap().unwrap();
        assert_eq!(files(&new), ["this", "an new man"]);
        let mut archive = ZipArchive::new(Cursor::new(new.as_slice())).unwrap();
        assert_eq!(archive.by_index(1).unwrap().unix_mode().unwrap() & 0o777, 0o755);
        assert_eq!(change(&pack_behind("", "x.py", "a man")).unwrap(), None);
        assert!(refused(&pack_behind("", "META-INF/a.SF", "old")).contains("signed"));
    }

    #[test]
    fn a_first_line_keeps_its_length() {
        let line = "#!/old/python3\n";
        for is_relative in [false, true] {
            for (text, changed) in [("an old man", "an new man"), ("a man", "a man")] {
                let bytes = if is_relative {
                    [line.as_bytes(), &pack_behind("", "x.py", text)].concat()
                } else {
                    pack_behind(line, "x.py", text)
                };
                assert!(is_zip(&bytes));
                let new = change(&bytes).unwrap().unwrap();
                assert!(new.starts_with(b"#!/new/python3\nPK"), "{is_relative}");
                assert_eq!(files(&new), ["this", changed], "{is_relative}");
                let offset = |bytes| ZipArchive::new(Cursor::new(bytes)).unwrap().offset();
                assert_eq!(offset(new.as_slice()), offset(&bytes), "{is_relative}");
            }
        }
        let program = pack_behind("\x7fELF program", "x.py", "an old man");
        assert!(refused(&program).contains("in front of"));
        assert!(!is_zip(b"#!/bin/sh\nexec x\n"));
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("link", "/old", SimpleFileOptions::default()).unwrap();
        let link = writer.finish().unwrap().into_inner();
        assert!(refused(&link).contains("a link in it"));
        // The writer makes no twins: the second name is changed afterwards.
        let mut twins = pack_behind("", "som3", "an old man");
        let places: Vec<usize> = memmem::find_iter(&twins, b"som3").collect();
        for at in places {
            twins[at..at + 4].copy_from_slice(b"same");
        }
        assert!(refused(&twins).contains("one name"));
        let named = pack_behind("", "in/old", "a man");
        let error = rewrite(&named, &UnpackRoom::of_file(), shout, shout).unwrap_err();
        assert!(error.to_string().contains("names of files"), "{error}");
    }
}
