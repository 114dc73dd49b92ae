//! The digests of a plan's content: what images are compared with, and what makes two of them
//! the same.

use std::io::Read;
use std::path::Path;

use anyhow::{Result, bail};
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use sha2::{Digest, Sha256};

use super::plan::{Content, Kind, Plan, Source};

/// Reads every file of `plan` once and keeps its digest.
pub fn fill(plan: &mut Plan) -> Result<()> {
    let mut contents: Vec<&mut Content> = plan
        .entries
        .values_mut()
        .filter_map(|entry| match &mut entry.kind {
            Kind::File(content) => Some(content),
            _ => None,
        })
        .collect();
    contents.par_iter_mut().try_for_each(|content| {
        let (sha256, size) = match &content.source {
            Source::Bytes(bytes) => (Sha256::digest(bytes).into(), bytes.len() as u64),
            Source::Disk(path) => of_file(path)?,
        };
        if let (Source::Disk(path), true) = (&content.source, size != content.size) {
            bail!("{} was changed while it was packed", path.display());
        }
        content.sha256 = Some(sha256);
        Ok(())
    })
}

/// The SHA-256 of the file at `path`, and its size.
pub fn of_file(path: &Path) -> Result<([u8; 32], u64)> {
    of_reader(fs_err::File::open(path)?)
}

/// The SHA-256 of all that `reader` gives, and how much that is.
pub fn of_reader(mut reader: impl Read) -> Result<([u8; 32], u64)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let count = reader.read(&mut chunk)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            return Ok((hash.finalize().into(), size));
        };
        hash.update(read);
        size += count as u64;
    }
}
