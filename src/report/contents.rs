//! Lists of files in the formats of Flatcar's `write_contents`,
//! `write_contents_with_technical_details` and `write_disk_space_usage` (flatcar/scripts,
//! `build_library/reports_util.sh`).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use indicatif::HumanBytes;
use time::OffsetDateTime;

use crate::base::escape::Escape;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::host::disk::Fill;
use crate::report::ImageFile;

/// Writes a list like that of `ls -l`, sorted by path.
pub(super) fn contents(plan: &FileTree, out: &mut dyn Write) -> Result<()> {
    let names = LinkCounts::count_links(plan);
    let root = Entry::shared_directory(plan.epoch);
    for (path, entry) in with_root(plan, &root) {
        let time = OffsetDateTime::from_unix_timestamp(i64::try_from(entry.mtime)?)?;
        let target = match &entry.kind {
            EntryKind::Link(target) => format!(" -> {}", target.escaped()),
            _ => String::new(),
        };
        writeln!(
            out,
            "{} {:2} {:<7} {:<7} {:>7} {:04}-{:02}-{:02} {:02}:{:02} ./{}{target}",
            permissions(entry),
            names.count(path, entry),
            owner(entry.uid),
            owner(entry.gid),
            size(plan, entry),
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            path.escaped(),
        )?;
    }
    Ok(())
}

/// Writes a list for programs that compare images. The device number is always 0. Inode numbers
/// count the files of this image.
pub(super) fn with_details(plan: &FileTree, out: &mut dyn Write) -> Result<()> {
    let names = LinkCounts::count_links(plan);
    let root = Entry::shared_directory(plan.epoch);
    // Only files with several names are looked up again.
    let mut numbers: BTreeMap<&Path, usize> = BTreeMap::new();
    for (index, (path, entry)) in with_root(plan, &root).enumerate() {
        let number = match &entry.kind {
            EntryKind::HardLink(first) => {
                numbers.get(first.as_path()).copied().unwrap_or(index + 1)
            }
            _ => index + 1,
        };
        if names.others.contains_key(path) {
            numbers.insert(path, number);
        }
        writeln!(
            out,
            "{} 0 {number} {} {} ./{}",
            permissions(entry),
            names.count(path, entry),
            size(plan, entry),
            path.escaped()
        )?;
    }
    Ok(())
}

/// Renders a table like that of `df`: mounted filesystems with their types, then images. A
/// read-only filesystem is always full.
pub(crate) fn disk_usage(mounted: &[(String, Fill, String)], images: &[ImageFile]) -> String {
    let mut rows = vec![["File", "Size", "Used", "Avail", "Use%", "Type"].map(String::from)];
    for (name, fill, kind) in mounted {
        let bytes = |bytes: u64| HumanBytes(bytes).to_string().replace(' ', "");
        rows.push([
            name.clone(),
            bytes(fill.size),
            bytes(fill.used),
            bytes(fill.free),
            format!("{}%", fill.percent()),
            kind.clone(),
        ]);
    }
    for image in images {
        let size = HumanBytes(image.size).to_string().replace(' ', "");
        let words = ["0", "100%", &image.format].map(String::from);
        let [avail, percent, format] = words;
        rows.push([image.name.clone(), size.clone(), size, avail, percent, format]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        text += &format!("{:<width$}", row[0], width = widths[0]);
        for column in 1..5 {
            text += &format!(" {:>width$}", row[column], width = widths[column]);
        }
        text += &format!(" {}\n", row[5]);
    }
    text
}

/// Returns the root directory, then all entries.
fn with_root<'a>(
    plan: &'a FileTree,
    root: &'a Entry,
) -> impl Iterator<Item = (&'a Path, &'a Entry)> {
    let entries = plan.entries.iter().map(|(path, entry)| (path.as_path(), entry));
    std::iter::once((Path::new(""), root)).chain(entries)
}

/// Link counts of the entries.
struct LinkCounts<'a> {
    others: BTreeMap<&'a Path, u32>,
    directories: BTreeMap<&'a Path, u32>,
}

impl<'a> LinkCounts<'a> {
    fn count_links(plan: &'a FileTree) -> Self {
        let mut directories = BTreeMap::new();
        for (path, entry) in &plan.entries {
            if let (true, Some(parent)) = (entry.is_directory(), path.parent()) {
                *directories.entry(parent).or_default() += 1;
            }
        }
        Self { others: plan.other_names(), directories }
    }

    fn count(&self, path: &Path, entry: &Entry) -> u32 {
        match &entry.kind {
            // Its own name, its entry `.`, and the entry `..` of each subdirectory.
            EntryKind::Directory => 2 + self.directories.get(path).copied().unwrap_or(0),
            EntryKind::HardLink(first) => {
                1 + self.others.get(first.as_path()).copied().unwrap_or(0)
            }
            _ => 1 + self.others.get(path).copied().unwrap_or(0),
        }
    }
}

fn size(plan: &FileTree, entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::HardLink(first) => plan.entries.get(first).map_or(0, Entry::size),
        EntryKind::Link(target) => target.as_os_str().len() as u64,
        _ => entry.size(),
    }
}

fn owner(id: u32) -> String {
    if id == 0 { "root".to_owned() } else { id.to_string() }
}

/// Renders type and permissions as in `drwxr-xr-x`.
fn permissions(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::Directory => 'd',
        EntryKind::Link(_) => 'l',
        EntryKind::File(_) | EntryKind::HardLink(_) => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}
