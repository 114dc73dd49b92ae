//! What goes with an image: lists of its packages and files, its licences and its bill of
//! materials, in the forms that Flatcar's image build writes and reads.
//!
//! An image is published only when it was read back and is exactly what was planned, so what
//! the plan says is what the image holds.

mod combined;
mod contents;
pub mod difference;
mod licenses;
mod manifest;
mod package;
mod repositories;
mod sbom;
mod sums;
pub mod sysupdate;

use anyhow::Result;
use serde::Serialize;

use crate::pack::name::Naming;
use crate::pack::plan::Plan;
use crate::pack::slim::LeftOut;

pub use combined::{Base, Section, combine};
pub use contents::disk_usage;
pub use licenses::texts as license_texts;
pub use package::{Package, installed};
pub use repositories::Repositories;
pub use sums::{FILE as SUMS, merge as merge_sums};

/// An image, for those reports that name it.
#[derive(Clone, Debug, Serialize)]
pub struct ImageFile {
    /// The file name.
    pub name: String,
    /// The format.
    pub format: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, where it is a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// What the reports are about.
pub struct Subject<'a> {
    /// What the extension is called.
    pub naming: &'a Naming,
    /// What it holds.
    pub plan: &'a Plan,
    /// The packages that this came from.
    pub packages: &'a [Package],
    /// Where ebuilds, their digests and their licences are.
    pub repositories: &'a Repositories,
    /// What was left out.
    pub left_out: &'a [LeftOut],
    /// The images.
    pub images: &'a [ImageFile],
}

/// The reports, each with the end of its file name.
pub fn render(subject: &Subject<'_>) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let json = |value: &serde_json::Value| -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        Ok(text)
    };
    Ok(vec![
        ("_packages.txt", package::list(subject.packages).into_bytes()),
        ("_contents.txt", contents::contents(subject.plan)?.into_bytes()),
        ("_contents_wtd.txt", contents::with_details(subject.plan).into_bytes()),
        ("_disk_usage.txt", contents::disk_usage(&[], subject.images).into_bytes()),
        ("_licenses.json", json(&licenses::list(subject.packages, subject.plan))?),
        ("_licenses.txt", licenses::texts(subject.packages, subject.repositories)?),
        ("_sbom.spdx.json", json(&sbom::render(subject)?)?),
        ("_manifest.json", json(&manifest::render(subject)?)?),
    ])
}
