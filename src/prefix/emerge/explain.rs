//! What is said after emerge failed: which package in which phase, where its log is, and what of
//! the surroundings is to be suspected.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::portage::atom::Atom;
use crate::portage::vdb;
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::phases::Phases;

/// How programs say that they may not write: EROFS, strerror(3).
const READ_ONLY: &str = "Read-only file system";

/// What a log names that tells of nothing but a binary package that was to be fetched.
const FETCHED: &str = ".gpkg.tar";

/// What Portage says of a binary package that it does not take, and why that is.
const REFUSED: &[(&str, &str)] = &[
    (
        "GnuPG verification failed",
        "nobody of whom there is a key in etc/portage/gnupg has signed it",
    ),
    (
        "Digest verification failed",
        "it is not the one that the binhost's list of packages tells of",
    ),
    (FETCHED, "it could not be fetched, although the binhost's list of packages has it"),
];

/// Names the packages that failed in `environment` after `since`, and what may be behind that.
pub(super) fn failures(
    prefix: &Prefix,
    environment: Environment,
    phases: &Phases,
    since: SystemTime,
    reporter: &Reporter,
) -> Result<()> {
    let failures = phases.failures()?;
    for (package, phase) in &failures {
        let log = log_of(&prefix.layout.logs(environment), package)?;
        let place = log.as_ref().map(|log| format!("; its build log is {}", log.display()));
        reporter.error(&format!(
            "{package} failed in its {phase} phase, in {environment}{}",
            place.unwrap_or_default()
        ));
        if let Some(line) = log.map(|log| line_with(&log, READ_ONLY)).transpose()?.flatten() {
            reporter.error(&format!(
                "it wrote where it must not: {line}; what builds a package installs into ${{D}}, and \
                 all but that and its own work is read-only meanwhile"
            ));
        }
    }
    if failures.is_empty() && prefix.definition.binhost.is_some() {
        refused(prefix, environment, since, reporter)?;
    }
    let provided = prefix.layout.provided(environment);
    if let (false, Some(text)) = (failures.is_empty(), vdb::suspect_provided(&provided)?) {
        reporter.warn(&text);
    }
    Ok(())
}

/// Names the binary packages that were not taken.
fn refused(
    prefix: &Prefix,
    environment: Environment,
    since: SystemTime,
    reporter: &Reporter,
) -> Result<()> {
    for entry in fs_err::read_dir(prefix.layout.logs(environment))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split(':');
        let (Some(category), Some(pf), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let Ok(atom) = format!("={category}/{pf}").parse::<Atom>() else { continue };
        if entry.metadata()?.modified()? < since {
            continue;
        }
        let log = String::from_utf8_lossy(&fs_err::read(entry.path())?).into_owned();
        // Those that were taken, and those of which the signature is looked at again.
        let unpacked = log.contains(">>> Extracting");
        let says = |said: &str| log.contains(said) && !(unpacked && said == FETCHED);
        let Some((_, why)) = REFUSED.iter().find(|(said, _)| says(said)) else { continue };
        reporter.error(&format!(
            "the binary package of {category}/{pf} was not taken: {why} (see {}). Mend that, or build \
             it here with `fprefix -P {} emerge --usepkg-exclude={package} {package}`",
            entry.path().display(),
            prefix.definition.id,
            package = atom.package(),
        ));
    }
    Ok(())
}

/// The newest log of `package`: Portage names it `category:package:time.log`.
fn log_of(logs: &Path, package: &str) -> Result<Option<PathBuf>> {
    let start = format!("{}:", package.replace('/', ":"));
    let mut found = Vec::new();
    for entry in fs_err::read_dir(logs)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&start) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found.pop())
}

/// The last line of a log that has `text` in it, without the colours.
fn line_with(log: &Path, text: &str) -> Result<Option<String>> {
    let bytes = fs_err::read(log)?;
    let all = String::from_utf8_lossy(&bytes);
    let line = all.lines().rfind(|line| line.contains(text));
    Ok(line.map(|line| line.trim().chars().filter(|c| !c.is_control()).collect()))
}
