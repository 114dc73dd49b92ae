//! Commands that fix findings. The right command depends on the origin of the file. Packages of
//! Portage are installed again, which rewrites the files and keeps Portage's records correct. Other
//! trees are rewritten in place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::command::Command;
use crate::base::level::Level;
use crate::check::{Finding, rebuild};
use crate::portage::{provided, vdb};
use crate::prefix::final_root::{FinalRoot, Origin};

/// Adds to each finding the package that its file belongs to.
pub(super) fn name_packages(root: &FinalRoot, findings: &mut [Finding]) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let mut owners: HashMap<PathBuf, String> = HashMap::new();
    for package in vdb::installed(&root.vdb())? {
        for file in package.files()? {
            owners.insert(Path::new("/").join(file), package.cpv().to_string());
        }
    }
    for finding in findings {
        finding.package = owners.get(&finding.path).cloned();
    }
    Ok(())
}

/// Returns the commands that fix findings of the rules that rewriting fixes, by rule.
pub(super) fn list_commands(
    root: &FinalRoot,
    findings: &[Finding],
) -> BTreeMap<&'static str, String> {
    let mut packages: BTreeMap<&'static str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding.level == Level::Error) {
        if finding.rewrites {
            packages.entry(finding.rule.id).or_default().insert(finding.package.as_deref());
        }
    }
    let command = |packages: BTreeSet<Option<&str>>| match root.origin() {
        Origin::Tree => Some(rewrite_command(root)),
        Origin::Prefix { update: Some(update), .. } => Some(update.clone()),
        Origin::Prefix { name, .. } => install_command(name, &packages),
    };
    packages.into_iter().filter_map(|(rule, of)| Some((rule, command(of)?))).collect()
}

/// Returns possible causes of findings, by rule. A missing library may have been replaced by an
/// upgrade, or belong to a package that was declared as provided.
pub(super) fn find_suspects(
    root: &FinalRoot,
    findings: &[Finding],
) -> Result<BTreeMap<&'static str, Vec<String>>> {
    let found = |f: &&Finding| f.rule.id == NEEDED && f.level == Level::Error;
    let needed: Vec<&Finding> = findings.iter().filter(found).collect();
    let Origin::Prefix { name, provided, staging, .. } = root.origin() else {
        return Ok(BTreeMap::new());
    };
    if needed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut causes = rebuild::explain(name, &root.vdb(), staging, &needed)?;
    causes.extend(provided::warn_of_unchecked(provided)?);
    Ok(if causes.is_empty() { BTreeMap::new() } else { BTreeMap::from([(NEEDED, causes)]) })
}

/// Name of the rule that needed libraries must exist.
const NEEDED: &str = "needed";

fn rewrite_command(root: &FinalRoot) -> String {
    let command = Command::new("rewrite the tree", "fprefix").args(["rewrite", "--root"]);
    command.arg(root.path()).args(["--eprefix", root.eprefix().as_str()]).to_string()
}

/// Returns the command that installs the packages again, or `None` if no file belongs to a package.
fn install_command(name: &str, packages: &BTreeSet<Option<&str>>) -> Option<String> {
    let atoms: Vec<String> =
        packages.iter().flatten().map(|package| format!("={package}")).collect();
    let options = ["-P", name, "emerge", "--install", "--oneshot"];
    let command = Command::new("install packages again", "fprefix").args(options).args(&atoms);
    (!atoms.is_empty()).then(|| command.to_string())
}
