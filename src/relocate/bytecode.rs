//! Compiled copies of Python modules (`.pyc`). A copy names the size or a hash of its source (PEP 552),
//! so a source that is rewritten needs another header in its copies. The lines of the source keep
//! their numbers, and the code is the same.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::base::input;
use crate::elf::{self, Patch};
use crate::relocate::scan::ScannedFile;
use crate::relocate::{FileAction, FileChange};

/// Number of bytes before the code: magic number, flags, and two fields of the source.
const HEADER: usize = 16;

/// Magic number of the first Python with this header (3.7).
const FIRST_MAGIC: u16 = 3393;

/// Field with the size of the source, after its time.
const SIZE_AT: u64 = 12;

/// Field with the hash of the source.
const HASH_AT: u64 = 8;

/// Check of a copy against its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validation {
    /// By the size and time of the source.
    Time,
    /// By the hash of the source.
    CheckedHash,
    /// None: the hash is believed.
    UncheckedHash,
}

/// Header of a copy.
struct CopyHeader<'a> {
    bytes: &'a [u8; HEADER],
    validation: Validation,
}

impl<'a> CopyHeader<'a> {
    /// Reads the header of the copy that begins with `start`. Returns `None` if it has another form.
    fn read(start: &'a [u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = start.first_chunk()?;
        let [low, high, b'\r', b'\n', flags, 0, 0, 0, ..] = *bytes else { return None };
        if u16::from_le_bytes([low, high]) < FIRST_MAGIC {
            return None;
        }
        let validation = match flags {
            0 => Validation::Time,
            1 => Validation::UncheckedHash,
            3 => Validation::CheckedHash,
            _ => return None,
        };
        Some(Self { bytes, validation })
    }

    /// Returns the new fields of a copy that was one of the source `old`, and still is one of `new`.
    fn follow(&self, old: &[u8], new: &[u8]) -> Option<Patch> {
        if self.validation == Validation::Time {
            let is_copy = self.bytes.ends_with(&size_field(old));
            return is_copy.then(|| Patch { offset: SIZE_AT, bytes: size_field(new) });
        }
        // Python 3.11 and newer do one round for each word, older ones two.
        let rounds = [(1, 3), (2, 4)];
        let is_copy =
            |(each, end): &(usize, usize)| self.bytes.ends_with(&self.hash(old, *each, *end));
        let (each, end) = rounds.into_iter().find(is_copy)?;
        Some(Patch { offset: HASH_AT, bytes: self.hash(new, each, end) })
    }

    /// Returns the change to a copy of a source whose code is another now: Python has to look at the
    /// source, and finds that the copy is stale.
    fn distrust(&self) -> Option<Patch> {
        let is_believed = self.validation == Validation::UncheckedHash;
        is_believed.then(|| Patch { offset: 4, bytes: vec![3] })
    }

    /// Returns the hash of a source; its key is the magic number (`_imp.source_hash`).
    fn hash(&self, source: &[u8], compress: usize, finish: usize) -> Vec<u8> {
        let magic = self.bytes.first_chunk().copied().unwrap_or_default();
        let key = u64::from(u32::from_le_bytes(magic));
        sip_hash(key, source, compress, finish).to_le_bytes().to_vec()
    }
}

fn size_field(source: &[u8]) -> Vec<u8> {
    // Python writes the low 32 bits.
    source.len().to_le_bytes().first_chunk::<4>().copied().unwrap_or_default().to_vec()
}

