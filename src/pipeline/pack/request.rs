//! What is to be packed, and how.

use crate::base::names::PrefixName;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::ddi::verity::Signing;
use crate::imagefmt::format::Format;
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

/// What is to be packed, and how.
#[derive(Clone, Debug)]
pub(crate) struct PackRequest {
    /// The root that holds the prefix.
    pub root: FinalRoot,
    /// The name under which the extension is attached.
    pub name: PrefixName,
    /// Its version.
    pub version: Option<Version>,
    /// The machines it is for, where that is not to be read from its programs.
    pub architecture: Option<Architecture>,
    /// Fields of the extension-release file.
    pub fields: Vec<ReleaseField>,
    /// The formats to write.
    pub formats: Vec<Format>,
    /// The slimming rules that are not to be applied.
    pub keep: Vec<String>,
    /// The languages that are wanted; all where none is named.
    pub locales: Vec<Locale>,
    /// How symbols are kept out; none where they stay in.
    pub strip: Option<StripOptions>,
    /// What a DDI is signed with.
    pub signing: Option<Signing>,
    /// What the list of digests is signed with.
    pub sign_sums: Option<SumsKey>,
    /// What the target has already.
    pub bases: Vec<Base>,
    /// The target on which attaching is tried out before.
    pub against: Option<TargetCheck>,
    /// Programs that get a link in /usr/bin.
    pub expose: Vec<Expose>,
    /// Units that are started when the extension is attached.
    pub start: Vec<UnitName>,
    /// Directories of the prefix that programs write to.
    pub state: Vec<StatePath>,
    /// What changes the content in the end.
    pub mangle: Vec<Mangle>,
    /// Whether to write the package database as an image for extensions that build on this one.
    pub package_information: bool,
    /// Where images will be fetched from, for systemd-sysupdate.
    pub sysupdate: Option<SourceUrl>,
    /// Where the ebuilds of its packages are; none if no reports are wanted.
    pub reports: Option<Repositories>,
    /// The time of the image, in seconds since 1970, where that is not to be read from the root.
    pub epoch: Option<u64>,
}
