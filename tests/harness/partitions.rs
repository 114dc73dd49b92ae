//! Partitions of a disk image, as the kernel's tools see them.

use std::path::{Path, PathBuf};

use super::tools::stdout_of;

/// A partition.
pub(crate) struct Partition {
    /// Its type, a UUID.
    pub kind: String,
    /// Its UUID without dashes: half of a root hash.
    pub uuid: String,
    /// A file with what is in it.
    pub file: PathBuf,
}

/// Writes what is in each partition of `image` beside it.
pub(crate) fn partitions(image: &Path) -> Vec<Partition> {
    let path = image.to_str().unwrap();
    let table = stdout_of("partx", ["--noheadings", "-o", "START,SECTORS,TYPE,UUID", "-s", path]);
    let bytes = fs_err::read(image).unwrap();
    let partition = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let start = words[0].parse::<usize>().unwrap() * 512;
        let size = words[1].parse::<usize>().unwrap() * 512;
        let file = image.with_extension(words[2]);
        fs_err::write(&file, &bytes[start..start + size]).unwrap();
        Partition { kind: words[2].to_owned(), uuid: words[3].replace('-', ""), file }
    };
    table.lines().map(partition).collect()
}
