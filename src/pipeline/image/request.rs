//! Requested extensions, and extensions that were packed.

use crate::base::names::PrefixName;
use crate::check;
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::Signing;
use crate::os_image::OsRoot;
use crate::os_image::recipe::ExtensionRecipe;
use crate::pipeline::pack::Packed;
use crate::report::InstalledPackage;
use crate::sysext::release::ReleaseField;
use crate::sysext::strip::StripOptions;
use crate::sysext::target::TargetRule;
use std::path::PathBuf;

/// Request for an image build.
#[derive(Clone, Debug)]
pub(crate) struct ImageRequest {
    /// Root directory of the image.
    pub root: OsRoot,
    /// Extensions in dependency order: a base comes before the extensions that build on it.
    pub recipes: Vec<ExtensionRecipe>,
    /// Output directory of images and reports.
    pub output: PathBuf,
    /// Start of the names of the combined reports.
    pub image_name: PrefixName,
    /// Image format of the extensions.
    pub format: Format,
    /// Key and certificate that the extensions are signed with.
    pub signing: Option<Signing>,
    /// Strip options. `None` keeps the symbols in the extension.
    pub strip: Option<StripOptions>,
    /// Fields of each extension-release file.
    pub fields: Vec<ReleaseField>,
    /// True if programs get links in /usr/bin.
    pub expose: bool,
    /// Directory of the mangle scripts, which are named after the extensions.
    pub mangle: Option<PathBuf>,
    /// Rules of the check that are applied, and those whose findings do not prevent packing.
    pub choice: check::RuleChoice,
    /// Rules about attaching whose findings do not prevent packing.
    pub waive: Vec<TargetRule>,
}

/// An extension that was packed, with its packages.
pub(super) struct Part {
    /// The files that were written.
    pub packed: Packed,
    /// Packages of the extension.
    pub packages: Vec<InstalledPackage>,
}
