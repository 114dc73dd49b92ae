//! A plan as text and as JSON.

use std::path::Path;

use serde::Serialize;

use crate::base::data::hex;
use crate::fstree::capability;
use crate::fstree::entries::{Entry, EntryKind, FileTree};

/// An entry as JSON has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ListedEntry {
    /// The path in the image, absolute.
    pub path: String,
    /// `directory`, `file`, `link` or `hardlink`.
    pub kind: &'static str,
    /// The permission bits in octal digits.
    pub mode: String,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// The size of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The digest of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What a link points to; which file a hard link is another name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The names of its extended attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<String>,
}

impl ListedEntry {
    fn new(path: &Path, entry: &Entry) -> Self {
        let mut listed = Self {
            path: absolute(path),
            kind: "directory",
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            size: None,
            sha256: None,
            target: None,
            xattrs: entry.xattrs.keys().map(|name| name.to_string_lossy().into_owned()).collect(),
        };
        match &entry.kind {
            EntryKind::Directory => {}
            EntryKind::File(content) => {
                listed.kind = "file";
                listed.size = Some(content.size);
                listed.sha256 = content.sha256.as_ref().map(|digest| hex(digest));
            }
            EntryKind::Link(target) => {
                listed.kind = "link";
                listed.target = Some(target.display().to_string());
            }
            EntryKind::HardLink(first) => {
                listed.kind = "hardlink";
                listed.target = Some(absolute(first));
            }
        }
        listed
    }
}

/// All entries of `plan`.
pub(crate) fn list_entries(plan: &FileTree) -> impl Iterator<Item = ListedEntry> {
    plan.entries.iter().map(|(path, entry)| ListedEntry::new(path, entry))
}

/// All entries of `plan` as lines in the manner of `ls -ln`.
pub(crate) fn render_listing(plan: &FileTree) -> String {
    let mut text = String::new();
    for (path, entry) in &plan.entries {
        let (kind, target) = match &entry.kind {
            EntryKind::Directory => ('d', String::new()),
            EntryKind::File(_) => ('-', String::new()),
            EntryKind::Link(target) => ('l', format!(" -> {}", target.display())),
            EntryKind::HardLink(first) => ('h', format!(" => {}", absolute(first))),
        };
        text += &format!(
            "{kind}{:04o} {}:{} {:>10} {}{target}\n",
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size(),
            absolute(path)
        );
    }
    text
}

/// The programs that run with rights that their caller does not have, which somebody should look
/// at before they ship: setuid, setgid, and file capabilities.
pub(crate) fn list_privileged(plan: &FileTree) -> Vec<String> {
    plan.entries
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, EntryKind::File(_) | EntryKind::HardLink(_)))
        .filter(|(_, entry)| {
            entry.mode & 0o6000 != 0 || entry.xattrs.keys().any(|name| name == capability::NAME)
        })
        .map(|(path, _)| absolute(path))
        .collect()
}

fn absolute(path: &Path) -> String {
    format!("/{}", path.display())
}
