//! Builds extensions for an OS image from a prefix, one after the other.
//!
//! Nothing is mounted. The prefix's final environment and the image's root stay unchanged until the
//! end: packages are built in staging and installed into a second final environment, which starts
//! empty. Each extension is packed against the package information of the one before, as
//! `sysext_prod_builder` of flatcar/scripts does, so no package is in two extensions. The
//! extensions are published only when all are complete. The image's root is changed after that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};

use crate::base::escape::Escape;
use crate::base::hint;
use crate::base::names::{Environment, PrefixName};
use crate::base::output::Reporter;
use crate::check;
use crate::fstree::walk::copy_tree;
use crate::host::disk;
use crate::imagefmt::workplace::Workplace;
use crate::manifest::resolve_pack::ResolvedPack;
use crate::os_image::recipe::ExtensionRecipe;
use crate::os_image::{ImageChange, InstallMethod};
use crate::pipeline::image::cleanup::CleanupGuard;
use crate::pipeline::image::request::{ImageRequest, Part};
use crate::pipeline::image::{combined, plan_add, together};
use crate::pipeline::pack::{self, Packed};
use crate::prefix::definition::Prefix;
use crate::prefix::emerge::{self, CallerVariables, EmergeTarget};
use crate::prefix::final_root::FinalRoot;
use crate::prefix::setup;
use crate::report::{self, Repositories};
use crate::sysext::base::{self, Base};
use crate::sysext::mangle::Mangle;
use crate::sysext::order;
use crate::sysext::sums;
use crate::sysext::target::TargetFinding;

/// Start of the names of mangle scripts, before the name of the extension (flatcar/scripts,
/// `build_library/sysext_mangle_NAME`).
const MANGLE: &str = "sysext_mangle_";

/// Name of the second final environment in the workplace.
const SCRATCH: &str = ".final";

/// Outcome of an image build.
#[derive(Debug)]
pub(crate) enum ImageBuildOutcome {
    /// Everything was built.
    Built {
        /// The extensions.
        extensions: Vec<Packed>,
        /// Files about the image as a whole.
        reports: Vec<PathBuf>,
    },
    /// This extension is not self-contained. Nothing was changed.
    Found(PrefixName, check::CheckReport),
    /// The image would reject this extension, or the extension would break it. Nothing was changed.
    Refused(PrefixName, Vec<TargetFinding>),
}

/// Returns the scripts and directories that mangle the extension `name`; they are named after the
/// extension.
fn mangle(dirs: &[PathBuf], name: &PrefixName) -> Result<Vec<Mangle>> {
    let paths = dirs.iter().map(|dir| dir.join(format!("{MANGLE}{name}")));
    paths.filter(|path| path.exists()).map(|path| Mangle::open(&path)).collect()
}

impl ImageRequest {
    /// Returns a warning if an extension builds on one whose name comes later, and which is therefore
    /// attached over it.
    pub(crate) fn check_order(&self) -> Option<String> {
        let names: Vec<&str> = self.recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        let pair = names
            .windows(2)
            .find(|pair| matches!(pair, [one, next] if order::compare_names(one, next).is_gt()))?;
        let [below, above] = pair else { return None };
        Some(format!(
            "{above} builds on {below}, and systemd attaches {below} over it, since extensions lie over \
             each other in the order of their names: a cache of {above} would be hidden; let the \
             names come in the order of --sysexts, like 1-{below} and 2-{above}"
        ))
    }

    /// Lists the steps of the build, one per line.
    pub(crate) fn describe(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for recipe in &self.recipes {
            let packages: Vec<String> = recipe.packages.iter().map(ToString::to_string).collect();
            let mut line = format!("build {}.raw with {}", recipe.name, packages.join(" "));
            if !mangle(&self.mangle, &recipe.name)?.is_empty() {
                line += &format!(", mangled by {MANGLE}{}", recipe.name);
            }
            lines.push(line);
        }
        Ok(lines)
    }
}

/// Builds the extensions of `request` from `prefix`. The caller must hold the lock of the prefix.
pub(crate) fn build(
    request: &ImageRequest,
    prefix: &Prefix,
    reporter: &Reporter,
) -> Result<ImageBuildOutcome> {
    // Fails before anything is built if a script cannot be run.
    request.describe()?;
    let workplace = Workplace::open(&request.options.output)?;
    let made = workplace.path("");
    let _clean_up = CleanupGuard::of(made.parent().context("a workplace has no directory")?)?;
    // A full disk must be diagnosed before the work directory is removed.
    let places = [made.as_path(), request.root.path(), &prefix.definition.staging];
    all(request, prefix, &workplace, reporter).map_err(|error| {
        let error = disk::explain(error, &places);
        keep_logs(prefix, &workplace, error)
    })
}

/// Copies the logs of the environment that will be removed to the logs of the prefix, and adds
/// their new place to the error.
fn keep_logs(prefix: &Prefix, workplace: &Workplace, error: Error) -> Error {
    let (from, to) = (workplace.path(SCRATCH).join("logs"), prefix.layout.logs(Environment::Final));
    if !from.is_dir() || copy_tree(&from, &to).is_err() {
        return error;
    }
    Error::msg(format!(
        "{}\n  logs that are named above were moved to {}",
        hint::join_causes(&error),
        to.escaped()
    ))
}

