//! Contents of files, and of files in files: what changes in them, what cannot, and what is in doubt.

use std::cell::RefCell;
use std::ops::Range;

use anyhow::Result;

use crate::base::limits::LIBRARY;
use crate::elf;
use crate::relocate::prefix_change::data::DataReplacer;
use crate::relocate::prefix_change::room::UnpackRoom;
use crate::relocate::prefix_change::text::{self, TextReplacer};
use crate::relocate::prefix_change::{checked, closed, compressed, object, tar_file, zip_file};
use crate::relocate::{SharedPatch, script};

/// Size of the largest text that gets another length, in bytes. A larger one is treated as data.
const LARGEST_TEXT: usize = 64 << 20;

/// Number of archives within each other that are looked into: a compressed archive of archives.
const DEEPEST: usize = 3;

/// Trace of the old path in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldPath {
    /// This path is below it.
    Named(String),
    /// The file cannot be looked into, for this reason.
    Unknown(String),
    /// This path may be another one that begins or ends like it.
    Doubtful(String),
    /// The name of the file says the path.
    InName,
}

/// New contents of a file.
#[derive(Clone, Debug)]
pub(super) enum NewContents {
    /// As many bytes as before, of which these are others.
    Patched(Vec<SharedPatch>),
    /// All bytes.
    Whole(Vec<u8>),
}

/// Reason for which something stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub reason: String,
    /// Advice for people.
    pub hint: &'static str,
}

/// Change to the contents of a file.
#[derive(Debug, Default)]
pub(super) struct ContentChange {
    pub new: Option<NewContents>,
    /// Descriptions of the change, for people.
    pub descriptions: Vec<String>,
    /// Parts that stay as they are.
    pub obstacles: Vec<Obstacle>,
    /// Paths that may be other ones.
    pub doubtful: Vec<String>,
}

/// Replaces the old path in contents of every kind.
#[derive(Clone, Debug)]
pub(super) struct ContentReplacer {
    to: String,
    data: DataReplacer,
    text: TextReplacer,
}

/// Formats that hold other files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Gzip,
    Bzip2,
    Zstd,
    Zip,
    Tar,
}

const HINT_PACKED: &str = "install the contents unpacked, or leave the file out of the image";
const HINT_MAKER: &str =
    "have the package make the file after it was moved, or leave it out of the image";

impl Obstacle {
    /// A file whose contents nobody sees.
    fn closed(reason: String) -> Self {
        Self { reason, hint: HINT_PACKED }
    }

    fn sealed(reason: &str) -> Self {
        Self { reason: reason.to_owned(), hint: HINT_MAKER }
    }
}

impl NewContents {
    pub(super) fn into_bytes(self, old: &[u8]) -> Vec<u8> {
        match self {
            Self::Patched(patches) => SharedPatch::apply_all(old, &patches),
            Self::Whole(new) => new,
        }
    }
}

impl ContentReplacer {
    pub(super) fn new(to: &str, data: DataReplacer, text: TextReplacer) -> Self {
        Self { to: to.to_owned(), data, text }
    }

    /// Returns `text` with the new path, or `None` if it has no old one.
    pub(super) fn replace_in_text(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.text.replace(text)
    }

