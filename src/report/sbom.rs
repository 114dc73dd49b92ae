//! Bill of materials in SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>), as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::data::hex;
use crate::base::escape::Escape;
use crate::fstree::digest;
use crate::fstree::entries::{EntryKind, FileContent, FileTree};
use crate::portage::license::{LicenseExpression, SpdxNames};
use crate::report::package::InstalledPackage;
use crate::report::sequence::Sequence;
use crate::report::{ReportSubject, json_lines};

const EXTENSION: &str = "SPDXRef-Extension";
const NO_ASSERTION: &str = "NOASSERTION";

/// An SPDX document. It has few packages, but may have very many files, so the list of files is
/// streamed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpdxDocument<'a, F: Serialize, R: Serialize> {
    spdx_version: &'a str,
    data_license: &'a str,
    #[serde(rename = "SPDXID")]
    id: &'a str,
    name: &'a str,
    document_namespace: String,
    creation_info: Value,
    packages: &'a [Value],
    files: F,
    relationships: R,
    has_extracted_licensing_infos: Vec<Value>,
}

/// A relationship between two elements (11).
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct SpdxRelationship<'a> {
    spdx_element_id: &'a str,
    relationship_type: &'a str,
    related_spdx_element: String,
}

/// A file (8).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpdxFile {
    #[serde(rename = "SPDXID")]
    id: String,
    file_name: String,
    checksums: [SpdxChecksum; 2],
    license_concluded: &'static str,
    copyright_text: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpdxChecksum {
    algorithm: &'static str,
    checksum_value: String,
}

/// Parts of the document that are not about files.
#[derive(Default)]
struct SpdxParts {
    packages: Vec<Value>,
    relations: Vec<(String, &'static str, String)>,
    licenses: BTreeSet<String>,
}

impl SpdxParts {
    fn add_relation(&mut self, from: &str, kind: &'static str, to: &str) {
        self.relations.push((from.to_owned(), kind, to.to_owned()));
    }

    /// Adds verification codes to the packages with a list of files (7.9). The code is the digest
    /// of the sorted digests of the files.
    fn verify(&mut self, held: BTreeMap<&str, Vec<[u8; 20]>>) {
        for (owner, mut digests) in held {
            digests.sort_unstable();
            let mut code = Sha1::new();
            for digest in digests {
                code.update(hex(&digest));
            }
            let package = self.packages.iter_mut().find(|package| package["SPDXID"] == owner);
            if let Some(fields) = package.and_then(Value::as_object_mut) {
                fields.insert("filesAnalyzed".to_owned(), json!(true));
                fields.insert(
                    "packageVerificationCode".to_owned(),
                    json!({ "packageVerificationCodeValue": hex(&code.finalize()) }),
                );
            }
        }
    }
}

/// Writes the document.
pub(super) fn write(subject: &ReportSubject<'_>, out: &mut dyn Write) -> Result<()> {
    let names = SpdxNames::load()?;
    let created = OffsetDateTime::from_unix_timestamp(i64::try_from(subject.plan.epoch)?)?;
    let stem = subject.naming.stem();
    let mut parts = SpdxParts::default();
    let mut extension = json!({
        "SPDXID": EXTENSION,
        "name": subject.naming.name,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
        "primaryPackagePurpose": "ARCHIVE",
    });
    if let (Some(version), Some(fields)) = (&subject.naming.version, extension.as_object_mut()) {
        fields.insert("versionInfo".to_owned(), json!(version));
    }
    parts.packages.push(extension);
    parts.add_relation("SPDXRef-DOCUMENT", "DESCRIBES", EXTENSION);
    let mut owners = BTreeMap::new();
    for (index, package) in subject.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{index}");
        add_package(&mut parts, subject, package, &id, &names)?;
        owners.extend(package.files.iter().map(|file| (file.as_path(), id.clone())));
    }
    let owner = |path: &Path| owners.get(path).map_or(EXTENSION, String::as_str);
    let mut held: BTreeMap<&str, Vec<[u8; 20]>> = BTreeMap::new();
    for (_, path, content) in files(subject.plan) {
        let sha1 = content.sha1.with_context(|| format!("/{} was not read", path.escaped()))?;
        held.entry(owner(path)).or_default().push(sha1);
    }
    parts.verify(held);
    let licenses = list_extracted_licenses(&parts.licenses, subject, &names)?;
    let others = parts.relations.iter().map(|(from, kind, to)| SpdxRelationship {
        spdx_element_id: from,
        relationship_type: kind,
        related_spdx_element: to.clone(),
    });
    let bill = SpdxDocument {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: "SPDXRef-DOCUMENT",
        name: &stem,
        document_namespace: format!(
            "https://spdx.org/spdxdocs/{stem}-{}",
            digest::tree_uuid(subject.plan)
        ),
        creation_info: json!({
            "created": created.format(&Rfc3339)?,
            "creators": [concat!("Tool: fprefix-", env!("CARGO_PKG_VERSION"))],
        }),
        packages: &parts.packages,
        files: Sequence(|| files(subject.plan).map(file)),
        relationships: Sequence(|| {
            others.clone().chain(files(subject.plan).map(|(index, path, _)| SpdxRelationship {
                spdx_element_id: owner(path),
                relationship_type: "CONTAINS",
                related_spdx_element: file_id(index),
            }))
        }),
        has_extracted_licensing_infos: licenses,
    };
    json_lines(out, &bill)
}

