//! Contents of a squashfs image, from a stream of unsquashfs. A line for each entry in the form of
//! pseudo files comes first (squashfs-tools, "Pseudo file definitions"), then the content of all
//! files. Nothing is written to disk, so a large image needs no more space than a small one.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::fstree::budget::TreeBudget;
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree};
use crate::fstree::image_path;
use crate::fstree::scan::{SPECIAL, WHITEOUT};

/// Separator between the lines and the content.
const DATA: &[u8] = b"#\n# START OF DATA - DO NOT MODIFY\n#\n";

/// Bytes of a line and of all lines that are kept in memory. A path has at most 4,096 bytes, and a
/// link may lead to one.
pub(super) const LONGEST_LINE: u64 = 1 << 16;
const LONGEST_LIST: u64 = 1 << 30;

/// Returns whether the lines can express all entries of `plan`. They have no extended attributes
/// (before squashfs-tools 4.6), and a name with a line break cannot be distinguished from two
/// names.
pub(crate) fn can_say(plan: &FileTree) -> bool {
    plan.entries.iter().all(|(path, entry)| {
        let of_two_lines = |path: &Path| path.as_os_str().as_bytes().contains(&b'\n');
        let target = matches!(&entry.kind, EntryKind::Link(target) if of_two_lines(target));
        entry.xattrs.is_empty() && !of_two_lines(path) && !target
    })
}

/// Reads such a stream within `budget` into `found`, with the root directory, whose path is empty.
pub(crate) fn read(
    stream: &mut dyn Read,
    budget: &mut TreeBudget,
    found: &mut FileTree,
) -> Result<()> {
    let mut stream = BufReader::with_capacity(1 << 20, stream);
    let mut files = Vec::new();
    let mut line = Vec::new();
    let mut listed = 0;
    loop {
        line.clear();
        let length = (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            bail!("the list of what the image holds ends early");
        }
        listed += length as u64;
        if length as u64 == LONGEST_LINE || listed > LONGEST_LIST {
            bail!("the list of what the image holds is too long");
        }
        if DATA.starts_with(&line) {
            break;
        }
        let (path, entry) = parse(line.strip_suffix(b"\n").unwrap_or(&line))
            .with_context(|| format!("{:?} is no entry", line.escaped()))?;
        budget.take(&path, &entry)?;
        if let EntryKind::File(content) = &entry.kind {
            files.push((path.clone(), content.size));
        }
        if found.entries.insert(path, entry).is_some() {
            bail!("{:?} is there twice", line.escaped());
        }
    }
    let mut rest = vec![0; DATA.len() - line.len()];
    stream.read_exact(&mut rest)?;
    if rest != DATA[line.len()..] {
        bail!("the list of what the image holds has no end");
    }
    for (path, size) in files {
        let given = digest::read_content(&path, (&mut stream).take(size))?;
        if given.size != size {
            bail!("the content of /{} ends early", path.escaped());
        }
        if let Some(Entry { kind: EntryKind::File(content), .. }) = found.entries.get_mut(&path) {
            *content = given;
        }
    }
    name_first(found);
    Ok(())
}

/// Makes the lowest name of each file its first name, as in every plan.
fn name_first(found: &mut FileTree) {
    let mut firsts: HashMap<PathBuf, PathBuf> = HashMap::new();
    for (path, entry) in &found.entries {
        if let EntryKind::HardLink(of) = &entry.kind
            && path < of
        {
            // The entries are in order, so the first of these names is the lowest.
            firsts.entry(of.clone()).or_insert_with(|| path.clone());
        }
    }
    for (old, first) in &firsts {
        let (Some(file), true) =
            (found.entries.get(old).cloned(), found.entries.contains_key(first))
        else {
            continue;
        };
        found.entries.insert(first.clone(), file);
    }
    for (path, entry) in &mut found.entries {
        if let Some(first) = firsts.get(path) {
            entry.kind = EntryKind::HardLink(first.clone());
        } else if let EntryKind::HardLink(of) = &mut entry.kind
            && let Some(first) = firsts.get(of)
        {
            of.clone_from(first);
        }
    }
    // Other names of a file get all properties of the file.
    let others: Vec<(PathBuf, PathBuf)> = found
        .entries
        .iter()
        .filter_map(|(path, entry)| match &entry.kind {
            EntryKind::HardLink(first) => Some((path.clone(), first.clone())),
            _ => None,
        })
        .collect();
    for (path, first) in others {
        let file = found.entries.get(&first).cloned();
        if let (Some(file), Some(entry)) = (file, found.entries.get_mut(&path)) {
            *entry = Entry { kind: entry.kind.clone(), ..file };
        }
    }
}

