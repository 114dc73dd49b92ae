//! Errors after a failed emerge: the package and the phase, the build log, and causes outside the
//! package.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;

use crate::base::escape::{Escape, visible_line};
use crate::base::input;
use crate::base::names::Environment;
use crate::base::output::Reporter;
use crate::portage::cpv::Cpv;
use crate::portage::{events, fetch_log, provided};
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::phases::Phases;

/// The message of programs that must not write: EROFS, strerror(3).
const READ_ONLY: &str = "Read-only file system";

/// Reports the packages that failed in `environment` after `since`, and possible causes.
pub(super) fn report_failures(
    prefix: &Prefix,
    environment: Environment,
    phases: &Phases,
    since: SystemTime,
    reporter: &Reporter,
) -> Result<()> {
    let failures = phases.failures()?;
    for (package, phase) in &failures {
        let log = newest_log(&prefix.layout.logs(environment), package)?;
        let place = log.as_ref().map(|log| format!("; its build log is {}", log.escaped()));
        reporter.error(&format!(
            "{package} failed in its {phase} phase, in {environment}{}",
            place.unwrap_or_default()
        ));
        if let Some(line) = log.map(|log| find_line(&log, READ_ONLY)).transpose()?.flatten() {
            reporter.error(&format!(
                "it wrote where it must not: {line}; a package installs into ${{D}}, and \
                 everything outside ${{D}} and its work directory is read-only while it is built"
            ));
        }
    }
    if failures.is_empty() {
        let logs = list_logs(&prefix.layout.logs(environment), since)?;
        report_fetches(prefix, environment, &logs, reporter)?;
        if prefix.definition.binhost.is_some() {
            report_refusals(prefix, &logs, reporter)?;
        }
    }
    let provided = prefix.layout.package_provided(environment);
    if let (false, Some(text)) = (failures.is_empty(), provided::warn_of_unchecked(&provided)?) {
        reporter.warn(&text);
    }
    Ok(())
}

/// Returns the logs of packages in `logs` that were written after `since`, sorted.
fn list_logs(logs: &Path, since: SystemTime) -> Result<Vec<(Cpv, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(logs)? {
        let entry = entry?;
        if let Some(cpv) = events::package_of_log(&entry.file_name().to_string_lossy())
            && entry.metadata()?.modified()? >= since
        {
            found.push((cpv, entry.path()));
        }
    }
    found.sort_by(|(_, one), (_, other)| one.cmp(other));
    Ok(found)
}

/// Reports the sources that could not be fetched.
fn report_fetches(
    prefix: &Prefix,
    environment: Environment,
    logs: &[(Cpv, PathBuf)],
    reporter: &Reporter,
) -> Result<()> {
    for (cpv, log) in logs {
        for failed in fetch_log::parse(&input::read_end(log)?) {
            let file = Path::new(&failed.file).escaped().to_string();
            let reason = if failed.is_wrong {
                "what came is not what the Manifest of its ebuild says"
            } else {
                "none of its places has it, or can be reached"
            };
            let mut text = format!(
                "{cpv} needs {file}, in {environment}, and {reason} (see {})",
                log.escaped()
            );
            for place in &failed.places {
                text += &format!("\n  {}", visible_line(place.as_bytes()));
            }
            reporter.error(&format!(
                "{text}\nhint: fetch the file from elsewhere, and put it there under that name: \
                 {}",
                prefix.definition.distdir.join(&failed.file).escaped()
            ));
        }
    }
    Ok(())
}

/// Reports the binary packages that Portage refused according to `logs`.
fn report_refusals(prefix: &Prefix, logs: &[(Cpv, PathBuf)], reporter: &Reporter) -> Result<()> {
    for (cpv, log) in logs {
        let Some(reason) = events::find_refusal(&input::read_end(log)?) else { continue };
        reporter.error(&format!(
            "the binary package of {cpv} was refused: {reason} (see {})\n\
             hint: correct that, or build the \
             package here with `fprefix -P {} emerge --usepkg-exclude={package} {package}`",
            log.escaped(),
            prefix.definition.id,
            package = cpv.package(),
        ));
    }
    Ok(())
}

/// Returns the newest build log of `package` in `logs`. The names end with the time, so the last
/// one is the newest.
fn newest_log(logs: &Path, package: &Cpv) -> Result<Option<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(logs)? {
        let entry = entry?;
        if events::package_of_log(&entry.file_name().to_string_lossy()).as_ref() == Some(package) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found.pop())
}

/// Returns the last line of `log` that contains `text`, without colours.
fn find_line(log: &Path, text: &str) -> Result<Option<String>> {
    let all = input::read_end(log)?;
    let line = all.lines().rfind(|line| line.contains(text));
    Ok(line.map(|line| line.trim().chars().filter(|c| !c.is_control()).collect()))
}
