//! Removes the packages that a build file no longer names from the prefix, with dependencies that
//! only they needed.

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::base::data::hex;
use crate::base::files;
use crate::base::input;
use crate::base::limits::TEXT;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::manifest::file::BuildFile;
use crate::portage::atom::Atom;
use crate::portage::{vdb, world};
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::{self, CallerVariables, EmergeTarget};

/// Stamp below the marker of staging, with the digest of the package set that was tidied last.
const TIDY: &str = "tidy";

/// Returns whether a build was completed and nothing has changed since.
pub(crate) fn is_built(prefix: &Prefix, file: &BuildFile) -> Result<bool> {
    let stamp = prefix.layout.marker(Environment::Staging).join(TIDY);
    Ok(stamp.is_file() && input::read_text(&stamp, TEXT)? == state(prefix, file)?)
}

/// Removes the packages that are not needed. Returns the exit code of the first emerge that failed,
/// else 0.
pub(crate) fn tidy(prefix: &Prefix, file: &BuildFile, reporter: &Reporter) -> Result<u8> {
    if is_built(prefix, file)? {
        return Ok(0);
    }
    let is_empty = prefix.definition.without_staging;
    let target = if is_empty { EmergeTarget::Install } else { EmergeTarget::Both };
    let stale = stale(prefix, file)?;
    if !stale.is_empty() {
        reporter.step(&format!("no longer wanted: {}", stale.join(" ")));
        let args: Vec<String> =
            ["--quiet", "--deselect"].into_iter().map(Into::into).chain(stale).collect();
        let code = emerge::run(prefix, target, CallerVariables::OfMachine, &args, reporter)?;
        if code != 0 {
            return Ok(code);
        }
    }
    let args = ["--quiet".to_owned(), "--depclean".to_owned()];
    let code = emerge::run(prefix, target, CallerVariables::OfMachine, &args, reporter)?;
    if code == 0 {
        record(prefix, file)?;
    }
    Ok(code)
}

/// Records that the prefix has nothing but what the build file asks for.
pub(crate) fn record(prefix: &Prefix, file: &BuildFile) -> Result<()> {
    let stamp = prefix.layout.marker(Environment::Staging).join(TIDY);
    files::write_atomically(&stamp, state(prefix, file)?.as_bytes())
}

/// Returns the entries of the world files whose packages the build file does not name.
fn stale(prefix: &Prefix, file: &BuildFile) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for environment in [Environment::Staging, Environment::Final] {
        for (entry, atom) in world::read(&prefix.layout.world(environment))? {
            let package = atom.as_ref().map(Atom::package);
            if !file.packages.iter().any(|atom| Some(atom.package()) == package) {
                stale.push(entry);
            }
        }
    }
    stale.sort();
    stale.dedup();
    Ok(stale)
}

/// Hashes the installed and the wanted packages.
fn state(prefix: &Prefix, file: &BuildFile) -> Result<String> {
    let mut hash = Sha256::new();
    for environment in [Environment::Staging, Environment::Final] {
        for package in vdb::packages(&prefix.layout.vdb(environment))? {
            hash.update(package.to_string() + "\n");
        }
        hash.update("\n");
    }
    for line in file.packages.iter().map(ToString::to_string).chain(file.package_use.clone()) {
        hash.update(line + "\n");
    }
    Ok(hex(&hash.finalize()))
}
