use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::base::hint;
use crate::base::names::Environment;
use crate::base::output;
use crate::cli::{Context, DONE, FAILED};
use crate::prefix::definition;

/// List the prefixes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix list
  fprefix list --json")]
pub(super) struct ListArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let definition::Prefixes { prefixes, broken } = definition::list_prefixes(&context.home)?;
        for error in &broken {
            context.reporter.error(&hint::render_error(error));
        }
        let code = if broken.is_empty() { DONE } else { FAILED };
        if self.json {
            let rows: Vec<_> = prefixes
                .iter()
                .map(|prefix| {
                    json!({
                        "id": prefix.definition.id.to_string(),
                        "name": prefix.definition.id.name,
                        "board": prefix.definition.id.board,
                        "eprefix": prefix.definition.eprefix,
                        "staging": prefix.layout.dir(Environment::Staging),
                        "final": prefix.layout.dir(Environment::Final),
                        "complete": prefix.definition.complete,
                    })
                })
                .collect();
            output::answer_json(&rows)?;
            return Ok(code);
        }
        if prefixes.is_empty() && broken.is_empty() {
            context.reporter.step("there is no prefix; `fprefix setup NAME EPREFIX` makes one");
        }
        let width =
            prefixes.iter().map(|p| p.definition.id.to_string().len()).max().unwrap_or_default();
        for prefix in &prefixes {
            let definition = &prefix.definition;
            let note = if definition.complete { "" } else { "  (set-up not finished)" };
            let id = definition.id.to_string();
            output::answer(&format!("{id:width$}  {}{note}\n", definition.eprefix))?;
        }
        Ok(code)
    }
}
