use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Context, DONE};
use crate::names::Eprefix;

/// What Portage calls while it works; not for people
#[derive(Debug, Args)]
pub struct Hook {
    #[command(subcommand)]
    hook: Hooks,
}

#[derive(Debug, Subcommand)]
enum Hooks {
    /// Before a package is merged: rewrite what is in its install image
    Preinst {
        /// `${D}`
        #[arg(long)]
        image: PathBuf,
        /// EPREFIX
        #[arg(long)]
        eprefix: Eprefix,
    },
}

impl Hook {
    /// Runs the subcommand.
    pub fn run(self, _context: &Context) -> Result<u8> {
        match self.hook {
            Hooks::Preinst { .. } => Ok(DONE),
        }
    }
}
