use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::base::escape::Escape;
use crate::base::names::Eprefix;
use crate::cli::{Context, DONE};
use crate::relocate::{RelocateOptions, SearchTag};

/// Run a step that Portage calls while it works; not for people
#[derive(Debug, Args)]
pub(super) struct HookCommand {
    #[command(subcommand)]
    hook: HookSubcommand,
}

#[derive(Debug, Subcommand)]
enum HookSubcommand {
    /// Before a package is merged: rewrite what is in its install image
    Preinst {
        /// `${D}`
        #[arg(long)]
        image: PathBuf,
        /// EPREFIX
        #[arg(long)]
        eprefix: Eprefix,
        /// ROOT, which it will be merged into
        #[arg(long)]
        root: PathBuf,
    },
}

impl HookCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let HookSubcommand::Preinst { image, eprefix, root } = self.hook;
        let request = RelocateOptions {
            tree: image,
            under: Some(root),
            eprefix,
            tag: SearchTag::default(),
            relative: false,
            only: Vec::new(),
        };
        let plan = request.plan()?;
        for skipped in &plan.skipped {
            context.reporter.warn(&format!(
                "{}: left as it is: {}",
                skipped.path.escaped(),
                skipped.reason
            ));
        }
        plan.apply()?;
        Ok(DONE)
    }
}
