//! Units that start when the extension is attached.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Error, Result, bail};
use serde::Serialize;
use serde_json::json;

use crate::base::data::Folder;
use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::base::template;
use crate::fstree::entries::{Entry, FileTree};

/// Directory of units of the system.
const UNITS: &str = "usr/lib/systemd/system";
/// Suffixes of the names of units that can be started.
const KINDS: &[&str] = &["service", "socket", "timer", "path", "mount", "target", "swap"];

/// Name of a unit that is to be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct UnitName(String);

impl FromStr for UnitName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let kind = text.rsplit_once('.').filter(|(name, _)| !name.is_empty()).map(|parts| parts.1);
        if !kind.is_some_and(|kind| KINDS.contains(&kind)) || !text.chars().all(plain) {
            bail!("{text:?} has to be the name of a unit, like demo.service");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes systemd start `units` when the extension `name` is attached, and restart them when they
/// end. A drop-in of multi-user.target does so (`Upholds=`, systemd 249 and newer). Before that,
/// `commands` have the target read the files of the extension.
pub(crate) fn enable_units(
    plan: &mut FileTree,
    name: &PrefixName,
    units: &[UnitName],
    commands: &[String],
) -> Result<()> {
    check_units(plan, units)?;
    let mut units: Vec<String> = units.iter().map(ToString::to_string).collect();
    if !commands.is_empty() {
        let values = json!({ "name": name, "units": units.join(" "), "commands": commands });
        let text = template::render(Folder::Templates, "rules.service", values)?;
        let unit = format!("{name}-rules.service");
        plan.add(format!("{UNITS}/{unit}"), Entry::generated(text.into_bytes(), plan.epoch))?;
        units.push(unit);
    }
    if units.is_empty() {
        return Ok(());
    }
    let text = template::render(Folder::Templates, "upholds.conf", json!({ "units": units }))?;
    let place = format!("{UNITS}/multi-user.target.d/10-{name}.conf");
    plan.add(place, Entry::generated(text.into_bytes(), plan.epoch))
}

/// Fails if the extension lacks one of `units`.
fn check_units(plan: &FileTree, units: &[UnitName]) -> Result<()> {
    let there: BTreeSet<&OsStr> = plan
        .entries
        .keys()
        .filter(|path| path.parent() == Some(Path::new(UNITS)))
        .filter_map(|path| path.file_name())
        .collect();
    for unit in units {
        // demo@one.service is made from demo@.service.
        let template = unit
            .0
            .split_once('@')
            .and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        let is_there = [Some(unit.0.clone()), template].into_iter().flatten();
        if !is_there.map(std::ffi::OsString::from).any(|name| there.contains(name.as_os_str())) {
            let known: Vec<_> = there.iter().map(|name| name.escaped().to_string()).collect();
            bail!("the extension has no unit {unit} to start; it has {}", known.join(", "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!("demo@one.service".parse::<UnitName>().is_ok());
        for bad in ["demo", ".service", "a b.service", "../a.service", "a.service\nx"] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
    }
}
