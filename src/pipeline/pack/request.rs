//! Request for packing an extension.

use crate::base::names::PrefixName;
use crate::manifest::resolve_pack::ResolvedPack;
use crate::prefix::final_root::FinalRoot;
use crate::report::Repositories;

/// Request for packing an extension.
#[derive(Clone, Debug)]
pub(crate) struct PackRequest {
    /// Root that holds the prefix.
    pub root: FinalRoot,
    /// Name under which the extension is attached.
    pub name: PrefixName,
    /// Options of packing.
    pub options: ResolvedPack,
    /// Repositories with the ebuilds of the packages, for the reports.
    pub repositories: Repositories,
    /// Time of the image, in seconds since 1970. `None` reads it from the root.
    pub epoch: Option<u64>,
}
