use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::escape::Escape;
use crate::base::output;
use crate::cli::{Context, DONE, FAILED, FOUND};
use crate::manifest::file::{BuildFile, FILE};
use crate::pipeline::build::{self, BuildOptions, BuildOutcome};

/// Build what a file asks for: setup, emerge, check, pack
///
/// The file is the truth: packages that it no longer names are removed from the prefix. Run again,
/// it does what is missing; with nothing missing, nothing is built. `fprefix init` writes a file
/// that explains itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix build --dry-run
  fprefix build
  fprefix build --locked")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct BuildCommand {
    /// The build file
    #[arg(default_value = FILE)]
    file: PathBuf,
    /// Hold the build to the lock file beside it, which `fprefix lock` wrote
    #[arg(long)]
    locked: bool,
    /// Set the prefix up anew, without what is in it
    #[arg(long)]
    force: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl BuildCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let file = BuildFile::load(&self.file)?;
        let options = BuildOptions { locked: self.locked, force: self.force };
        if self.dry_run {
            let lines = build::describe(&context.home, &file, options)?;
            output::answer(&(lines.join("\n") + "\n"))?;
            return Ok(DONE);
        }
        match build::run(&context.home, &file, options, &context.reporter)? {
            BuildOutcome::Packed(packed) if self.json => {
                crate::cli::pack::tell(context, &packed.against);
                output::answer_json(&packed)?;
                Ok(DONE)
            }
            BuildOutcome::Packed(packed) => {
                crate::cli::pack::tell(context, &packed.against);
                output::answer(&crate::cli::pack::describe(&packed))?;
                Ok(DONE)
            }
            BuildOutcome::Refused(findings) => {
                crate::cli::pack::tell(context, &findings);
                context.reporter.error(
                    "nothing was packed: the target would not take it or be broken by it\n\
                     hint: correct what was found, or waive a rule by name in [pack]",
                );
                Ok(FOUND)
            }
            BuildOutcome::Emerge => Ok(FAILED),
            BuildOutcome::Found(report) => {
                output::answer(&crate::cli::check::text(&report, false))?;
                context.reporter.error(
                    "nothing was packed: the root is not self-contained\n\
                     hint: correct what was found, or waive a rule by name in [check]",
                );
                Ok(FOUND)
            }
            BuildOutcome::NotProven { proof, rules } => {
                output::answer(&proof.text())?;
                context.reporter.error(&format!(
                    "nothing was packed: {} has to end with status 0 and to take nothing from \
                     outside of the prefix{}",
                    proof.program.escaped(),
                    hint_to_keep(&rules)
                ));
                Ok(FOUND)
            }
        }
    }
}

/// Returns a hint for a program that failed where these rules left out files that nothing seemed to need.
fn hint_to_keep(rules: &[String]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
    format!(
        "\nhint: if it lacks a file that was left out, write keep = [{}] into [pack]; `fprefix pack \
         --dry-run` lists what is left out",
        quoted.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_left_files_out_are_named() {
        assert_eq!(hint_to_keep(&[]), "");
        let hint = hint_to_keep(&["unused-libraries".to_owned(), "charsets".to_owned()]);
        assert!(hint.contains("keep = [\"unused-libraries\", \"charsets\"]"), "{hint}");
    }
}
