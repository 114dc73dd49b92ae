//! `emerge`: the real one, first in staging, then into final.
//!
//! In staging packages are built, with binpkgs. Into final they are installed from those binpkgs
//! alone, with what they need at run time. Output and exit status are emerge's own.
//!
//! ctrl-C and SIGTERM end us as they end any program. bubblewrap dies with us and all that runs in
//! it at once (`--die-with-parent`, bwrap(1)), so nobody is left who could write to what we no
//! longer hold the lock of; what Portage had begun it begins anew.

mod explain;
pub(crate) mod phases;

use std::process::ExitStatus;
use std::time::{Instant, SystemTime};

use anyhow::Result;

use crate::base::command::{Command, shell_code};
use crate::base::names::Environment;
use crate::base::output::{self, Reporter};
use crate::portage::events;
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::phases::Phases;
use crate::prefix::environment::Sandbox;

/// Which of the two environments emerge works on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EmergeTarget {
    /// Staging, then final.
    #[default]
    Both,
    /// Staging alone: build, do not install into final.
    Stage,
    /// Final alone: install what was built.
    Install,
}

/// Variables of the caller that mean something to emerge (make.conf(5), emerge(1)).
const PASSED_ON: &[&str] = &[
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ACCEPT_PROPERTIES",
    "ACCEPT_RESTRICT",
    "CFLAGS",
    "CPPFLAGS",
    "CXXFLAGS",
    "DISTCC_FALLBACK",
    "DISTCC_HOSTS",
    "DISTCC_VERBOSE",
    "EBUILD_SKIP_MANIFEST",
    "EXTRA_ECONF",
    "EXTRA_EMAKE",
    "FCFLAGS",
    "FEATURES",
    "FFLAGS",
    "GENTOO_MIRRORS",
    "INSTALL_MASK",
    "LDFLAGS",
    "LINGUAS",
    "MAKEOPTS",
    "NINJAOPTS",
    "PKG_INSTALL_MASK",
    "PORTAGE_BINHOST",
    "PORTAGE_ELOG_CLASSES",
    "PORTAGE_NICENESS",
    "USE",
];

/// Actions that look at repositories or sources, and have nothing to do with what is installed.
const STAGING_ACTIONS: &[&str] = &[
    "--buildpkgonly",
    "--check-news",
    "--fetch-all-uri",
    "--fetchonly",
    "--help",
    "--info",
    "--list-sets",
    "--metadata",
    "--regen",
    "--search",
    "--searchdesc",
    "--sync",
    "--version",
];
/// The letters of those among them that have one.
const STAGING_LETTERS: &str = "BFfhsSV";

/// The properties of emerge's arguments that decide how it is run.
#[derive(Debug, Default, PartialEq, Eq)]
struct EmergeArguments {
    staging_action: bool,
    pretend: bool,
    interactive: bool,
}

impl EmergeArguments {
    fn parse(args: &[String]) -> Self {
        let mut asked = Self::default();
        for arg in args {
            let letters = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
            let has = |wanted: &str| {
                letters.is_some_and(|letters| {
                    letters
                        .chars()
                        .take_while(char::is_ascii_alphabetic)
                        .any(|letter| wanted.contains(letter))
                })
            };
            asked.staging_action |= STAGING_ACTIONS.contains(&arg.as_str()) || has(STAGING_LETTERS);
            asked.pretend |= arg == "--pretend" || has("p");
            asked.interactive |= arg == "--ask" || arg == "--ask=y" || has("a");
        }
        asked
    }
}

/// Runs emerge on `prefix`; returns the exit code of the first run that failed, else 0.
pub(crate) fn run(
    prefix: &Prefix,
    target: EmergeTarget,
    args: &[String],
    reporter: &Reporter,
) -> Result<u8> {
    let sandbox = Sandbox::open(prefix)?;
    let asked = EmergeArguments::parse(args);
    if target != EmergeTarget::Install {
        reporter.step(&format!("staging: emerge {}", args.join(" ")));
        let run =
            EmergeRun { sandbox: &sandbox, prefix, reporter, environment: Environment::Staging };
        let status = run.emerge(args, &asked)?;
        if !status.success() {
            return Ok(shell_code(status));
        }
    }
    if target == EmergeTarget::Stage || asked.staging_action {
        return Ok(0);
    }
    reporter.step(&format!("final: emerge {}", args.join(" ")));
    let run = EmergeRun { sandbox: &sandbox, prefix, reporter, environment: Environment::Final };
    let args = for_final(args);
    let status = if asked.pretend && target == EmergeTarget::Both {
        run.pretend_final(&args)?
    } else {
        run.emerge(&args, &asked)?
    };
    Ok(shell_code(status))
}

