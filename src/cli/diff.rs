use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::output;
use crate::cli::{Context, DONE, FOUND};
use crate::report::difference::{self, Held};

/// Show what differs between two extensions: packages, files, sizes
///
/// Ends with status 3 if something does.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// An image, a directory, or a `_manifest.json` that `fprefix pack` wrote
    one: PathBuf,
    /// What it is compared with
    other: PathBuf,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

impl Diff {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let (one, other) = (Held::open(&self.one)?, Held::open(&self.other)?);
        let difference = difference::between(&one, &other);
        if difference.packages.is_none() {
            context.reporter.detail("no manifest says which packages both of them have");
        }
        if self.json {
            output::answer(&(serde_json::to_string_pretty(&difference)? + "\n"))?;
        } else {
            output::answer(&difference::text(&difference))?;
        }
        Ok(if difference.is_empty() { DONE } else { FOUND })
    }
}
