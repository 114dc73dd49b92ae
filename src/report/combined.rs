//! Reports about an image with extensions. Lists have a section for the base and for each
//! extension, under a line that begins with `#`. The bills of materials are merged into one.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::base::names::PrefixName;
use crate::fstree::entries::FileTree;
use crate::fstree::{digest, scan};
use crate::report::{
    InstalledPackage, ReportSubject, Repositories, contents, licenses, package, sbom,
};
use crate::sysext::name::Naming;
use crate::sysext::strip::Stripped;

/// Root directory of an image, without its extensions.
pub(crate) struct ImageBase<'a> {
    /// Path of the root directory.
    pub root: &'a Path,
    /// Packages of the base, if Portage installed them.
    pub packages: &'a [InstalledPackage],
    /// Repositories with the ebuilds and licences.
    pub repositories: &'a Repositories,
    /// Time of the reports, in seconds since 1970.
    pub epoch: u64,
    /// Name of the image.
    pub name: &'a PrefixName,
}

/// Reports of the base or of one extension.
pub(crate) struct ReportSection {
    /// Heading of the section.
    pub title: String,
    /// Identifier that keeps SPDX identifiers of different sections apart.
    pub id: String,
    /// Packages, one per line.
    pub packages: String,
    /// List of files.
    pub contents: String,
    /// List of files for programs.
    pub details: String,
    /// Licences.
    pub licenses: Value,
    /// Bill of materials.
    pub sbom: Value,
}

impl ImageBase<'_> {
    /// Makes the reports of the base alone.
    pub(crate) fn section(&self) -> Result<ReportSection> {
        // The plan serves for lists only, so its EPREFIX is arbitrary.
        let mut plan = FileTree::new(&"/usr/local/image".parse()?, self.epoch);
        scan::scan_for_lists(self.root, &mut plan)?;
        digest::hash_contents_for_reports(&mut plan).context("could not read the image")?;
        let naming = Naming { name: self.name.clone(), version: None, architecture: None };
        let subject = ReportSubject {
            naming: &naming,
            plan: &plan,
            packages: self.packages,
            repositories: self.repositories,
            left_out: &[],
            stripped: &Stripped::default(),
            images: &[],
            debug: &[],
        };
        let (mut contents, mut details) = (Vec::new(), Vec::new());
        contents::contents(&plan, &mut contents)?;
        contents::with_details(&plan, &mut details)?;
        let mut sbom = Vec::new();
        sbom::write(&subject, &mut sbom)?;
        Ok(ReportSection {
            title: "base".to_owned(),
            id: "base".to_owned(),
            packages: package::list(self.packages),
            contents: String::from_utf8_lossy(&contents).into_owned(),
            details: String::from_utf8_lossy(&details).into_owned(),
            licenses: licenses::list(self.packages, &plan),
            sbom: serde_json::from_slice(&sbom)?,
        })
    }
}

/// Combines the reports of all `sections`. Returns each with the suffix of its file name.
pub(crate) fn combine(
    name: &PrefixName,
    sections: &[ReportSection],
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let text = |part: fn(&ReportSection) -> &str| {
        let parts = sections.iter().map(|one| format!("# {}\n{}", one.title, part(one)));
        parts.collect::<Vec<_>>().join("\n").into_bytes()
    };
    let json = |value: &Value| -> Result<Vec<u8>> {
        Ok((serde_json::to_string_pretty(value)? + "\n").into_bytes())
    };
    let rows = sections.iter().filter_map(|one| one.licenses.as_array()).flatten().cloned();
    let rows = Value::Array(rows.collect());
    Ok(vec![
        ("_packages.txt", text(|one| &one.packages)),
        ("_contents.txt", text(|one| &one.contents)),
        ("_contents_wtd.txt", text(|one| &one.details)),
        ("_licenses.json", json(&rows)?),
        ("_sbom.spdx.json", json(&merge_sections(name, sections))?),
    ])
}

/// Returns one SPDX document about the image. It contains the elements of the documents of all
/// `sections`.
fn merge_sections(name: &PrefixName, sections: &[ReportSection]) -> Value {
    const IMAGE: &str = "SPDXRef-Image";
    const DOCUMENT: &str = "SPDXRef-DOCUMENT";
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    })];
    let relate = |from: &str, kind: &str, to: &str| json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to });
    let mut relations = vec![relate(DOCUMENT, "DESCRIBES", IMAGE)];
    let (mut files, mut texts, mut known) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut sums = Vec::new();
    for section in sections {
        let sbom = rename_identifiers(&section.sbom, &section.id);
        let part = |key: &str| sbom[key].as_array().cloned().unwrap_or_default();
        packages.extend(part("packages"));
        files.extend(part("files"));
        for mut relation in part("relationships") {
            if relation["spdxElementId"] == DOCUMENT {
                relation = relate(
                    IMAGE,
                    "CONTAINS",
                    relation["relatedSpdxElement"].as_str().unwrap_or_default(),
                );
            }
            relations.push(relation);
        }
        for text in part("hasExtractedLicensingInfos") {
            if known.insert(text["licenseId"].as_str().unwrap_or_default().to_owned()) {
                texts.push(text);
            }
        }
        sums.push(section.sbom["documentNamespace"].as_str().unwrap_or_default().to_owned());
    }
    let space = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, sums.join("\n").as_bytes());
    let created =
        sections.iter().filter_map(|one| one.sbom["creationInfo"]["created"].as_str()).max();
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{space}"),
        "creationInfo": {
            "created": created,
            "creators": [concat!("Tool: fprefix-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "files": files,
        "relationships": relations,
        "hasExtractedLicensingInfos": texts,
    })
}

/// Returns `value` with `id` added to the identifiers of its document, so that they differ from
/// those of other documents.
fn rename_identifiers(value: &Value, id: &str) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("SPDXRef-") {
            Some(rest) if rest != "DOCUMENT" => {
                // SPDX allows letters, digits, dots and dashes (3.2).
                let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
                let id: String = id.chars().map(plain).collect();
                json!(format!("SPDXRef-{id}-{rest}"))
            }
            _ => value.clone(),
        },
        Value::Array(values) => values.iter().map(|one| rename_identifiers(one, id)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, one)| (key.clone(), rename_identifiers(one, id))).collect()
        }
        other => other.clone(),
    }
}
