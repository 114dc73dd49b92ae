//! The fast way of `build`: where the binhost has all that final wants, staging is neither set up nor
//! filled.

use anyhow::Result;

use crate::base::escape::Escape;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::manifest::file::BuildFile;
use crate::manifest::{configuration, tidy};
use crate::portage::vdb;
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::from_binhost::{BinhostAnswer, ask_binhost, install_from_binhost};
use crate::prefix::setup::{EmptyPrefix, SetupPlan};

/// Sets the prefix of `plan` up and installs the packages of `file` into final, if the binhost has
/// all of them. Else returns `None`, and `plan` can be applied.
///
/// # Errors
///
/// Fails if the prefix cannot be written, or if emerge cannot be started.
pub(crate) fn fill(
    plan: &mut SetupPlan,
    file: &BuildFile,
    is_locked: bool,
    reporter: &Reporter,
) -> Result<Option<Prefix>> {
    // A lock file has what staging is.
    if is_locked || !plan.may_use_binhost_alone()? {
        return Ok(None);
    }
    let empty = plan.apply_without_packages(reporter)?;
    configuration::check(empty.prefix())?;
    configuration::write(empty.prefix(), file)?;
    let mut packages = EmptyPrefix::first_packages()?;
    packages.extend(file.packages.iter().map(ToString::to_string));
    reporter.step("asking the binhost for all that final wants");
    match ask_binhost(empty.prefix(), &packages, reporter)? {
        BinhostAnswer::All => {}
        BinhostAnswer::Lacks(packages) => {
            let names: Vec<_> =
                packages.iter().map(|package| package.escaped().to_string()).collect();
            reporter.step(&format!(
                "the binhost lacks {}, so packages are built in staging",
                names.join(", ")
            ));
            return Ok(None);
        }
        BinhostAnswer::Unknown(reason) => {
            reporter.step(&format!(
                "the binhost did not say that it has all, so packages are built in staging: {}",
                reason.escaped()
            ));
            return Ok(None);
        }
    }
    let was_empty = vdb::packages(&empty.prefix().layout.vdb(Environment::Final))?.is_empty();
    if install_from_binhost(empty.prefix(), &packages, reporter)? != 0 {
        reporter.warn("the binhost did not give all that it lists; staging is set up");
        return Ok(None);
    }
    let prefix = empty.complete()?;
    if was_empty {
        tidy::record(&prefix, file)?;
    }
    Ok(Some(prefix))
}
