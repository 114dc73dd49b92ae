use anyhow::Result;
use clap::Args;

use crate::base::output;
use crate::cli::DONE;
use crate::manifest::schema;

/// Print the JSON Schema of fprefix.toml
///
/// Editors check and complete a build file by it: save it beside the file, which names it in its
/// first line (`#:schema ./fprefix.schema.json`).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix schema > fprefix.schema.json")]
pub(super) struct SchemaCommand {}

/// Runs the subcommand.
pub(super) fn run() -> Result<u8> {
    output::answer_json(&schema::schema()?)?;
    Ok(DONE)
}
