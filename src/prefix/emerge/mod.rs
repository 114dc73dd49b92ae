//! `emerge`: the real one, first in staging, then into final.
//!
//! In staging packages are built, with binpkgs. Into final they are installed from those binpkgs
//! alone, with what they need at run time. Output and exit status are emerge's own.
//!
//! ctrl-C and SIGTERM end us as they end any program. bubblewrap dies with us and all that runs in
//! it at once (`--die-with-parent`, bwrap(1)), so nobody is left who could write to what we no
//! longer hold the lock of; what Portage had begun it begins anew.

mod explain;
pub(crate) mod follow;
pub(crate) mod from_binhost;
pub(crate) mod history;
pub(crate) mod index;
pub(crate) mod phases;
mod run_state;

use std::process::ExitStatus;
use std::time::{Instant, SystemTime};

use anyhow::Result;

use crate::base::command::{Command, shell_code};
use crate::base::names::Environment;
use crate::base::output::{self, Reporter};
use crate::portage::cpv::Cpv;
use crate::portage::vdb;
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

/// The variables of the caller that emerge gets (make.conf(5), emerge(1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerVariables {
    /// All that mean something to it: the caller runs emerge.
    All,
    /// Those that say how this machine works, and nothing of what is built: a file says that.
    OfMachine,
}

/// Variables that change how packages are built, and not what comes out.
const OF_MACHINE: &[&str] = &[
    "DISTCC_FALLBACK",
    "DISTCC_HOSTS",
    "DISTCC_VERBOSE",
    "GENTOO_MIRRORS",
    "MAKEOPTS",
    "NINJAOPTS",
    "PORTAGE_ELOG_CLASSES",
    "PORTAGE_NICENESS",
];

/// Variables that change what is built.
const OF_PRODUCT: &[&str] = &[
    "ACCEPT_KEYWORDS",
    "ACCEPT_LICENSE",
    "ACCEPT_PROPERTIES",
    "ACCEPT_RESTRICT",
    "CFLAGS",
    "CPPFLAGS",
    "CXXFLAGS",
    "EBUILD_SKIP_MANIFEST",
    "EXTRA_ECONF",
    "EXTRA_EMAKE",
    "FCFLAGS",
    "FEATURES",
    "FFLAGS",
    "INSTALL_MASK",
    "LDFLAGS",
    "LINGUAS",
    "PKG_INSTALL_MASK",
    "PORTAGE_BINHOST",
    "USE",
];

impl CallerVariables {
    fn names(self) -> impl Iterator<Item = &'static str> {
        let of_product: &[&str] = if self == Self::All { OF_PRODUCT } else { &[] };
        OF_MACHINE.iter().chain(of_product).copied()
    }
}

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

/// Actions that remove packages.
const REMOVING_ACTIONS: &[&str] =
    &["--clean", "--depclean", "--prune", "--rage-clean", "--unmerge"];
/// The letters of those among them that have one.
const REMOVING_LETTERS: &str = "CcP";

/// Other actions that install nothing, or what an earlier run was to install.
const OTHER_ACTIONS: &[&str] = &["--config", "--deselect", "--resume"];
/// The letters of those among them that have one.
const OTHER_LETTERS: &str = "rW";

/// Size of the end of emerge's output that is kept for the case that it fails, in bytes.
const KEPT: usize = 64 << 10;

/// The place of what emerge prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmergeOutput {
    /// stdout: it is the command's answer.
    Answer,
    /// stderr: it is progress, and the answer is another.
    Progress,
}

impl EmergeOutput {
    /// Writes what emerge printed.
    fn pass_on(self, printed: &[u8]) {
        // Nothing can be done where nobody reads it.
        let _ = match self {
            Self::Answer => output::relay(printed),
            Self::Progress => output::relay_progress(printed),
        };
    }
}

/// The kind of an action of emerge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EmergeAction {
    /// It installs what it is asked for.
    #[default]
    Install,
    /// One of [`REMOVING_ACTIONS`] or [`OTHER_ACTIONS`].
    Other,
    /// One of [`STAGING_ACTIONS`].
    Look,
}

