//! The differences between two extensions: packages, files, sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::base::escape::{Escape, visible_line};
use crate::base::input;
use crate::base::limits::LIST;
use crate::fstree::listing;
use crate::imagefmt::inspect;

/// Content of an extension, as far as it can be compared.
#[derive(Debug)]
pub(crate) struct ComparedExtension {
    /// Packages as `category/PF`; `None` if nothing lists them.
    packages: Option<BTreeSet<String>>,
    /// Facts about the entry at each path.
    entries: BTreeMap<String, Map<String, Value>>,
}

/// Differences between two extensions.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    /// Packages that only one of them has; `None` if either does not list its packages.
    pub packages: Option<OnlyIn>,
    /// Paths that only one of them has.
    pub files: OnlyIn,
    /// Entries that differ at the same path.
    pub changed: Vec<ChangedEntry>,
    /// Bytes in files: of the first extension, then of the second.
    pub bytes: [u64; 2],
}

/// Names that only one of the two extensions has.
#[derive(Debug, Default, Serialize)]
pub(crate) struct OnlyIn {
    /// Names that only the first has.
    pub removed: Vec<String>,
    /// Names that only the second has.
    pub added: Vec<String>,
}

/// An entry that differs between the two extensions.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedEntry {
    /// The path.
    pub path: String,
    /// Facts that differ, with both values.
    pub facts: BTreeMap<String, [Value; 2]>,
}

impl ComparedExtension {
    /// Reads a manifest, an image or a directory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|end| end == "json") {
            return manifest(path);
        }
        let path = fs_err::canonicalize(path)?;
        let plan = inspect::read(&path)
            .with_context(|| format!("could not look into {}", path.escaped()))?;
        let mut entries = BTreeMap::new();
        for listed in listing::list_entries(&plan) {
            let Value::Object(facts) = serde_json::to_value(listed)? else { continue };
            add(&mut entries, facts)?;
        }
        Ok(Self { packages: find_manifest_packages(&path)?, entries })
    }

    fn bytes(&self) -> u64 {
        // A manifest of somebody else may say any size.
        let sizes = self.entries.values().filter_map(|facts| facts.get("size")?.as_u64());
        sizes.fold(0, u64::saturating_add)
    }
}

fn manifest(path: &Path) -> Result<ComparedExtension> {
    parse_manifest(path, &input::read(path, LIST)?)
}

/// Parses the manifest `bytes` of the file at `path`.
pub(crate) fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<ComparedExtension> {
    let value: Value = serde_json::from_slice(bytes)
        .with_context(|| format!("{} is no manifest", path.escaped()))?;
    let value = made_visible(value);
    let Some(list) = value["entries"].as_array().filter(|_| value["manifest"] == 1) else {
        bail!("{} is no manifest that `fprefix pack` wrote", path.escaped());
    };
    let mut entries = BTreeMap::new();
    for facts in list.iter().filter_map(Value::as_object) {
        add(&mut entries, facts.clone())?;
    }
    let packages = value["packages"].as_array().map(|packages| {
        let names = packages.iter().filter_map(|package| package["cpv"].as_str());
        names.map(str::to_owned).collect()
    });
    Ok(ComparedExtension { packages, entries })
}

/// Returns the manifest of somebody as one of ours has to be: with names that are escaped.
fn made_visible(value: Value) -> Value {
    let shown = |text: String| visible_line(text.as_bytes());
    match value {
        Value::String(text) => Value::String(shown(text)),
        Value::Array(values) => values.into_iter().map(made_visible).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (shown(key), made_visible(value))).collect()
        }
        other => other,
    }
}

/// Returns the packages of the image at `path`, if its manifest lies beside it.
fn find_manifest_packages(path: &Path) -> Result<Option<BTreeSet<String>>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stems = name.char_indices().filter(|(_, c)| *c == '.').map(|(at, _)| &name[..at]);
    for stem in stems.chain([&*name]) {
        let place = path.with_file_name(format!("{stem}_manifest.json"));
        if place.is_file() {
            let value: Value = serde_json::from_slice(&input::read(&place, LIST)?)?;
            let images = value["images"].as_array().into_iter().flatten();
            if images.into_iter().any(|image| image["name"] == *name) {
                return Ok(manifest(&place)?.packages);
            }
        }
    }
    Ok(None)
}

fn add(
    entries: &mut BTreeMap<String, Map<String, Value>>,
    mut facts: Map<String, Value>,
) -> Result<()> {
    let Some(Value::String(path)) = facts.remove("path") else {
        bail!("an entry has no path");
    };
    entries.insert(path, facts);
    Ok(())
}

/// Compares `one` with `other`.
pub(crate) fn compare(one: &ComparedExtension, other: &ComparedExtension) -> Difference {
    let sides = |one: BTreeSet<&String>, other: BTreeSet<&String>| OnlyIn {
        removed: one.difference(&other).map(|name| (*name).clone()).collect(),
        added: other.difference(&one).map(|name| (*name).clone()).collect(),
    };
    let packages = match (&one.packages, &other.packages) {
        (Some(one), Some(other)) => Some(sides(one.iter().collect(), other.iter().collect())),
        _ => None,
    };
    let files = sides(one.entries.keys().collect(), other.entries.keys().collect());
    let mut changed = Vec::new();
    for (path, before) in &one.entries {
        let Some(after) = other.entries.get(path) else { continue };
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let value =
            |facts: &Map<String, Value>, key: &str| facts.get(key).cloned().unwrap_or(Value::Null);
        let facts: BTreeMap<String, [Value; 2]> = keys
            .into_iter()
            .map(|key| (key.clone(), [value(before, key), value(after, key)]))
            .filter(|(_, [before, after])| before != after)
            .collect();
        if !facts.is_empty() {
            changed.push(ChangedEntry { path: path.clone(), facts });
        }
    }
    Difference { packages, files, changed, bytes: [one.bytes(), other.bytes()] }
}

impl Difference {
    /// Returns whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        let none = |sides: &OnlyIn| sides.removed.is_empty() && sides.added.is_empty();
        self.packages.as_ref().is_none_or(none) && none(&self.files) && self.changed.is_empty()
    }
}
