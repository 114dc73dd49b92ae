//! The bill of materials in SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>), as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Subject;
use super::licenses::{License, SpdxNames};
use super::package::Package;
use crate::data::hex;
use crate::pack::digest;
use crate::pack::plan::{Content, Kind, Plan, Source};

const EXTENSION: &str = "SPDXRef-Extension";
const NO_ASSERTION: &str = "NOASSERTION";

/// Collects the parts of a document.
#[derive(Default)]
struct Document {
    packages: Vec<Value>,
    files: Vec<Value>,
    relations: Vec<Value>,
    licenses: BTreeSet<String>,
}

impl Document {
    fn relate(&mut self, from: &str, kind: &str, to: &str) {
        self.relations.push(json!({
            "spdxElementId": from,
            "relationshipType": kind,
            "relatedSpdxElement": to,
        }));
    }

    /// Gives packages of which files are listed the code that they are verified by (7.9): the
    /// digest of the sorted digests of its files.
    fn verify(&mut self, held: BTreeMap<&str, Vec<String>>) {
        for (owner, mut digests) in held {
            digests.sort();
            let code = hex(&Sha1::digest(digests.concat()));
            let package = self.packages.iter_mut().find(|package| package["SPDXID"] == owner);
            if let Some(fields) = package.and_then(Value::as_object_mut) {
                fields.insert("filesAnalyzed".to_owned(), json!(true));
                fields.insert(
                    "packageVerificationCode".to_owned(),
                    json!({ "packageVerificationCodeValue": code }),
                );
            }
        }
    }
}

/// The document.
pub fn render(subject: &Subject<'_>) -> Result<Value> {
    let names = SpdxNames::load()?;
    let created = OffsetDateTime::from_unix_timestamp(i64::try_from(subject.plan.epoch)?)?;
    let stem = subject.naming.stem();
    let mut document = Document::default();
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
    document.packages.push(extension);
    document.relate("SPDXRef-DOCUMENT", "DESCRIBES", EXTENSION);
    let mut owners = BTreeMap::new();
    for (index, package) in subject.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{index}");
        add_package(&mut document, subject, package, &id, &names)?;
        owners.extend(package.files.iter().map(|file| (file.as_path(), id.clone())));
    }
    add_files(&mut document, subject.plan, &owners)?;
    let licenses = extracted(&document.licenses, subject, &names)?;
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": stem,
        "documentNamespace":
            format!("https://spdx.org/spdxdocs/{stem}-{}", digest::uuid(subject.plan)),
        "creationInfo": {
            "created": created.format(&Rfc3339)?,
            "creators": [concat!("Tool: fprefix-", env!("CARGO_PKG_VERSION"))],
        },
        "packages": document.packages,
        "files": document.files,
        "relationships": document.relations,
        "hasExtractedLicensingInfos": licenses,
    }))
}

fn add_package(
    document: &mut Document,
    subject: &Subject<'_>,
    package: &Package,
    id: &str,
    names: &SpdxNames,
) -> Result<()> {
    let declared = if package.license.is_empty() {
        NO_ASSERTION.to_owned()
    } else {
        let license = License::parse(&package.license)?;
        license.names(&mut document.licenses);
        license.spdx(names)
    };
    let purl = format!("pkg:ebuild/{}/{}@{}", package.category, package.name, package.version);
    document.packages.push(json!({
        "SPDXID": id,
        "name": format!("{}/{}", package.category, package.name),
        "versionInfo": package.version,
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
    document.relate(EXTENSION, "CONTAINS", id);
    add_sources(document, subject, package, id)
}

/// What the package was built from: a package of its own for each file that was fetched.
fn add_sources(
    document: &mut Document,
    subject: &Subject<'_>,
    package: &Package,
    id: &str,
) -> Result<()> {
    let mut uris: BTreeMap<&str, &str> = BTreeMap::new();
    for (uri, file) in &package.sources {
        let place = uris.entry(file).or_insert(uri);
        // SPDX knows no mirrors of Portage's.
        if place.starts_with("mirror:") {
            *place = uri;
        }
    }
    for (index, (file, uri)) in uris.into_iter().enumerate() {
        let source = format!("{id}-Source-{index}");
        let place = if uri.starts_with("mirror:") { NO_ASSERTION } else { uri };
        let checksum = subject.repositories.checksum(&package.category, &package.name, file)?;
        let checksums: Vec<Value> = checksum
            .iter()
            .map(|sum| json!({ "algorithm": sum.algorithm, "checksumValue": sum.value }))
            .collect();
        document.packages.push(json!({
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
        document.relate(id, "GENERATED_FROM", &source);
    }
    Ok(())
}

fn add_files(document: &mut Document, plan: &Plan, owners: &BTreeMap<&Path, String>) -> Result<()> {
    let mut held: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let files: Vec<(usize, &PathBuf, &Content)> = plan
        .entries
        .iter()
        .enumerate()
        .filter_map(|(index, (path, entry))| match &entry.kind {
            Kind::File(content) => Some((index, path, content)),
            _ => None,
        })
        .collect();
    let sums: Vec<String> =
        files.par_iter().map(|(_, _, content)| sha1(content)).collect::<Result<_>>()?;
    for ((index, path, content), sha1) in files.into_iter().zip(sums) {
        let id = format!("SPDXRef-File-{index}");
        let sha256 = hex(&content.sha256.unwrap_or_default());
        document.files.push(json!({
            "SPDXID": id,
            "fileName": format!("./{}", path.display()),
            "checksums": [
                { "algorithm": "SHA1", "checksumValue": sha1 },
                { "algorithm": "SHA256", "checksumValue": sha256 },
            ],
            "licenseConcluded": NO_ASSERTION,
            "copyrightText": NO_ASSERTION,
        }));
        let owner = owners.get(path.as_path()).map_or(EXTENSION, String::as_str);
        document.relate(owner, "CONTAINS", &id);
        held.entry(owner).or_default().push(sha1);
    }
    document.verify(held);
    Ok(())
}

/// SPDX 2.3 wants this digest of every file (8.4).
fn sha1(content: &Content) -> Result<String> {
    let mut hash = Sha1::new();
    match &content.source {
        Source::Bytes(bytes) => hash.update(bytes),
        Source::Disk(path) => {
            std::io::copy(&mut fs_err::File::open(path)?, &mut hash)
                .with_context(|| format!("could not read {}", path.display()))?;
        }
    }
    Ok(hex(&hash.finalize()))
}

/// The licences that SPDX does not know, with their texts.
fn extracted(
    licenses: &BTreeSet<String>,
    subject: &Subject<'_>,
    names: &SpdxNames,
) -> Result<Vec<Value>> {
    let mut extracted = Vec::new();
    for name in licenses {
        let id = names.of(name);
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