/// The properties of emerge's arguments that decide how it is run.
#[derive(Debug, Default, PartialEq, Eq)]
struct EmergeArguments {
    action: EmergeAction,
    /// It removes the packages that it is given.
    removes: bool,
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
            let name = arg.split_once('=').map_or(arg.as_str(), |(name, _)| name);
            if STAGING_ACTIONS.contains(&name) || has(STAGING_LETTERS) {
                asked.action = EmergeAction::Look;
            } else if REMOVING_ACTIONS.contains(&name) || has(REMOVING_LETTERS) {
                asked.action = EmergeAction::Other;
                asked.removes = true;
            } else if OTHER_ACTIONS.contains(&name) || has(OTHER_LETTERS) {
                asked.action = EmergeAction::Other;
            }
            asked.pretend |= arg == "--pretend" || has("p");
            asked.interactive |= arg == "--ask" || arg == "--ask=y" || has("a");
        }
        asked
    }
}

/// Runs emerge on `prefix`; returns the exit code of the first run that failed, else 0. What emerge
/// prints is progress.
pub(crate) fn run(
    prefix: &Prefix,
    target: EmergeTarget,
    variables: CallerVariables,
    args: &[String],
    reporter: &Reporter,
) -> Result<u8> {
    run_to(EmergeOutput::Progress, prefix, target, variables, args, reporter)
}

/// Runs emerge like [`run`], for a caller to whom emerge's output is the answer.
pub(crate) fn answer(
    prefix: &Prefix,
    target: EmergeTarget,
    args: &[String],
    reporter: &Reporter,
) -> Result<u8> {
    run_to(EmergeOutput::Answer, prefix, target, CallerVariables::All, args, reporter)
}

fn run_to(
    output: EmergeOutput,
    prefix: &Prefix,
    target: EmergeTarget,
    variables: CallerVariables,
    args: &[String],
    reporter: &Reporter,
) -> Result<u8> {
    let sandbox = Sandbox::open(prefix)?;
    let asked = EmergeArguments::parse(args);
    if asked.action != EmergeAction::Look {
        index::mend(prefix, &sandbox, reporter)?;
    }
    let sandbox = &sandbox;
    let options = None;
    let run = |environment| EmergeRun {
        sandbox,
        prefix,
        reporter,
        environment,
        variables,
        output,
        options,
    };
    if target != EmergeTarget::Install {
        reporter.step(&format!("staging: emerge {}", args.join(" ")));
        let status = run(Environment::Staging).emerge(args, &asked)?;
        if !status.success() {
            return Ok(shell_code(status));
        }
    }
    if target == EmergeTarget::Stage || asked.action == EmergeAction::Look {
        return Ok(0);
    }
    if target == EmergeTarget::Both && asked.removes && !names_any(args, prefix)? {
        return Ok(0);
    }
    // Nothing was built yet, so what is pretended is told from ebuilds, and by their flags.
    let from_ebuilds = asked.pretend && target == EmergeTarget::Both;
    let mut args = if from_ebuilds { args.to_vec() } else { for_final(args) };
    let rebuilt = follow::follow_staging(prefix)?;
    if asked.action == EmergeAction::Install {
        args.extend(rebuilt);
    }
    reporter.step(&format!("final: emerge {}", args.join(" ")));
    history::record(prefix)?;
    let run = run(Environment::Final);
    let status = if from_ebuilds { run.pretend_final(&args)? } else { run.emerge(&args, &asked)? };
    history::record(prefix)?;
    Ok(shell_code(status))
}

/// Returns whether a package of final may be meant by `args`: emerge fails where it is to remove
/// nothing but what is not there, as tools that staging alone has. Without packages all are meant.
fn names_any(args: &[String], prefix: &Prefix) -> Result<bool> {
    let named: Vec<&str> = args.iter().filter_map(|arg| named_package(arg)).collect();
    let installed = vdb::packages(&prefix.layout.vdb(Environment::Final))?;
    Ok(named.is_empty() || named.iter().any(|name| installed.iter().any(|cpv| may_mean(name, cpv))))
}

/// Returns the part of an atom that names a package, with a version if the atom has one.
fn named_package(arg: &str) -> Option<&str> {
    let name = arg.trim_start_matches(['<', '>', '=', '~', '!']);
    let end = name.find([':', '[']).unwrap_or(name.len());
    name.get(..end).filter(|name| !name.starts_with('-'))
}

