//! Portage's progress: the phases that the script around them reports, and the build logs that
//! emerge writes.

use crate::portage::cpv::Cpv;

/// A line that the bashrc of an environment writes when a phase begins or fails:
/// `[died:]PHASE CATEGORY/PF ENVIRONMENT`. A build can write there as well, so that only what can be
/// the name of a phase is taken for one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PhaseEvent<'a> {
    /// The ebuild phase.
    pub phase: &'a str,
    pub cpv: Cpv,
    /// The phase failed.
    pub died: bool,
}

/// More letters than the longest name of a phase has.
const LONGEST_PHASE: usize = 20;

impl<'a> PhaseEvent<'a> {
    /// Parses a line; `None` where it is not complete yet.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let (first, package) = (words.next()?, words.next()?);
        let (phase, died) = match first.strip_prefix("died:") {
            Some(phase) => (phase, true),
            None => (first, false),
        };
        let is_name = phase.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        (is_name && phase.len() <= LONGEST_PHASE).then_some(())?;
        Some(Self { phase, cpv: package.parse().ok()?, died })
    }
}

/// Returns the packages that failed according to the lines in `text`, each with its phase.
pub(crate) fn failures(text: &str) -> Vec<(Cpv, String)> {
    let mut failures: Vec<(Cpv, String)> = text
        .lines()
        .filter_map(PhaseEvent::parse)
        .filter(|event| event.died)
        .map(|event| (event.cpv, event.phase.to_owned()))
        .collect();
    failures.dedup();
    failures
}

/// Returns the packages that emerge would build, from what it prints with --pretend: each has a line
/// that begins with `[ebuild`.
pub(crate) fn list_ebuilds(output: &str) -> Vec<String> {
    let package = |line: &str| {
        let (_, rest) = line.trim_start().strip_prefix("[ebuild")?.split_once(']')?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    output.lines().filter_map(package).collect()
}

/// Returns the package of the build log `name`: Portage names logs `CATEGORY:PF:TIME.log`.
pub(crate) fn package_of_log(name: &str) -> Option<Cpv> {
    let mut parts = name.split(':');
    let (category, pf, _) = (parts.next()?, parts.next()?, parts.next()?);
    format!("{category}/{pf}").parse().ok()
}

/// The name that a log has of a binary package, and of nothing else.
const FETCHED: &str = ".gpkg.tar";

/// Portage's messages about a binary package that it refuses, and the reason for each.
const REFUSALS: &[(&str, &str)] = &[
    ("GnuPG verification failed", "no key in etc/portage/gnupg has signed it"),
    ("Digest verification failed", "its digest is not the one in the binhost's list of packages"),
    (FETCHED, "it could not be fetched, although the binhost's list of packages has it"),
];

/// Returns why Portage refused a binary package, from the package's build log; `None` where it did
/// not refuse one.
pub(crate) fn find_refusal(log: &str) -> Option<&'static str> {
    // Once it is unpacked it was fetched; its signature is verified after that.
    let unpacked = log.contains(">>> Extracting");
    let says = |message: &str| log.contains(message) && !(unpacked && message == FETCHED);
    REFUSALS.iter().find(|(message, _)| says(message)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases() {
        let cpv: Cpv = "app-misc/jq-1.7.1".parse().unwrap();
        let event = PhaseEvent::parse("died:compile app-misc/jq-1.7.1 staging").unwrap();
        assert_eq!(event, PhaseEvent { phase: "compile", cpv: cpv.clone(), died: true });
        let event = PhaseEvent::parse("install app-misc/jq-1.7.1 final").unwrap();
        assert_eq!(event, PhaseEvent { phase: "install", cpv: cpv.clone(), died: false });
        for half in ["", "half", "compile app-misc/jq", "compile ", "\u{1b}[31m app-misc/jq-1.7.1"]
        {
            assert_eq!(PhaseEvent::parse(half), None, "{half:?}");
        }
        let lines = "setup app-misc/jq-1.7.1 staging\ndied:compile app-misc/jq-1.7.1 staging\n\
                     died:compile app-misc/jq-1.7.1 staging\n";
        assert_eq!(failures(lines), [(cpv, "compile".to_owned())]);
    }

    #[test]
    fn packages_that_would_be_built() {
        let text = "\n[binary  N     ] sys-libs/glibc-2.36-1 to /fprefix/final/root\n\
                    [ebuild  N     ] app-misc/jq-1.7.1::fprefix to /fprefix/final/root USE=\"x\"\n";
        assert_eq!(list_ebuilds(text), ["app-misc/jq-1.7.1::fprefix"]);
    }

    #[test]
    fn logs() {
        let cpv = package_of_log("app-misc:jq-1.7.1-r2:20260101-000000.log").unwrap();
        assert_eq!(cpv.to_string(), "app-misc/jq-1.7.1-r2");
        for other in ["setup.log", "app-misc:jq-1.7.1", "app-misc:jq:20260101-000000.log"] {
            assert_eq!(package_of_log(other), None, "{other}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(find_refusal("all is well"), None);
        let fetched = find_refusal("!!! jq-1.7.1-1.gpkg.tar not found").unwrap();
        assert!(fetched.contains("could not be fetched"));
        let unpacked = ">>> jq-1.7.1-1.gpkg.tar\n>>> Extracting info\n";
        assert_eq!(find_refusal(unpacked), None);
        let unsigned = format!("{unpacked}!!! GnuPG verification failed\n");
        assert!(find_refusal(&unsigned).unwrap().contains("no key"));
    }
}
