use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::escape::Escape;
use crate::base::{output, publish};
use crate::cli::check::RootArgs;
use crate::cli::{Context, DONE};
use crate::relocate::{RelocateOptions, RelocationPlan, SearchTag};

/// Rewrite a root so that nothing in it reaches outside of the prefix
///
/// Sets the loader of programs, the directories in which libraries are searched, the interpreters
/// of scripts, and seals the loader. Portage does this to all that it installs into final; the
/// command is for trees that were made otherwise.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix rewrite --root rootfs --eprefix /usr/local/my-stuff --dry-run
  fprefix rewrite --root rootfs --eprefix /usr/local/my-stuff")]
pub(super) struct RewriteCommand {
    #[command(flatten)]
    root: RootArgs,
    /// Tag of the search paths in files
    #[arg(long, value_enum, default_value_t)]
    search: SearchTag,
    /// Name these directories relative to each file ($ORIGIN) instead of absolutely: the loader of
    /// programs stays absolute, and so do the directories of setuid programs
    #[arg(long)]
    relative: bool,
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Look at these paths alone, as programs see them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
}

impl RewriteCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let root = self.root.open(context)?;
        let request = RelocateOptions {
            tree: root.path().to_owned(),
            under: None,
            eprefix: root.eprefix().clone(),
            tag: self.search,
            relative: self.relative,
            only: self.paths,
        };
        let plan = request.plan()?;
        if !self.dry_run {
            plan.apply()?;
            publish::flush_filesystem(root.path())?;
        }
        if self.json {
            output::answer_json(&plan)?;
        } else {
            output::answer(&text(&plan, self.dry_run, context.reporter.is_verbose()))?;
        }
        Ok(DONE)
    }
}

/// Describes a plan, for people.
pub(super) fn text(plan: &RelocationPlan, dry_run: bool, verbose: bool) -> String {
    let mut text = String::new();
    if dry_run || verbose {
        for change in &plan.changes {
            let names: Vec<String> =
                change.paths.iter().map(|path| path.escaped().to_string()).collect();
            text += &format!("{}: {}\n", names.join(" = "), change.descriptions.join("; "));
        }
    }
    for skipped in &plan.skipped {
        text += &format!("{}: left as it is: {}\n", skipped.path.escaped(), skipped.reason);
    }
    for hint in plan.skipped.iter().filter_map(|skipped| skipped.hint).collect::<BTreeSet<_>>() {
        text += &format!("hint: {hint}\n");
    }
    for note in &plan.notes {
        text += &format!("{}: note: it {}\n", note.path.escaped(), note.text);
    }
    let verb = if dry_run { "would change" } else { "changed" };
    text += &format!("{} files looked at, {} {verb}\n", plan.files, plan.changes.len());
    text
}
