//! What was packed, as it is answered and kept beside the images.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::base::data::hex;
use crate::base::names::PrefixName;
use crate::fstree::digest;
use crate::fstree::entries::{FileTree, Totals};
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::{Format, FormatKind};
use crate::imagefmt::workplace::Workplace;
use crate::portage::cpv::Cpv;
use crate::report::ImageFile;
use crate::sysext::name::{FileNames, Version};
use crate::sysext::prune::Pruned;
use crate::sysext::strip::Stripped;
use crate::sysext::target::TargetFinding;

/// An image that was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PackedImage {
    /// The format.
    pub format: FormatKind,
    /// The file.
    pub path: PathBuf,
    /// The name under which it can be attached, where that is a link to the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<PathBuf>,
    /// Its size; of a directory, that of the files in it.
    pub size: u64,
    /// Its digest, where it is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl PackedImage {
    /// What was made in the workplace, by the names that it will have.
    pub(super) fn of(
        format: Format,
        names: &FileNames,
        workplace: &Workplace,
        plan: &FileTree,
    ) -> Result<Self> {
        let made = workplace.path(&names.file);
        let (size, sha256) = if made.is_dir() {
            (plan.totals().bytes, None)
        } else {
            let (sha256, size) = digest::hash_file(&made)?;
            (size, Some(hex(&sha256)))
        };
        Ok(Self {
            format: format.kind(),
            path: workplace.place(&names.file),
            link: names.link.as_ref().map(|link| workplace.place(link)),
            size,
            sha256,
        })
    }

    /// What reports say of it.
    pub(crate) fn file(&self) -> ImageFile {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (format, sha256) = (self.format.to_string(), self.sha256.clone());
        ImageFile { name, format, size: self.size, sha256 }
    }
}

/// What was packed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Packed {
    /// The name under which the extension is attached.
    pub name: PrefixName,
    /// Its version.
    pub version: Option<Version>,
    /// The machines it is for.
    pub architecture: Option<Architecture>,
    /// EPREFIX.
    pub eprefix: String,
    /// The time of the image, in seconds since 1970.
    pub epoch: u64,
    /// The images.
    pub images: Vec<PackedImage>,
    /// The images with the symbols, where they were wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debug_images: Vec<PackedImage>,
    /// What was stripped.
    #[serde(default)]
    pub stripped: Stripped,
    /// What was written beside them.
    pub reports: Vec<PathBuf>,
    /// What they hold.
    pub contents: Totals,
    /// What was left out.
    pub left_out: Vec<Pruned>,
    /// The packages that a base has, and which are left out for that.
    pub in_base: Vec<Cpv>,
    /// Programs with setuid, setgid or capabilities.
    pub privileged: Vec<String>,
    /// What somebody should know.
    pub warnings: Vec<String>,
    /// What attaching it would do to the target, where one was named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<TargetFinding>,
}
