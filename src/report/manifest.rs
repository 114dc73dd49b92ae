//! Everything about an extension in one JSON file.

use anyhow::Result;
use serde_json::{Value, json};

use super::Subject;
use crate::data::hex;
use crate::pack::{digest, listing};

/// The form of the file; a number that grows when a reader has to know.
const FORM: u32 = 1;

/// The manifest.
pub fn render(subject: &Subject<'_>) -> Result<Value> {
    let packages: Vec<Value> = subject
        .packages
        .iter()
        .map(|package| {
            json!({
                "cpv": package.cpv(),
                "repository": package.repository,
                "license": package.license,
            })
        })
        .collect();
    Ok(json!({
        "manifest": FORM,
        "name": subject.naming.name,
        "version": subject.naming.version,
        "architecture": subject.naming.architecture,
        "eprefix": subject.plan.eprefix,
        "epoch": subject.plan.epoch,
        "content": hex(&digest::of_plan(subject.plan)),
        "images": subject.images,
        "totals": subject.plan.totals(),
        "packages": packages,
        "left_out": subject.left_out,
        "privileged": listing::privileged(subject.plan),
        "entries": listing::entries(subject.plan),
    }))
}
