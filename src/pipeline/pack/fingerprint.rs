//! Skips packing when nothing has changed. The test reads only the names, sizes and times of files.
//!
//! A record beside the images says what they were made from. It compares files as make and git do:
//! by inode, size, and the times of the last change. Only the kernel sets the last of these
//! (`st_ctime`, inode(7)). Such facts do not reveal changes in mangled content or in keys. A
//! request with these is always packed anew.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::base::data::{self, hex};
use crate::base::escape;
use crate::base::files;
use crate::base::input;
use crate::base::limits::{LIST, TEXT};
use crate::base::names::PrefixName;
use crate::check::Rule;
use crate::fstree::walk::TreeWalk;
use crate::host::tools;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::registry;
use crate::imagefmt::workplace;
use crate::manifest::resolve_pack::ResolvedPack;
use crate::pipeline::pack::{PackRequest, Packed};
use crate::sysext::charsets::Charset;
use crate::sysext::expose::Expose;
use crate::sysext::locale::Locale;
use crate::sysext::name::Version;
use crate::sysext::needed_paths::NeededForm;
use crate::sysext::openpgp::SumsKey;
use crate::sysext::prune::PruneRuleName;
use crate::sysext::release::ReleaseField;
use crate::sysext::services::UnitName;
use crate::sysext::state::StatePath;
use crate::sysext::strip::StripOptions;
use crate::sysext::sysupdate::SourceUrl;
use crate::sysext::unused::UnusedLibraries;
use crate::sysext::{strip, sums};

/// Largest lag of the clock that sets file times: the tick of the kernel (time(7)), or `COARSE` on
/// a filesystem that keeps whole seconds only (FAT has two).
const TICK: Duration = Duration::from_millis(50);
const COARSE: Duration = Duration::from_secs(3);

/// Everything that determines the images, besides files.
#[derive(Debug, Serialize)]
struct FingerprintInput<'a> {
    fprefix: &'static str,
    #[serde(serialize_with = "escape::path::serialize")]
    root: &'a Path,
    eprefix: &'a str,
    name: &'a PrefixName,
    version: &'a Option<Version>,
    architecture: &'a Option<Architecture>,
    fields: &'a [ReleaseField],
    formats: &'a [Format],
    #[serde(serialize_with = "escape::path::serialize")]
    output: &'a Path,
    keep: &'a [PruneRuleName],
    locales: &'a [Locale],
    charsets: &'a [Charset],
    unused_libraries: UnusedLibraries,
    needed: NeededForm,
    strip: &'a Option<StripOptions>,
    sign_sums: &'a Option<SumsKey>,
    waived: &'a [&'static Rule],
    expose: &'a [Expose],
    start: &'a [UnitName],
    state: &'a [StatePath],
    package_information: bool,
    sysupdate: &'a Option<SourceUrl>,
    reports: bool,
    #[serde(serialize_with = "escape::paths::serialize")]
    repositories: Vec<&'a Path>,
    epoch: Option<u64>,
    source_date_epoch: Option<OsString>,
}

impl<'a> FingerprintInput<'a> {
    /// Collects the values of `request`. Returns `None` if it has values that are not enough to
    /// detect changes: what they name is outside the root.
    fn new(request: &'a PackRequest) -> Option<Self> {
        // Every field is named, so that a new option cannot be forgotten here.
        let PackRequest { root, name, options, repositories, epoch } = request;
        let ResolvedPack {
            name: _,
            version,
            architecture,
            fields,
            formats,
            output,
            keep,
            locales,
            charsets,
            unused_libraries,
            needed,
            strip,
            signing,
            sign_sums,
            waived_checks,
            bases,
            target,
            expose,
            start,
            state,
            mangle,
            package_information,
            sysupdate,
            reports,
        } = options;
        let is_told = bases.is_empty()
            && target.is_none()
            && mangle.is_empty()
            && signing.is_none()
            && formats.iter().all(|format| format.kind().is_file())
            && std::env::var_os(data::DATA_VARIABLE).is_none();
        is_told.then_some(Self {
            fprefix: env!("CARGO_PKG_VERSION"),
            root: root.path(),
            eprefix: root.eprefix().as_str(),
            name,
            version,
            architecture,
            fields,
            formats,
            output,
            keep,
            locales,
            charsets,
            unused_libraries: *unused_libraries,
            needed: *needed,
            strip,
            sign_sums,
            waived: waived_checks,
            expose,
            start,
            state,
            package_information: *package_information,
            sysupdate,
            reports: *reports,
            repositories: repositories.paths.iter().map(PathBuf::as_path).collect(),
            epoch: *epoch,
            source_date_epoch: std::env::var_os("SOURCE_DATE_EPOCH"),
        })
    }
}

/// Digest of everything that the images depend on.
#[derive(Debug)]
pub(crate) struct Fingerprint {
    begun: SystemTime,
    key: String,
}

/// Record that is kept beside the images.
#[derive(Debug, Serialize, Deserialize)]
struct FingerprintRecord {
    key: String,
    /// Other files that the reports were made from, and the files that were written.
    files: Vec<(RecordedPath, String)>,
    packed: Packed,
}

