use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::HumanBytes;

use crate::base::lock::Busy;
use crate::base::names::PrefixName;
use crate::base::output;
use crate::check::RuleChoice;
use crate::cli::pack::{tell, waivers};
use crate::cli::{Context, DONE, FOUND};
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::Signing;
use crate::imagefmt::signing::pkcs11::KeySource;
use crate::os_image::OsRoot;
use crate::os_image::recipe::ExtensionRecipes;
use crate::pipeline::image::{self, ImageBuildOutcome, ImageRequest};
use crate::sysext::release::ReleaseField;
use crate::sysext::strip::StripOptions;

/// Build extensions from a prefix, one on top of the other, and add them to an image
///
/// Packages are built in the staging environment of the prefix (-P NAME) and mean what they mean
/// to its emerge. Each extension holds what its packages need and no earlier one has; the first
/// has the runtime that all share. Nothing is mounted, and the image's root directory is changed
/// only when all extensions are whole.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fprefix image build --rootfs /mnt/os --output reports \\
      --sysexts 'tools|app-misc/jq&net-misc/socat,python|dev-lang/python'")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ImageBuild {
    /// The root directory of the image; extensions go to /usr/share/flatcar/sysext in it
    #[arg(long, alias = "root", value_name = "DIR")]
    rootfs: PathBuf,
    /// The extensions, those that others build on first: NAME|CAT/PKG[&CAT/PKG...][,NAME|...]
    #[arg(long, value_name = "LIST")]
    sysexts: ExtensionRecipes,
    /// Write images, package information and reports into this directory
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Begin the names of the reports about the whole image with NAME
    #[arg(long, value_name = "NAME", default_value = "image")]
    image_name: PrefixName,
    /// The format of the extensions, as `fprefix pack` takes it
    ///
    /// By default uncompressed, for an image of which /usr is compressed.
    #[arg(long, value_name = "FORMAT", default_value = "squashfs:none")]
    format: Format,
    /// Sign the extensions with this key, a PEM file; the format has to be ddi
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Read tokens with this part of openssl: provider:NAME or engine:NAME [default: pkcs11, whichever is installed]
    #[arg(long, value_name = "KIND:NAME", requires = "private_key")]
    private_key_source: Option<KeySource>,
    /// The certificate of that key, a PEM file, which the image gets in /usr/lib/verity.d
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// A field of each extension-release file, like ID=flatcar
    #[arg(long = "release", value_name = "KEY=VALUE")]
    fields: Vec<ReleaseField>,
    /// Link the programs of each extension into /usr/bin, but those that the image has
    #[arg(long)]
    expose: bool,
    /// Leave programs and libraries as they are, with their symbols
    #[arg(long)]
    no_strip: bool,
    /// Put what is stripped into extensions NAME-debug, which the image does not get
    #[arg(long, conflicts_with = "no_strip")]
    splitdebug: bool,
    /// Directory of mangle scripts: `sysext_mangle_NAME` changes the content of the extension NAME
    #[arg(long, value_name = "DIR")]
    mangle: Option<PathBuf>,
    /// Pack although this rule of `fprefix check`, or about attaching to the image, finds something
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    waive: Vec<String>,
    /// Only show what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl ImageBuild {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let request = self.request()?;
        if self.dry_run {
            context.prefix()?;
            output::answer(&(request.describe()?.join("\n") + "\n"))?;
            return Ok(DONE);
        }
        let wait = |holder: &str| context.reporter.step(&format!("waiting for {holder}"));
        let _lock = context.prefix()?.lock("fprefix image build", &Busy::Wait(&wait))?;
        // Whoever held the lock may have set it up anew, or removed it.
        let prefix = context.prefix()?;
        match image::build(&request, &prefix, &context.reporter)? {
            ImageBuildOutcome::Found(name, report) => {
                output::answer(&crate::cli::check::text(&report, false))?;
                context.reporter.error(&format!(
                    "{name} is not self-contained, and nothing was changed; mend what was found, \
                     or waive a rule by name (--waive RULE)"
                ));
                Ok(FOUND)
            }
            ImageBuildOutcome::Refused(name, findings) => {
                tell(context, &findings);
                context.reporter.error(&format!(
                    "the image would not take {name} or be broken by it, and nothing was changed; \
                     mend what was found, or waive a rule by name (--waive RULE)"
                ));
                Ok(FOUND)
            }
            ImageBuildOutcome::Built { extensions, reports } => {
                for packed in extensions {
                    tell(context, &packed.against);
                    for image in packed.images.into_iter().chain(packed.debug_images) {
                        let size = HumanBytes(image.size);
                        output::answer(&format!("{} ({size})\n", image.path.display()))?;
                    }
                }
                for report in reports {
                    output::answer(&format!("{}\n", report.display()))?;
                }
                Ok(DONE)
            }
        }
    }

    fn request(&self) -> Result<ImageRequest> {
        if self.private_key.is_some() && !self.format.can_be_signed() {
            bail!("of the formats, only ddi can be signed: add --format ddi:none");
        }
        if self.format.suffix() != ".raw" {
            bail!("an image gets image files, and {} is none", self.format.name());
        }
        if let Some(dir) = self.mangle.as_ref().filter(|dir| !dir.is_dir()) {
            bail!("there is no directory {} with mangle scripts", dir.display());
        }
        let (attach, waive) = waivers(&self.waive);
        let signing = match (&self.private_key, &self.certificate) {
            (Some(key), Some(certificate)) => {
                Some(Signing::open(key, certificate, self.private_key_source.as_ref())?)
            }
            _ => None,
        };
        Ok(ImageRequest {
            root: OsRoot::open(&self.rootfs)?,
            recipes: self.sysexts.0.clone(),
            output: self.output.clone(),
            image_name: self.image_name.clone(),
            format: self.format,
            signing,
            fields: self.fields.clone(),
            strip: (!self.no_strip)
                .then(|| StripOptions { keep: Vec::new(), splitdebug: self.splitdebug }),
            expose: self.expose,
            mangle: self.mangle.clone(),
            choice: RuleChoice { only: Vec::new(), waive },
            waive: attach,
        })
    }
}
