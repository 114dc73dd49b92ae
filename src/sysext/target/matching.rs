//! Decision whether systemd accepts an extension for a target, by the rules of systemd-sysext(8)
//! (`extension_release_validate` in systemd's src/shared/extension-util.c).

use std::collections::BTreeMap;

use anyhow::Result;

use crate::base::level::Level;
use crate::sysext::target::root::TargetRoot;
use crate::sysext::target::{TargetFinding, TargetRule};

/// First systemd that also compares with `ID_LIKE` of the target (systemd pull request 37648).
const ID_LIKE: u32 = 258;

/// Compares `fields` of the extension-release file with the os-release of `target`.
pub(super) fn check_matching(
    target: &TargetRoot<'_>,
    fields: &BTreeMap<String, String>,
) -> Result<Vec<TargetFinding>> {
    let mut findings = Vec::new();
    let Some(os) = target.os_release()? else {
        let detail = "there is no os-release, by which systemd matches extensions";
        return Ok(vec![TargetFinding::new(TargetRule::ReleaseMatch, Level::Error, None, detail)]);
    };
    let mut mismatch = |level, detail: String| {
        findings.push(TargetFinding::new(TargetRule::ReleaseMatch, level, None, detail));
    };
    let ours = |key: &str| value(fields, key);
    let theirs = |key: &str| value(&os, key);
    if let Some(scope) = ours("SYSEXT_SCOPE")
        && !scope.split_whitespace().any(|word| word == "system")
    {
        mismatch(Level::Error, format!("SYSEXT_SCOPE={scope} leaves out running systems"));
    }
    if let (Some(ours), Some(theirs)) = (ours("ARCHITECTURE"), target.architecture()?)
        && ours != "_any"
        && ours != theirs.to_string()
    {
        mismatch(Level::Error, format!("ARCHITECTURE={ours}, and the target is {theirs}"));
    }
    let id = ours("ID").unwrap_or_default();
    if id == "_any" {
        return Ok(findings);
    }
    // os-release(5): the default of ID.
    let host = theirs("ID").unwrap_or("linux");
    if id != host {
        let like = theirs("ID_LIKE").unwrap_or_default();
        if !like.split_whitespace().any(|word| word == id) {
            mismatch(Level::Error, format!("ID={id}, and the target has ID={host}"));
            return Ok(findings);
        }
        if target.systemd()?.is_none_or(|version| version < ID_LIKE) {
            mismatch(
                Level::Warning,
                format!(
                    "ID={id} is in ID_LIKE of the target ({host}) alone, which systemd compares \
                     with since {ID_LIKE}"
                ),
            );
        }
    }
    // If both sides have a level, only the level counts; else VERSION_ID, if the target has one.
    let pair = match (ours("SYSEXT_LEVEL"), theirs("SYSEXT_LEVEL")) {
        (Some(ours), Some(theirs)) => Some(("SYSEXT_LEVEL", Some(ours), theirs)),
        _ => theirs("VERSION_ID").map(|theirs| ("VERSION_ID", ours("VERSION_ID"), theirs)),
    };
    if let Some((key, ours, theirs)) = pair
        && ours != Some(theirs)
    {
        let ours = ours.map_or_else(|| format!("no {key}"), |ours| format!("{key}={ours}"));
        mismatch(Level::Error, format!("it has {ours}, and the target {key}={theirs}"));
    }
    Ok(findings)
}

fn value<'a>(fields: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    fields.get(key).map(String::as_str).filter(|value| !value.is_empty())
}