/// Path of a file that a record names.
#[derive(Debug, Serialize, Deserialize)]
struct RecordedPath(#[serde(with = "escape::path")] PathBuf);

impl Fingerprint {
    /// Reads the facts of every file that `request` names. Returns `None` if facts are not enough
    /// to detect changes.
    pub(crate) fn take(request: &PackRequest) -> Result<Option<Self>> {
        let begun = SystemTime::now();
        let Some(input) = FingerprintInput::new(request) else { return Ok(None) };
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&input)?);
        // Another version of a program that writes the images may write other bytes.
        let programs = registry::FORMATS.iter().flat_map(|format| format.tools());
        let programs = programs.chain([&tools::GPG]);
        let programs = programs.filter_map(|tool| Some(tool.find()?.path().to_owned()));
        let strips = strip::programs()?;
        for program in programs.chain(strips).chain(std::env::current_exe()) {
            hash.update(facts(&program, None).unwrap_or_default());
        }
        let mut add = |path: &Path, facts: Option<String>| {
            hash.update(path.as_os_str().as_encoded_bytes());
            facts.map(|facts| hash.update(facts))
        };
        if add(request.root.path(), facts(request.root.path(), Some(begun))).is_none() {
            return Ok(None);
        }
        for entry in TreeWalk::below(request.root.path()) {
            let entry = entry?;
            let meta = entry.metadata().ok();
            if add(entry.disk(), meta.and_then(|meta| facts_of(&meta, Some(begun)))).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(Self { begun, key: hex(&hash.finalize()) }))
    }

    /// Returns the earlier result in the directory `output`, if it has the same fingerprint and all
    /// of its files still exist unchanged.
    pub(crate) fn find(&self, request: &PackRequest) -> Option<Packed> {
        let output = fs_err::canonicalize(&request.options.output).ok()?;
        let text = input::read_text(&output.join(workplace::record(&request.name)), LIST).ok()?;
        let record: FingerprintRecord = serde_json::from_str(&text).ok()?;
        let is_same = record.key == self.key
            && record.files.iter().all(|(path, then)| of_maybe(&path.0).as_ref() == Some(then))
            && has_sums(&record.packed, &output);
        is_same.then_some(record.packed)
    }

    /// Records the result for the next run. A file that changed just now may change again without a
    /// new time. In that case nothing is recorded.
    pub(crate) fn keep(&self, request: &PackRequest, packed: &Packed) -> Result<()> {
        let output = fs_err::canonicalize(&request.options.output)?;
        let place = output.join(workplace::record(&request.name));
        let mut files = Vec::new();
        for path in request.repositories.looked_at() {
            if path.exists() && facts(&path, Some(self.begun)).is_none() {
                return files::remove_file(&place);
            }
            files.extend(of_maybe(&path).map(|facts| (RecordedPath(path), facts)));
        }
        let images = packed.images.iter().chain(&packed.debug_images);
        let images = images.flat_map(|image| image.link.iter().chain([&image.path]));
        let shared = [sums::FILE_NAME, sums::SIGNATURE_NAME].map(|name| output.join(name));
        for path in images.chain(&packed.reports).filter(|path| !shared.contains(path)) {
            files.extend(of_maybe(path).map(|facts| (RecordedPath(path.clone()), facts)));
        }
        let record = FingerprintRecord { key: self.key.clone(), files, packed: packed.clone() };
        files::write_durably(&place, &serde_json::to_vec(&record)?)
    }
}

/// Returns whether the list of digests contains those of the images. Other extensions share that
/// list.
fn has_sums(packed: &Packed, output: &Path) -> bool {
    let sums = output.join(sums::FILE_NAME);
    if !packed.reports.contains(&sums) {
        return true;
    }
    let signature = output.join(sums::SIGNATURE_NAME);
    let written = |path: &Path| fs_err::metadata(path).and_then(|meta| meta.modified()).ok();
    // The list is signed when it is written, so an older signature belongs to another list.
    if packed.reports.contains(&signature) && written(&signature) < written(&sums) {
        return false;
    }
    let text = input::read_text(&sums, TEXT).unwrap_or_default();
    packed.images.iter().chain(&packed.debug_images).all(|image| {
        let name = image.path.file_name().unwrap_or_default().to_string_lossy();
        let sum = image.sha256.as_deref().unwrap_or_default();
        text.lines().any(|line| line == format!("{sum}  {name}"))
    })
}

/// Returns the facts of the file at `path`; a missing file is a fact too.
fn of_maybe(path: &Path) -> Option<String> {
    if path.symlink_metadata().is_err() {
        return Some("none".to_owned());
    }
    facts(path, None)
}

/// Returns the facts that identify an unchanged file. Returns `None` if they cannot be read, or if
/// the file may have changed after `before` without a new time.
fn facts(path: &Path, before: Option<SystemTime>) -> Option<String> {
    facts_of(&path.symlink_metadata().ok()?, before)
}

fn facts_of(meta: &Metadata, before: Option<SystemTime>) -> Option<String> {
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
