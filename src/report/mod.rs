//! What goes with an image: lists of its packages and files, its licences and its bill of
//! materials, in the forms that Flatcar's image build writes and reads.
//!
//! An image is published only when it was read back and is exactly what was planned, so what
//! the plan says is what the image holds.
//!
//! Nothing in here changes what an image holds.

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

use crate::fstree::entries::FileTree;
use crate::sysext::name::Naming;
use crate::sysext::prune::Pruned;
use crate::sysext::strip::Stripped;

pub(crate) use crate::report::combined::{ImageBase, ReportSection, combine};
pub(crate) use crate::report::contents::disk_usage;
pub(crate) use crate::report::licenses::license_texts;
pub(crate) use crate::report::package::{InstalledPackage, installed};
pub(crate) use crate::report::repositories::Repositories;

/// An image, for those reports that name it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ImageFile {
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
pub(crate) struct ReportSubject<'a> {
    /// What the extension is called.
    pub naming: &'a Naming,
    /// What it holds.
    pub plan: &'a FileTree,
    /// The packages that this came from.
    pub packages: &'a [InstalledPackage],
    /// Where ebuilds, their digests and their licences are.
    pub repositories: &'a Repositories,
    /// What was left out.
    pub left_out: &'a [Pruned],
    /// What was stripped.
    pub stripped: &'a Stripped,
    /// The images.
    pub images: &'a [ImageFile],
    /// The images of the extension with the symbols.
    pub debug: &'a [ImageFile],
}

/// The ends of the names of the reports.
const PACKAGES: &str = "_packages.txt";
const CONTENTS: &str = "_contents.txt";
const CONTENTS_WITH_DETAILS: &str = "_contents_wtd.txt";
const DISK_USAGE: &str = "_disk_usage.txt";
const LICENSES: &str = "_licenses.json";
const LICENSE_TEXTS: &str = "_licenses.txt";
const SBOM: &str = "_sbom.spdx.json";
const MANIFEST: &str = "_manifest.json";

/// Writes the reports into the directory `dir`; returns their names. They are written as they are
/// made: those of a great many files would be larger in memory than all else.
pub(crate) fn write(subject: &ReportSubject<'_>, dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut report = |end: &str, write: &dyn Fn(&mut dyn Write) -> Result<()>| -> Result<()> {
        let name = format!("{}{end}", subject.naming.stem());
        let path = dir.join(&name);
        let mut file = BufWriter::new(fs_err::File::create(&path)?);
        write(&mut file)
            .and_then(|()| Ok(file.flush()?))
            .with_context(|| format!("could not write {}", path.display()))?;
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

/// Writes `value` as JSON for people to read.
fn json_lines(mut out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(out.write_all(b"\n")?)
}
