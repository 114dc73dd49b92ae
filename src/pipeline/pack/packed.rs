//! Result of packing, as it is printed and recorded beside the images.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::base::data::hex;
use crate::base::escape;
use crate::base::names::PrefixName;
use crate::fstree::digest;
use crate::fstree::entries::{FileTree, Totals};
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::ImageFormat;
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
    /// Format of the image.
    pub format: &'static dyn ImageFormat,
    /// Path of the file.
    #[serde(with = "escape::path")]
    pub path: PathBuf,
    /// Link to the file under the name that systemd attaches, if the file has another name.
    #[serde(default, with = "escape::optional_path", skip_serializing_if = "Option::is_none")]
    pub link: Option<PathBuf>,
    /// Size in bytes. For a directory, the sum of its files.
    pub size: u64,
    /// SHA-256 digest; `None` for a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl PackedImage {
    /// Describes the image in the workplace under its final names.
    pub(super) fn of(
        format: Format,
        names: &FileNames,
        workplace: &Workplace,
        plan: &FileTree,
    ) -> Result<Self> {
        let made = workplace.path(&names.file);
        let (size, sha256) = if made.is_dir() {
            (plan.count_totals().bytes, None)
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

    /// Returns the facts that reports list about the image.
    pub(crate) fn file(&self) -> ImageFile {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (format, sha256) = (self.format.to_string(), self.sha256.clone());
        ImageFile { name, format, size: self.size, sha256 }
    }
}

/// Result of packing an extension.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Packed {
    /// Name under which the extension is attached.
    pub name: PrefixName,
    /// Version of the extension.
    pub version: Option<Version>,
    /// Architecture that the extension is for.
    pub architecture: Option<Architecture>,
    /// EPREFIX.
    pub eprefix: String,
    /// Time of the image, in seconds since 1970.
    pub epoch: u64,
    /// Images of the extension.
    pub images: Vec<PackedImage>,
    /// Images of the extension with symbols, if they were wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debug_images: Vec<PackedImage>,
    /// Files that were stripped.
    #[serde(default)]
    pub stripped: Stripped,
    /// Files that were written beside the images.
    #[serde(with = "escape::paths")]
    pub reports: Vec<PathBuf>,
    /// Totals of the content.
    pub contents: Totals,
    /// Entries that were pruned.
    pub left_out: Vec<Pruned>,
    /// Packages that are left out because a base contains them.
    pub in_base: Vec<Cpv>,
    /// Programs with setuid, setgid or capabilities.
    pub privileged: Vec<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Effects of attaching the extension to the target, if the request named one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<TargetFinding>,
}
