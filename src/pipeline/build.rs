//! Runs every step that a build file asks for: setup, emerge, check, prove, pack.
//!
//! Each step looks at the present state and does only the missing work. A build that was killed
//! therefore continues when it is run again, and a finished build does nothing.

use anyhow::{Context, Result, bail};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::lock::{Busy, Lock};
use crate::base::names::{Environment, PrefixId};
use crate::base::output::Reporter;
use crate::check;
use crate::check::prove::{self, Proof};
use crate::host::home::Home;
use crate::imagefmt::workplace::Workplace;
use crate::manifest::file::BuildFile;
use crate::manifest::final_record::FinalRecord;
use crate::manifest::lockfile::{LockFile, LockedRequest};
use crate::manifest::tables::ProgramLine;
use crate::manifest::{configuration, installed, state, tidy};
use crate::pipeline::from_binhost;
use crate::pipeline::pack::{self, Packed};
use crate::portage::binhost::Binhost;
use crate::portage::preserved;
use crate::prefix::definition::{BUILD_EPOCH, Definition, Prefix, PrefixRepo};
use crate::prefix::emerge::{self, CallerVariables, EmergeTarget};
use crate::prefix::final_root::FinalRoot;
use crate::prefix::setup;
use crate::report::Repositories;
use crate::sysext::epoch;
use crate::sysext::target::TargetFinding;

/// Options of a build.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BuildOptions {
    /// True if the build must match the lock file.
    pub locked: bool,
    /// True if the prefix is set up anew.
    pub force: bool,
}

/// Outcome of a build.
#[derive(Debug)]
pub(crate) enum BuildOutcome {
    /// The images were written.
    Packed(Box<Packed>),
    /// emerge failed and printed the reason.
    Emerge,
    /// The root is not self-contained.
    Found(check::CheckReport),
    /// The target would reject the extension, or the extension would break the target.
    Refused(Vec<TargetFinding>),
    /// A program exited with a status other than 0, or used a file outside the prefix.
    NotProven {
        /// Result of the proof.
        proof: Box<Proof>,
        /// Names of the rules that left out files because nothing seemed to need them.
        rules: Vec<String>,
    },
}

/// Lists the steps of the build, one per line. Writes nothing.
pub(crate) fn describe(
    home: &Home,
    file: &BuildFile,
    options: BuildOptions,
) -> Result<Vec<String>> {
    let planned = PlannedBuild::new(home, file, options)?;
    let mut lines = match &planned.next {
        NextStep::SetUp(plan) => plan.describe()?,
        NextStep::Ready(prefix) => vec![format!("build into the prefix {}", prefix.definition.id)],
    };
    let atoms: Vec<String> = file.packages.iter().map(ToString::to_string).collect();
    lines.push(format!("emerge {}", atoms.join(" ")));
    lines.push("check the final root".to_owned());
    lines.extend(file.runs.iter().map(|line| format!("prove {}", line.0.join(" "))));
    lines.push(format!("pack into {}", file.pack.output.escaped()));
    Ok(lines)
}

/// Runs the build that the file describes.
pub(crate) fn run(
    home: &Home,
    file: &BuildFile,
    options: BuildOptions,
    reporter: &Reporter,
) -> Result<BuildOutcome> {
    let planned = PlannedBuild::new(home, file, options)?;
    let lock = planned.lock;
    let prefix = match planned.next {
        NextStep::SetUp(mut plan) => {
            match from_binhost::fill(&mut plan, file, lock.is_some(), reporter)? {
                Some(prefix) => prefix,
                None => plan.apply(reporter)?,
            }
        }
        NextStep::Ready(prefix) => {
            if let Some(warning) = prefix.warn_of_binhost()? {
                reporter.warn(&warning);
            }
            *prefix
        }
    };
    let _held = hold(&prefix, "fprefix build", reporter)?;
    // The previous holder of the lock may have set up a different prefix.
    let definition = &prefix.definition;
    let there = Prefix::load(home, &definition.id)?.definition;
    if !there.complete || there.eprefix != definition.eprefix || there.repos != definition.repos {
        bail!("the prefix {} was changed meanwhile; run `fprefix build` again", definition.id);
    }
    configuration::check(&prefix)?;
    configuration::write(&prefix, file)?;
    let code = if prefix.definition.without_staging {
        settle(&prefix, file, reporter)?
    } else {
        build(&prefix, file, lock.as_ref(), reporter)?
    };
    if code != 0 {
        return Ok(BuildOutcome::Emerge);
    }
    finish(&prefix, file, lock.as_ref(), reporter)
}

