//! Request for packing an extension.

use crate::base::names::PrefixName;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::Signing;
use crate::prefix::final_root::FinalRoot;
use crate::report::Repositories;
use crate::sysext::base::Base;
use crate::sysext::expose::Expose;
use crate::sysext::mangle::Mangle;
use crate::sysext::name::Version;
use crate::sysext::openpgp::SumsKey;
use crate::sysext::prune::Locale;
use crate::sysext::release::ReleaseField;
use crate::sysext::services::{StatePath, UnitName};
use crate::sysext::strip::StripOptions;
use crate::sysext::sysupdate::SourceUrl;
use crate::sysext::target::TargetCheck;

/// Request for packing an extension.
#[derive(Clone, Debug)]
pub(crate) struct PackRequest {
    /// Root that holds the prefix.
    pub root: FinalRoot,
    /// Name under which the extension is attached.
    pub name: PrefixName,
    /// Version of the extension.
    pub version: Option<Version>,
    /// Architecture of the extension. `None` detects it from the programs.
    pub architecture: Option<Architecture>,
    /// Fields of the extension-release file.
    pub fields: Vec<ReleaseField>,
    /// Formats to write.
    pub formats: Vec<Format>,
    /// Pruning rules that are skipped.
    pub keep: Vec<String>,
    /// Languages to keep. An empty list keeps all.
    pub locales: Vec<Locale>,
    /// Strip options. `None` keeps the symbols in the extension.
    pub strip: Option<StripOptions>,
    /// Key and certificate that a DDI is signed with.
    pub signing: Option<Signing>,
    /// Key that the list of digests is signed with.
    pub sign_sums: Option<SumsKey>,
    /// Roots and package information images of the target. Packages that they contain are left out.
    pub bases: Vec<Base>,
    /// Target for the attach test before packing.
    pub against: Option<TargetCheck>,
    /// Programs that get a link in /usr/bin.
    pub expose: Vec<Expose>,
    /// Units that are started when the extension is attached.
    pub start: Vec<UnitName>,
    /// Directories of the prefix that programs write to.
    pub state: Vec<StatePath>,
    /// Changes to the content, applied as the last step.
    pub mangle: Vec<Mangle>,
    /// True if the package database is written as an image, for extensions that build on this one.
    pub package_information: bool,
    /// URL that systemd-sysupdate downloads images from.
    pub sysupdate: Option<SourceUrl>,
    /// Repositories with the ebuilds of the packages. `None` disables the reports.
    pub reports: Option<Repositories>,
    /// Time of the image, in seconds since 1970. `None` reads it from the root.
    pub epoch: Option<u64>,
}
