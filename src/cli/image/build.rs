use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::HumanBytes;

use crate::base::escape::Escape;
use crate::base::lock::Busy;
use crate::base::names::PrefixName;
use crate::base::output;
use crate::cli::image::options::ImagePackOptions;
use crate::cli::pack::tell;
use crate::cli::{Context, DONE, FOUND};
use crate::manifest::origin::OptionOrigin;
use crate::os_image::OsRoot;
use crate::os_image::recipe::ExtensionRecipes;
use crate::pipeline::image::{self, ImageBuildOutcome, ImageRequest};

/// Build extensions from a prefix, one on top of the other, and add them to an image
///
/// Packages are built in the staging environment of the prefix (-P NAME) and mean what they mean
/// to its emerge. Each extension holds what its packages need and no earlier one has; the first
/// has the runtime that all share. Nothing is mounted, and the image's root directory is changed
/// only when all extensions are whole.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
#[command(after_help = "\
Examples:
  fprefix image build --rootfs /mnt/os --output reports \\
      --sysexts 'base|app-misc/jq&net-misc/socat,python|dev-lang/python'")]
pub(super) struct ImageBuild {
    /// The root directory of the image; extensions go to /usr/share/flatcar/sysext in it
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// The extensions, those that others build on first: NAME|CAT/PKG[&CAT/PKG...][,NAME|...]
    ///
    /// systemd attaches the extension whose name comes last over all others. So let the names come in
    /// this order, too: then the caches of the last one list what all of them have.
    #[arg(long, value_name = "LIST")]
    sysexts: ExtensionRecipes,
    /// Begin the names of the reports about the whole image with NAME
    #[arg(long, value_name = "NAME", default_value = "image")]
    image_name: PrefixName,
    #[command(flatten)]
    options: ImagePackOptions,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl ImageBuild {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let is_dry_run = self.dry_run;
        let request = self.request()?;
        if let Some(warning) = request.check_order() {
            context.reporter.warn(&warning);
        }
        if is_dry_run {
            context.prefix()?;
            output::answer(&(request.describe()?.join("\n") + "\n"))?;
            return Ok(DONE);
        }
        let wait = |text: &str| context.reporter.step(text);
        let _lock = context.prefix()?.lock("fprefix image build", &Busy::Wait(&wait))?;
        // Whoever held the lock may have set it up anew, or removed it.
        let prefix = context.prefix()?;
        match image::build(&request, &prefix, &context.reporter)? {
            ImageBuildOutcome::Found(name, report) => {
                output::answer(&crate::cli::check::text(&report, false))?;
                context.reporter.error(&format!(
                    "{name} is not self-contained, and nothing was changed\n\
                     hint: correct what was found, or waive a rule by name (--waive RULE)"
                ));
                Ok(FOUND)
            }
            ImageBuildOutcome::Refused(name, findings) => {
                tell(context, &findings);
                context.reporter.error(&format!(
                    "the image would not take {name} or be broken by it, and nothing was changed\n\
                     hint: correct what was found, or waive a rule by name (--waive RULE)"
                ));
                Ok(FOUND)
            }
            ImageBuildOutcome::Built { extensions, reports } => {
                for packed in extensions {
                    tell(context, &packed.against);
                    for image in packed.images.into_iter().chain(packed.debug_images) {
                        let size = HumanBytes(image.size);
                        output::answer(&format!("{} ({size})\n", image.path.escaped()))?;
                    }
                }
                for report in reports {
                    output::answer(&format!("{}\n", report.escaped()))?;
                }
                Ok(DONE)
            }
        }
    }

    fn request(self) -> Result<ImageRequest> {
        let ImagePackOptions(mut options) = self.options;
        if options.formats.is_empty() {
            options.formats.push("squashfs:none".parse()?);
        }
        if let Some(format) = options.formats.iter().find(|format| format.suffix() != ".raw") {
            bail!("an image gets image files, and {} is none", format.name());
        }
        let mangle = std::mem::take(&mut options.mangle);
        if let Some(dir) = mangle.iter().find(|dir| !dir.is_dir()) {
            bail!("there is no directory {} with mangle scripts", dir.escaped());
        }
        // The image is the target, and has what the extensions need not have.
        let root = OsRoot::open(&self.rootfs)?;
        options.bases.insert(0, self.rootfs.clone());
        options.target_root = Some(self.rootfs);
        Ok(ImageRequest {
            root,
            recipes: self.sysexts.0,
            image_name: self.image_name,
            mangle,
            options: options.resolve(OptionOrigin::CommandLine)?,
        })
    }
}
