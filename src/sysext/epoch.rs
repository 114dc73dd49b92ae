//! Time of an image. No clock is read, so the same root gives the same image.

use anyhow::{Context, Result};

use crate::fstree::walk::TreeWalk;
use crate::portage::vdb;
use crate::prefix::final_root::FinalRoot;

/// Environment variable that sets the time (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
pub(crate) const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Latest time that filesystem images can store: they have 32 bits (squashfs superblock,
/// `mkfs_time`).
const LATEST: u64 = u32::MAX as u64;

/// Returns the time that the caller's environment sets; `None` if it sets none.
pub(crate) fn read_source_date_epoch() -> Result<Option<u64>> {
    let value = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let Some(value) = value else { return Ok(None) };
    let text = value.to_string_lossy();
    let time = parse(&text).with_context(|| {
        format!("{VARIABLE} is {text:?} and not a number of seconds up to {LATEST}")
    })?;
    Ok(Some(time))
}

/// Returns the time of the image: `SOURCE_DATE_EPOCH`, else the time of the newest package in
/// Portage's database, else the time of the newest file.
pub(crate) fn find_epoch(root: &FinalRoot) -> Result<u64> {
    if let Some(time) = read_source_date_epoch()? {
        return Ok(time);
    }
    if let Some(time) = newest_package(root)? {
        return Ok(time);
    }
    newest_file(root)
}

fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|time| *time <= LATEST)
}

fn newest_package(root: &FinalRoot) -> Result<Option<u64>> {
    let mut newest = None;
    for package in vdb::installed(&root.vdb())? {
        newest = newest.max(parse(&package.read("BUILD_TIME")?));
    }
    Ok(newest)
}

fn newest_file(root: &FinalRoot) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut newest = 0;
    for entry in TreeWalk::below(&root.eroot()) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let time = entry.metadata()?.mtime();
            newest = newest.max(u64::try_from(time).unwrap_or(0));
        }
    }
    Ok(newest.min(LATEST))
}
