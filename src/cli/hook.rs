use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::names::Eprefix;
use crate::cli::{Context, DONE};
use crate::relocate::{RelocateOptions, SearchTag};
use crate::sandbox::devices;

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
    /// In a sandbox of root: make device nodes read-only, then become the program
    SealDevices {
        /// The program, and its arguments
        #[arg(last = true, required = true, value_name = "PROGRAM")]
        words: Vec<OsString>,
    },
}

impl HookCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        match self.hook {
            HookSubcommand::Preinst { image, eprefix, root } => {
                rewrite(context, image, eprefix, root)
            }
            HookSubcommand::SealDevices { words } => seal_devices(&words),
        }
    }
}

fn rewrite(context: &Context, image: PathBuf, eprefix: Eprefix, root: PathBuf) -> Result<u8> {
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

fn seal_devices(words: &[OsString]) -> Result<u8> {
    let Some((program, args)) = words.split_first() else { bail!("which program?") };
    devices::seal()?;
    Command::as_caller(program).args(args).exec()?;
    Ok(DONE)
}