    /// Plans the change to a file with these `bytes`, of which only `extents` are data.
    pub(super) fn plan(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> ContentChange {
        if let Some(format) = closed::format_of(bytes) {
            return ContentChange::closed(describe_closed(format));
        }
        match Container::of(bytes) {
            Some(container) => self.plan_container(container, bytes, 0, &UnpackRoom::of_file()),
            None => self.plan_leaf(bytes, extents),
        }
    }

    fn plan_part(&self, part: &[u8], depth: usize, room: &UnpackRoom) -> ContentChange {
        if let Some(format) = closed::format_of(part) {
            return ContentChange::closed(format!(
                "a file in it is {format}, and is not looked into"
            ));
        }
        match Container::of(part) {
            Some(_) if depth >= DEEPEST => ContentChange::closed(describe_too_deep()),
            Some(container) => self.plan_container(container, part, depth, room),
            None => self.plan_leaf(part, all(part)),
        }
    }

    fn plan_container(
        &self,
        container: Container,
        bytes: &[u8],
        depth: usize,
        room: &UnpackRoom,
    ) -> ContentChange {
        let mut change = ContentChange::default();
        let mut has_path = false;
        let mut visit = |part: &[u8]| {
            let inner = self.plan_part(part, depth + 1, room);
            change.obstacles.extend(inner.obstacles);
            change.doubtful.extend(inner.doubtful);
            has_path |= inner.new.is_some();
            inner.new.map(|new| new.into_bytes(part))
        };
        let longer = RefCell::new(Vec::new());
        let rename = |name: &[u8]| {
            longer.borrow_mut().extend(self.text.find_longer(name));
            self.text.replace(name)
        };
        match container.rewrite(bytes, room, &mut visit, &rename) {
            Ok(None) => {}
            Ok(Some(new)) => {
                change.new = Some(NewContents::Whole(new));
                change.descriptions.push(format!("the path {} in packed files", self.to));
            }
            Err(error) if has_path => {
                let reason = format!("its contents have the path, and {error:#}");
                change.obstacles.push(Obstacle::closed(reason));
            }
            Err(error) => change.obstacles.push(Obstacle::closed(format!("{error:#}"))),
        }
        change.doubtful.append(&mut longer.into_inner());
        change.obstacles.dedup();
        change
    }

    /// Plans the change to contents that hold no other files.
    fn plan_leaf(&self, bytes: &[u8], extents: impl Iterator<Item = Range<u64>>) -> ContentChange {
        if !is_text(bytes) {
            return self.plan_data(bytes, extents);
        }
        let mut change = ContentChange::default();
        change.doubtful.extend(self.text.find_longer(bytes));
        if may_move(bytes) {
            let Some(new) = self.text.replace(bytes) else { return change };
            change.new = Some(NewContents::Whole(new));
            change.descriptions.push(format!("the path {} in a text", self.to));
        } else {
            change.set_patches(self.data.plan_text(self.text.find_all(bytes)), &self.to);
        }
        change.mend(bytes);
        change
    }

    fn plan_data(&self, bytes: &[u8], extents: impl Iterator<Item = Range<u64>>) -> ContentChange {
        let plan = self.data.plan(bytes, extents);
        let mut change =
            ContentChange { doubtful: Vec::from_iter(plan.doubtful), ..ContentChange::default() };
        change.set_patches(plan.patches, &self.to);
        change.mend(bytes);
        if elf::is_elf(bytes)
            && bytes.len() as u64 <= LIBRARY.bytes
            && let Some(NewContents::Patched(patches)) = &mut change.new
        {
            let padded = SharedPatch::apply_all(bytes, patches);
            let short = object::plan_strings(&padded, self.to.as_bytes());
            patches.extend(short.into_iter().map(SharedPatch::from));
        }
        change
    }

    /// Looks for the old path in a file with these `bytes`, of which only `extents` are data. Returns
    /// `None` if it is not there.
    pub(super) fn find(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> Option<OldPath> {
        let mut found = Vec::new();
        let mut extents = extents;
        self.find_all(bytes, &mut extents, 0, &UnpackRoom::of_file(), &mut found);
        let rank = |trace: &OldPath| match trace {
            OldPath::Named(_) | OldPath::InName => 0,
            OldPath::Unknown(_) => 1,
            OldPath::Doubtful(_) => 2,
        };
        found.into_iter().min_by_key(rank)
    }

    fn find_all(
        &self,
        bytes: &[u8],
        extents: &mut dyn Iterator<Item = Range<u64>>,
        depth: usize,
        room: &UnpackRoom,
        found: &mut Vec<OldPath>,
    ) {
        if let Some(format) = closed::format_of(bytes) {
            // What cannot be compressed is there as it is.
            found.extend(self.find_in_leaf(bytes, extents));
            found.push(OldPath::Unknown(describe_closed(format)));
            return;
        }
        let Some(container) = Container::of(bytes) else {
            found.extend(self.find_in_leaf(bytes, extents));
            return;
        };
        if depth >= DEEPEST {
            found.push(OldPath::Unknown(describe_too_deep()));
            return;
        }
        let mut visit = |part: &[u8]| {
            self.find_all(part, &mut all(part), depth + 1, room, found);
            None
        };
        let names = RefCell::new(Vec::new());
        let see_name = |name: &[u8]| {
            names.borrow_mut().extend(self.find_in_text(name));
            None
        };
        let read = container.rewrite(bytes, room, &mut visit, &see_name);
        found.append(&mut names.into_inner());
        if let Err(error) = read {
            found.push(OldPath::Unknown(format!("{error:#}")));
        }
    }

    fn find_in_leaf(
        &self,
        bytes: &[u8],
        extents: impl Iterator<Item = Range<u64>>,
    ) -> Option<OldPath> {
        if is_text(bytes) {
            return self.find_in_text(bytes);
        }
        let (named, doubtful) = self.data.find(bytes, extents);
        named.map(OldPath::Named).or(doubtful.map(OldPath::Doubtful))
    }

    fn find_in_text(&self, text: &[u8]) -> Option<OldPath> {
        let named = self.text.find_all(text).next();
        let named = named.map(|at| text::quote(text[at..].iter().copied()));
        named.map(OldPath::Named).or_else(|| self.text.find_longer(text).map(OldPath::Doubtful))
    }
}

impl ContentChange {
    pub(super) fn closed(reason: String) -> Self {
        Self { obstacles: vec![Obstacle::closed(reason)], ..Self::default() }
    }

    fn set_patches(&mut self, patches: Vec<SharedPatch>, to: &str) {
        if !patches.is_empty() {
            self.descriptions.push(format!("the path {to} at {} places", patches.len()));
            self.new = Some(NewContents::Patched(patches));
        }
    }

    /// Mends the sums of the file with the bytes `old`, or leaves it as it is.
    fn mend(&mut self, old: &[u8]) {
        let none = Vec::new();
        let patches = match &self.new {
            None => return,
            Some(NewContents::Patched(patches)) => patches,
            Some(NewContents::Whole(_)) => &none,
        };
        match checked::mend(old, patches) {
            Ok(sums) => {
                if let Some(NewContents::Patched(patches)) = &mut self.new {
                    patches.extend(sums);
                }
            }
            Err(reason) => {
                self.new = None;
                self.descriptions.clear();
                self.obstacles.push(Obstacle::sealed(reason));
            }
        }
    }
}

impl Container {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ if zip_file::is_zip(bytes) => Some(Self::Zip),
            _ => tar_file::is_tar(bytes).then_some(Self::Tar),
        }
    }