/// Returns `SipHash` of `data` for a key of which the second half is 0.
fn sip_hash(key: u64, data: &[u8], compress: usize, finish: usize) -> u64 {
    let mut v = [
        key ^ 0x736f_6d65_7073_6575,
        0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        0x7465_6462_7974_6573,
    ];
    let mut chunks = data.chunks_exact(8);
    let mut absorb = |word: u64| {
        v[3] ^= word;
        (0..compress).for_each(|_| sip_round(&mut v));
        v[0] ^= word;
    };
    for chunk in chunks.by_ref() {
        absorb(u64::from_le_bytes(chunk.first_chunk().copied().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last.iter_mut().zip(chunks.remainder()).for_each(|(to, from)| *to = *from);
    absorb(u64::from_le_bytes(last) | (data.len() as u64) << 56);
    v[2] ^= 0xff;
    (0..finish).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(state: &mut [u64; 4]) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
    v0 = v0.wrapping_add(v1);
    v1 = v1.rotate_left(13) ^ v0;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v3);
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.wrapping_add(v3);
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v2 = v2.rotate_left(32);
    *state = [v0, v1, v2, v3];
}

/// Plans new headers for the compiled copies of the modules that change. Only the neighbours of
/// these modules are read.
pub(super) fn plan_copies(changes: &[FileChange], files: &[ScannedFile]) -> Vec<FileChange> {
    let modules = changes.iter().filter(|change| change.paths.iter().any(|path| is_module(path)));
    let modules: Vec<_> = modules.collect();
    if modules.is_empty() {
        return Vec::new();
    }
    let mut by_source: HashMap<PathBuf, Vec<&ScannedFile>> = HashMap::new();
    let mut by_path: HashMap<&Path, &ScannedFile> = HashMap::new();
    for file in files {
        for path in &file.paths {
            if let Some(source) = source_of(path) {
                by_source.entry(source).or_default().push(file);
            } else if is_module(path) {
                by_path.insert(path, file);
            }
        }
    }
    let mut planned: HashMap<&Path, FileChange> = HashMap::new();
    for change in modules {
        for path in &change.paths {
            let Some(source) = by_path.get(path.as_path()) else { continue };
            for copy in by_source.get(path).into_iter().flatten() {
                let patch = plan_copy(&change.action, &source.disk, &copy.disk);
                planned.extend(patch.map(|patch| (copy.disk.as_path(), describe(copy, patch))));
            }
        }
    }
    planned.into_values().collect()
}

fn describe(copy: &ScannedFile, patch: Patch) -> FileChange {
    FileChange {
        paths: copy.paths.clone(),
        descriptions: vec!["header of a compiled copy follows its source".to_owned()],
        action: FileAction::Bytes(vec![patch]),
    }
}

/// Plans the new header of the copy at `copy`. A copy that cannot be read was none before, and Python
/// compiles its source again.
fn plan_copy(action: &FileAction, source: &Path, copy: &Path) -> Option<Patch> {
    let start = input::read_start(copy, HEADER as u64).ok()?;
    let header = CopyHeader::read(&start)?;
    let FileAction::FirstLine { old, new } = action else { return header.distrust() };
    let before = elf::open(input::open_walked(source).ok()?.file()).ok()?;
    let after = [new.as_slice(), before.get(*old..)?].concat();
    header.follow(&before, &after)
}

fn is_module(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "py")
}

/// Returns the path of the module of which the file at `path` is a copy by its name:
/// `__pycache__/NAME.TAG.pyc` with `.opt-LEVEL` at times, or `NAME.pyc` beside it.
fn source_of(path: &Path) -> Option<PathBuf> {
    if path.extension()? != "pyc" {
        return None;
    }
    let dir = path.parent()?;
    if dir.file_name() != Some(OsStr::new("__pycache__")) {
        return Some(path.with_extension("py"));
    }
    let stem = Path::new(path.file_stem()?);
    let is_optimized =
        stem.extension().is_some_and(|suffix| suffix.as_encoded_bytes().starts_with(b"opt-"));
    let stem = if is_optimized { Path::new(stem.file_stem()?) } else { stem };
    let mut name = stem.file_stem()?.to_owned();
    name.push(".py");
    Some(dir.parent()?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_by_their_names() {
        let source = |path: &str| source_of(Path::new(path));
        let module = Some(PathBuf::from("/x/a.b.py"));
        assert_eq!(source("/x/__pycache__/a.b.cpython-311.pyc"), module);
        assert_eq!(source("/x/__pycache__/a.b.cpython-311.opt-2.pyc"), module);
        assert_eq!(source("/x/a.b.pyc"), module);
        assert_eq!(source("/x/a.b.py"), None);
        assert_eq!(source("/x/__pycache__/a.pyc"), Some("/x/a.py".into()));
    }

    #[test]
    fn headers_follow_their_source() {
        let header = |flags: u8, fields: [u8; 8]| {
            [&[0xa7, 0x0d, b'\r', b'\n', flags, 0, 0, 0], fields.as_slice()].concat()
        };
        let follow = |bytes: &[u8], old: &[u8], new: &[u8]| {
            CopyHeader::read(bytes)?.follow(old, new).map(|patch| (patch.offset, patch.bytes))
        };
        let timed = header(0, [1, 2, 3, 4, 3, 0, 0, 0]);
        assert_eq!(follow(&timed, b"old", b"newer"), Some((12, vec![5, 0, 0, 0])));
        assert_eq!(follow(&timed, b"other", b"newer"), None, "it was stale before");
        for rounds in [(1, 3), (2, 4)] {
            let key = 0x0a0d_0da7;
            let hash = |data: &[u8]| sip_hash(key, data, rounds.0, rounds.1).to_le_bytes();
            let hashed = header(3, hash(b"old"));
            assert_eq!(follow(&hashed, b"old", b"new"), Some((8, hash(b"new").to_vec())));
        }
        let believed = header(1, [0; 8]);
        assert_eq!(CopyHeader::read(&believed).unwrap().distrust().unwrap().bytes, [3]);
        assert!(CopyHeader::read(&header(2, [0; 8])).is_none());
        assert!(CopyHeader::read(b"short").is_none());
    }
}
