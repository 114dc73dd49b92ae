use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::cli::image::apply;
use crate::cli::pack::tell;
use crate::cli::{Context, FOUND};
use crate::os_image::{InstallMethod, OsRoot};
use crate::pipeline::image;
use crate::sysext::target::{TargetFinding, TargetRule};

/// Add extensions where Flatcar looks for them
///
/// All of each image is read first, and attaching is tried out on the image's root directory, with all
/// extensions that it has. An extension is refused (exit code 3) that would keep others from being
/// attached or damage the OS. It is warned of one that this OS does not attach, and of files that hide
/// those of another extension: the extension whose name comes last is on top.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image add --rootfs /mnt/os my-prefix.raw
  fprefix image add --rootfs /mnt/os --certificate my-key.crt my-prefix.raw")]
pub(super) struct AddToImage {
    /// The root directory of the image
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// Add them in this way
    #[arg(long, value_enum, default_value_t)]
    method: InstallMethod,
    /// The certificate that signed extensions are trusted by, a PEM file
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Add them although this rule about attaching finds something
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    waive: Vec<TargetRule>,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The image files of the extensions
    #[arg(required = true, value_name = "EXTENSION")]
    files: Vec<PathBuf>,
}

impl AddToImage {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let root = OsRoot::open(&self.rootfs)?;
        let certificate = self.certificate.as_deref();
        let changes = image::plan_add(&root, &self.files, self.method, certificate)?;
        let reporter = &context.reporter;
        let findings = image::examine_added(&root, &self.files, self.waive, reporter)?;
        tell(context, &findings);
        if findings.iter().any(TargetFinding::is_refusal) {
            context.reporter.error(
                "nothing was added: what the image has would be hidden, or not be attached\n\
                 hint: correct what was found, or waive a rule by name (--waive RULE)",
            );
            return Ok(FOUND);
        }
        apply(context, &root, &changes, self.dry_run)
    }
}
