mod add;
mod build;
mod check;
mod options;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::HumanBytes;

use crate::base::escape::Escape;
use crate::base::output;
use crate::cli::{Context, DONE};
use crate::host::disk;
use crate::os_image::{ImageChange, OsRoot};
use crate::pipeline::image;

/// Put extensions into the root directory of an OS image
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image add --rootfs /mnt/os my-prefix.raw
  fprefix image list --rootfs /mnt/os")]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    Add(add::AddToImage),
    Check(check::CheckImage),
    List(ListImage),
    Remove(RemoveFromImage),
    Build(Box<build::ImageBuild>),
    EtcWhiteouts(EtcWhiteouts),
}

/// List the extensions of an image
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image list --rootfs /mnt/os")]
struct ListImage {
    /// The root directory of the image
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Remove an extension from an image
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image remove --rootfs /mnt/os my-prefix")]
struct RemoveFromImage {
    /// The root directory of the image
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The name of the extension
    name: String,
}

/// Write the list of whiteouts that have to go from /etc at boot, and a unit that removes them
///
/// For an image of which /etc is an overlay: a file that somebody removed stays hidden there,
/// although a tmpfiles rule would make it again. The list is
/// /usr/share/flatcar/etc-no-whiteouts, which Flatcar's initrd reads; the unit
/// etc-whiteouts.service does the same in other initrds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image etc-whiteouts --rootfs /mnt/os --dry-run
  fprefix image etc-whiteouts --rootfs /mnt/os")]
struct EtcWhiteouts {
    /// The root directory of the image
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// The base of /etc, a path in the image [default: /usr/share/flatcar/etc if it is there, else
    /// /etc]
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
    /// Only show the list
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl EtcWhiteouts {
    fn run(self, context: &Context) -> Result<u8> {
        let root = OsRoot::open(&self.rootfs)?;
        let found = root.whiteouts(self.base.as_deref())?;
        for path in &found.not_in_base {
            context.reporter.detail(&format!("{} is not in the base", path.escaped()));
        }
        let shown = found.entries.iter().map(|path| format!("{}\n", path.escaped()));
        output::answer(&shown.collect::<String>())?;
        if self.dry_run {
            return Ok(DONE);
        }
        apply(context, &root, &OsRoot::clean_whiteouts(&found)?, false)
    }
}

impl ImageArgs {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        match self.command {
            ImageCommand::Add(add) => add.run(context),
            ImageCommand::Build(build) => build.run(context),
            ImageCommand::Check(check) => check.run(context),
            ImageCommand::EtcWhiteouts(whiteouts) => whiteouts.run(context),
            ImageCommand::List(list) => {
                let present = OsRoot::open(&list.rootfs)?.list()?;
                if list.json {
                    output::answer_json(&present)?;
                    return Ok(DONE);
                }
                for one in present {
                    let size = one.size.map_or("missing".to_owned(), |s| HumanBytes(s).to_string());
                    let (name, path) = (one.name.escaped(), one.path.escaped());
                    output::answer(&format!("{name}  {path}  ({size})\n"))?;
                }
                Ok(DONE)
            }
            ImageCommand::Remove(remove) => {
                let root = OsRoot::open(&remove.rootfs)?;
                let changes = root.remove(&remove.name)?;
                apply(context, &root, &changes, remove.dry_run)
            }
        }
    }
}

fn apply(context: &Context, root: &OsRoot, changes: &[ImageChange], dry_run: bool) -> Result<u8> {
    if dry_run {
        let lines: String = changes.iter().map(|change| format!("{change}\n")).collect();
        output::answer(&lines)?;
        return Ok(DONE);
    }
    for change in changes {
        context.reporter.step(&change.to_string());
    }
    image::apply(root, changes).map_err(|error| disk::explain(error, &[root.path()]))?;
    Ok(DONE)
}
