//! Packs a final root into images: plan, write, compare, publish.

mod artifacts;
pub(crate) mod fingerprint;
mod mangled;
mod package_metadata;
mod packed;
mod request;
mod stripped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::HumanBytes;

use crate::base::names::PrefixName;
use crate::base::output::Reporter;
use crate::check;
use crate::fstree::entries::{Entry, FileTree};
use crate::fstree::root_dir::RootDir;
use crate::fstree::{digest, listing, scan};
use crate::imagefmt::architecture::Architecture;
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::ImageInput;
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::writer;
use crate::portage::cpv::Cpv;
use crate::prefix::final_root::FinalRoot;
use crate::sysext::name::{FileNames, Naming};
use crate::sysext::prune::{PruneRules, Pruned};
use crate::sysext::release::{self, ExtensionRelease, ReleaseField};
use crate::sysext::strip::{self, Stripped};
use crate::sysext::target::{AttachSubject, TargetFinding};
use crate::sysext::{base, epoch, expose, services};

pub(crate) use crate::pipeline::pack::packed::{Packed, PackedImage};
pub(crate) use crate::pipeline::pack::request::PackRequest;

/// An extension that is ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Content of the extension.
    pub plan: FileTree,
    /// Names of the extension.
    pub naming: Naming,
    /// Entries that were pruned.
    pub left_out: Vec<Pruned>,
    /// Packages that are left out because a base contains them.
    pub in_base: Vec<Cpv>,
    /// Package database, if the request asks for it.
    pub package_information: Option<FileTree>,
    /// Symbols that are already in separate files, by path in the extension with symbols.
    pub debug: BTreeMap<PathBuf, Entry>,
    /// Files that were stripped; empty before that step.
    pub stripped: Stripped,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// Effects of attaching the extension to the target.
    pub against: Vec<TargetFinding>,
}

/// Plans the extension that `request` asks for. Writes nothing.
pub(crate) fn prepare(request: &PackRequest, reporter: &Reporter) -> Result<Prepared> {
    if let Some(obstacle) = request.root.eprefix().sysext_obstacle() {
        bail!("{obstacle}");
    }
    request.options.formats.iter().try_for_each(|format| writer::ready(*format))?;
    reporter.step(&format!("planning {} from {}", request.name, request.root.path().display()));
    let rules = PruneRules::load(&request.options.keep, &request.options.locales)?;
    let epoch = match request.epoch {
        Some(epoch) => epoch,
        None => epoch::of(&request.root)?,
    };
    let mut plan = FileTree::new(request.root.eprefix(), epoch);
    scan::scan_prefix(&request.root.eroot(), request.root.path(), &mut plan)?;
    let mut warnings = left_outside(&request.root)?;
    let package_information = if request.options.package_information {
        Some(base::package_information(&plan)?)
    } else {
        None
    };
    let in_base = base::leave_out(&mut plan, &request.root, &request.options.bases)?;
    let splitdebug = request.options.strip.as_ref().is_some_and(|strip| strip.splitdebug);
    let debug = if splitdebug { strip::of_prefix(&plan) } else { BTreeMap::new() };
    let left_out = rules.apply(&mut plan)?;
    warnings.extend(expose(request, &mut plan)?);
    let has_units = services(request, &mut plan, &mut warnings)?;
    let architecture = match request.options.architecture {
        Some(architecture) => Some(architecture),
        None => Architecture::of(&plan)?,
    };
    let mut fields = request.options.fields.clone();
    for field in package_metadata::fields(request)? {
        if !fields.iter().any(|given| given.is_about(&field)) {
            fields.push(field);
        }
    }
    if has_units && !fields.iter().any(ReleaseField::is_reload) {
        fields.push(ReleaseField::reload());
    }
    let release = ExtensionRelease {
        name: request.name.clone(),
        version: request.options.version.clone(),
        architecture,
        fields,
    };
    plan.add(release::path(&request.name), Entry::generated(release.render()?, plan.epoch))?;
    let naming = Naming {
        name: request.name.clone(),
        version: request.options.version.clone(),
        architecture,
    };
    let mut taken = BTreeMap::new();
    for (format, names) in
        request.options.formats.iter().zip(naming.files(&request.options.formats))
    {
        if let Some(other) = taken.insert(names.file.clone(), format) {
            bail!("{other} and {format} would both be {}: pack one at a time", names.file);
        }
    }
    Ok(Prepared {
        plan,
        naming,
        left_out,
        in_base,
        package_information,
        debug,
        stripped: Stripped::default(),
        warnings,
        against: Vec::new(),
    })
}

