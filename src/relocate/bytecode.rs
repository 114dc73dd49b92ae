//! Compiled copies of Python modules (`.pyc`). A copy names the size or a hash of its source (PEP 552),
//! so a source that is rewritten needs another header in its copies. The lines of the source keep
//! their numbers, and the code is the same.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use siphasher::sip::{SipHasher13, SipHasher24};

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
        let hash = self.hash_of(old)?;
        Some(Patch { offset: HASH_AT, bytes: self.hash(new, hash) })
    }

    /// Returns the hash function by which this is a copy of `source`.
    fn hash_of(&self, source: &[u8]) -> Option<SipHash> {
        let is_copy = |hash: &SipHash| self.bytes.ends_with(&self.hash(source, *hash));
        SipHash::ALL.into_iter().find(is_copy)
    }

    /// Returns whether this is a copy of a source with these contents and time of change.
    fn is_copy_of(&self, source: &[u8], time: Option<i64>) -> bool {
        if self.validation != Validation::Time {
            return self.hash_of(source).is_some();
        }
        let fields = [time.map(low_32_bits), Some(size_field(source))];
        let own = self.bytes[8..].chunks_exact(4);
        fields.iter().zip(own).all(|(field, own)| field.as_ref().is_none_or(|field| field == own))
    }

    /// Returns the change to a copy of a source whose code is another now: Python has to look at the
    /// source, and finds that the copy is stale.
    fn distrust(&self) -> Option<Patch> {
        let is_believed = self.validation == Validation::UncheckedHash;
        is_believed.then(|| Patch { offset: 4, bytes: vec![3] })
    }

    /// Returns the hash of a source; its key is the magic number (`_imp.source_hash`).
    fn hash(&self, source: &[u8], hash: SipHash) -> Vec<u8> {
        let magic = self.bytes.first_chunk().copied().unwrap_or_default();
        let key = u64::from(u32::from_le_bytes(magic));
        let hash = match hash {
            SipHash::Of13 => SipHasher13::new_with_keys(key, 0).hash(source),
            SipHash::Of24 => SipHasher24::new_with_keys(key, 0).hash(source),
        };
        hash.to_le_bytes().to_vec()
    }
}

/// Judgement of a compiled copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyState {
    /// It is one of the source, or of a form that this module does not know.
    Current,
    /// Python sees that it is none of the source, and compiles that again at each start.
    Stale,
    /// It is none of the source, and Python runs it.
    Believed,
}

/// Judges the copy that begins with `start`, of a source with these contents and time of change.
pub(crate) fn judge_copy(start: &[u8], source: &[u8], time: Option<i64>) -> CopyState {
    match CopyHeader::read(start) {
        Some(header) if !header.is_copy_of(source, time) => match header.validation {
            Validation::UncheckedHash => CopyState::Believed,
            Validation::Time | Validation::CheckedHash => CopyState::Stale,
        },
        _ => CopyState::Current,
    }
}

/// Hash function of a Python: 3.11 and newer do one round for each word, older ones two.
#[derive(Clone, Copy)]
enum SipHash {
    Of13,
    Of24,
}

impl SipHash {
    const ALL: [Self; 2] = [Self::Of13, Self::Of24];
}

fn low_32_bits(value: i64) -> Vec<u8> {
    value.to_le_bytes()[..4].to_vec()
}

fn size_field(source: &[u8]) -> Vec<u8> {
    // Python writes the low 32 bits.
    source.len().to_le_bytes().first_chunk::<4>().copied().unwrap_or_default().to_vec()
}

/// Returns the change to the header of the compiled copy at `copy`, of a source that was `old` and
/// becomes `new`. A copy that cannot be read was none before, and Python compiles its source again.
pub(super) fn follow_source(copy: &Path, old: &[u8], new: &[u8]) -> Option<Patch> {
    let start = input::read_start(copy, HEADER as u64).ok()?;
    CopyHeader::read(&start)?.follow(old, new)
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
        action: FileAction::Bytes(vec![patch.into()]),
    }
}

/// Plans the new header of the copy at `copy`.
fn plan_copy(action: &FileAction, source: &Path, copy: &Path) -> Option<Patch> {
    let FileAction::FirstLine { old, new } = action else {
        let start = input::read_start(copy, HEADER as u64).ok()?;
        return CopyHeader::read(&start)?.distrust();
    };
    let before = elf::open(input::open_walked(source).ok()?.file()).ok()?;
    let after = [new.as_slice(), before.get(*old..)?].concat();
    follow_source(copy, &before, &after)
}

fn is_module(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "py")
}

/// Returns the path of the module of which the file at `path` is a copy by its name:
/// `__pycache__/NAME.TAG.pyc` with `.opt-LEVEL` at times, or `NAME.pyc` beside it.
pub(crate) fn source_of(path: &Path) -> Option<PathBuf> {
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
        for function in SipHash::ALL {
            let unhashed = header(3, [0; 8]);
            let reader = CopyHeader::read(&unhashed).unwrap();
            let hash = |data: &[u8]| reader.hash(data, function).try_into().unwrap();
            let hashed = header(3, hash(b"old"));
            assert_eq!(follow(&hashed, b"old", b"new"), Some((8, hash(b"new").to_vec())));
        }
        assert_eq!(judge_copy(&timed, b"old", Some(0x0403_0201)), CopyState::Current);
        assert_eq!(judge_copy(&timed, b"old", Some(7)), CopyState::Stale);
        assert_eq!(judge_copy(&timed, b"newer", None), CopyState::Stale);
        let believed = header(1, [0; 8]);
        assert_eq!(judge_copy(&believed, b"old", None), CopyState::Believed);
        assert_eq!(CopyHeader::read(&believed).unwrap().distrust().unwrap().bytes, [3]);
        assert!(CopyHeader::read(&header(2, [0; 8])).is_none());
        assert!(CopyHeader::read(b"short").is_none());
    }
}
