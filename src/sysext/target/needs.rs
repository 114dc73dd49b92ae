//! Versions of systemd and the kernel that formats and fields of the extension-release file need.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::base::level::Level;
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::KernelNeed;
use crate::sysext::target::root::TargetRoot;
use crate::sysext::target::{TargetFinding, TargetRule};

/// First systemd with systemd-sysext (NEWS of 248).
const SYSEXT: u32 = 248;

/// Fields that not every systemd with systemd-sysext knows. ID is listed with its value `_any`. The
/// level is an error if an older systemd does not attach the extension, and a warning if it ignores
/// the field.
const FIELDS: &[(&str, Option<&str>, u32, Level)] = &[
    // NEWS of 252. For an older systemd, no machine has such an ID.
    ("ID", Some("_any"), 252, Level::Error),
    // os-release(5): "Added in version 252", "250" and "255".
    ("ARCHITECTURE", None, 252, Level::Warning),
    ("SYSEXT_SCOPE", None, 250, Level::Warning),
    ("EXTENSION_RELOAD_MANAGER", None, 255, Level::Warning),
    // NEWS of 262.
    ("EXTENSION_RESTART_UNITS", None, 262, Level::Warning),
    ("EXTENSION_RELOAD_OR_RESTART_UNITS", None, 262, Level::Warning),
];

/// First systemd that reads the signature of a disk image from its third partition (NEWS of 250).
const SIGNED: u32 = 250;

/// Need of every extension: overlayfs with several lower layers came with 4.0.
const OVERLAY: KernelNeed = KernelNeed { version: (4, 0), reason: "overlayfs with several layers" };

/// Returns findings for the needs that `target` does not meet.
pub(super) fn check_needs(
    target: &TargetRoot<'_>,
    fields: &BTreeMap<String, String>,
    formats: &[Format],
    signed: bool,
) -> Result<Vec<TargetFinding>> {
    let mut findings = check_systemd(target.systemd()?, fields, formats, signed);
    let kernels = target.kernels()?;
    for format in formats.iter().filter(|format| format.kind().is_attachable()) {
        let KernelNeed { version: first, reason } = format.kernel(signed).unwrap_or(OVERLAY);
        let old: Vec<String> = kernels
            .iter()
            .filter(|kernel| **kernel < first)
            .map(|(major, minor)| format!("{major}.{minor}"))
            .collect();
        if old.is_empty() {
            continue;
        }
        let level = if old.len() == kernels.len() { Level::Error } else { Level::Warning };
        let detail = format!(
            "{format} needs Linux {}.{} or newer ({reason}), and the target has {}",
            first.0,
            first.1,
            old.join(", ")
        );
        findings.push(TargetFinding::new(TargetRule::OldKernel, level, None, detail));
    }
    Ok(findings)
}

fn check_systemd(
    version: Option<u32>,
    fields: &BTreeMap<String, String>,
    formats: &[Format],
    signed: bool,
) -> Vec<TargetFinding> {
    let Some(version) = version else {
        let detail = "no systemd is found, neither its library nor its package";
        return vec![TargetFinding::new(TargetRule::UnknownTarget, Level::Warning, None, detail)];
    };
    let mut findings = Vec::new();
    let mut need = |what: &str, first: u32, level: Level| {
        if version < first {
            let detail =
                format!("{what} needs systemd {first} or newer, and the target has {version}");
            findings.push(TargetFinding::new(TargetRule::OldSystemd, level, None, detail));
        }
    };
    need("every extension", SYSEXT, Level::Error);
    for (key, value, first, level) in FIELDS {
        let given = fields.get(*key).filter(|given| value.is_none_or(|value| value == *given));
        if let Some(given) = given {
            need(&format!("{key}={given} in its extension-release"), *first, *level);
        }
    }
    if signed && formats.iter().any(Format::can_be_signed) {
        need("a signed ddi", SIGNED, Level::Error);
    }
    findings
}
