//! Tar archives: each header has a sum of itself and the size of its file (POSIX, "ustar Interchange
//! Format" and "pax Interchange Format"; the GNU tar manual, "Basic Tar Format").

use anyhow::{Context, Result, bail, ensure};

/// Size of a header, and of the blocks that files fill.
const BLOCK: usize = 512;

/// Fields of a header.
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const SUM: std::ops::Range<usize> = 148..156;
const KIND: usize = 156;
const TARGET: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..263;
/// Directories before the name, in archives with the magic of POSIX alone.
const DIRECTORIES: std::ops::Range<usize> = 345..500;

/// Bytes that are not 0 if a header with more holes follows: in a header, and in one of those.
const MORE_HOLES: usize = 482;
const MORE_STILL: usize = 504;

/// Largest size that a field of 11 octal digits has room for.
const LARGEST: usize = 0o777_7777_7777;

type TarHeader = [u8; BLOCK];

/// Returns whether these are the bytes of a tar archive: the sum of the first header fits.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|header| header[0] != 0 && has_sum(header))
}

/// Returns a tar archive with its files changed by `change`, and its names and the targets of its
/// links by `rename`; `None` if these change none.
///
/// # Errors
///
/// Fails if the archive cannot be read, or has a file to change that cannot get another size.
pub(super) fn rewrite(
    bytes: &[u8],
    mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    rename: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    // Bytes of the old archive are copied once something before them has changed.
    let (mut new, mut copied) = (Vec::new(), 0);
    let (mut at, mut is_fixed) = (0, false);
    while let Some(header) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        ensure!(has_sum(header), "it is a damaged tar archive");
        let size = read_size(header).context("it is a damaged tar archive")?;
        let begin = at + BLOCK + more_headers(header, bytes.get(at + BLOCK..).unwrap_or_default());
        let content = bytes.get(begin..).and_then(|rest| rest.get(..size));
        let content = content.context("it is a tar archive that ends early")?;
        let new_content = match header[KIND] {
            b'L' | b'K' => rename(content),
            b'x' | b'g' => {
                is_fixed = describes_size(content);
                rename_records(content, &rename)?
            }
            b'0' | b'7' | b'S' | 0 => change(content),
            _ if change(content).is_some() => {
                bail!("a part of its own kind in the tar archive has the path")
            }
            _ => None,
        };
        let is_file = matches!(header[KIND], b'0' | b'7' | b'S' | 0);
        let is_other_size = new_content.as_ref().is_some_and(|new| new.len() != size);
        if is_file && is_other_size && (is_fixed || header[KIND] == b'S') {
            bail!("a file with holes or of a size of its own in the tar archive has the path");
        }
        is_fixed &= !is_file;
        let new_header = rename_header(header, &rename);
        let end = begin + size.next_multiple_of(BLOCK);
        if new_content.is_some() || new_header.is_some() {
            new.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
            let content = new_content.as_deref().unwrap_or(content);
            let mut header = new_header.unwrap_or(*header);
            if is_other_size {
                write_size(&mut header, content.len())?;
            }
            write_sum(&mut header);
            new.extend_from_slice(&header);
            new.extend_from_slice(bytes.get(at + BLOCK..begin).unwrap_or_default());
            new.extend_from_slice(content);
            new.resize(new.len().next_multiple_of(BLOCK), 0);
            copied = end.min(bytes.len());
        }
        at = end;
    }
    if copied == 0 {
        return Ok(None);
    }
    new.extend_from_slice(bytes.get(copied..).unwrap_or_default());
    Ok(Some(new))
}

/// Returns the size of the headers in `behind` that say more of the holes of a file (GNU tar).
fn more_headers(header: &TarHeader, behind: &[u8]) -> usize {
    if header[KIND] != b'S' || header[MORE_HOLES] == 0 {
        return 0;
    }
    let blocks = behind.chunks_exact(BLOCK);
    let last = blocks.clone().position(|block| block[MORE_STILL] == 0);
    last.map_or(blocks.len(), |last| last + 1) * BLOCK
}

