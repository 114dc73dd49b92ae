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
    let in_extension = |key: &str| value(fields, key);
    let on_target = |key: &str| value(&os, key);
    if let Some(scope) = in_extension("SYSEXT_SCOPE")
        && !scope.split_whitespace().any(|word| word == "system")
    {
        mismatch(Level::Error, format!("SYSEXT_SCOPE={scope} leaves out running systems"));
    }
    if let (Some(in_extension), Some(on_target)) =
        (in_extension("ARCHITECTURE"), target.architecture()?)
        && in_extension != "_any"
        && in_extension != on_target.to_string()
    {
        mismatch(
            Level::Error,
            format!("ARCHITECTURE={in_extension}, and the target is {on_target}"),
        );
    }
    let id = in_extension("ID").unwrap_or_default();
    if id == "_any" {
        return Ok(findings);
    }
    // os-release(5): the default of ID.
    let host = on_target("ID").unwrap_or("linux");
    if id != host {
        let like = on_target("ID_LIKE").unwrap_or_default();
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
    let pair = match (in_extension("SYSEXT_LEVEL"), on_target("SYSEXT_LEVEL")) {
        (Some(in_extension), Some(on_target)) => {
            Some(("SYSEXT_LEVEL", Some(in_extension), on_target))
        }
        _ => on_target("VERSION_ID")
            .map(|on_target| ("VERSION_ID", in_extension("VERSION_ID"), on_target)),
    };
    if let Some((key, in_extension, on_target)) = pair
        && in_extension != Some(on_target)
    {
        let in_extension = in_extension
            .map_or_else(|| format!("no {key}"), |in_extension| format!("{key}={in_extension}"));
        mismatch(Level::Error, format!("it has {in_extension}, and the target {key}={on_target}"));
    }
    Ok(findings)
}

fn value<'a>(fields: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    fields.get(key).map(String::as_str).filter(|value| !value.is_empty())
}
