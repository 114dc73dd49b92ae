use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::base::escape::Escape;
use crate::base::hint;
use crate::base::output;
use crate::cli::{Context, DONE, FOUND};
use crate::host::doctor::{self, ToolFinding};
use crate::host::machine::Machine;
use crate::host::tools::Need;
use crate::prefix::environment;

/// Show what this machine has, what is missing, and how to get it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix doctor
  fprefix doctor --for pack,attach --install")]
pub(super) struct Doctor {
    /// Look only at what is needed for this [default: all but tree and test]
    #[arg(long = "for", value_parser = parser(), value_delimiter = ',')]
    needs: Vec<Need>,
    /// Install what is missing through this machine's package manager
    #[arg(long)]
    install: bool,
    /// As JSON
    #[arg(long, conflicts_with = "install")]
    json: bool,
}

/// Reads a need by its name, and explains all of them in the help.
fn parser() -> impl TypedValueParser<Value = Need> {
    let values = Need::ALL.map(|need| PossibleValue::new(need.name()).help(explain(need)));
    PossibleValuesParser::new(values).map(|name| {
        let found = Need::ALL.into_iter().find(|need| need.name() == name);
        found.unwrap_or(Need::Setup)
    })
}

fn explain(need: Need) -> &'static str {
    match need {
        Need::Setup => "Nothing works without it",
        Need::Build => "The built-in repository's packages are built with it",
        Need::Tree => "Ebuilds of real trees call it; without it, Portage builds it into BROOT",
        Need::Pack => "Images",
        Need::Prove => "The run-time proof",
        Need::Attach => "Attaching an extension",
        Need::Test => "The project's own tests",
    }
}

impl Doctor {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let mut findings = doctor::examine()?;
        findings.retain(|finding| match self.needs.as_slice() {
            [] => !matches!(finding.need, Need::Test | Need::Tree),
            needs => needs.contains(&finding.need),
        });
        let namespaces = environment::prove_bubblewrap();
        let nested = environment::prove_nesting();
        if self.json {
            let report = serde_json::json!({
                "machine": Machine::detect_running(),
                "namespaces": namespaces.is_ok(),
                "nested_namespaces": nested.is_ok(),
                "tools": findings,
            });
            output::answer_json(&report)?;
            return Ok(verdict(&findings, namespaces.is_ok()));
        }
        let missing: Vec<&ToolFinding> = findings.iter().filter(|f| f.path.is_none()).collect();
        let remedy = doctor::install_command(&missing)?;
        if self.install {
            if let Some(command) = remedy {
                context.reporter.step(&format!("installing what is missing: {command}"));
                let bar = context.reporter.spinner();
                for command in doctor::refresh()?.into_iter().chain([command]) {
                    output::show(&bar, &command.to_string());
                    command.run_quiet()?;
                }
                bar.finish_and_clear();
            }
            return confirm(&findings);
        }
        let mut text = format!("machine         {}\n", Machine::detect_running());
        for finding in &findings {
            let place = finding
                .path
                .as_ref()
                .map_or_else(|| "MISSING".to_owned(), |path| path.escaped().to_string());
            text += &format!("{:15} {place}  ({})\n", finding.name, finding.reason);
            if let Some(old) = &finding.too_old {
                text += &format!("{:15} {}", "", old.description);
                text +=
                    &old.instead.as_ref().map_or("\n".to_owned(), |way| format!(", or {way}\n"));
            }
        }
        output::answer(&text)?;
        if let Err(error) = namespaces.as_ref().and(nested.as_ref()) {
            context.reporter.warn(&hint::render_error(error));
        }
        if let Some(command) = remedy {
            context.reporter.warn(&format!(
                "something is missing; get it with `fprefix doctor --install`, which runs: \
                 {command}"
            ));
        }
        Ok(verdict(&findings, namespaces.is_ok()))
    }
}

/// Looks again for what was missing.
fn confirm(before: &[ToolFinding]) -> Result<u8> {
    let still: Vec<String> = doctor::examine()?
        .into_iter()
        .filter(|now| now.path.is_none())
        .filter(|now| before.iter().any(|then| then.name == now.name))
        .map(|now| now.name)
        .collect();
    if !still.is_empty() {
        bail!("still missing: {}; install what brings them by hand", still.join(", "));
    }
    Ok(DONE)
}

fn verdict(findings: &[ToolFinding], namespaces: bool) -> u8 {
    let whole = namespaces && findings.iter().all(|finding| finding.path.is_some());
    if whole { DONE } else { FOUND }
}