/// Records beside the build file what the prefix of `file` was built from. Returns the path of the
/// lock file and the number of its packages.
pub(crate) fn record(
    home: &Home,
    file: &BuildFile,
    reporter: &Reporter,
) -> Result<(std::path::PathBuf, usize)> {
    let planned = PlannedBuild::new(home, file, BuildOptions::default())?;
    let prefix = match planned.next {
        NextStep::Ready(prefix) => prefix,
        NextStep::SetUp(plan) => {
            let id = &plan.prefix().definition.id;
            if let Ok(there) = Prefix::load(home, id) {
                there.require_staging()?;
            }
            bail!("the prefix {} is not there; build it first: `fprefix build`", file.setup.name);
        }
    };
    let _held = hold(&prefix, "fprefix lock", reporter)?;
    if !tidy::is_built(&prefix, file)? {
        bail!(
            "the prefix {} is not what {} asks for; build it first: `fprefix build`",
            prefix.definition.id,
            file.path.escaped()
        );
    }
    let lock = LockFile::record(file, &prefix)?;
    let path = file.lock_file();
    lock.write(&path)?;
    Ok((path, lock.count()))
}

fn hold(prefix: &Prefix, what: &str, reporter: &Reporter) -> Result<Lock> {
    let tell = |text: &str| reporter.step(text);
    prefix.lock(what, &Busy::Wait(&tell))
}

/// A build that was checked as far as possible before anything is written.
struct PlannedBuild {
    next: NextStep,
    lock: Option<LockFile>,
}

/// Next step of a build.
enum NextStep {
    /// The prefix is missing or incomplete, or a new one is wanted.
    SetUp(Box<setup::SetupPlan>),
    /// The prefix exists as the file asks for it.
    Ready(Box<Prefix>),
}

impl PlannedBuild {
    fn new(home: &Home, file: &BuildFile, options: BuildOptions) -> Result<Self> {
        let lock = options.locked.then(|| LockFile::load(&file.lock_file())).transpose()?;
        let board = match &file.setup.board {
            Some(name) => name.board()?,
            None => Board::of_this_machine()?,
        };
        let id = PrefixId::new(&file.setup.name, &board);
        let there = home.prefixes().join(id.to_string()).join("prefix.toml").is_file();
        let there = there.then(|| Prefix::load(home, &id)).transpose()?;
        let complete = there.as_ref().is_some_and(|prefix| prefix.definition.complete);
        let mut request = setup::SetupRequest { force: options.force, ..file.setup.clone() };
        let next = match there.filter(|_| complete && !options.force) {
            Some(prefix) => {
                compare(&prefix, file, home)?;
                configuration::check(&prefix)?;
                if prefix.update_command()?.is_none() && !prefix.definition.without_staging {
                    NextStep::Ready(Box::new(prefix))
                } else {
                    // Another version of fprefix made this prefix, so setup brings it up to date, or
                    // its final came from the binhost.
                    let flags = prefix.definition.use_flags.iter().map(|flags| flags.parse());
                    request.use_flags = flags.collect::<Result<_>>()?;
                    NextStep::SetUp(Box::new(setup::SetupPlan::new(home, &request)?))
                }
            }
            None => NextStep::SetUp(Box::new(setup::SetupPlan::new(home, &request)?)),
        };
        if let Some(lock) = &lock {
            next.hold(file, lock)
                .with_context(|| format!("{} does not hold", file.lock_file().escaped()))?;
        }
        Ok(Self { next, lock })
    }
}

