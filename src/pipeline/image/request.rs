//! The extensions that are asked for, and those that were packed.

use crate::base::names::PrefixName;
use crate::check;
use crate::imagefmt::ddi::verity::Signing;
use crate::imagefmt::format::Format;
use crate::os_image::OsRoot;
use crate::os_image::recipe::ExtensionRecipe;
use crate::pipeline::pack::Packed;
use crate::report::InstalledPackage;
use crate::sysext::release::ReleaseField;
use crate::sysext::strip::StripOptions;
use crate::sysext::target::TargetRule;
use std::path::PathBuf;

/// What is to be built.
#[derive(Clone, Debug)]
pub(crate) struct ImageRequest {
    /// The root directory of the image.
    pub root: OsRoot,
    /// The extensions, those that others build on first.
    pub recipes: Vec<ExtensionRecipe>,
    /// Where images and reports go.
    pub output: PathBuf,
    /// How the names of the combined reports begin.
    pub image_name: PrefixName,
    /// The format of the extensions.
    pub format: Format,
    /// What they are signed with.
    pub signing: Option<Signing>,
    /// How symbols are kept out; none where they stay in.
    pub strip: Option<StripOptions>,
    /// Fields of each extension-release file.
    pub fields: Vec<ReleaseField>,
    /// Whether programs get links in /usr/bin.
    pub expose: bool,
    /// Where scripts are that change the content of extensions, by name.
    pub mangle: Option<PathBuf>,
    /// Which rules of the check do not keep an extension from being packed.
    pub choice: check::RuleChoice,
    /// The same of the rules about attaching to the image.
    pub waive: Vec<TargetRule>,
}

/// An extension that was packed, and what it was packed from.
pub(super) struct Part {
    /// What was written.
    pub packed: Packed,
    /// Its packages.
    pub packages: Vec<InstalledPackage>,
}
