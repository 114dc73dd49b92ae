//! Reports about a whole image: sections for its base and for each extension.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::base::input;
use crate::base::limits::LIST;
use crate::host::disk::{self, Fill};
use crate::pipeline::image::request::{ImageRequest, Part};
use crate::pipeline::pack::PackedImage;
use crate::portage::atom::Atom;
use crate::portage::vdb;
use crate::report::{self, ReportSection, Repositories};

/// Directories of a root that Flatcar keeps on separate filesystems.
const PLACES: &[&str] = &["boot", "usr", ""];

/// Writes the combined reports into `made`, which has the reports of the extensions. Returns their
/// names.
pub(super) fn write(
    request: &ImageRequest,
    parts: &[Part],
    repositories: &Repositories,
    made: &Path,
) -> Result<Vec<String>> {
    let database = request.root.directory(Path::new(vdb::BELOW_EROOT))?;
    let base_packages = database.map(|database| report::installed(&database)).transpose();
    let base_packages = base_packages
        .context("could not read the package database of the image")?
        .unwrap_or_default();
    let base = report::ImageBase {
        root: request.root.path(),
        packages: &base_packages,
        repositories,
        epoch: parts.iter().map(|part| part.packed.epoch).max().unwrap_or_default(),
        name: &request.image_name,
    };
    let mut sections = vec![base.section()?];
    for part in parts {
        sections.push(section(part, made)?);
    }
    let all: Vec<_> =
        base_packages.iter().chain(parts.iter().flat_map(|part| &part.packages)).cloned().collect();
    let mut files = report::combine(&request.image_name, &sections)?;
    files.push(("_licenses.txt", report::license_texts(&all, repositories)?));
    files.push(("_disk_usage.txt", disk_usage(request, parts)?.into_bytes()));
    files.push(("_manifest.json", manifest(request, parts)?));
    let mut names = Vec::new();
    for (end, bytes) in files {
        let name = format!("{}{end}", request.image_name);
        fs_err::write(made.join(&name), bytes)?;
        names.push(name);
    }
    Ok(names)
}

/// Reads the reports that were written beside an extension.
fn section(part: &Part, made: &Path) -> Result<ReportSection> {
    let name = part.packed.name.to_string();
    let text = |end: &str| input::read_text(&made.join(format!("{name}{end}")), LIST);
    let json = |end: &str| -> Result<Value> { Ok(serde_json::from_str(&text(end)?)?) };
    Ok(ReportSection {
        title: format!("extension {name}"),
        packages: text("_packages.txt")?,
        contents: text("_contents.txt")?,
        details: text("_contents_wtd.txt")?,
        licenses: json("_licenses.json")?,
        sbom: json("_sbom.spdx.json")?,
        id: name,
    })
}

/// Renders a table like that of df(1): the filesystems of the image, then its extensions.
fn disk_usage(request: &ImageRequest, parts: &[Part]) -> Result<String> {
    let mut rows = Vec::new();
    for place in PLACES {
        if let Some(dir) = request.root.directory(&Path::new("/").join(place))? {
            rows.push((format!("/{place}"), Fill::measure(&dir)?, disk::kind(&dir)));
        }
    }
    let images: Vec<_> =
        parts.iter().flat_map(|part| &part.packed.images).map(PackedImage::file).collect();
    Ok(report::disk_usage(&rows, &images))
}

fn manifest(request: &ImageRequest, parts: &[Part]) -> Result<Vec<u8>> {
    let extensions: Vec<Value> = request
        .recipes
        .iter()
        .zip(parts)
        .map(|(recipe, part)| {
            let images: Vec<_> = part.packed.images.iter().map(PackedImage::file).collect();
            json!({
                "name": recipe.name,
                "asked_for": recipe.packages.iter().map(Atom::as_str).collect::<Vec<_>>(),
                "packages": part.packages.iter().map(|package| &package.cpv).collect::<Vec<_>>(),
                "in_base": part.packed.in_base,
                "eprefix": part.packed.eprefix,
                "images": images,
                "totals": part.packed.contents,
            })
        })
        .collect();
    let value = json!({ "manifest": 1, "name": request.image_name, "extensions": extensions });
    Ok((serde_json::to_string_pretty(&value)? + "\n").into_bytes())
}