/// Runs the steps of a build in `workplace`.
fn all(
    request: &ImageRequest,
    prefix: &Prefix,
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<ImageBuildOutcome> {
    let (made, scratch) = (workplace.path(""), workplace.path(SCRATCH));
    reporter.step("installing the runtime into an environment of its own");
    let fresh = setup::another_final(prefix, &scratch, reporter)?;
    let names: Vec<PrefixName> = request.recipes.iter().map(|recipe| recipe.name.clone()).collect();
    let present = together::read_present(&request.root, &names, reporter)?;
    let present: Vec<PathBuf> = present.into_iter().map(|(disk, _)| disk).collect();
    let mut parts: Vec<Part> = Vec::new();
    for recipe in &request.recipes {
        match extension(request, recipe, (&present, &parts), &fresh, &made, reporter)? {
            Ok(part) => parts.push(part),
            Err(outcome) => return Ok(outcome),
        }
    }
    reporter.step("writing the reports of the whole image");
    let reports = combined::write(request, &parts, &repositories(prefix), &made)?;
    let changes = publish(request, workplace, &parts)?;
    crate::pipeline::image::apply(&request.root, &changes)?;
    for change in &changes {
        reporter.detail(&change.to_string());
    }
    let reports = reports.iter().map(|name| workplace.place(name)).collect();
    let mut extensions: Vec<Packed> = parts.into_iter().map(|part| part.packed).collect();
    let images = extensions.iter_mut().flat_map(|packed| {
        let Packed { images, debug_images, .. } = packed;
        images.iter_mut().chain(debug_images.iter_mut())
    });
    for image in images {
        image.path = workplace.place(&image.file().name);
    }
    Ok(ImageBuildOutcome::Built { extensions, reports })
}

fn repositories(prefix: &Prefix) -> Repositories {
    let paths = prefix.definition.repos.iter().filter_map(|repo| repo.path.clone());
    Repositories::new(paths)
}

/// Moves all files that were made to their places and plans the changes to the image's root.
fn publish(
    request: &ImageRequest,
    workplace: &Workplace,
    parts: &[Part],
) -> Result<Vec<ImageChange>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(workplace.path(""))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    // Images come last: where one is, all that describes it is there too.
    names.sort_by_key(|name| (name.ends_with(".raw"), name.clone()));
    let sums: Vec<(String, String)> = parts
        .iter()
        .flat_map(|part| part.packed.images.iter().chain(&part.packed.debug_images))
        .filter_map(|image| Some((image.file().name, image.sha256.clone()?)))
        .collect();
    let old = workplace.published(sums::FILE_NAME)?;
    let text = sums::merge_lines(&old, &sums, |name| workplace.has_published(name));
    fs_err::write(workplace.path(sums::FILE_NAME), text)?;
    for name in &names {
        workplace.publish(name, |_| false)?;
    }
    let images: Vec<PathBuf> =
        parts.iter().map(|part| workplace.place(&format!("{}.raw", part.packed.name))).collect();
    let certificate = request.options.signing.as_ref().map(|signing| signing.certificate.as_path());
    plan_add(&request.root, &images, InstallMethod::BuiltIn, certificate)
}

/// Builds and packs one extension into `made`, on top of the `earlier` ones, and beside those that are
/// `present` in the image. Returns an outcome as the error if the extension must not be shipped.
fn extension(
    request: &ImageRequest,
    recipe: &ExtensionRecipe,
    (present, earlier): (&[PathBuf], &[Part]),
    fresh: &Prefix,
    made: &Path,
    reporter: &Reporter,
) -> Result<std::result::Result<Part, ImageBuildOutcome>> {
    let name = &recipe.name;
    let mut words: Vec<String> =
        ["--oneshot", "--update", "--changed-use"].map(String::from).to_vec();
    words.extend(recipe.packages.iter().map(ToString::to_string));
    let code = emerge::run(fresh, EmergeTarget::Both, CallerVariables::All, &words, reporter)?;
    if code != 0 {
        bail!("{name} was not built: emerge ended with status {code}; nothing was changed");
    }
    let mut bases = request.options.bases.clone();
    if let Some(last) = earlier.last() {
        bases.push(Base::open(&made.join(format!("{}{}", last.packed.name, base::SUFFIX)))?);
    }
    let images = earlier.iter().flat_map(|part| &part.packed.images);
    let images = images.map(|image| made.join(image.file().name));
    let beside: Vec<PathBuf> = present.iter().cloned().chain(images).collect();
    let target = request.options.target.as_ref().map(|target| target.with_extensions(&beside));
    let packing = pack::PackRequest {
        root: FinalRoot::of_prefix(fresh)?,
        name: name.clone(),
        options: ResolvedPack {
            bases,
            target,
            mangle: mangle(&request.mangle, name)?,
            package_information: true,
            output: made.to_owned(),
            ..request.options.clone()
        },
        repositories: repositories(fresh),
        epoch: None,
    };
    let act = || format!("{name} was not packed");
    let prepared = pack::prepare(&packing, reporter).with_context(act)?;
    for warning in &prepared.warnings {
        reporter.warn(&format!("{name}: {warning}"));
    }
    let mut packages = report::installed(&packing.root.vdb())?;
    packages.retain(|package| !prepared.in_base.contains(&package.cpv));
    if packages.is_empty() {
        bail!("{name} would be empty: what is before it has all of its packages");
    }
    let packed = pack::carry_out(&packing, prepared, reporter);
    Ok(match packed.with_context(act)? {
        pack::PackOutcome::Packed(packed) => Ok(Part { packed: *packed, packages }),
        pack::PackOutcome::Found(report) => Err(ImageBuildOutcome::Found(name.clone(), report)),
        pack::PackOutcome::Refused(findings) => {
            Err(ImageBuildOutcome::Refused(name.clone(), findings))
        }
    })
}
