use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use crate::base::escape::Escape;
use crate::base::level::Level;
use crate::base::lock::{Busy, Lock};
use crate::base::names::Eprefix;
use crate::base::output;
use crate::cli::{Context, DONE, FOUND};
use crate::fstree::listing;
use crate::manifest::origin::OptionOrigin;
use crate::manifest::pack_options::PackOptions;
use crate::pipeline::pack::{self, PackOutcome, PackRequest, Packed, Prepared, fingerprint};
use crate::prefix::final_root::FinalRoot;
use crate::report::Repositories;
use crate::sysext::target::TargetFinding;

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
  fprefix pack --format erofs:zstd --release ID=flatcar --release SYSEXT_LEVEL=1.0 --expose jq
  fprefix pack --root rootfs --eprefix /usr/local/my-stuff --dry-run")]
pub(super) struct PackCommand {
    /// Pack the root directory DIR instead of a prefix that was set up
    #[arg(long, alias = "rootfs", value_name = "DIR", requires = "eprefix")]
    root: Option<PathBuf>,
    /// Path of the prefix in that root directory
    #[arg(long, value_name = "PATH", requires = "root")]
    eprefix: Option<Eprefix>,
    #[command(flatten)]
    options: PackOptions,
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
        let stamp = if self.dry_run { None } else { fingerprint::Fingerprint::take(&request)? };
        if let Some(stamp) = stamp.as_ref().filter(|_| !self.force)
            && let Some(packed) = stamp.find(&request)
        {
            context.reporter.step("nothing has changed since this was packed (--force packs it)");
            return self.answer(context, &packed);
        }
        let mut prepared = pack::prepare(&request, &context.reporter)?;
        for warning in &prepared.warnings {
            context.reporter.warn(warning);
        }
        let reporter = &context.reporter;
        if self.dry_run {
            let fits = pack::check_plan(&request, &mut prepared, reporter)?;
            output::answer(&self.describe_plan(&request, &prepared)?)?;
            tell(context, &prepared.against);
            return Ok(if fits { DONE } else { FOUND });
        }
        let packed = match pack::carry_out(&request, prepared, reporter)? {
            PackOutcome::Packed(packed) => packed,
            PackOutcome::Found(report) => {
                output::answer(&crate::cli::check::text(&report, false))?;
                reporter.error(
                    "nothing was packed: the root is not self-contained\n\
                     hint: correct what was found, or waive a rule by name (--waive RULE)",
                );
                return Ok(FOUND);
            }
            PackOutcome::Refused(findings) => return self.refuse(context, &findings),
        };
        tell(context, &packed.against);
        if let Some(stamp) = stamp {
            stamp.keep(&request, &packed)?;
        }
        self.answer(context, &packed)
    }

    /// Says what was found on the target, which speaks against packing.
    fn refuse(&self, context: &Context, findings: &[TargetFinding]) -> Result<u8> {
        tell(context, findings);
        if self.json {
            let findings = json!({ "against": findings });
            output::answer_json(&findings)?;
        }
        context.reporter.error(
            "nothing was packed: the target would not take it or be broken by it\n\
             hint: correct what was found, or waive a rule by name (--waive RULE)",
        );
        Ok(FOUND)
    }

    fn answer(&self, context: &Context, packed: &Packed) -> Result<u8> {
        if self.json {
            output::answer_json(packed)?;
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
            let wait = |text: &str| context.reporter.step(text);
            let lock = prefix.lock("fprefix pack", &Busy::Wait(&wait))?;
            repositories.paths =
                prefix.definition.repos.iter().filter_map(|repo| repo.path.clone()).collect();
            (FinalRoot::of_prefix(&prefix)?, prefix.definition.id.name.to_string(), Some(lock))
        };
        let options = self.options.clone().resolve(OptionOrigin::CommandLine)?;
        let name = match &options.name {
            Some(name) => name.clone(),
            None => name.parse().context("name the extension with --name")?,
        };
        Ok((PackRequest { root, name, options, repositories, epoch: None }, lock))
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
                    .files(&request.options.formats)
                    .into_iter()
                    .map(|names| names.file)
                    .collect::<Vec<_>>(),
                "contents": prepared.plan.count_totals(),
                "entries": listing::list_entries(&prepared.plan).collect::<Vec<_>>(),
                "left_out": prepared.left_out,
                "in_base": prepared.in_base,
                "to_strip": symbols.files.keys().map(|path| format!("/{}", path.escaped())).collect::<Vec<_>>(),
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
            for path in &left.paths {
                text += &format!("left out by {}: {path}\n", left.rule);
            }
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

/// Says what attaching would do to the target.
pub(super) fn tell(context: &Context, findings: &[TargetFinding]) {
    for finding in findings {
        let level = if finding.is_refusal() { Level::Error } else { Level::Warning };
        let rule = finding.rule.name();
        context.reporter.finding(level, rule, &finding.text(), &finding.remedy);
    }
}

/// Describes in text what was written.
pub(super) fn describe(packed: &Packed) -> String {
    let mut text = String::new();
    for image in packed.images.iter().chain(&packed.debug_images) {
        let size = HumanBytes(image.size);
        text += &format!("{} ({}, {size})\n", image.path.escaped(), image.format);
        if let Some(link) = &image.link {
            text += &format!("{} links to it\n", link.escaped());
        }
    }
    for report in &packed.reports {
        text += &format!("{}\n", report.escaped());
    }
    text
}