/// Returns the sum of a header, in which its own field counts as blanks.
fn sum(header: &TarHeader) -> u32 {
    let bytes = header.iter().enumerate();
    bytes.map(|(at, byte)| if SUM.contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

fn has_sum(header: &TarHeader) -> bool {
    read_octal(&header[SUM]).is_some_and(|own| own == u64::from(sum(header)))
}

fn write_sum(header: &mut TarHeader) {
    let text = format!("{:06o}\0 ", sum(header));
    header[SUM].copy_from_slice(text.as_bytes());
}

/// Returns the number in a field: digits with blanks before them, and a blank or NUL behind.
fn read_octal(field: &[u8]) -> Option<u64> {
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let digits = digits.take_while(|byte| !b" \0".contains(byte)).copied().collect::<Vec<_>>();
    u64::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()
}

/// Returns the size of the file behind a header. A large one is a number in base 256.
fn read_size(header: &TarHeader) -> Option<usize> {
    let field = &header[SIZE];
    let size = match field {
        [0x80, 0, 0, 0, number @ ..] => u64::from_be_bytes(number.try_into().ok()?),
        [first, ..] if first & 0x80 != 0 => return None,
        _ => read_octal(field)?,
    };
    // Directories and links of some writers have a size, and no content.
    let has_content = !matches!(header[KIND], b'1'..=b'6');
    usize::try_from(size).ok().map(|size| if has_content { size } else { 0 })
}

fn write_size(header: &mut TarHeader, size: usize) -> Result<()> {
    ensure!(size <= LARGEST, "a file in the tar archive is too large");
    header[SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
    Ok(())
}

/// Returns the header with other names, if `rename` changes one. No new name is longer.
fn rename_header(
    header: &TarHeader,
    rename: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<TarHeader> {
    let mut new = *header;
    let has_directories = header[MAGIC] == *b"ustar\0";
    let fields = [NAME, TARGET].into_iter().chain(has_directories.then_some(DIRECTORIES));
    for field in fields {
        let text = header[field.clone()].split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(name) = rename(text) {
            let place = &mut new[field];
            place.fill(0);
            place.iter_mut().zip(name).for_each(|(place, byte)| *place = byte);
        }
    }
    (new != *header).then_some(new)
}

/// Returns whether the records of an extended header say where the bytes of the next file are.
fn describes_size(records: &[u8]) -> bool {
    let has = |key: &[u8]| memchr::memmem::find(records, key).is_some();
    has(b" size=") || has(b" GNU.sparse.")
}

/// Returns the records of an extended header with other values: `LENGTH KEY=VALUE\n`, with the length
/// of all of that.
fn rename_records(
    records: &[u8],
    rename: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>> {
    let (mut new, mut rest, mut is_changed) = (Vec::new(), records, false);
    while !rest.is_empty() {
        let split = split_record(rest).context("it is a tar archive with damaged records")?;
        let (text, behind) = split;
        match rename(text) {
            Some(text) => {
                new.extend_from_slice(&record(&text));
                is_changed = true;
            }
            None => new.extend_from_slice(&rest[..rest.len() - behind.len()]),
        }
        rest = behind;
    }
    Ok(is_changed.then_some(new))
}

/// Splits off the text of the first record, with its newline.
fn split_record(records: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(records.get(..blank)?).ok()?.parse().ok()?;
    Some((records.get(blank + 1..length)?, records.get(length..)?))
}

fn record(text: &[u8]) -> Vec<u8> {
    let without = text.len() + 1;
    let mut length = without + 1;
    while length != without + length.to_string().len() {
        length = without + length.to_string().len();
    }
    [format!("{length} ").as_bytes(), text].concat()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn shout(text: &[u8]) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(text);
        text.contains("/old").then(|| text.replace("/old", "/n").into_bytes())
    }

    fn change(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        rewrite(bytes, shout, shout)
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .map(|mut entry| {
                let name = entry.path().unwrap().to_string_lossy().into_owned();
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                let link = entry.link_name().unwrap();
                (name, link.map_or(text, |link| link.to_string_lossy().into_owned()))
            })
            .collect()
    }

    fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn files_and_names_change() {
        let long = format!("{}/old/a", "d/".repeat(80));
        let bytes = archive(&[("first", "x"), ("a", "in /old/usr"), (&long, ""), ("z", "last")]);
        assert!(is_tar(&bytes));
        let new = change(&bytes).unwrap().unwrap();
        let short = long.replace("/old", "/n");
        assert_eq!(
            read(&new),
            pairs(&[("first", "x"), ("a", "in /n/usr"), (&short, ""), ("z", "last")])
        );
        assert_eq!(change(&new).unwrap(), None);
        assert_eq!(new.len() % BLOCK, 0);
    }

    #[test]
    fn links_and_records_change() {
        let mut builder = tar::Builder::new(Vec::new());
        let records = [("path", b"/old/x/name".as_slice()), ("comment", b"none")];
        builder.append_pax_extensions(records).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", "/old/usr/bin").unwrap();
        let new = change(&builder.into_inner().unwrap()).unwrap().unwrap();
        assert_eq!(read(&new), pairs(&[("/n/x/name", "/n/usr/bin")]));
    }

    #[test]
    fn damaged_ones_are_told() {
        let bytes = archive(&[("a", "in /old/usr"), ("b", "b")]);
        assert!(change(&bytes[..BLOCK + 5]).unwrap_err().to_string().contains("ends early"));
        let mut damaged = bytes.clone();
        damaged[2 * BLOCK] = b'x';
        assert!(change(&damaged).unwrap_err().to_string().contains("damaged"));
        assert!(!is_tar(&damaged[2 * BLOCK..]));
        assert!(!is_tar(&[0; 1024]) && !is_tar(b"short"));
    }

    #[test]
    fn records_have_their_own_length() {
        for length in [1, 5, 6, 7, 8, 95, 96, 97, 98, 994, 995, 996, 997] {
            let text = format!("{}\n", "x".repeat(length));
            let record = record(text.as_bytes());
            assert_eq!(split_record(&record), Some((text.as_bytes(), &b""[..])), "{length}");
        }
    }
}
