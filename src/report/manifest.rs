//! Manifest of an extension: all facts in one JSON file.

use serde::Serialize;
use serde_json::{Value, json};

use crate::base::data::hex;
use crate::base::names::{Eprefix, PrefixName};
use crate::fstree::entries::Totals;
use crate::fstree::{digest, listing};
use crate::imagefmt::architecture::Architecture;
use crate::report::sequence::Sequence;
use crate::report::{ImageFile, ReportSubject};
use crate::sysext::name::Version;
use crate::sysext::prune::Pruned;
use crate::sysext::strip::Stripped;

/// Format version of the file. It increases when a reader must know about a change.
const FORM: u32 = 1;

#[derive(Serialize)]
struct ExtensionManifest<'a, E: Serialize> {
    #[serde(rename = "manifest")]
    form: u32,
    name: &'a PrefixName,
    version: Option<&'a Version>,
    architecture: Option<Architecture>,
    eprefix: &'a Eprefix,
    epoch: u64,
    content: String,
    images: &'a [ImageFile],
    totals: Totals,
    packages: Vec<Value>,
    left_out: &'a [Pruned],
    stripped: &'a Stripped,
    debug_images: &'a [ImageFile],
    privileged: Vec<String>,
    entries: E,
}

/// Builds the manifest.
pub(super) fn render<'a>(subject: &'a ReportSubject<'a>) -> impl Serialize + use<'a> {
    let packages = subject.packages.iter().map(|package| {
        json!({
            "cpv": package.cpv,
            "repository": package.repository,
            "license": package.license,
        })
    });
    ExtensionManifest {
        form: FORM,
        name: &subject.naming.name,
        version: subject.naming.version.as_ref(),
        architecture: subject.naming.architecture,
        eprefix: &subject.plan.eprefix,
        epoch: subject.plan.epoch,
        content: hex(&digest::hash_tree(subject.plan)),
        images: subject.images,
        totals: subject.plan.count_totals(),
        packages: packages.collect(),
        left_out: subject.left_out,
        stripped: subject.stripped,
        debug_images: subject.debug,
        privileged: listing::list_privileged(subject.plan),
        entries: Sequence(|| listing::list_entries(subject.plan)),
    }
}