    /// Returns the file with what it holds changed by `visit`, and names in it by `rename`; `None` if
    /// these change nothing.
    fn rewrite(
        self,
        bytes: &[u8],
        room: &UnpackRoom,
        visit: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
        rename: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Gzip => compressed::rewrite_gzip(bytes, room, visit, rename),
            Self::Bzip2 => compressed::rewrite_bzip2(bytes, room, visit),
            Self::Zstd => compressed::rewrite_zstd(bytes, room, visit),
            Self::Tar => tar_file::rewrite(bytes, visit, rename),
            Self::Zip => zip_file::rewrite(bytes, room, visit, rename),
        }
    }
}

fn all(bytes: &[u8]) -> std::iter::Once<Range<u64>> {
    std::iter::once(0..bytes.len() as u64)
}

fn describe_closed(format: &str) -> String {
    format!("it is {format}, and is not looked into")
}

fn describe_too_deep() -> String {
    format!("it holds archives in archives, more than {DEEPEST} deep")
}

fn is_text(bytes: &[u8]) -> bool {
    memchr::memchr(0, bytes).is_none()
}

/// Returns whether a text may get another length.
fn may_move(text: &[u8]) -> bool {
    // The objects of a PDF file and the nodes of an Info file are found by their offsets.
    text.len() <= LARGEST_TEXT
        && !script::has_offsets(text)
        && !text.starts_with(b"%PDF-")
        && memchr::memmem::find(text, b"\x1f\nTag Table:").is_none()
        && memchr::memmem::find(text, b"\x1f\nFile: ").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacer() -> ContentReplacer {
        let (from, to) = ("/opt/old", "/o");
        let data = DataReplacer::new(from, to, false).unwrap();
        ContentReplacer::new(to, data, TextReplacer::new(from, to, false))
    }

    /// Returns whether the plan for `bytes` changes them, with the trace that is in them.
    fn judge(bytes: &[u8]) -> (bool, Option<OldPath>) {
        let change = replacer().plan(bytes, all(bytes));
        let found = replacer().find(bytes, all(bytes));
        let is_told = !change.obstacles.is_empty() || !change.doubtful.is_empty();
        assert_eq!(found.is_some(), is_told || change.new.is_some(), "{found:?} {change:?}");
        (change.new.is_some(), found)
    }

    /// A long name is in a part of its own, which ends with NUL as data does.
    #[test]
    fn names_in_archives_are_texts() {
        let archive = |name: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            builder.append_data(&mut header, name, std::io::empty()).unwrap();
            builder.into_inner().unwrap()
        };
        let longer = format!("{}/srv/opt/old/x", "d/".repeat(60));
        let (changes, found) = judge(&archive(&longer));
        assert!(!changes && matches!(found, Some(OldPath::Doubtful(_))), "{found:?}");
        let own = format!("{}//opt/old/x", "d/".repeat(60));
        let (changes, found) = judge(&archive(&own));
        assert!(changes || found.is_some(), "{found:?}");
    }

    #[test]
    fn formats_that_are_not_looked_into() {
        let (changes, found) = judge(b"\xfd7zXZ\0 and /opt/old/x as it is");
        assert!(!changes);
        assert_eq!(found, Some(OldPath::Named("/opt/old/x".to_owned())));
        let (_, found) = judge(b"hsqs");
        assert_eq!(
            found,
            Some(OldPath::Unknown("it is a squashfs image, and is not looked into".to_owned()))
        );
        assert_eq!(judge(b"a text"), (false, None));
    }
}
