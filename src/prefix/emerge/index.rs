//! The index of binary packages: before emerge trusts it, it is made anew where it is not true.

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::portage::packages::list_differences;
use crate::prefix::definition::Prefix;
use crate::prefix::environment::Sandbox;

/// Has Portage make the index of PKGDIR anew where files and index differ, and says so.
pub(super) fn mend(prefix: &Prefix, sandbox: &Sandbox<'_>, reporter: &Reporter) -> Result<()> {
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
    sandbox
        .portage(Environment::Staging, "emaint", "make the index of binary packages anew")?
        .args(["--fix", "binhost"])
        .run_quiet()
        .with_context(|| {
            format!("{} has no index that Portage can use", pkgdir.join("Packages").escaped())
        })?;
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
