//! Options of packing, after everything that they name was opened.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::check::Rule;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::Signing;
use crate::imagefmt::signing::token_uri;
use crate::imagefmt::writer;
use crate::manifest::origin::{OptionOrigin, Setting};
use crate::manifest::pack_options::PackOptions;
use crate::manifest::rules::WaivedRule;
use crate::sysext::base::Base;
use crate::sysext::charsets::Charset;
use crate::sysext::expose::Expose;
use crate::sysext::locale::Locale;
use crate::sysext::mangle::Mangle;
use crate::sysext::name::Version;
use crate::sysext::needed_paths::NeededForm;
use crate::sysext::openpgp::SumsKey;
use crate::sysext::prune::PruneRuleName;
use crate::sysext::release::ReleaseField;
use crate::sysext::services::UnitName;
use crate::sysext::state::StatePath;
use crate::sysext::strip::StripOptions;
use crate::sysext::sysupdate::SourceUrl;
use crate::sysext::target::{TargetCheck, TargetRule};
use crate::sysext::unused::UnusedLibraries;

/// Error for a setting about a target if no target is named.
const NO_TARGET: &str =
    "this is about attaching to a target: name its root directory by target-root";

/// Returns the setting `key` of the table `pack`.
const fn pack(key: &'static str) -> Setting {
    Setting::new("pack", key)
}

/// Options of packing, with everything opened that they name.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedPack {
    /// Name of the extension; `None` for that of the prefix.
    pub name: Option<PrefixName>,
    /// Version of the extension.
    pub version: Option<Version>,
    /// Architecture of the extension. `None` detects it from the programs.
    pub architecture: Option<Architecture>,
    /// Fields of the extension-release file.
    pub fields: Vec<ReleaseField>,
    /// Formats to write, at least one.
    pub formats: Vec<Format>,
    /// Directory to write to.
    pub output: PathBuf,
    /// Pruning rules that are skipped.
    pub keep: Vec<PruneRuleName>,
    /// Languages to keep. An empty list keeps all.
    pub locales: Vec<Locale>,
    /// Character sets to keep. An empty list leaves the choice to the rule.
    pub charsets: Vec<Charset>,
    /// Packages whose unused libraries are left out.
    pub unused_libraries: UnusedLibraries,
    /// Form in which files name the libraries that they need.
    pub needed: NeededForm,
    /// Strip options. `None` keeps the symbols in the extension.
    pub strip: Option<StripOptions>,
    /// Key and certificate that a DDI is signed with.
    pub signing: Option<Signing>,
    /// Key that the list of digests is signed with.
    pub sign_sums: Option<SumsKey>,
    /// Rules of the check whose findings do not prevent packing.
    pub waived_checks: Vec<&'static Rule>,
    /// Roots and package information images of the target. Packages that they contain are left out.
    pub bases: Vec<Base>,
    /// Target for the attach test before packing.
    pub target: Option<TargetCheck>,
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
    /// True if reports are written.
    pub reports: bool,
}

/// Error for a PIN on the command line.
const PUBLIC_PIN: &str = "the URI has a PIN in it, and every user of the machine can read the \
                          arguments of a program\nhint: write the PIN to a file that only you can \
                          read, and name that in the URI: pin-source=file:/PATH";

impl PackOptions {
    /// Opens everything that packing will need: the keys, the bases, the target.
    ///
    /// # Errors
    ///
    /// Fails with the place of the value that cannot be used, so that a build fails before it
    /// begins.
    pub(crate) fn resolve(self, origin: OptionOrigin<'_>) -> Result<ResolvedPack> {
        let formats = match self.formats.as_slice() {
            [] => vec!["squashfs".parse()?],
            formats => formats.to_vec(),
        };
        origin.locate_each(pack("format"), &formats, |format| writer::ready(*format))?;
        let path = |path: &PathBuf| origin.resolve_path(path);
        let waived_target = self.waived_target();
        Ok(ResolvedPack {
            signing: self.resolve_signing(origin, &formats)?,
            sign_sums: self.resolve_sums(origin)?,
            strip: self.resolve_strip(origin)?,
            sysupdate: self.resolve_sysupdate(origin)?,
            target: self.resolve_target(origin, &waived_target)?,
            bases: origin.locate_each(pack("base"), &self.bases, |base| Base::open(&path(base)))?,
            mangle: origin
                .locate_each(pack("mangle"), &self.mangle, |mangle| Mangle::open(&path(mangle)))?,
            output: origin.resolve_path(self.output.as_deref().unwrap_or(Path::new("."))),
            waived_checks: self.waived_checks(),
            name: self.name,
            version: self.version,
            architecture: self.architecture,
            fields: self.fields,
            keep: self.keep,
            locales: self.locales,
            charsets: self.charsets,
            unused_libraries: self.unused_libraries.unwrap_or_default(),
            needed: self.needed.unwrap_or_default(),
            expose: self.expose,
            start: self.start,
            state: self.state,
            package_information: self.pkginfo,
            reports: !self.no_reports,
            formats,
        })
    }

