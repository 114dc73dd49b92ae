//! Packs a final root into images: plan, write, compare, publish.

mod artifacts;
pub(crate) mod fingerprint;
mod image_files;
mod mangled;
mod package_metadata;
mod packed;
mod prepare;
mod request;
mod stripped;

use std::path::Path;

use anyhow::{Context, Result};

use crate::base::output::Reporter;
use crate::check;
use crate::fstree::{digest, listing};
use crate::imagefmt::directory;
use crate::imagefmt::image_format::ImageInput;
use crate::imagefmt::workplace::Workplace;
use crate::pipeline::pack::image_files::{publish, write_image};
use crate::prefix::final_root::FinalRoot;
use crate::sysext::needed_paths::{self, NeededForm};
use crate::sysext::strip;
use crate::sysext::sysupdate::{self, UpdateSource};
use crate::sysext::target::{AttachSubject, TargetFinding};

pub(crate) use crate::pipeline::pack::packed::{Packed, PackedImage};
pub(crate) use crate::pipeline::pack::prepare::{Prepared, prepare};
pub(crate) use crate::pipeline::pack::request::PackRequest;

/// Directory in a workplace for copies with paths of needed libraries.
const NEEDED: &str = ".needed";

/// Outcome of packing.
#[derive(Debug)]
pub(crate) enum PackOutcome {
    /// The images were written.
    Packed(Box<Packed>),
    /// The content is not self-contained. Nothing was packed.
    Found(check::CheckReport),
    /// The target would reject the extension, or the extension would break it. Nothing was packed.
    Refused(Vec<TargetFinding>),
}

/// Mangles and checks the prepared content, simulates the attach, and writes the images into the
/// output directory.
pub(crate) fn carry_out(
    request: &PackRequest,
    mut prepared: Prepared,
    reporter: &Reporter,
) -> Result<PackOutcome> {
    let workplace = Workplace::open(&request.options.output)?;
    let mut changes = mangled::mangle(request, &mut prepared, &workplace, reporter)?;
    mangled::remove(&mut changes, prepared.finish(request)?);
    set_needed_paths(request, &mut prepared, &workplace, &mut changes)?;
    let report = check_content(request, &prepared, &changes)?;
    if !report.passes() {
        return Ok(PackOutcome::Found(report));
    }
    if !simulate_attach(request, &mut prepared, reporter)? {
        return Ok(PackOutcome::Refused(prepared.against));
    }
    let packed = write(request, prepared, &workplace, reporter)?;
    Ok(PackOutcome::Packed(Box::new(packed)))
}

/// Sets paths for needed libraries in the prepared content, if the request asks for it.
fn set_needed_paths(
    request: &PackRequest,
    prepared: &mut Prepared,
    workplace: &Workplace,
    changes: &mut check::TreeChanges,
) -> Result<()> {
    if !uses_paths(request, prepared) {
        return Ok(());
    }
    let edited = needed_paths::apply(&mut prepared.plan, &workplace.path(NEEDED))?;
    mangled::replace(changes, request, &prepared.plan, &edited)
}

/// Runs the checks of [`carry_out`] on the content as it is before mangling. Returns whether they
/// pass.
pub(crate) fn check_plan(
    request: &PackRequest,
    prepared: &mut Prepared,
    reporter: &Reporter,
) -> Result<bool> {
    let mut changes = check::TreeChanges::default();
    mangled::remove(&mut changes, prepared.finish(request)?);
    let report = check_content(request, prepared, &changes)?;
    Ok(simulate_attach(request, prepared, reporter)? && report.passes())
}

/// Root for the proof at run time.
pub(crate) struct ProofRoot {
    /// Root directory without what is left out.
    pub root: FinalRoot,
    /// Names of rules that left out files because nothing seemed to need them.
    pub rules: Vec<String>,
}

/// Writes a tree for the proof at run time below `dir`, which is created: the root without what is left
/// out, and with libraries named as in the extension.
pub(crate) fn write_proof_root(
    request: &PackRequest,
    prepared: &Prepared,
    dir: &Path,
) -> Result<ProofRoot> {
    let (mut plan, rules) = prepared.plan_proof(request)?;
    fs_err::create_dir(dir)?;
    if uses_paths(request, prepared) {
        needed_paths::apply(&mut plan, &dir.join(NEEDED))?;
    }
    let root = dir.join("root");
    directory::write(&plan, &root, &|_| {})?;
    Ok(ProofRoot { root: FinalRoot::open(&root, request.root.eprefix())?, rules })
}

/// Returns whether needed libraries are named by paths. Files of a base are not in the plan, and may have
/// libraries of the same names, so names stay there.
fn uses_paths(request: &PackRequest, prepared: &Prepared) -> bool {
    request.options.needed == NeededForm::Paths && prepared.in_base.is_empty()
}

