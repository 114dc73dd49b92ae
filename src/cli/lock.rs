use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::escape::Escape;
use crate::cli::{Context, DONE};
use crate::manifest::file::{BuildFile, FILE};
use crate::pipeline::build;

/// Record what a prefix was built from, for `build --locked`
///
/// Writes the states of ebuild repositories, the versions, USE flags and files of packages, and the
/// digests of binary packages to fprefix.lock, beside the build file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix lock")]
pub(super) struct LockCommand {
    /// The build file
    #[arg(default_value = FILE)]
    file: PathBuf,
}

impl LockCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let file = BuildFile::load(&self.file)?;
        let (path, count) = build::record(&context.home, &file, &context.reporter)?;
        context.reporter.step(&format!("{} has {count} packages", path.escaped()));
        Ok(DONE)
    }
}