    fn waived_target(&self) -> Vec<TargetRule> {
        let target = |rule: &WaivedRule| match rule {
            WaivedRule::Target(rule) => Some(*rule),
            WaivedRule::Check(_) => None,
        };
        self.waive.iter().filter_map(target).collect()
    }

    fn waived_checks(&self) -> Vec<&'static Rule> {
        let check = |rule: &WaivedRule| match rule {
            WaivedRule::Check(rule) => Some(*rule),
            WaivedRule::Target(_) => None,
        };
        self.waive.iter().filter_map(check).collect()
    }

    fn resolve_signing(
        &self,
        origin: OptionOrigin<'_>,
        formats: &[Format],
    ) -> Result<Option<Signing>> {
        let is_signable = formats.iter().any(Format::can_be_signed);
        let path = |path: &PathBuf| {
            if token_uri::is_uri(path) { path.clone() } else { origin.resolve_path(path) }
        };
        let (key, certificate) = (&self.private_key, &self.certificate);
        for (name, given) in [("private-key", key), ("certificate", certificate)] {
            if given.as_ref().is_some_and(|path| origin.is_public() && token_uri::has_pin(path)) {
                origin.locate(pack(name), Err(anyhow::anyhow!(PUBLIC_PIN)))?;
            }
        }
        if let (Some(key), Some(certificate)) = (key, certificate) {
            let open = || {
                ensure!(
                    is_signable,
                    "of the formats, only ddi can be signed: add it to the formats"
                );
                Signing::open(&path(key), &path(certificate), self.private_key_source.as_ref())
            };
            return origin.locate(pack("private-key"), open()).map(Some);
        }
        let together = "private-key and certificate go together: give both";
        let given = [("private-key", key.is_some()), ("certificate", certificate.is_some())];
        let source = ("private-key-source", self.private_key_source.is_some());
        match given.into_iter().chain([source]).find(|(_, is_given)| *is_given) {
            Some((name, _)) => origin.locate(pack(name), Err(anyhow::anyhow!(together))),
            None => Ok(None),
        }
    }

    fn resolve_sums(&self, origin: OptionOrigin<'_>) -> Result<Option<SumsKey>> {
        let Some(key) = &self.sign_sums else {
            let alone = self.gnupg_home.is_none();
            let need = || {
                ensure!(alone, "this is where the key of sign-sums is: name the key, too");
                Ok(None)
            };
            return origin.locate(pack("gnupg-home"), need());
        };
        let open = || {
            ensure!(!self.no_reports, "without reports there is no list");
            let home = self.gnupg_home.as_ref().map(|home| origin.resolve_path(home));
            SumsKey::open(key, home.as_deref()).map(Some)
        };
        origin.locate(pack("sign-sums"), open())
    }

    fn resolve_strip(&self, origin: OptionOrigin<'_>) -> Result<Option<StripOptions>> {
        if self.strip || !self.no_strip {
            let keep = self.keep_symbols.clone();
            return Ok(Some(StripOptions { keep, splitdebug: self.splitdebug }));
        }
        let split = || {
            ensure!(
                !self.splitdebug,
                "nothing is put apart where nothing is stripped (strip = false)"
            );
            Ok(None)
        };
        origin.locate(pack("splitdebug"), split())
    }

    fn resolve_sysupdate(&self, origin: OptionOrigin<'_>) -> Result<Option<SourceUrl>> {
        let Some(url) = &self.sysupdate else { return Ok(None) };
        let versioned = self.version.as_ref();
        let url = versioned.map(|_| url.clone());
        let url = url.context("systemd-sysupdate goes by versions: give [pack] a version");
        origin.locate(pack("sysupdate"), url).map(Some)
    }

    fn resolve_target(
        &self,
        origin: OptionOrigin<'_>,
        waived: &[TargetRule],
    ) -> Result<Option<TargetCheck>> {
        let beside = origin.locate_each(pack("with-extension"), &self.with_extension, |path| {
            let path = origin.resolve_path(path);
            ensure!(path.exists(), "there is no extension {}", path.escaped());
            Ok(path)
        })?;
        if let Some(root) = &self.target_root {
            let root = origin.resolve_path(root);
            let target = TargetCheck::open(&root, &beside, waived.to_vec());
            return origin.locate(pack("target-root"), target).map(Some);
        }
        let is_target = |rule: &WaivedRule| matches!(rule, WaivedRule::Target(_));
        let setting = match (beside.is_empty(), self.waive.iter().position(is_target)) {
            (false, _) => pack("with-extension").item(0),
            (true, Some(index)) => pack("waive").item(index),
            (true, None) => return Ok(None),
        };
        let refusal = || bail!(NO_TARGET);
        origin.locate(setting, refusal())
    }
}
