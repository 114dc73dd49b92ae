//! Reports about an image: lists of its packages and files, its licences and its bill of materials,
//! in the formats of Flatcar's image build.
//!
//! An image is published only if it was read back and equals the plan. The plan therefore describes
//! the image exactly.
//!
//! Nothing in here changes the content of an image.

mod combined;
mod contents;
mod licenses;
mod manifest;
mod package;
mod repositories;
mod sbom;
mod sequence;

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::base::escape::Escape;
use crate::fstree::entries::FileTree;
use crate::sysext::name::Naming;
use crate::sysext::prune::Pruned;
use crate::sysext::strip::Stripped;

pub(crate) use crate::report::combined::{ImageBase, ReportSection, combine};
pub(crate) use crate::report::contents::disk_usage;
pub(crate) use crate::report::licenses::license_texts;
pub(crate) use crate::report::package::{InstalledPackage, installed};
pub(crate) use crate::report::repositories::Repositories;

/// Facts about an image, for the reports that name it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ImageFile {
    /// File name.
    pub name: String,
    /// Image format.
    pub format: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 digest; `None` for a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Subject of the reports: one extension.
pub(crate) struct ReportSubject<'a> {
    /// Names of the extension.
    pub naming: &'a Naming,
    /// Content of the extension.
    pub plan: &'a FileTree,
    /// Packages that the content came from.
    pub packages: &'a [InstalledPackage],
    /// Repositories with the ebuilds, digests of sources and licences.
    pub repositories: &'a Repositories,
    /// Entries that were pruned.
    pub left_out: &'a [Pruned],
    /// Files that were stripped.
    pub stripped: &'a Stripped,
    /// Images of the extension.
    pub images: &'a [ImageFile],
    /// Images of the extension with symbols.
    pub debug: &'a [ImageFile],
}

/// Suffixes of the names of the reports.
const PACKAGES: &str = "_packages.txt";
const CONTENTS: &str = "_contents.txt";
const CONTENTS_WITH_DETAILS: &str = "_contents_wtd.txt";
const DISK_USAGE: &str = "_disk_usage.txt";
const LICENSES: &str = "_licenses.json";
const LICENSE_TEXTS: &str = "_licenses.txt";
const SBOM: &str = "_sbom.spdx.json";
const MANIFEST: &str = "_manifest.json";

/// Writes the reports into the directory `dir` and returns their names. Each report is streamed to
/// its file: a report about very many files would need more memory than all other data.
pub(crate) fn write(subject: &ReportSubject<'_>, dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut report = |end: &str, write: &dyn Fn(&mut dyn Write) -> Result<()>| -> Result<()> {
        let name = format!("{}{end}", subject.naming.stem());
        let path = dir.join(&name);
        let mut file = BufWriter::new(fs_err::File::create(&path)?);
        write(&mut file)
            .and_then(|()| Ok(file.flush()?))
            .with_context(|| format!("could not write {}", path.escaped()))?;
        names.push(name);
        Ok(())
    };
    let text = |out: &mut dyn Write, text: &[u8]| Ok(out.write_all(text)?);
    report(PACKAGES, &|out| text(out, package::list(subject.packages).as_bytes()))?;
    report(CONTENTS, &|out| contents::contents(subject.plan, out))?;
    report(CONTENTS_WITH_DETAILS, &|out| contents::with_details(subject.plan, out))?;
    report(DISK_USAGE, &|out| text(out, contents::disk_usage(&[], subject.images).as_bytes()))?;
    report(LICENSES, &|out| json_lines(out, &licenses::list(subject.packages, subject.plan)))?;
    report(LICENSE_TEXTS, &|out| {
        text(out, &licenses::license_texts(subject.packages, subject.repositories)?)
    })?;
    report(SBOM, &|out| sbom::write(subject, out))?;
    report(MANIFEST, &|out| json_lines(out, &manifest::render(subject)))?;
    Ok(names)
}

/// Writes `value` as indented JSON.
fn json_lines(mut out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(out.write_all(b"\n")?)
}
