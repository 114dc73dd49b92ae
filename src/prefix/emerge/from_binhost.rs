//! Final from a binhost alone, without staging.

use anyhow::Result;

use crate::base::command::shell_code;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::portage::binhost::{Binhost, find_fetch_error};
use crate::portage::events;
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::{
    CallerVariables, EmergeArguments, EmergeOutput, EmergeRun, history, index,
};
use crate::prefix::environment::Sandbox;

/// The answer of a binhost to the question for packages.
#[derive(Debug)]
pub(crate) enum BinhostAnswer {
    /// It has all of them, with the USE flags of the prefix.
    All,
    /// It lacks these packages, which would be built.
    Lacks(Vec<String>),
    /// emerge cannot tell which, and says this at its end.
    Unknown(String),
}

/// Asks Portage whether the binhost of `prefix` has `packages`, and all that they need at run time.
/// Ebuilds count as well: what they have in a newer version would be built.
///
/// # Errors
///
/// Fails if emerge cannot be started.
pub(crate) fn ask_binhost(
    prefix: &Prefix,
    packages: &[String],
    reporter: &Reporter,
) -> Result<BinhostAnswer> {
    let sandbox = Sandbox::open(prefix)?;
    index::mend(prefix, &sandbox, reporter)?;
    let output = sandbox
        .portage(Environment::Final, "emerge", "ask the binhost for packages")?
        .env("EMERGE_DEFAULT_OPTS", options(prefix, false))
        .args(["--pretend", "--color=n", "--update", "--deep", "--newuse"])
        .args(packages)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // Portage goes on with the list that it had before, or with none.
    if let Some(line) = [&said, &errors].into_iter().find_map(|text| find_fetch_error(text)) {
        return Ok(BinhostAnswer::Unknown(line.to_owned()));
    }
    let lacking = events::list_ebuilds(&said);
    if !lacking.is_empty() {
        return Ok(BinhostAnswer::Lacks(lacking));
    }
    if output.status.success() {
        return Ok(BinhostAnswer::All);
    }
    let line = errors.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(BinhostAnswer::Unknown(line.trim().to_owned()))
}

/// Installs `packages` into final from the binhost alone. Returns emerge's exit code.
///
/// # Errors
///
/// Fails if emerge cannot be started.
pub(crate) fn install_from_binhost(
    prefix: &Prefix,
    packages: &[String],
    reporter: &Reporter,
) -> Result<u8> {
    let sandbox = Sandbox::open(prefix)?;
    let args = ["--update", "--deep", "--newuse"].into_iter().map(str::to_owned);
    let args: Vec<String> = args.chain(packages.iter().cloned()).collect();
    reporter.step(&format!("final: emerge {} from the binhost", packages.join(" ")));
    let options = options(prefix, true);
    let run = EmergeRun {
        sandbox: &sandbox,
        prefix,
        reporter,
        environment: Environment::Final,
        variables: CallerVariables::OfMachine,
        output: EmergeOutput::Progress,
        options: Some(&options),
    };
    history::record(prefix)?;
    let status = run.emerge(&args, &EmergeArguments::default())?;
    history::record(prefix)?;
    Ok(shell_code(status))
}

/// The options of emerge on final, with the binhost.
fn options(prefix: &Prefix, alone: bool) -> String {
    let is_remote = matches!(prefix.definition.binhost, Some(Binhost::Uri(_)));
    let taking = match (alone, is_remote) {
        (true, true) => "--usepkgonly --getbinpkgonly",
        (true, false) => "--usepkgonly",
        (false, true) => "--usepkg --getbinpkg",
        (false, false) => "--usepkg",
    };
    // As long as there is no virtual/libc, Portage does not know for its own the dependency on libc
    // that it wrote into packages, and would build them anew.
    format!("{taking} --root-deps=rdeps --binpkg-respect-use=y --binpkg-changed-deps=n --jobs=2")
}