/// Returns the files of `plan` with their numbers.
fn files(plan: &FileTree) -> impl Iterator<Item = (usize, &Path, &FileContent)> {
    plan.entries.iter().enumerate().filter_map(|(index, (path, entry))| match &entry.kind {
        EntryKind::File(content) => Some((index, path.as_path(), content)),
        _ => None,
    })
}

fn file((index, path, content): (usize, &Path, &FileContent)) -> SpdxFile {
    let sum = |algorithm, digest: &[u8]| SpdxChecksum { algorithm, checksum_value: hex(digest) };
    // SPDX 2.3 requires SHA-1 of every file (8.4).
    let sha1 = sum("SHA1", &content.sha1.unwrap_or_default());
    let sha256 = sum("SHA256", &content.sha256.unwrap_or_default());
    SpdxFile {
        id: file_id(index),
        file_name: format!("./{}", path.escaped()),
        checksums: [sha1, sha256],
        license_concluded: NO_ASSERTION,
        copyright_text: NO_ASSERTION,
    }
}

fn file_id(index: usize) -> String {
    format!("SPDXRef-File-{index}")
}

fn add_package(
    parts: &mut SpdxParts,
    subject: &ReportSubject<'_>,
    package: &InstalledPackage,
    id: &str,
    names: &SpdxNames,
) -> Result<()> {
    let declared = if package.license.is_empty() {
        NO_ASSERTION.to_owned()
    } else {
        let license = LicenseExpression::parse(&package.license)?;
        license.collect_names(&mut parts.licenses);
        license.spdx(names)
    };
    let version = package.cpv.version_with_revision();
    let purl = package_url(&package.cpv.package(), &version);
    parts.packages.push(json!({
        "SPDXID": id,
        "name": package.cpv.package(),
        "versionInfo": version,
        "summary": package.description,
        "homepage": package.homepage.split_whitespace().next().unwrap_or(NO_ASSERTION),
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": declared,
        "copyrightText": NO_ASSERTION,
        "sourceInfo": format!("built from the ebuild {}", package.project()),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": purl,
        }],
    }));
    parts.add_relation(EXTENSION, "CONTAINS", id);
    add_sources(parts, subject, package, id)
}

/// Returns the package URL of a version of `package`, which is `category/name`. In each part, all bytes
/// but these are percent-encoded (package-url specification, "Character encoding").
fn package_url(package: &str, version: &str) -> String {
    let encode = |part: &str| {
        let bytes = part.bytes().map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        });
        bytes.collect::<String>()
    };
    let path: Vec<String> = package.split('/').map(encode).collect();
    format!("pkg:ebuild/{}@{}", path.join("/"), encode(version))
}

/// Adds the sources of the package: an SPDX package for each file that was fetched.
fn add_sources(
    parts: &mut SpdxParts,
    subject: &ReportSubject<'_>,
    package: &InstalledPackage,
    id: &str,
) -> Result<()> {
    let mut uris: BTreeMap<&str, &str> = BTreeMap::new();
    for (uri, file) in &package.sources {
        let place = uris.entry(file).or_insert(uri);
        // SPDX does not know Portage's mirror:// URIs.
        if place.starts_with("mirror:") {
            *place = uri;
        }
    }
    for (index, (file, uri)) in uris.into_iter().enumerate() {
        let source = format!("{id}-Source-{index}");
        let place = if uri.starts_with("mirror:") { NO_ASSERTION } else { uri };
        let checksum = subject.repositories.checksum(&package.cpv, file)?;
        let checksums: Vec<Value> = checksum
            .iter()
            .map(|sum| json!({ "algorithm": sum.algorithm, "checksumValue": sum.value }))
            .collect();
        parts.packages.push(json!({
            "SPDXID": source,
            "name": file,
            "packageFileName": file,
            "downloadLocation": place,
            "filesAnalyzed": false,
            "licenseConcluded": NO_ASSERTION,
            "licenseDeclared": NO_ASSERTION,
            "copyrightText": NO_ASSERTION,
            "primaryPackagePurpose": "SOURCE",
            "checksums": checksums,
        }));
        parts.add_relation(id, "GENERATED_FROM", &source);
    }
    Ok(())
}

/// Returns the licences that SPDX does not know, with their texts.
fn list_extracted_licenses(
    licenses: &BTreeSet<String>,
    subject: &ReportSubject<'_>,
    names: &SpdxNames,
) -> Result<Vec<Value>> {
    let mut extracted = Vec::new();
    for name in licenses {
        let id = names.find(name);
        if !id.starts_with("LicenseRef-") {
            continue;
        }
        let text = subject.repositories.license(name)?;
        extracted.push(json!({
            "licenseId": id,
            "name": name,
            "extractedText": text.unwrap_or_else(|| NO_ASSERTION.to_owned()),
        }));
    }
    Ok(extracted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_encoded() {
        assert_eq!(
            package_url("x11-libs/gtk+", "3.24.51-r1"),
            "pkg:ebuild/x11-libs/gtk%2B@3.24.51-r1"
        );
        assert_eq!(package_url("a/b_c", "1_p2"), "pkg:ebuild/a/b_c@1_p2");
    }
}
