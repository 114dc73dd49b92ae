use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::base::escape::Escape;
use crate::base::names::Environment;
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::portage::vdb;

/// Show a prefix: where it is, and what is in it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix status
  fprefix -P my-prefix status --json")]
pub(super) struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let prefix = context.choice.find_any(&context.home)?;
        let definition = &prefix.definition;
        let installed = |environment| vdb::packages(&prefix.layout.vdb(environment));
        let staging = installed(Environment::Staging)?;
        let r#final = installed(Environment::Final)?;
        if self.json {
            let status = json!({
                "definition": definition,
                "staging": staging,
                "final": r#final,
            });
            output::answer_json(&status)?;
            return Ok(DONE);
        }
        let mut text = format!("{}\n", definition.id);
        let mut row = |name: &str, value: String| {
            text += &format!("  {name:9} {value}\n");
        };
        row("eprefix", definition.eprefix.to_string());
        row("machine", definition.machine.to_string());
        row("staging", definition.staging.escaped().to_string());
        row("final", definition.r#final.escaped().to_string());
        row("logs", prefix.layout.logs(Environment::Staging).escaped().to_string());
        row("profile", definition.profile.clone());
        for repo in &definition.repos {
            let place = repo.path.as_ref().map_or("built in".into(), |p| p.escaped().to_string());
            row("repo", format!("{} ({place})", repo.name));
        }
        if let Some(compiler) = &definition.compiler {
            row("compiler", format!("{} {}", compiler.cc.escaped(), compiler.version));
        }
        row("packages", format!("{} in staging, {} in final", staging.len(), r#final.len()));
        for package in &r#final {
            row("", package.to_string());
        }
        output::answer(&text)?;
        if !definition.complete {
            context.reporter.warn("its set-up did not come to its end; run it again");
        } else if let Some(update) = prefix.update_command()? {
            context.reporter.warn(&crate::cli::outdated(&prefix, &update));
        }
        Ok(DONE)
    }
}
