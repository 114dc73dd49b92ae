//! What is to be packed, and how.

use crate::final_root::FinalRoot;
use crate::names::PrefixName;
use crate::pack::against::Against;
use crate::pack::architecture::Architecture;
use crate::pack::base::Base;
use crate::pack::expose::Expose;
use crate::pack::format::Format;
use crate::pack::mangle::Mangle;
use crate::pack::name::Version;
use crate::pack::openpgp::SumsKey;
use crate::pack::release::Field;
use crate::pack::services::{StatePath, UnitName};
use crate::pack::slim::Locale;
use crate::pack::strip::Stripping;
use crate::pack::verity::Signing;
use crate::report::Repositories;
use crate::report::sysupdate::SourceUrl;

/// What is to be packed, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The root that holds the prefix.
    pub root: FinalRoot,
    /// The name under which the extension is attached.
    pub name: PrefixName,
    /// Its version.
    pub version: Option<Version>,
    /// The machines it is for, where that is not to be read from its programs.
    pub architecture: Option<Architecture>,
    /// Fields of the extension-release file.
    pub fields: Vec<Field>,
    /// The formats to write.
    pub formats: Vec<Format>,
    /// The slimming rules that are not to be applied.
    pub keep: Vec<String>,
    /// The languages that are wanted; all where none is named.
    pub locales: Vec<Locale>,
    /// How symbols are kept out; none where they stay in.
    pub strip: Option<Stripping>,
    /// What a DDI is signed with.
    pub signing: Option<Signing>,
    /// What the list of digests is signed with.
    pub sign_sums: Option<SumsKey>,
    /// What the target has already.
    pub bases: Vec<Base>,
    /// The target on which attaching is tried out before.
    pub against: Option<Against>,
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
