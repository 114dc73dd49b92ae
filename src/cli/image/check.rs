use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::base::output;
use crate::cli::pack::tell;
use crate::cli::{Context, DONE, FOUND};
use crate::os_image::OsRoot;
use crate::pipeline::image;
use crate::sysext::target::{TargetFinding, TargetRule};

/// Check the extensions of an image, as they are attached together
///
/// Reads all of each extension, and looks for what keeps systemd from attaching it or others, and for
/// what it hides of the OS and of other extensions. Exit code 3 if something would be damaged or not
/// attached.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image check --rootfs /mnt/os")]
pub(super) struct CheckImage {
    /// The root directory of the image
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// Report findings of this rule, but do not fail because of them
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    waive: Vec<TargetRule>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl CheckImage {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let root = OsRoot::open(&self.rootfs)?;
        let findings = image::examine_present(&root, self.waive)?;
        tell(context, &findings);
        if self.json {
            output::answer_json(&findings)?;
        }
        let is_refused = findings.iter().any(TargetFinding::is_refusal);
        Ok(if is_refused { FOUND } else { DONE })
    }
}
