//! Requested extensions, and extensions that were packed.

use std::path::PathBuf;

use crate::base::names::PrefixName;
use crate::manifest::resolve_pack::ResolvedPack;
use crate::os_image::OsRoot;
use crate::os_image::recipe::ExtensionRecipe;
use crate::pipeline::pack::Packed;
use crate::report::InstalledPackage;

/// Request for an image build.
#[derive(Clone, Debug)]
pub(crate) struct ImageRequest {
    /// Root directory of the image.
    pub root: OsRoot,
    /// Extensions in dependency order: a base comes before the extensions that build on it.
    pub recipes: Vec<ExtensionRecipe>,
    /// Start of the names of the combined reports.
    pub image_name: PrefixName,
    /// Directories of the mangle scripts, which are named after the extensions.
    pub mangle: Vec<PathBuf>,
    /// Options of packing of every extension. The root of the image is the first base.
    pub options: ResolvedPack,
}

/// An extension that was packed, with its packages.
pub(super) struct Part {
    /// The files that were written.
    pub packed: Packed,
    /// Packages of the extension.
    pub packages: Vec<InstalledPackage>,
}
