//! A plan as text and as JSON.

use std::path::Path;

use serde::Serialize;

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::fstree::capability;
use crate::fstree::entries::{Entry, EntryKind, FileTree};

/// Entry in the JSON listing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ListedEntry {
    /// Absolute path in the image.
    pub path: String,
    /// `directory`, `file`, `link` or `hardlink`.
    pub kind: &'static str,
    /// Permission bits in octal digits.
    pub mode: String,
    /// User ID of the owner.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: u64,
    /// Size of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Target of a link, or the first name of a hard link's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Names of the extended attributes.
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
            xattrs: entry.xattrs.keys().map(|name| name.escaped().to_string()).collect(),
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
                listed.target = Some(target.escaped().to_string());
            }
            EntryKind::HardLink(first) => {
                listed.kind = "hardlink";
                listed.target = Some(absolute(first));
            }
        }
        listed
    }
}

/// Returns all entries of `plan`.
pub(crate) fn list_entries(plan: &FileTree) -> impl Iterator<Item = ListedEntry> {
    plan.entries.iter().map(|(path, entry)| ListedEntry::new(path, entry))
}

/// Returns all entries of `plan` as lines in the style of `ls -ln`.
pub(crate) fn render_listing(plan: &FileTree) -> String {
    let mut text = String::new();
    for (path, entry) in &plan.entries {
        let (kind, target) = match &entry.kind {
            EntryKind::Directory => ('d', String::new()),
            EntryKind::File(_) => ('-', String::new()),
            EntryKind::Link(target) => ('l', format!(" -> {}", target.escaped())),
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

/// Returns the programs that run with rights that their caller does not have, which should be
/// reviewed before they ship: setuid, setgid, and file capabilities.
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
    format!("/{}", path.escaped())
}