/// Parses one line: `NAME TYPE TIME MODE UID GID ...`, or `NAME L FIRST-NAME`.
fn parse(line: &[u8]) -> Result<(PathBuf, Entry)> {
    let (name, rest) = name(line)?;
    let path = image_path::parse(&name)?;
    let (kind, rest) = word(rest)?;
    let mut entry = Entry::shared_directory(0);
    if kind == b"L" {
        entry.kind = EntryKind::HardLink(image_path::parse(rest)?);
        return Ok((path, entry));
    }
    let (time, rest) = word(rest)?;
    let (mode, rest) = word(rest)?;
    let (uid, rest) = word(rest)?;
    let (gid, rest) = word(rest)?;
    entry.mtime = number(time)?;
    entry.mode = u32::from_str_radix(std::str::from_utf8(mode)?, 8)?;
    entry.uid = number(uid)?;
    entry.gid = number(gid)?;
    entry.kind = match kind {
        b"D" => EntryKind::Directory,
        b"S" => EntryKind::Link(self::path(rest)),
        b"R" => {
            let size = number(word(rest)?.0)?;
            EntryKind::File(FileContent::unread(ContentSource::Bytes(Vec::new()), size))
        }
        // An overlayfs whiteout has the number 0:0.
        b"C" if rest == b"0 0" => bail!(WHITEOUT),
        b"B" | b"C" | b"F" | b"I" => bail!(SPECIAL),
        other => bail!("it is of the type {:?}", other.escaped()),
    };
    Ok((path, entry))
}

/// Returns the name at the start of `line` and the rest after it. Spaces, quotes and backslashes in
/// the name are escaped with a backslash.
fn name(line: &[u8]) -> Result<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' => return Ok((name, line.get(at + 1..).unwrap_or_default())),
            b'\\' => name.push(*bytes.next().context("it ends in a backslash")?.1),
            byte => name.push(*byte),
        }
    }
    bail!("it has a name alone")
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_owned()))
}

/// Returns the first word of `text` and the rest after it.
fn word(text: &[u8]) -> Result<(&[u8], &[u8])> {
    let mut parts = text.splitn(2, |byte| *byte == b' ');
    let word = parts.next().filter(|word| !word.is_empty()).context("it ends early")?;
    Ok((word, parts.next().unwrap_or_default()))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(text)?;
    text.parse().ok().with_context(|| format!("{text:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> FileTree {
        FileTree::new(&"/opt/x".parse().unwrap(), 7)
    }

    fn read_within(stream: &mut dyn Read, found: &mut FileTree) -> Result<()> {
        read(stream, &mut TreeBudget::of_tree(), found)
    }

    fn stream(lines: &str, data: &str) -> Vec<u8> {
        [lines.as_bytes(), DATA, data.as_bytes()].concat()
    }

    #[test]
    fn entries_and_content() {
        let lines = "/ D 7 755 0 0\nb\\ \\\\ R 6 4755 1 2 3 0\na L b\\\\\nl S 7 777 0 0 to this\n";
        // The target of a hard link is not escaped.
        let lines = lines.replace("L b\\\\", "L b \\");
        let mut found = plan();
        read_within(&mut stream(&lines, "abc").as_slice(), &mut found).unwrap();
        let entry = |path: &str| found.entries.get(Path::new(path)).unwrap();
        assert_eq!(
            entry("b \\").kind,
            EntryKind::HardLink("a".into()),
            "the first name is the file"
        );
        assert_eq!((entry("a").mode, entry("a").uid, entry("a").gid), (0o4755, 1, 2));
        assert_eq!((entry("a").mtime, entry("a").size()), (6, 3));
        let EntryKind::File(content) = &entry("a").kind else { panic!("{:?}", entry("a")) };
        assert_eq!(content.sha256, Some(digest::hash_reader(&b"abc"[..]).unwrap().0));
        assert_eq!(entry("l").kind, EntryKind::Link("to this".into()));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = stream("/ D 7 755 0 0\na R 6 644 0 0 3 0\n", "abc");
        for length in 0..whole.len() {
            assert!(read_within(&mut &whole[..length], &mut plan()).is_err(), "{length}");
        }
        for name in ["/..", "../x", "a/../b", "a//b", "/./a", "a\0", "//etc"] {
            for line in [format!("{name} D 7 755 0 0"), format!("a L {name}")] {
                assert!(parse(line.as_bytes()).is_err(), "{line:?}");
            }
        }
        let endless = vec![b'a'; 2 * usize::try_from(LONGEST_LINE).unwrap()];
        let error = read_within(&mut &endless[..], &mut plan()).unwrap_err().to_string();
        assert_eq!(error, "the list of what the image holds is too long");
        let terabytes = format!("/ D 7 755 0 0\na R 6 644 0 0 {} 0\n", 8_u64 << 40);
        let error = read_within(&mut stream(&terabytes, "").as_slice(), &mut plan()).unwrap_err();
        assert!(error.to_string().starts_with("with the 8796093022208 bytes of /a,"), "{error}");
        for line in ["a", "a R", "a R x 644 0 0 1 0", "a B 7 644 0 0 1 1", "a\\"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn damaged_streams_are_errors_or_other_trees() {
        let lines = "/ D 7 755 0 0\na R 6 4755 1 2 3 0\nb L a\nc S 7 777 0 0 to\nd D 7 755 0 0\n";
        let whole = stream(lines, "abc");
        let mut refused = 0;
        crate::imagefmt::samples::damage(&whole, 5_000, |bytes| {
            refused += usize::from(read_within(&mut &*bytes, &mut plan()).is_err());
        });
        assert!(refused > 5_000, "{refused}");
    }
}