/// Returns whether `name` may mean `cpv`. What is no name, like a set or a file, may mean anything.
fn may_mean(name: &str, cpv: &Cpv) -> bool {
    let (package, pattern) =
        (cpv.package(), name.contains(['*', '@']) || name.starts_with(['/', '.']));
    pattern || [package.as_str(), cpv.name()].iter().any(|is| name.starts_with(is))
}

/// The arguments without those that say which binary packages are not to be used. Final has nothing
/// else to install, and gets what staging has built, whatever its own configuration says of USE.
fn for_final(args: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = arg.split_once('=').map_or(arg.as_str(), |(name, _)| name);
        match name {
            "--usepkg-exclude" | "--binpkg-respect-use" => {
                let takes_another = name == arg && name == "--usepkg-exclude";
                args.by_ref().take(usize::from(takes_another)).for_each(drop);
            }
            "--newuse" | "--changed-use" => {}
            _ if arg.starts_with('-') && !arg.starts_with("--") => {
                let letters = arg.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
                let rest = arg.get(letters.len()..).unwrap_or_default();
                let letters = letters.replace(['N', 'U'], "");
                if letters != "-" {
                    kept.push(letters + rest);
                }
            }
            _ => kept.push(arg.clone()),
        }
    }
    kept.push("--binpkg-respect-use=n".to_owned());
    kept
}

struct EmergeRun<'a> {
    sandbox: &'a Sandbox<'a>,
    prefix: &'a Prefix,
    reporter: &'a Reporter,
    environment: Environment,
    variables: CallerVariables,
    output: EmergeOutput,
    /// `EMERGE_DEFAULT_OPTS`, instead of that of make.conf.
    options: Option<&'a str>,
}

impl EmergeRun<'_> {
    fn command(&self, args: &[String]) -> Result<Command> {
        let purpose = format!("run emerge on {}", self.environment);
        let mut command = self.sandbox.portage(self.environment, "emerge", &purpose)?;
        for name in self.variables.names() {
            command = command.pass(name);
        }
        if let Some(options) = self.options {
            command = command.env("EMERGE_DEFAULT_OPTS", options);
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
        let phases = Phases::start(self.prefix, self.environment)?;
        let (begun, since) = (Instant::now(), SystemTime::now());
        let builds = asked.action == EmergeAction::Install && !asked.pretend && !asked.interactive;
        let draws = match self.output {
            EmergeOutput::Answer => self.reporter.draws_beside_answers(),
            EmergeOutput::Progress => self.reporter.draws(),
        };
        let status =
            if self.reporter.is_quiet() && (builds || self.output == EmergeOutput::Progress) {
                self.emerge_quietly(args)?
            } else if draws && !asked.interactive {
                self.emerge_with_bar(args, &phases)?
            } else if builds || self.output == EmergeOutput::Progress {
                self.emerge_to_log(args, &phases)?
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
        let follower = phases.follow(&bar, *self.reporter);
        let mut command = self.command(&[])?;
        if self.reporter.has_colours() {
            command = command.arg("--color=y");
        }
        let mut lines = Lines::default();
        let status = command.args(args).run_piped(|chunk| {
            let text = lines.take(chunk);
            if !text.is_empty() {
                bar.suspend(|| self.output.pass_on(&text));
            }
        });
        drop(follower);
        bar.finish_and_clear();
        self.output.pass_on(&lines.rest);
        status
    }

    /// Keeps emerge's output for the case that it fails.
    fn emerge_quietly(&self, args: &[String]) -> Result<ExitStatus> {
        let mut end: Vec<u8> = Vec::new();
        let status = self.command(args)?.run_piped(|chunk| {
            let excess = (end.len() + chunk.len()).saturating_sub(KEPT);
            end.drain(..excess.min(end.len()));
            end.extend_from_slice(chunk);
        })?;
        if !status.success() {
            self.output.pass_on(&end);
        }
        Ok(status)
    }

    /// Passes emerge's output on to a log.
    fn emerge_to_log(&self, args: &[String], phases: &Phases) -> Result<ExitStatus> {
        let follower = phases.follow(&self.reporter.spinner(), *self.reporter);
        let mut lines = Lines::default();
        let status =
            self.command(args)?.run_filtered(|chunk| self.output.pass_on(&lines.take(chunk)));
        drop(follower);
        self.output.pass_on(&lines.rest);
        status
    }
}

/// The lines of emerge's output but those that count its jobs: they come each time that something
/// begins or ends, and say less than the lines around them.
#[derive(Debug, Default)]
struct Lines {
    /// A line that has not ended yet.
    rest: Vec<u8>,
}

impl Lines {
    /// Returns what can be shown now that `chunk` has come: lines, and the start of one that counts no
    /// jobs, which may be a question.
    fn take(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(chunk);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.rest.split_off(end);
        let lines = std::mem::replace(&mut self.rest, rest);
        let shown = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| !counts_jobs(line));
        let mut shown: Vec<u8> = shown.flatten().copied().collect();
        if !may_count_jobs(&self.rest) {
            shown.append(&mut self.rest);
        }
        shown
    }
}