impl NextStep {
    fn hold(&self, file: &BuildFile, lock: &LockFile) -> Result<()> {
        match self {
            Self::SetUp(plan) => {
                let prefix = plan.prefix();
                let repositories = state::of_repos(&prefix.definition.repos, None)?;
                lock.hold_request(
                    &LockedRequest::new(file, prefix),
                    &repositories,
                    &plan.toolchain()?,
                )
            }
            Self::Ready(prefix) => {
                let repositories = state::of_prefix(prefix)?;
                lock.hold_request(&LockedRequest::new(file, prefix), &repositories, &[])
            }
        }
    }
}

/// Fails if the existing prefix differs from the one that the file asks for.
fn compare(prefix: &Prefix, file: &BuildFile, home: &Home) -> Result<()> {
    let wanted = setup::SetupRequest { force: true, ..file.setup.clone() };
    let wanted = setup::SetupPlan::new(home, &wanted)?;
    let (there, wanted) = (&prefix.definition, &wanted.prefix().definition);
    let mut differ = Vec::new();
    let mut compare = |what: &str, there: String, wanted: String| {
        if there != wanted {
            differ.push(format!("its {what} is {there}, and the file says {wanted}"));
        }
    };
    compare("EPREFIX", there.eprefix.to_string(), wanted.eprefix.to_string());
    let built = |definition: &Definition| {
        if definition.relocatable { "relocatable" } else { "not relocatable" }.to_owned()
    };
    compare("kind", built(there), built(wanted));
    compare("profile", there.profile.clone(), wanted.profile.clone());
    let binhost =
        |binhost: &Option<Binhost>| binhost.as_ref().map_or("none".to_owned(), ToString::to_string);
    compare("binhost", binhost(&there.binhost), binhost(&wanted.binhost));
    compare("FEATURES", there.features.join(" "), wanted.features.join(" "));
    let paths = |paths: &[std::path::PathBuf]| format!("{paths:?}");
    compare("sandbox-paths", paths(&there.sandbox_paths), paths(&wanted.sandbox_paths));
    compare("list of repositories", repos(&there.repos), repos(&wanted.repos));
    for (what, given, there, wanted) in [
        ("staging directory", &file.setup.staging_dir, &there.staging, &wanted.staging),
        ("final directory", &file.setup.final_dir, &there.r#final, &wanted.r#final),
        ("DISTDIR", &file.setup.distdir, &there.distdir, &wanted.distdir),
    ] {
        if given.is_some() {
            compare(what, there.escaped().to_string(), wanted.escaped().to_string());
        }
    }
    if differ.is_empty() {
        return Ok(());
    }
    bail!(
        "the prefix {} is there, and is not what {} asks for: {}; `fprefix build --force` sets it \
         up anew, without what is in it",
        there.id,
        file.path.escaped(),
        differ.join("; ")
    )
}

fn repos(all: &[PrefixRepo]) -> String {
    let one = |repo: &PrefixRepo| match &repo.path {
        Some(path) => format!("{}={}", repo.name, path.escaped()),
        None => repo.name.clone(),
    };
    all.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Builds packages in staging, installs them into final and removes those that are not wanted.
fn build(
    prefix: &Prefix,
    file: &BuildFile,
    lock: Option<&LockFile>,
    reporter: &Reporter,
) -> Result<u8> {
    let mut args: Vec<String> =
        ["--update", "--deep", "--newuse"].into_iter().map(Into::into).collect();
    args.extend(file.jobs.map(|jobs| format!("--jobs={jobs}")));
    args.extend(file.packages.iter().map(ToString::to_string));
    let code =
        emerge::run(prefix, EmergeTarget::Stage, CallerVariables::OfMachine, &args, reporter)?;
    if code != 0 {
        return Ok(code);
    }
    // A prefix that is built anew has no library of a version that is gone.
    if !preserved::list(&prefix.layout.eroot(Environment::Staging))?.is_empty() {
        let args = ["--oneshot", "@preserved-rebuild"].map(str::to_owned);
        let code =
            emerge::run(prefix, EmergeTarget::Stage, CallerVariables::OfMachine, &args, reporter)?;
        if code != 0 {
            return Ok(code);
        }
    }
    if let Some(lock) = lock {
        lock.hold_staging(&installed::packages(prefix)?)?;
    }
    let code =
        emerge::run(prefix, EmergeTarget::Install, CallerVariables::OfMachine, &args, reporter)?;
    if code != 0 {
        return Ok(code);
    }
    settle(prefix, file, reporter)
}

/// Removes from the prefix what the file does not ask for.
fn settle(prefix: &Prefix, file: &BuildFile, reporter: &Reporter) -> Result<u8> {
    let code = tidy::tidy(prefix, file, reporter)?;
    if code != 0 || !setup::FinalLeftovers::find(prefix)?.may_be_stale() {
        return Ok(code);
    }
    setup::renew_final(prefix, reporter)
}

/// Directory of the tree in which programs are proven, in a workplace.
const PROOF: &str = ".proof";

/// Checks, proves and packs the final environment.
fn finish(
    prefix: &Prefix,
    file: &BuildFile,
    lock: Option<&LockFile>,
    reporter: &Reporter,
) -> Result<BuildOutcome> {
    if let Some(lock) = lock {
        lock.hold_packages(&installed::packages(prefix)?)?;
        lock.hold_final(&FinalRecord::read(prefix)?)?;
    }
    let request = pack_request(prefix, file)?;
    reporter.step("checking the final root");
    let choice = check::RuleChoice { only: Vec::new(), waive: file.waived_checks.clone() };
    let report = check::run(&request.root, &choice)?;
    if !report.passes() {
        return Ok(BuildOutcome::Found(report));
    }
    let prepared = pack::prepare(&request, reporter)?;
    for warning in &prepared.warnings {
        reporter.warn(warning);
    }
    if let Some((proof, rules)) = prove_all(&request, &prepared, file, reporter)? {
        return Ok(BuildOutcome::NotProven { proof: Box::new(proof), rules });
    }
    Ok(match pack::carry_out(&request, prepared, reporter)? {
        pack::PackOutcome::Packed(packed) => BuildOutcome::Packed(packed),
        pack::PackOutcome::Found(report) => BuildOutcome::Found(report),
        pack::PackOutcome::Refused(findings) => BuildOutcome::Refused(findings),
    })
}

/// Proves the programs of the build file on what will be packed. Returns the proof that failed, and the
/// rules that left out files because nothing seemed to need them.
fn prove_all(
    request: &pack::PackRequest,
    prepared: &pack::Prepared,
    file: &BuildFile,
    reporter: &Reporter,
) -> Result<Option<(Proof, Vec<String>)>> {
    if file.runs.is_empty() {
        return Ok(None);
    }
    for ProgramLine(words) in &file.runs {
        if let Some(rule) = words.first().and_then(|name| prepared.rule_against(name)) {
            bail!(
                "{} cannot be proven: the rule {rule} leaves it out of the extension\n\
                 hint: write keep = [\"{rule}\"] into [pack]",
                words.join(" ")
            );
        }
    }
    let workplace = Workplace::open(&request.options.output)?;
    let pack::ProofRoot { root, rules } =
        pack::write_proof_root(request, prepared, &workplace.path(PROOF))?;
    for ProgramLine(words) in &file.runs {
        reporter.step(&format!("proving {}", words.join(" ")));
        let proof = prove::in_empty_root(&root, words)?;
        if !proof.passes() || proof.status != Some(0) {
            return Ok(Some((proof, rules)));
        }
        for attempt in proof.list_attempts() {
            reporter.detail(&format!("tried {attempt}"));
        }
    }
    Ok(None)
}

/// Makes the pack request of the build file.
fn pack_request(prefix: &Prefix, file: &BuildFile) -> Result<pack::PackRequest> {
    let paths = prefix.definition.repos.iter().filter_map(|repo| repo.path.clone());
    let name = file.pack.name.clone().unwrap_or_else(|| prefix.definition.id.name.clone());
    Ok(pack::PackRequest {
        root: FinalRoot::of_prefix(prefix)?,
        name,
        options: file.pack.clone(),
        repositories: Repositories::new(paths),
        // Files of a package carry the times of their build, which differ in every build.
        epoch: Some(epoch::read_source_date_epoch()?.unwrap_or(BUILD_EPOCH)),
    })
}
