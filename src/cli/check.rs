use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::base::escape::Escape;
use crate::base::level::Level;
use crate::base::names::Eprefix;
use crate::base::output;
use crate::check::{self, CheckReport, Finding, Rule, RuleChoice, prove};
use crate::cli::{Context, DONE, FOUND};
use crate::prefix::final_root::FinalRoot;

/// Which root to work on: the prefix's final root, or any tree
#[derive(Clone, Debug, Args)]
pub(super) struct RootArgs {
    /// A root directory, instead of the prefix's final root
    #[arg(long, alias = "rootfs", value_name = "DIR", requires = "eprefix")]
    root: Option<PathBuf>,
    /// Path of the prefix in that root directory
    #[arg(long, value_name = "PATH")]
    eprefix: Option<Eprefix>,
}

impl RootArgs {
    /// Opens the root.
    pub(super) fn open(&self, context: &Context) -> Result<FinalRoot> {
        match (&self.root, &self.eprefix) {
            (Some(root), Some(eprefix)) => FinalRoot::open(root, eprefix),
            (None, Some(_)) => {
                bail!("--eprefix says where programs of --root DIR live: name that too")
            }
            _ => FinalRoot::of_prefix(&context.prefix()?),
        }
    }
}

/// Prove that a root is self-contained
///
/// Looks at every file and reports what reaches outside of the prefix. Exit code 3 if something
/// does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix check
  fprefix check --run 'jq --version'
  fprefix check --root rootfs --eprefix /usr/local/my-stuff")]
pub(super) struct CheckCommand {
    #[command(flatten)]
    root: RootArgs,
    /// Path that the files in that root directory were built for, if they were relocated
    #[arg(long, value_name = "PATH", requires = "root")]
    relocated_from: Option<Eprefix>,
    /// Apply these rules alone
    #[arg(long = "rule", value_name = "ID", value_delimiter = ',', value_parser = check::parse_rule)]
    rules: Vec<&'static Rule>,
    /// Report findings of these rules, but do not fail because of them
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = check::parse_rule)]
    waive: Vec<&'static Rule>,
    /// Run this program in an empty root that holds the prefix alone, and report every file that
    /// is executed, mapped or opened from outside
    #[arg(long, value_name = "PROGRAM ARGUMENTS")]
    run: Option<String>,
    /// Status with which the program ends if it works; another one proves nothing
    #[arg(long, value_name = "STATUS", requires = "run", default_value_t = 0)]
    expect_status: u8,
    /// Run it from this extension, attached to an empty root by systemd-sysext (needs root)
    #[arg(long, value_name = "FILE", requires = "run", conflicts_with = "root")]
    image: Option<PathBuf>,
    /// Explain a rule, or all of them with "all"
    #[arg(long, value_name = "ID", exclusive = true)]
    explain: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl CheckCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        if let Some(id) = &self.explain {
            return explain(id);
        }
        if let Some(line) = &self.run {
            return self.prove(context, line);
        }
        let root = self.root.open(context)?;
        let root = match self.relocated_from {
            Some(former) => root.relocated_from(former),
            None => root,
        };
        let choice = RuleChoice { only: self.rules, waive: self.waive };
        let report = check::run(&root, &choice)?;
        if self.json {
            output::answer_json(&report)?;
        } else {
            output::answer(&text(&report, context.reporter.is_verbose()))?;
        }
        Ok(if report.passes() { DONE } else { FOUND })
    }

    fn prove(&self, context: &Context, line: &str) -> Result<u8> {
        let words = shlex::split(line).context("--run has an open quote")?;
        let proof = match &self.image {
            Some(image) => {
                let eprefix = match &self.root.eprefix {
                    Some(eprefix) => eprefix.clone(),
                    None => context.prefix()?.definition.eprefix,
                };
                prove::on_image(image, &eprefix, &words)?
            }
            None => prove::in_empty_root(&self.root.open(context)?, &words)?,
        };
        if self.json {
            output::answer_json(&proof)?;
        } else {
            output::answer(&proof.text())?;
        }
        if !proof.passes() {
            return Ok(FOUND);
        }
        if proof.status != Some(self.expect_status.into()) {
            bail!(
                "{} {}, so this proves nothing beyond what it ran until then{}",
                proof.program.escaped(),
                proof.ending(),
                match proof.status {
                    Some(status) =>
                        format!("\nhint: if it works and ends so, say --expect-status {status}"),
                    None => String::new(),
                }
            );
        }
        Ok(DONE)
    }
}

fn explain(id: &str) -> Result<u8> {
    let rules: Vec<_> = match id {
        "all" => check::rules().iter().collect(),
        id => vec![check::parse_rule(id)?],
    };
    let pages: Vec<String> = rules
        .iter()
        .map(|rule| {
            format!(
                "{}\n  {}\n  Why:    {}\n  Remedy: {}\n",
                rule.id, rule.sentence, rule.reason, rule.remedy
            )
        })
        .collect();
    output::answer(&pages.join("\n"))?;
    Ok(DONE)
}

/// Renders the report for people: findings by rule, each rule with its remedy.
pub(super) fn text(report: &CheckReport, verbose: bool) -> String {
    let mut text = String::new();
    let most = if verbose { usize::MAX } else { SHOWN };
    for rule in check::rules() {
        let of_rule = |level| {
            let findings = report.findings.iter();
            findings.filter(move |f| f.rule == rule && f.level == level).collect::<Vec<_>>()
        };
        let errors = of_rule(Level::Error);
        if !errors.is_empty() {
            text += &render_findings(&errors, most);
            text += &format!("help: {}\n", rule.remedy);
            let more = report.commands.get(rule.id).into_iter();
            for help in more.chain(report.suspicions.get(rule.id).into_iter().flatten()) {
                text += &format!("help: {help}\n");
            }
            text.push('\n');
        }
        let notes = if verbose { of_rule(Level::Note) } else { Vec::new() };
        if !notes.is_empty() {
            text += &render_findings(&notes, usize::MAX);
            text.push('\n');
        }
    }
    let count = |level, waived| {
        report.findings.iter().filter(|f| f.level == level && f.waived == waived).count()
    };
    let (errors, waived) = (count(Level::Error, false), count(Level::Error, true));
    let notes = count(Level::Note, false) + count(Level::Note, true);
    let verdict = if report.passes() {
        "nothing reaches outside of the prefix".to_owned()
    } else {
        format!("{errors} findings")
    };
    let waived = if waived > 0 { format!(", {waived} waived") } else { String::new() };
    let hint = if notes > 0 && !verbose { " (-v shows them)" } else { "" };
    text += &format!(
        "{} files, {} of them ELF: {verdict}{waived}, {notes} notes{hint}\n",
        report.files, report.elf_files
    );
    text
}

/// Number of findings of a rule that are shown by default.
const SHOWN: usize = 10;

/// Renders findings of one rule, a line each.
fn render_findings(findings: &[&Finding], most: usize) -> String {
    let mut text = String::new();
    for finding in findings.iter().take(most) {
        let Finding { rule, level, path, detail, .. } = finding;
        // A waived error does not fail the check.
        let (level, waived) = match (level, finding.waived) {
            (Level::Error, true) => (Level::Warning, " (waived)"),
            (level, true) => (*level, " (waived)"),
            (level, false) => (*level, ""),
        };
        text += &format!("{level}[{}]: {}: {detail}{waived}\n", rule.id, path.escaped());
    }
    if findings.len() > most {
        text += &format!("... and {} more (-v shows them)\n", findings.len() - most);
    }
    text
}
