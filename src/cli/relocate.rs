use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::names::Eprefix;
use crate::base::{output, publish};
use crate::cli::{Context, DONE, FOUND, rewrite};
use crate::relocate::prefix_change::{PrefixChange, TreeMove};

/// Move a prefix to another path: programs that were built for one run at the other
///
/// Changes the path in every file of a root directory, then moves the prefix to it. In data the new
/// path is filled up with slashes, so it may not be longer than the old one. Exit code 3 if a file
/// has the old path and cannot be changed, because it has a signature, or if it cannot be looked
/// into, because it is packed. Paths are shown as they are after the move.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix relocate --root rootfs --from /usr/local/my-stuff --to /opt/stuff --dry-run
  fprefix relocate --root rootfs --from /usr/local/my-stuff --to /opt/stuff")]
pub(super) struct RelocateCommand {
    /// The root directory that the prefix is in
    #[arg(long, alias = "rootfs", value_name = "DIR")]
    root: PathBuf,
    /// Path of the prefix until now
    #[arg(long, value_name = "PATH")]
    from: Eprefix,
    /// Path that it gets
    #[arg(long, value_name = "PATH")]
    to: Eprefix,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl RelocateCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let change = PrefixChange::new(&self.from, &self.to)?;
        let place = TreeMove::new(&self.root, &self.from, &self.to)?;
        let mut plan = change.plan(&self.root)?;
        let is_moved = place.is_pending()?;
        if !self.dry_run {
            plan.apply()?;
            place.apply()?;
            plan.apply_after_move()?;
            publish::flush_filesystem(&self.root)?;
            plan.rename(|path| change.new_place(path));
        }
        if self.json {
            output::answer_json(&plan)?;
        } else {
            let mut text = rewrite::text(&plan, self.dry_run, context.reporter.is_verbose());
            if is_moved {
                let verb = if self.dry_run { "would move" } else { "moved" };
                text += &format!("{verb} {} to {}\n", self.from, self.to);
            }
            output::answer(&text)?;
        }
        Ok(if plan.skipped.is_empty() { DONE } else { FOUND })
    }
}
