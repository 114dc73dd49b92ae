//! Digests of a plan's content: images are compared with them, and two images with equal digests
//! are the same.

use std::cell::RefCell;
use std::io::Read;
use std::path::Path;

use anyhow::{Result, bail};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::fstree::entries::{ContentSource, EntryKind, FileContent, FileTree, RELEASES};

/// Reads every file of `plan` once and stores its digest.
pub(crate) fn hash_contents(plan: &mut FileTree) -> Result<()> {
    read_all_contents(plan, |content| {
        let (sha256, size) = hash_content(content, &mut |_| {})?;
        content.sha256 = Some(sha256);
        Ok(size)
    })
}

/// Reads every file of `plan` once and stores its SHA-256, and its SHA-1 for bills of materials.
pub(crate) fn hash_contents_for_reports(plan: &mut FileTree) -> Result<()> {
    read_all_contents(plan, |content| {
        let mut sha1 = Sha1::new();
        let (sha256, size) = hash_content(content, &mut |chunk| sha1.update(chunk))?;
        content.sha256 = Some(sha256);
        content.sha1 = Some(sha1.finalize().into());
        Ok(size)
    })
}

/// Calls `read`, which returns the number of bytes, on the content of every file. Fails if the
/// size of a file on disk has changed.
fn read_all_contents(
    plan: &mut FileTree,
    read: impl Fn(&mut FileContent) -> Result<u64> + Sync,
) -> Result<()> {
    let mut contents: Vec<&mut FileContent> = plan
        .entries
        .values_mut()
        .filter_map(|entry| match &mut entry.kind {
            EntryKind::File(content) => Some(content),
            _ => None,
        })
        .collect();
    contents.par_iter_mut().try_for_each(|content| {
        let size = read(content)?;
        match &content.source {
            ContentSource::Disk(path) if size != content.size => {
                bail!("{} was changed while it was packed", path.escaped())
            }
            _ => Ok(()),
        }
    })
}

fn hash_content(content: &FileContent, take: &mut dyn FnMut(&[u8])) -> Result<([u8; 32], u64)> {
    match &content.source {
        ContentSource::Bytes(bytes) => {
            take(bytes);
            Ok((Sha256::digest(bytes).into(), bytes.len() as u64))
        }
        ContentSource::Disk(path) => {
            // One byte more than expected is enough to see a change.
            hash_parts(input::open_walked(path)?.take(content.size.saturating_add(1)), take)
        }
    }
}

/// Returns a UUID that is the same for the same content and time (RFC 9562, version 8).
pub(crate) fn tree_uuid(plan: &FileTree) -> String {
    let mut bytes = hash_tree(plan);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits = hex(&bytes[..16]);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// Returns a digest of all entries of `plan`, including the content of files.
pub(crate) fn hash_tree(plan: &FileTree) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&plan.epoch.to_le_bytes());
    for (path, entry) in &plan.entries {
        part(path.as_os_str().as_encoded_bytes());
        for number in [entry.mode, entry.uid, entry.gid] {
            part(&number.to_le_bytes());
        }
        part(&entry.mtime.to_le_bytes());
        for (name, value) in &entry.xattrs {
            part(name.as_encoded_bytes());
            part(value);
        }
        match &entry.kind {
            EntryKind::Directory => part(b"directory"),
            EntryKind::File(content) => part(&content.sha256.unwrap_or_default()),
            EntryKind::Link(target) => part(target.as_os_str().as_encoded_bytes()),
            EntryKind::HardLink(first) => {
                part(b"another name of");
                part(first.as_os_str().as_encoded_bytes());
            }
        }
    }
    hash.finalize().into()
}

/// Returns the SHA-256 and the size of the file at `path`.
pub(crate) fn hash_file(path: &Path) -> Result<([u8; 32], u64)> {
    hash_reader(input::open(path)?)
}

/// Returns the SHA-256 and the length of everything that `reader` yields.
pub(crate) fn hash_reader(reader: impl Read) -> Result<([u8; 32], u64)> {
    hash_parts(reader, &mut |_| {})
}

/// Returns the content of the file at `path` of an image, which `reader` yields. The bytes of
/// extension-release files are kept, and those of no others.
pub(crate) fn read_content(path: &Path, reader: impl Read) -> Result<FileContent> {
    let mut kept = Vec::new();
    let is_kept = path.parent() == Some(Path::new(RELEASES));
    let (sha256, size) = hash_parts(reader, &mut |part| {
        if is_kept && kept.len() as u64 <= TEXT.bytes {
            kept.extend_from_slice(part);
        }
    })?;
    if kept.len() as u64 > TEXT.bytes {
        bail!("/{} has more than {} MiB", path.escaped(), TEXT.bytes >> 20);
    }
    let content = FileContent::unread(ContentSource::Bytes(kept), size);
    Ok(FileContent { sha256: Some(sha256), ..content })
}

/// Keeps the bytes of the extension-release files of `found`, whose files are on disk for a while.
pub(crate) fn keep_releases(found: &mut FileTree) -> Result<()> {
    for (path, entry) in &mut found.entries {
        if let EntryKind::File(content) = &mut entry.kind
            && let ContentSource::Disk(place) = &content.source
            && path.parent() == Some(Path::new(RELEASES))
        {
            content.source = ContentSource::Bytes(input::read(place, TEXT)?);
        }
    }
    Ok(())
}

/// Returns the SHA-256 and the length of everything that `reader` yields, and passes it to `take`.
fn hash_parts(mut reader: impl Read, take: &mut dyn FnMut(&[u8])) -> Result<([u8; 32], u64)> {
    thread_local! {
        // Allocating a buffer for each file would cost more than reading most files.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut hash = Sha256::new();
        let mut size = 0;
        loop {
            let count = reader.read(buffer)?;
            let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else {
                return Ok((hash.finalize().into(), size));
            };
            hash.update(chunk);
            take(chunk);
            size += count as u64;
        }
    })
}
