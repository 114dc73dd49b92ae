use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use crate::base::lock::{Busy, Lock};
use crate::base::names::{Eprefix, PrefixName};
use crate::base::output;
use crate::check;
use crate::cli::{Context, DONE, FOUND};
use crate::fstree::listing;
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::signing::Signing;
use crate::imagefmt::signing::pkcs11::KeySource;
use crate::pipeline::pack::{self, PackOutcome, PackRequest, Packed, Prepared, fingerprint};
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
use crate::sysext::strip::{KeepSymbols, StripOptions};
use crate::sysext::sysupdate::SourceUrl;
use crate::sysext::target::{TargetCheck, TargetFinding, TargetRule};

/// Make a systemd sysext image of what is in final
///
/// The image holds EPREFIX and what systemd needs to attach it. The same root gives the same
/// bytes, whoever packs it and whenever; `SOURCE_DATE_EPOCH` sets the time of the image, which is that of
/// the newest package otherwise.
#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
#[command(after_help = "\
Examples:
  fprefix pack --version 1.2 --output images
  fprefix pack --format erofs:zstd --release ID=flatcar --expose jq
  fprefix pack --root rootfs --eprefix /usr/local/my-stuff --dry-run")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct PackCommand {
    /// Pack the root directory DIR instead of a prefix that was set up
    #[arg(long, alias = "rootfs", value_name = "DIR", requires = "eprefix")]
    root: Option<PathBuf>,
    /// Path of the prefix in that root directory
    #[arg(long, value_name = "PATH", requires = "root")]
    eprefix: Option<Eprefix>,
    /// The name of the extension [default: the prefix's]
    #[arg(long)]
    name: Option<PrefixName>,
    /// The version of the extension: the file is NAME-VERSION-ARCH.raw, and NAME.raw links to it
    #[arg(long)]
    version: Option<Version>,
    /// The machines that it is for, like x86-64 [default: what its programs are for]
    #[arg(long, value_name = "ARCH")]
    architecture: Option<Architecture>,
    /// A field of the extension-release file, like ID=flatcar or `EXTENSION_RELOAD_MANAGER=1`
    ///
    /// Without, the extension fits every distribution (ID=_any). Can be given several times.
    #[arg(long = "release", value_name = "KEY=VALUE")]
    fields: Vec<ReleaseField>,
    /// Write this format: FORMAT[:COMPRESSOR[:LEVEL]]
    ///
    /// squashfs[:zstd|lz4|xz|gzip|none], erofs[:lz4hc|lz4|zstd|none] in the form that old kernels
    /// mount, erofs-tight[:lz4hc|lz4|zstd] for Linux 6.1 and newer, ext4, btrfs[:zstd|none] (with
    /// btrfs-progs 7.3 or newer), directory, tar, and
    /// ddi[:zstd|...]: a squashfs in a disk image, with the hashes by which kernels check it
    /// (verity). Can be given several times.
    #[arg(long = "format", value_name = "FORMAT", default_value = "squashfs")]
    formats: Vec<Format>,
    /// Sign the ddi with this key: a PEM file, or a pkcs11: URI of a key in a token
    ///
    /// A PIN is in the URI (pin-source=FILE or pin-value=PIN), or openssl asks for it on the
    /// terminal.
    #[arg(long, value_name = "FILE|URI", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// Read tokens with this part of openssl: provider:NAME or engine:NAME [default: pkcs11, whichever is installed]
    #[arg(long, value_name = "KIND:NAME", requires = "private_key")]
    private_key_source: Option<KeySource>,
    /// The certificate of that key, which targets have in /etc/verity.d, a PEM file or a pkcs11:
    /// URI
    #[arg(long, value_name = "FILE|URI", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// Sign SHA256SUMS with this key of gpg, for systemd-sysupdate: SHA256SUMS.gpg
    ///
    /// Targets have its public part in /etc/systemd/import-pubring.gpg. Where several extensions
    /// are packed into one directory, the list is signed anew each time.
    #[arg(long, value_name = "KEY", conflicts_with = "no_reports")]
    sign_sums: Option<String>,
    /// The directory with gpg's keys [default: GNUPGHOME, or gpg's own]
    #[arg(long, value_name = "DIR", requires = "sign_sums")]
    gnupg_home: Option<PathBuf>,
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Do not leave out what this rule names, like headers or man; --dry-run shows the rules
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    keep: Vec<String>,
    /// Keep translations into these languages alone, like `en,pt_BR`
    #[arg(long, value_name = "LANGUAGE", value_delimiter = ',')]
    locales: Vec<Locale>,
    /// Take symbols and debugging information out of programs and libraries (the default)
    ///
    /// Copies for the image are stripped, never the root itself. Files of packages with
    /// RESTRICT=strip or that were built with FEATURES=nostrip stay as they are.
    #[arg(long, overrides_with = "no_strip")]
    strip: bool,
    /// Leave programs and libraries as they are
    #[arg(long, overrides_with = "strip")]
    no_strip: bool,
    /// Do not strip files of this package (CATEGORY/NAME), or at this path, from / on, with globs
    #[arg(long, value_name = "ATOM|/GLOB", value_delimiter = ',')]
    keep_symbols: Vec<KeepSymbols>,
    /// Put what is stripped into an extension NAME-debug, where debuggers find it when it is attached
    #[arg(long, conflicts_with = "no_strip")]
    splitdebug: bool,
    /// Pack although this rule of `fprefix check` or of --target-root finds something
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    waive: Vec<String>,
    /// Leave out what the target has: its root directory, or the _pkginfo.raw of an earlier extension
    ///
    /// Packages that it has in the same prefix are left out, and its programs are not hidden by
    /// links. Can be given several times.
    #[arg(long = "base", value_name = "DIR|FILE")]
    bases: Vec<PathBuf>,
    /// Try out attaching the extension on the target whose root directory is DIR, before anything
    /// is written
    ///
    /// Says which files of the target it hides, which directories it changes, and whether
    /// os-release, systemd and kernels of the target take it. Errors refuse, unless waived by name. With
    /// --dry-run this is about the content before --mangle.
    #[arg(long, alias = "against", value_name = "DIR")]
    target_root: Option<PathBuf>,
    /// This extension, an image or a directory, is attached there as well; can be given several
    /// times
    #[arg(long, alias = "beside", value_name = "FILE|DIR", requires = "target_root")]
    with_extension: Vec<PathBuf>,
    /// Link this program of the prefix into /usr/bin; "all" links what the target does not have
    #[arg(long, value_name = "PROGRAM", value_delimiter = ',')]
    expose: Vec<Expose>,
    /// Start this unit of a package when the extension is attached, and keep it running
    ///
    /// Units, tmpfiles.d and sysusers.d files of packages always go where systemd looks for them.
    #[arg(long, value_name = "UNIT", value_delimiter = ',')]
    start: Vec<UnitName>,
    /// A directory below EPREFIX that programs write to, like var/lib/demo or etc
    ///
    /// It becomes a link to /var/lib/NAME, where systemd-tmpfiles puts what the extension has
    /// there unless it is there already.
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    state: Vec<StatePath>,
    /// Lay a directory over the content, or run a program that gets the content's directory
    #[arg(long, value_name = "DIR|PROGRAM")]
    mangle: Vec<PathBuf>,
    /// Write the package database as an image, to pack further extensions against (--base)
    #[arg(long)]
    pkginfo: bool,
    /// Write the files by which systemd-sysupdate fetches new versions from the directory URL
    #[arg(long, value_name = "URL", requires = "version")]
    sysupdate: Option<SourceUrl>,
    /// Write the images alone: no lists of packages and files, no licences, no bill of materials
    #[arg(long)]
    no_reports: bool,
    /// Pack again although nothing has changed since
    #[arg(long, alias = "again")]
    force: bool,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    /// Only show what the extension would hold
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl PackCommand {
    /// Runs the subcommand.
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let (request, _lock) = self.request(context)?;
        let stamp = if self.dry_run {
            None
        } else {
            fingerprint::Fingerprint::take(&request, &self.waive)?
        };
        if let Some(stamp) = stamp.as_ref().filter(|_| !self.force)
            && let Some(packed) = stamp.find(&request, &self.output)
        {
            context.reporter.step("nothing has changed since this was packed (--force packs it)");
            return self.answer(context, &packed);
        }
        let mut prepared = pack::prepare(&request, &context.reporter)?;
        for warning in &prepared.warnings {
            context.reporter.warn(warning);
        }
        let choice = check::RuleChoice { only: Vec::new(), waive: waivers(&self.waive).1 };
        let reporter = &context.reporter;
        if self.dry_run {
            let fits = pack::look(&request, &mut prepared, &choice, reporter)?;
            output::answer(&self.describe_plan(&request, &prepared)?)?;
            tell(context, &prepared.against);
            return Ok(if fits { DONE } else { FOUND });
        }
        let packed = match pack::carry_out(&request, prepared, &choice, &self.output, reporter)? {
            PackOutcome::Packed(packed) => packed,
            PackOutcome::Found(report) => {
                output::answer(&crate::cli::check::text(&report, false))?;
                reporter.error(
                    "nothing was packed: the root is not self-contained; mend what was found, or \
                     waive a rule by name (--waive RULE)",
                );
                return Ok(FOUND);
            }
            PackOutcome::Refused(findings) => return self.refuse(context, &findings),
        };
        tell(context, &packed.against);
        if let Some(stamp) = stamp {
            stamp.keep(&request, &self.output, &packed)?;
        }
        self.answer(context, &packed)
    }

    /// Says what was found on the target, which speaks against packing.
    fn refuse(&self, context: &Context, findings: &[TargetFinding]) -> Result<u8> {
        tell(context, findings);
        if self.json {
            let findings = json!({ "against": findings });
            output::answer(&(serde_json::to_string_pretty(&findings)? + "\n"))?;
        }
        context.reporter.error(
            "nothing was packed: the target would not take it or be broken by it; mend what was \
             found, or waive a rule by name (--waive RULE)",
        );
        Ok(FOUND)
    }

    fn answer(&self, context: &Context, packed: &Packed) -> Result<u8> {
        if self.json {
            output::answer(&(serde_json::to_string_pretty(packed)? + "\n"))?;
            return Ok(DONE);
        }
        output::answer(&describe(packed))?;
        for program in &packed.privileged {
            context.reporter.warn(&format!("{program} runs with rights its caller does not have"));
        }
        if packed.images.iter().any(|image| image.link.is_some()) {
            context.reporter.step(&format!(
                "install it under the name {}.raw: systemd attaches an extension by that name only",
                packed.name
            ));
        }
        Ok(DONE)
    }

    /// Returns the request, and the lock of the prefix, which is held while it is read.
    fn request(&self, context: &Context) -> Result<(PackRequest, Option<Lock>)> {
        let mut repositories = Repositories::default();
        let (root, name, lock) = if let (Some(root), Some(eprefix)) = (&self.root, &self.eprefix) {
            let name = eprefix.as_path().file_name().unwrap_or_default().to_string_lossy();
            (FinalRoot::open(root, eprefix)?, name.into_owned(), None)
        } else {
            let prefix = context.prefix()?;
            let wait = |holder: &str| context.reporter.step(&format!("waiting for {holder}"));
            let lock = prefix.lock("fprefix pack", &Busy::Wait(&wait))?;
            repositories.paths =
                prefix.definition.repos.iter().filter_map(|repo| repo.path.clone()).collect();
            (FinalRoot::of(&prefix)?, prefix.definition.id.name.to_string(), Some(lock))
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => name.parse().context("name the extension with --name")?,
        };
        if self.private_key.is_some() && !self.formats.iter().any(Format::can_be_signed) {
            bail!("of the formats, only ddi can be signed: add --format ddi");
        }
        let request = PackRequest {
            root,
            name,
            version: self.version.clone(),
            architecture: self.architecture,
            fields: self.fields.clone(),
            formats: self.formats.clone(),
            keep: self.keep.clone(),
            locales: self.locales.clone(),
            strip: (self.strip || !self.no_strip).then(|| StripOptions {
                keep: self.keep_symbols.clone(),
                splitdebug: self.splitdebug,
            }),
            signing: match (&self.private_key, &self.certificate) {
                (Some(key), Some(certificate)) => {
                    Some(Signing::open(key, certificate, self.private_key_source.as_ref())?)
                }
                _ => None,
            },
            sign_sums: self
                .sign_sums
                .as_deref()
                .map(|key| SumsKey::open(key, self.gnupg_home.as_deref()))
                .transpose()?,
            bases: self.bases.iter().map(|path| Base::open(path)).collect::<Result<_>>()?,
            against: match &self.target_root {
                Some(root) => {
                    Some(TargetCheck::open(root, &self.with_extension, waivers(&self.waive).0)?)
                }
                None => None,
            },
            expose: self.expose.clone(),
            start: self.start.clone(),
            state: self.state.clone(),
            mangle: self.mangle.iter().map(|path| Mangle::open(path)).collect::<Result<_>>()?,
            package_information: self.pkginfo,
            sysupdate: self.sysupdate.clone(),
            reports: (!self.no_reports).then_some(repositories),
            epoch: None,
        };
        Ok((request, lock))
    }

    fn describe_plan(&self, request: &PackRequest, prepared: &Prepared) -> Result<String> {
        let symbols = pack::with_symbols(request, prepared)?;
        if self.json {
            let plan = json!({
                "name": prepared.naming.name,
                "version": prepared.naming.version,
                "architecture": prepared.naming.architecture,
                "eprefix": prepared.plan.eprefix,
                "epoch": prepared.plan.epoch,
                "files": prepared
                    .naming
                    .files(&self.formats)
                    .into_iter()
                    .map(|names| names.file)
                    .collect::<Vec<_>>(),
                "contents": prepared.plan.totals(),
                "entries": listing::list_entries(&prepared.plan).collect::<Vec<_>>(),
                "left_out": prepared.left_out,
                "in_base": prepared.in_base,
                "to_strip": symbols.files.keys().map(|path| format!("/{}", path.display())).collect::<Vec<_>>(),
                "kept_symbols": symbols.kept,
                "privileged": listing::list_privileged(&prepared.plan),
                "warnings": prepared.warnings,
                "against": prepared.against,
            });
            return Ok(serde_json::to_string_pretty(&plan)? + "\n");
        }
        let mut text = listing::render_listing(&prepared.plan);
        for left in &prepared.left_out {
            text += &format!(
                "left out: {} ({} entries, {}): {}\n",
                left.rule,
                left.entries,
                HumanBytes(left.bytes),
                left.why
            );
        }
        if !symbols.files.is_empty() {
            text += &format!("to be stripped: {} files\n", symbols.files.len());
        }
        for kept in &symbols.kept {
            text += &format!("keeps its symbols: {}: {}\n", kept.path, kept.why);
        }
        for package in &prepared.in_base {
            text += &format!("left out: {package}: a base has it\n");
        }
        Ok(text)
    }
}

/// Rules to waive: those about attaching, and those of `fprefix check`.
pub(super) fn waivers(names: &[String]) -> (Vec<TargetRule>, Vec<String>) {
    let is_check = |name: &&String| TargetRule::named(name).is_none();
    let attach = names.iter().filter_map(|name| TargetRule::named(name)).collect();
    (attach, names.iter().filter(is_check).cloned().collect())
}

/// Says what attaching would do to the target.
pub(super) fn tell(context: &Context, findings: &[TargetFinding]) {
    for finding in findings {
        let text = format!("{} [{}]", finding.text(), finding.rule.name());
        if finding.refuses() {
            context.reporter.error(&text);
        } else {
            context.reporter.warn(&text);
        }
    }
}

/// Describes in text what was written.
pub(super) fn describe(packed: &Packed) -> String {
    let mut text = String::new();
    for image in packed.images.iter().chain(&packed.debug_images) {
        let size = HumanBytes(image.size);
        text += &format!("{} ({}, {size})\n", image.path.display(), image.format);
        if let Some(link) = &image.link {
            text += &format!("{} links to it\n", link.display());
        }
    }
    for report in &packed.reports {
        text += &format!("{}\n", report.display());
    }
    text
}
