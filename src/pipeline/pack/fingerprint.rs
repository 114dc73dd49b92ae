//! Packing again what has not changed: nothing is read but the names, sizes and times of files.
//!
//! Beside the images lies a record of what they were made from, in the terms by which make and
//! git tell that a file is the same: its inode, size, and the times of its last change. Nobody
//! but the kernel sets the last of these (`st_ctime`, inode(7)). What such facts do not tell of,
//! content that mangling changes and keys, is always packed anew.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::data::{self, hex};
use crate::base::files;
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::format::FormatKind;
use crate::imagefmt::workplace;
use crate::pipeline::pack::{PackRequest, Packed};
use crate::report;
use crate::sysext::{strip, sums};

/// The programs that images come from; another version may write other bytes.
const TOOLS: &[ExternalTool] = &[
    tools::MKSQUASHFS,
    tools::MKFS_EROFS,
    tools::MKE2FS,
    tools::DEBUGFS,
    tools::MKFS_BTRFS,
    tools::TAR,
    tools::VERITYSETUP,
    tools::GPG,
];

/// How far the clock that files get their times from may lag behind (time(7): the tick of the
/// kernel), and how far where a filesystem keeps whole seconds alone (FAT has two).
const TICK: Duration = Duration::from_millis(50);
const COARSE: Duration = Duration::from_secs(3);

/// What images would be made from.
#[derive(Debug)]
pub(crate) struct Fingerprint {
    begun: SystemTime,
    key: String,
}

/// The file beside images.
#[derive(Debug, Serialize, Deserialize)]
struct FingerprintRecord {
    key: String,
    /// What the reports were made from besides, and what was written.
    files: Vec<(PathBuf, String)>,
    packed: Packed,
}

impl Fingerprint {
    /// Looks at everything that `request` names; none where that would not tell enough.
    pub(crate) fn take(request: &PackRequest, waived: &[String]) -> Result<Option<Self>> {
        let begun = SystemTime::now();
        let is_told = request.bases.is_empty()
            && request.against.is_none()
            && request.mangle.is_empty()
            && request.signing.is_none()
            && request.formats.iter().all(|format| format.kind() != FormatKind::Directory)
            && std::env::var_os(data::DATA_VARIABLE).is_none();
        if !is_told {
            return Ok(None);
        }
        let mut hash = Sha256::new();
        let epoch = std::env::var_os("SOURCE_DATE_EPOCH");
        hash.update(format!("{} {request:?} {waived:?} {epoch:?}", env!("CARGO_PKG_VERSION")));
        let programs = TOOLS.iter().filter_map(|tool| Some(tool.find()?.path().to_owned()));
        let strips = strip::programs()?;
        for program in programs.chain(strips).chain(std::env::current_exe()) {
            hash.update(facts(&program, None).unwrap_or_default());
        }
        for entry in walkdir::WalkDir::new(request.root.path()).sort_by_file_name() {
            let entry = entry.context("could not read the root")?;
            let Some(facts) = facts(entry.path(), Some(begun)) else { return Ok(None) };
            hash.update(entry.path().as_os_str().as_encoded_bytes());
            hash.update(facts);
        }
        Ok(Some(Self { begun, key: hex(&hash.finalize()) }))
    }

    /// What was packed into the directory `output` from just this, if it is all still there.
    pub(crate) fn find(&self, request: &PackRequest, output: &Path) -> Option<Packed> {
        let output = fs_err::canonicalize(output).ok()?;
        let text = fs_err::read_to_string(output.join(workplace::record(&request.name))).ok()?;
        let record: FingerprintRecord = serde_json::from_str(&text).ok()?;
        let is_same = record.key == self.key
            && record.files.iter().all(|(path, then)| of_maybe(path).as_ref() == Some(then))
            && has_sums(&record.packed, &output);
        is_same.then_some(record.packed)
    }

    /// Keeps what was packed, for the next time. Files that changed just now may do so again
    /// without a sign; then nothing is kept.
    pub(crate) fn keep(&self, request: &PackRequest, output: &Path, packed: &Packed) -> Result<()> {
        let output = fs_err::canonicalize(output)?;
        let place = output.join(workplace::record(&request.name));
        let mut files = Vec::new();
        for path in request.reports.iter().flat_map(report::Repositories::looked_at) {
            if path.exists() && facts(&path, Some(self.begun)).is_none() {
                return files::remove_file(&place);
            }
            files.extend(of_maybe(&path).map(|facts| (path, facts)));
        }
        let images = packed.images.iter().chain(&packed.debug_images);
        let images = images.flat_map(|image| image.link.iter().chain([&image.path]));
        let shared = [sums::FILE_NAME, sums::SIGNATURE_NAME].map(|name| output.join(name));
        for path in images.chain(&packed.reports).filter(|path| !shared.contains(path)) {
            files.extend(of_maybe(path).map(|facts| (path.clone(), facts)));
        }
        let record = FingerprintRecord { key: self.key.clone(), files, packed: packed.clone() };
        files::write_atomically(&place, &serde_json::to_vec(&record)?)
    }
}

/// Whether the list of digests, which other extensions share, has those of the images.
fn has_sums(packed: &Packed, output: &Path) -> bool {
    let sums = output.join(sums::FILE_NAME);
    if !packed.reports.contains(&sums) {
        return true;
    }
    let signature = output.join(sums::SIGNATURE_NAME);
    let written = |path: &Path| fs_err::metadata(path).and_then(|meta| meta.modified()).ok();
    // The list is signed when it is written: a signature that is older is of another list.
    if packed.reports.contains(&signature) && written(&signature) < written(&sums) {
        return false;
    }
    let text = fs_err::read_to_string(sums).unwrap_or_default();
    packed.images.iter().chain(&packed.debug_images).all(|image| {
        let name = image.path.file_name().unwrap_or_default().to_string_lossy();
        let sum = image.sha256.as_deref().unwrap_or_default();
        text.lines().any(|line| line == format!("{sum}  {name}"))
    })
}

/// The facts of the file at `path`, also that there is none.
fn of_maybe(path: &Path) -> Option<String> {
    if path.symlink_metadata().is_err() {
        return Some("none".to_owned());
    }
    facts(path, None)
}

/// What says that a file is still the same. None where it can not be looked at, or where it may
/// have changed after `before` without a sign.
fn facts(path: &Path, before: Option<SystemTime>) -> Option<String> {
    let meta = path.symlink_metadata().ok()?;
    if let Some(before) = before {
        let changed = Duration::new(
            u64::try_from(meta.ctime()).ok()?,
            u32::try_from(meta.ctime_nsec()).ok()?,
        );
        let slack = if changed.subsec_nanos() == 0 { COARSE } else { TICK };
        if SystemTime::UNIX_EPOCH + changed + slack >= before {
            return None;
        }
    }
    let mut text = String::new();
    for number in [meta.dev(), meta.ino(), u64::from(meta.mode()), meta.size()] {
        let _ = write!(text, "{number} ");
    }
    let _ = write!(text, "{}:{} ", meta.uid(), meta.gid());
    for (seconds, rest) in [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())] {
        let _ = write!(text, "{seconds}.{rest} ");
    }
    Some(text)
}