/// Lists the files that would be stripped.
pub(crate) fn with_symbols(request: &PackRequest, prepared: &Prepared) -> Result<strip::StripPlan> {
    match &request.options.strip {
        Some(stripping) => strip::choose(&prepared.plan, &request.root, stripping),
        None => Ok(strip::StripPlan::default()),
    }
}

/// Checks the content to be packed and keeps the findings about files in the plan. The check reads
/// the rest of the root as well, because a base that is attached too may contain it.
fn check_content(
    request: &PackRequest,
    prepared: &Prepared,
    changes: &check::TreeChanges,
) -> Result<check::CheckReport> {
    let waive = request.options.waived_checks.clone();
    let choice = check::RuleChoice { only: Vec::new(), waive };
    let mut report = check::run_changed(&request.root, changes, &choice)?;
    report.findings.retain(|finding| {
        let below = finding.path.strip_prefix("/").unwrap_or(&finding.path);
        prepared.plan.entries.contains_key(below)
            || prepared.plan.entries.contains_key(&finding.path)
    });
    Ok(report)
}

/// Simulates attaching the plan to the target that `request` names, and stores the findings.
/// Returns whether no finding prevents it. After mangling, the simulation covers the mangled
/// content.
fn simulate_attach(
    request: &PackRequest,
    prepared: &mut Prepared,
    reporter: &Reporter,
) -> Result<bool> {
    let Some(against) = &request.options.target else { return Ok(true) };
    reporter.step("trying out the attach");
    prepared.against = against.simulate(AttachSubject {
        plan: &prepared.plan,
        name: &request.name,
        formats: &request.options.formats,
        signed: request.options.signing.is_some(),
        lists_others: !prepared.in_base.is_empty(),
    })?;
    Ok(!prepared.against.iter().any(TargetFinding::is_refusal))
}

/// Fails if systemd-sysupdate would take an image in the output directory for one of another extension.
fn check_update_directory(
    request: &PackRequest,
    prepared: &Prepared,
    workplace: &Workplace,
) -> Result<()> {
    let names = prepared.naming.files(&request.options.formats);
    let mut own = UpdateSource {
        name: request.name.to_string(),
        images: names.iter().map(|names| names.file.clone()).collect(),
        pattern: None,
    };
    if let (Some(_), Some(first)) = (&request.options.sysupdate, names.first()) {
        own.pattern = Some(sysupdate::pattern(&prepared.naming, &first.file)?);
    }
    own.check_apart(&UpdateSource::read_all(&workplace.place(""))?)
}

/// Writes the prepared and mangled content into `workplace`.
fn write(
    request: &PackRequest,
    mut prepared: Prepared,
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<Packed> {
    check_update_directory(request, &prepared, workplace)?;
    stripped::strip(request, &mut prepared, workplace, reporter)?;
    if request.options.reports {
        digest::hash_contents_for_reports(&mut prepared.plan)?;
    } else {
        digest::hash_contents(&mut prepared.plan)?;
    }
    let names = prepared.naming.files(&request.options.formats);
    let input = ImageInput {
        tree: &prepared.plan,
        architecture: prepared.naming.architecture,
        signing: request.options.signing.as_ref(),
    };
    for (format, names) in request.options.formats.iter().zip(&names) {
        reporter.step(&format!("writing {} ({format})", names.file));
        write_image(input, *format, workplace, &names.file, reporter)
            .with_context(|| format!("{} was not written", names.file))?;
    }
    let mut images = Vec::new();
    for (format, names) in request.options.formats.iter().zip(&names) {
        images.push(PackedImage::of(*format, names, workplace, &prepared.plan)?);
    }
    let debug = stripped::write(request, &mut prepared, workplace, reporter)?;
    let reports =
        artifacts::write(request, &mut prepared, &images, &debug.images, workplace, reporter)?;
    // All files are complete, so they can be published. The images come last: where one is, all
    // that describes it is there too.
    for report in &reports {
        workplace.publish(report, |_| false)?;
    }
    publish(workplace, &debug.names, &debug.name)?;
    publish(workplace, &names, &request.name)?;
    let reports = reports.iter().map(|report| workplace.place(report)).collect();
    Ok(Packed {
        reports,
        name: prepared.naming.name,
        version: prepared.naming.version,
        architecture: prepared.naming.architecture,
        eprefix: request.root.eprefix().to_string(),
        epoch: prepared.plan.epoch,
        images,
        debug_images: debug.images,
        stripped: prepared.stripped,
        contents: prepared.plan.count_totals(),
        privileged: listing::list_privileged(&prepared.plan),
        left_out: prepared.left_out,
        in_base: prepared.in_base,
        warnings: prepared.warnings,
        against: prepared.against,
    })
}