/// Returns whether a line that begins like this may be one that [counts jobs](counts_jobs). It begins
/// with `>>>`, or with a colour.
fn may_count_jobs(start: &[u8]) -> bool {
    start.starts_with(b"\x1b") || start.starts_with(b">>>") || b">>>".starts_with(start)
}

/// Returns whether a line is like `>>> Jobs: 1 of 3 complete, 1 running   Load avg: ...`.
fn counts_jobs(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.contains(">>> ") && line.contains("Jobs: ") && line.contains("Load avg: ")
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
        assert_eq!(parse(&["--sync"]).action, EmergeAction::Look);
        assert_eq!(parse(&["-s", "jq"]).action, EmergeAction::Look);
        for args in [["--depclean", "jq"], ["-C", "jq"], ["--deselect=y", "jq"], ["-pc", "jq"]] {
            assert_eq!(parse(&args).action, EmergeAction::Other, "{args:?}");
        }
        assert_eq!(parse(&["-1vuDN", "@world"]), EmergeArguments::default());
        assert_eq!(parse(&["-j4"]), EmergeArguments::default());
    }

    #[test]
    fn lines_that_count_jobs_are_left_out() {
        let mut lines = Lines::default();
        let mut shown = Vec::new();
        let output = "a\n>>> Jobs: 0 of 2 complete, 1 running    Load avg: 1.0, 1.0, 1.0\n\
            \u{1b}[32m>>> \u{1b}[39;49;00mJobs: \u{1b}[33m1\u{1b}[39m of 2    Load avg: 1.0\n\
            >>> Jobs are done\nend";
        for chunk in output.as_bytes().chunks(7) {
            shown.extend(lines.take(chunk));
        }
        assert_eq!(lines.take(b"\nYes or no? "), b"\nYes or no? ");
        assert_eq!(lines.take(b">>> Jo"), b"");
        shown.extend(b"\n>>> Jo");
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown, "a\n>>> Jobs are done\nend\n>>> Jo");
    }

    #[test]
    fn packages_that_are_named() {
        let cpv: Cpv = "app-misc/jq-1.7".parse().unwrap();
        for arg in ["jq", "app-misc/jq", "=app-misc/jq-1.7", "jq:0", "@world", "app-misc/*", "/x"] {
            assert!(may_mean(named_package(arg).unwrap(), &cpv), "{arg}");
        }
        for arg in ["zlib", "app-misc/j", "<sys-libs/zlib-2[static]"] {
            assert!(!may_mean(named_package(arg).unwrap(), &cpv), "{arg}");
        }
        assert_eq!(named_package("--depclean"), None);
        assert!(parse(&["-C", "jq"]).removes && !parse(&["-W", "jq"]).removes);
    }

    #[test]
    fn binary_packages_that_are_not_used() {
        let args = ["-1", "--usepkg-exclude", "a/b", "--usepkg-exclude=c/d", "a/b"];
        let all = "--binpkg-respect-use=n";
        assert_eq!(for_final(&args.map(str::to_owned)), ["-1", "a/b", all]);
        let args = ["-uDN", "-N", "--newuse", "--binpkg-respect-use=y", "-j4", "-1vU", "a/b"];
        assert_eq!(for_final(&args.map(str::to_owned)), ["-uD", "-j4", "-1v", "a/b", all]);
    }
}
