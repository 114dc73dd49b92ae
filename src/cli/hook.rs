use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::base::command::Command;
use crate::base::escape::Escape;
use crate::base::limits::LIST;
use crate::base::names::Eprefix;
use crate::base::{files, input};
use crate::cli::{Context, DONE};
use crate::relocate::prefix_change::PrefixChange;
use crate::relocate::{RelocateOptions, RelocationPlan, SearchTag};
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
    /// Before a package that was built for another EPREFIX is merged: change the prefix in its
    /// install image
    Relocate {
        /// `${D}`
        image: PathBuf,
        /// EPREFIX until now
        from: Eprefix,
        /// EPREFIX of the environment that it is merged into
        to: Eprefix,
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
            HookSubcommand::Relocate { image, from, to } => relocate(context, &image, &from, &to),
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
    apply(context, &request.plan()?)
}

fn apply(context: &Context, plan: &RelocationPlan) -> Result<u8> {
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

/// Files beside the install image that Portage keeps in the VDB or reads in later phases, below
/// `PORTAGE_BUILDDIR`.
const RECORDS: &[&str] = &["build-info/NEEDED", "build-info/NEEDED.ELF.2", "temp/environment"];

fn relocate(context: &Context, image: &Path, from: &Eprefix, to: &Eprefix) -> Result<u8> {
    let change = PrefixChange::new(from, to)?;
    apply(context, &change.plan(image)?)?;
    let Some(dir) = image.parent() else { return Ok(DONE) };
    for record in RECORDS.iter().map(|record| dir.join(record)).filter(|record| record.is_file()) {
        let text = input::read(&record, LIST)?;
        if let Some(new) = change.replace_in_text(&text) {
            files::write_atomically(&record, &new)?;
        }
    }
    Ok(DONE)
}

fn seal_devices(words: &[OsString]) -> Result<u8> {
    let Some((program, args)) = words.split_first() else { bail!("which program?") };
    devices::seal()?;
    Command::as_caller(program).args(args).exec()?;
    Ok(DONE)
}