/// The arguments without those that say which binary packages are not to be used: final has nothing
/// else to install, and gets what staging has built instead.
fn for_final(args: &[String]) -> Vec<String> {
    let option = "--usepkg-exclude";
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == option {
            args.next();
        } else if !arg.starts_with(&format!("{option}=")) {
            kept.push(arg.clone());
        }
    }
    kept
}

struct EmergeRun<'a> {
    sandbox: &'a Sandbox<'a>,
    prefix: &'a Prefix,
    reporter: &'a Reporter,
    environment: Environment,
}

impl EmergeRun<'_> {
    fn command(&self, args: &[String]) -> Result<Command> {
        let purpose = format!("run emerge on {}", self.environment);
        let mut command = self.sandbox.portage(self.environment, "emerge", &purpose)?;
        for name in PASSED_ON {
            command = command.pass(name);
        }
        Ok(command.args(args))
    }

    /// Pretends to install into final. Before a package is built it has no binpkg, so emerge uses
    /// ebuilds as well. (`--usepkgonly=n` does not take back what
    /// make.conf says: the dependency resolver asks whether the option is there at all.)
    fn pretend_final(&self, args: &[String]) -> Result<ExitStatus> {
        let options = "--usepkg --root-deps=rdeps";
        self.command(args)?.env("EMERGE_DEFAULT_OPTS", options).run_attached()
    }

    fn emerge(&self, args: &[String], asked: &EmergeArguments) -> Result<ExitStatus> {
        let phases = Phases::start(self.prefix)?;
        let (begun, since) = (Instant::now(), SystemTime::now());
        let draws = self.reporter.draws_beside_answers() && !asked.interactive;
        let status = if draws {
            self.emerge_with_bar(args, &phases)?
        } else {
            self.command(args)?.run_attached()?
        };
        if status.success() {
            let took = begun.elapsed().as_secs();
            self.reporter.detail(&format!("{}: done after {took} s", self.environment));
        } else {
            explain::report_failures(self.prefix, self.environment, &phases, since, self.reporter)?;
        }
        Ok(status)
    }

    /// Passes emerge's output on, above a line that tells which package of how many is in which
    /// phase, and for how long.
    fn emerge_with_bar(&self, args: &[String], phases: &Phases) -> Result<ExitStatus> {
        let bar = self.reporter.spinner();
        let follower = phases.follow(&bar);
        let mut command = self.command(&[])?;
        if std::env::var_os("NO_COLOR").is_none() {
            command = command.arg("--color=y");
        }
        let status = command.args(args).run_piped(|chunk| {
            if let Some(count) = events::parse_count(&String::from_utf8_lossy(chunk)) {
                bar.set_prefix(count);
            }
            bar.suspend(|| {
                // Nothing can be done where stdout is closed.
                let _ = output::relay(chunk);
            });
        });
        drop(follower);
        bar.finish_and_clear();
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> EmergeArguments {
        EmergeArguments::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments() {
        assert!(parse(&["-pv", "jq"]).pretend);
        assert!(parse(&["--pretend"]).pretend);
        assert!(parse(&["-av", "jq"]).interactive);
        assert!(parse(&["--sync"]).staging_action);
        assert!(parse(&["-s", "jq"]).staging_action);
        assert_eq!(parse(&["-1vuDN", "@world", "--depclean"]), EmergeArguments::default());
        assert_eq!(parse(&["-j4"]), EmergeArguments::default());
    }

    #[test]
    fn binary_packages_that_are_not_used() {
        let args = ["-1", "--usepkg-exclude", "a/b", "--usepkg-exclude=c/d", "a/b"];
        assert_eq!(for_final(&args.map(str::to_owned)), ["-1", "a/b"]);
    }
}
