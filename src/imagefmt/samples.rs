//! Small images, whole and damaged, for tests of readers.

use crate::fstree::digest;
use crate::fstree::entries::{Entry, EntryKind, FileTree};
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::{ImageFormat, ImageInput};

/// Name of a file in the sample, which tests replace by names of the same length.
pub(super) const NAME: &str = "some-name";

/// Returns a tree with entries of every kind, files of every size that formats treat in their own
/// way among them.
pub(super) fn tree() -> FileTree {
    let mut tree = FileTree::new(&"/opt/x".parse().unwrap(), 1_000_000);
    let mut state = 7_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..9_000).map(|_| random()).collect();
    let words: Vec<u8> = (0..30_000).map(|_| b'a' + (random() & 3)).collect();
    let mut add = |path: &str, kind: Option<EntryKind>, bytes: &[u8]| {
        let mut entry = Entry::generated(bytes.to_owned(), 1_000_000);
        if let Some(kind) = kind {
            entry.mode = if kind == EntryKind::Directory { 0o755 } else { 0o777 };
            entry.kind = kind;
        }
        tree.add(path, entry).unwrap();
    };
    add("opt/x/empty", None, b"");
    add("opt/x/noise", None, &noise);
    add("opt/x/words", None, &words);
    add("opt/x/zeros", None, &vec![0; 70_000]);
    add("opt/x/block", None, &words[..4096]);
    add(&format!("opt/x/{NAME}"), None, b"content");
    add("opt/x/link", Some(EntryKind::Link("words".into())), b"");
    add("opt/x/inner/deep", Some(EntryKind::Directory), b"");
    for number in 0..20 {
        add(&format!("opt/x/inner/{number}"), None, &words[..number * 77]);
    }
    digest::hash_contents(&mut tree).unwrap();
    tree
}

/// Writes the sample in `format` and returns the bytes of the image.
pub(super) fn image(format: &str) -> Vec<u8> {
    image_of(&tree(), format)
}

/// Writes `tree` in `format` and returns the bytes of the image.
pub(super) fn image_of(tree: &FileTree, format: &str) -> Vec<u8> {
    let format: Format = format.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (output, scratch) = (dir.path().join("image"), dir.path().join("scratch"));
    let input = ImageInput { tree, architecture: None, signing: None };
    format.kind().write(input, format.compression(), &output, &scratch, &|_| {}).unwrap();
    fs_err::read(output).unwrap()
}

/// Reads the image in `bytes` as a file of `format`.
pub(super) fn read(format: &dyn ImageFormat, bytes: &[u8]) -> anyhow::Result<FileTree> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), bytes).unwrap();
    let mut found = FileTree::without_prefix().unwrap();
    format.read(file.path(), &mut found).map(|()| found)
}

/// Returns `bytes` with the only occurrence of [`NAME`] replaced by `name`, filled up with `x`.
pub(super) fn renamed(bytes: &[u8], name: &str) -> Vec<u8> {
    let mut at = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(NAME.as_bytes()));
    let first = at.next().expect("the name is in the image");
    assert_eq!(at.next(), None, "the name is in the image twice");
    let mut bytes = bytes.to_owned();
    let filled = name.bytes().chain(std::iter::repeat(b'x'));
    for (old, new) in bytes[first..first + NAME.len()].iter_mut().zip(filled) {
        *old = new;
    }
    bytes
}

/// Names that lead elsewhere, as long as [`NAME`] at most. The rest of it is filled up.
pub(super) const HOSTILE: &[&str] = &["../", "/", "a/", "\0", "a/../b", "/../../et"];

/// Makes damaged copies of `bytes`, the same in every run, and passes each to `act`: `count` with
/// some bytes changed, then `count` cut off.
pub(super) fn damage(bytes: &[u8], count: usize, mut act: impl FnMut(&[u8])) {
    let mut state = 1_u64;
    let mut below = move |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % limit
    };
    // The parts with structures are not zeros.
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    for _ in 0..count {
        let mut damaged = bytes.to_owned();
        for _ in 0..=below(3) {
            let place = places[below(places.len())];
            let place = (place + below(3)).min(bytes.len() - 1);
            damaged[place] = [0, 1, 2, 0x7f, 0x80, 0xff][below(6)];
        }
        act(&damaged);
    }
    for step in 0..count {
        act(&bytes[..bytes.len() * step / count]);
    }
}