fn expose(request: &PackRequest, plan: &mut FileTree) -> Result<Vec<String>> {
    if request.options.expose.is_empty() {
        return Ok(Vec::new());
    }
    let roots: Vec<RootDir> = request.options.bases.iter().map(|base| base.root.clone()).collect();
    let taken = expose::apply(plan, &request.options.expose, &roots)?;
    let mut warnings = Vec::new();
    if roots.is_empty() {
        warnings.push(
            "nothing says which programs the target has, and a link in /usr/bin hides one of the \
             same name; name a root directory like the target's with --base"
                .to_owned(),
        );
    }
    if !taken.is_empty() {
        warnings.push(format!("not exposed, since the target has them: {}", taken.join(", ")));
    }
    Ok(warnings)
}

/// Adds the files for systemd. Returns whether there are units.
fn services(
    request: &PackRequest,
    plan: &mut FileTree,
    warnings: &mut Vec<String>,
) -> Result<bool> {
    let roots: Vec<RootDir> = request.options.bases.iter().map(|base| base.root.clone()).collect();
    let placed = services::place(plan, &roots)?;
    if !placed.taken.is_empty() {
        warnings.push(format!("left to the target, which has them: {}", placed.taken.join(", ")));
    }
    services::start(plan, &request.name, &request.options.start)?;
    services::keep_state(plan, &request.name, &request.options.state)?;
    Ok(placed.has_units)
}

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
    let changes = mangled::mangle(request, &mut prepared, &workplace, reporter)?;
    let report = gate(request, &prepared, &changes)?;
    if !report.passes() {
        return Ok(PackOutcome::Found(report));
    }
    if !try_out(request, &mut prepared, reporter)? {
        return Ok(PackOutcome::Refused(prepared.against));
    }
    let packed = write(request, prepared, &workplace, reporter)?;
    Ok(PackOutcome::Packed(Box::new(packed)))
}

/// Runs the checks of [`carry_out`] on the content as it is before mangling. Returns whether they
/// pass.
pub(crate) fn look(
    request: &PackRequest,
    prepared: &mut Prepared,
    reporter: &Reporter,
) -> Result<bool> {
    let report = gate(request, prepared, &check::TreeChanges::default())?;
    Ok(try_out(request, prepared, reporter)? && report.passes())
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
fn gate(
    request: &PackRequest,
    prepared: &Prepared,
    changes: &check::TreeChanges,
) -> Result<check::CheckReport> {
    let waive = request.options.waived_checks.iter().map(ToString::to_string).collect();
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
fn try_out(request: &PackRequest, prepared: &mut Prepared, reporter: &Reporter) -> Result<bool> {
    let Some(against) = &request.options.target else { return Ok(true) };
    reporter.step("trying out the attach");
    prepared.against = against.simulate(AttachSubject {
        plan: &prepared.plan,
        name: &request.name,
        formats: &request.options.formats,
        signed: request.options.signing.is_some(),
    })?;
    Ok(!prepared.against.iter().any(TargetFinding::refuses))
}

/// Writes the prepared and mangled content into `workplace`.
fn write(
    request: &PackRequest,
    mut prepared: Prepared,
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<Packed> {
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
    // All files are complete, so they can be published.
    publish(workplace, &names, &request.name)?;
    publish(workplace, &debug.names, &debug.name)?;
    for report in &reports {
        workplace.publish(report, |_| false)?;
    }
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
        contents: prepared.plan.totals(),
        privileged: listing::list_privileged(&prepared.plan),
        left_out: prepared.left_out,
        in_base: prepared.in_base,
        warnings: prepared.warnings,
        against: prepared.against,
    })
}

/// Moves the images of the extension `extension` to their places, with their links.
fn publish(workplace: &Workplace, names: &[FileNames], extension: &PrefixName) -> Result<()> {
    for names in names {
        workplace.publish(&names.file, |there| is_extension(there, extension))?;
        if let Some(link) = &names.link {
            workplace.publish_link(link, &names.file)?;
        }
    }
    Ok(())
}

fn write_image(
    input: ImageInput<'_>,
    format: Format,
    workplace: &Workplace,
    name: &str,
    reporter: &Reporter,
) -> Result<()> {
    let total = input.tree.totals().bytes;
    let bar = reporter.spinner();
    let done = std::cell::Cell::new(0);
    let progress = |count: u64| {
        done.set(done.get() + count);
        bar.set_message(format!("{} of {}", HumanBytes(done.get()), HumanBytes(total)));
    };
    let result = writer::write(input, format, workplace, name, &progress).and_then(|()| {
        bar.set_message("reading it back");
        writer::verify(input.tree, format, workplace, name)
    });
    bar.finish_and_clear();
    result
}

/// Returns whether the directory at `path` has the extension-release file of the extension `name`.
fn is_extension(path: &Path, name: &PrefixName) -> bool {
    path.join(release::path(name)).is_file()
}

fn left_outside(root: &FinalRoot) -> Result<Vec<String>> {
    let outside = scan::list_outside(&root.eroot(), root.path())?;
    let Some(first) = outside.first() else { return Ok(Vec::new()) };
    Ok(vec![format!(
        "{} entries of the root are not in the prefix and will not be in the extension, /{} first",
        outside.len(),
        first.display()
    )])
}
