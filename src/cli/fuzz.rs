//! Readers of what others made, each on bytes alone: for fuzz/ and tests/fuzz. The command line opens
//! files within limits before it comes to these.

use std::io::Cursor;
use std::path::Path;

use anyhow::Result;

use crate::base::escape;
use crate::base::names::Eprefix;
use crate::fstree::budget::TreeBudget;
use crate::fstree::entries::FileTree;
use crate::host::os_release;
use crate::imagefmt::btrfs::trees;
use crate::imagefmt::ddi::{gpt, verity};
use crate::imagefmt::{erofs, ext4, squashfs};
use crate::manifest::source::Source;
use crate::manifest::tables::Tables;
use crate::os_image::whiteouts;
use crate::portage::atom::Atom;
use crate::portage::merge_log::{self, MergeTimes};
use crate::portage::packages::PackagesIndex;
use crate::portage::{contents, events, sources};
use crate::relocate::prefix_change::PrefixChange;
use crate::relocate::{env_command, libc, shebang};
use crate::sysext::difference;

/// Bytes of files that an image may hold: fewer than on the command line, so that the time of a run
/// says something about the reader.
const CONTENT: u64 = 16 << 20;

/// A reader, and its name.
pub type ForeignReader = (&'static str, fn(&[u8]));

/// All readers. Each ends with an answer or an error, whatever the bytes are.
pub const READERS: &[ForeignReader] = &[
    ("btrfs", |bytes| {
        let _ = trees::Inodes::parse(&text(bytes), budget(bytes));
    }),
    ("contents", |bytes| {
        let text = text(bytes);
        let _ = (contents::files(&text), contents::lines_without_times(&text));
    }),
    ("erofs", |bytes| read_tree(|found| erofs::read_bytes(bytes, budget(bytes), found))),
    ("events", read_progress),
    ("ext4", |bytes| read_tree(|found| ext4::read::read_bytes(bytes, budget(bytes), found))),
    ("gconv_cache", |bytes| {
        let _ = libc::replace_directory(bytes, Path::new("/opt/x/usr/lib64/gconv"));
    }),
    ("gpt", |bytes| {
        let _ = gpt::read_table(&mut Cursor::new(bytes), bytes.len() as u64);
        let _ = verity::VeritySignature::read(bytes);
    }),
    ("manifest", |bytes| {
        let path = Path::new("manifest.json");
        if let Ok(found) = difference::parse_manifest(path, bytes) {
            let _ = serde_json::to_vec(&difference::compare(&found, &found));
        }
    }),
    ("packages", |bytes| {
        let text = text(bytes);
        let _ = (PackagesIndex::parse(&text), sources::parse_environment(&text));
    }),
    ("release", |bytes| {
        let _ = os_release::parse(&text(bytes));
    }),
    ("relocate", relocate),
    ("squashfs", |bytes| {
        read_tree(|found| squashfs::pseudo::read(&mut &*bytes, &mut budget(bytes), found));
        let _ = squashfs::check_sizes(&text(bytes), budget(bytes));
    }),
    ("tmpfiles", |bytes| {
        let _: Vec<_> = text(bytes).lines().filter_map(whiteouts::parse_created_path).collect();
        let _ = (shebang::Shebang::parse(bytes), env_command::parse(bytes));
    }),
    ("toml", |bytes| {
        let source = Source::new(Path::new("fprefix.toml"), text(bytes));
        let _ = (source.parse::<Tables>(), source.span("pack", "format", Some(1)));
    }),
];

/// Passes `bytes` to the reader `name`. Returns whether there is one.
pub fn read(name: &str, bytes: &[u8]) -> bool {
    let reader = READERS.iter().find(|(known, _)| *known == name);
    reader.inspect(|(_, reader)| reader(bytes)).is_some()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn budget(bytes: &[u8]) -> TreeBudget {
    TreeBudget::of_image_size(bytes.len() as u64).with_content(CONTENT)
}

fn read_tree(read: impl FnOnce(&mut FileTree) -> Result<()>) {
    let Ok(mut found) = FileTree::without_prefix() else { return };
    if read(&mut found).is_ok() {
        let _ = (found.count_totals(), found.other_names().len());
    }
}

/// Relocates a file from a path that others may begin like, and from one that none does. A second
/// relocation has nothing to do, and every path that is left is told.
fn relocate(bytes: &[u8]) {
    let Ok(old) = "/opt/old-prefix".parse::<Eprefix>() else { return };
    let canonical = Eprefix::canonical();
    // The seeds have the short path.
    let text = |path: &Eprefix| path.as_str().as_bytes().to_vec();
    let mut long = Vec::new();
    let mut rest = 0;
    for at in memchr::memmem::find_iter(bytes, old.as_str()) {
        long.extend_from_slice(bytes.get(rest..at).unwrap_or_default());
        long.extend(text(&canonical));
        rest = at + old.as_str().len();
    }
    long.extend_from_slice(bytes.get(rest..).unwrap_or_default());
    for (from, bytes) in [(&old, bytes), (&canonical, long.as_slice())] {
        let Ok(change) = "/o".parse().and_then(|to| PrefixChange::new(from, &to)) else { continue };
        let (new, is_told) = change.rewrite(bytes);
        let left = change.find(new.as_deref().unwrap_or(bytes));
        assert!(is_told || left.is_none(), "{left:?} is left");
        if let Some(new) = &new {
            assert_ne!(change.find(bytes), None, "what changes has the path");
            assert_eq!(change.rewrite(new).0, None, "twice is once");
        }
    }
}

fn read_progress(bytes: &[u8]) {
    let text = text(bytes);
    let _ =
        (events::failures(&text), merge_log::parse_merge_list(&text), events::find_refusal(&text));
    let _ = MergeTimes::parse(&text);
    for line in text.lines() {
        let _ = (events::package_of_log(line), line.parse::<Atom>().is_ok());
        let _ = (escape::parse_escaped(line), escape::visible_line(line.as_bytes()));
    }
}
