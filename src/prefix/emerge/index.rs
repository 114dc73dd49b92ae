//! The index of binary packages: before emerge trusts it, it is made anew where it is not true.

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::portage::packages::{FILE, list_differences};
use crate::prefix::definition::Prefix;
use crate::prefix::environment::Sandbox;

/// Has Portage make the index of PKGDIR anew where files and index differ, and says so.
pub(crate) fn mend(prefix: &Prefix, sandbox: &Sandbox<'_>, reporter: &Reporter) -> Result<()> {
    let pkgdir = prefix.layout.pkgdir();
    let before = list_differences(&pkgdir)?;
    if before.is_empty() {
        return Ok(());
    }
    reporter.step(&format!(
        "the index of the binary packages in {} is wrong about {} of them; Portage makes it anew",
        pkgdir.escaped(),
        before.len()
    ));
    make(prefix, sandbox, "")?;
    for file in list_differences(&pkgdir)? {
        let file = pkgdir.join(file);
        reporter.warn(&format!(
            "{} is no binary package that Portage can read, and is left out; remove it, and build \
             the package again",
            file.escaped()
        ));
    }
    Ok(())
}

/// Has Portage make the index of PKGDIR anew, with these words added to FEATURES. It reads what the
/// index that is there lacks.
///
/// # Errors
///
/// Fails if Portage cannot do that.
pub(crate) fn make(prefix: &Prefix, sandbox: &Sandbox<'_>, features: &str) -> Result<()> {
    sandbox
        .portage(Environment::Staging, "emaint", "make the index of binary packages anew")?
        .env("FEATURES", features)
        .args(["--fix", "binhost"])
        .run_quiet()
        .with_context(|| {
            let file = prefix.layout.pkgdir().join(FILE);
            format!("{} has no index that Portage can use", file.escaped())
        })
}
