//! Moves symbols from an extension into an extension of their own.

use anyhow::{Context, Result};

use crate::base::names::PrefixName;
use crate::base::output::Reporter;
use crate::fstree::digest;
use crate::fstree::entries::{Entry, FileTree};
use crate::imagefmt::image_format::ImageInput;
use crate::imagefmt::workplace::Workplace;
use crate::pipeline::pack::image_files::write_image;
use crate::pipeline::pack::packed::PackedImage;
use crate::pipeline::pack::prepare::Prepared;
use crate::pipeline::pack::request::PackRequest;
use crate::sysext::name::{FileNames, Naming};
use crate::sysext::release::{self, ExtensionRelease, ReleaseField};
use crate::sysext::strip;

/// Suffix of the name of an extension with symbols: no pattern for versions of NAME takes it.
const SUFFIX: &str = ".debug";

/// Directory in a workplace for stripped copies.
const STRIPPED: &str = ".stripped";

/// Strips the prepared content, if the request asks for it.
pub(super) fn strip(
    request: &PackRequest,
    prepared: &mut Prepared,
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<()> {
    let Some(stripping) = &request.options.strip else { return Ok(()) };
    let choice = strip::choose(&prepared.plan, &request.root, stripping)?;
    if !choice.files.is_empty() {
        reporter.step(&format!("stripping {} files", choice.files.len()));
    }
    let dir = workplace.path(STRIPPED);
    let outcome = strip::apply(&mut prepared.plan, choice, stripping, &dir)?;
    for warning in &outcome.warnings {
        reporter.warn(warning);
    }
    prepared.warnings.extend(outcome.warnings);
    prepared.stripped = outcome.stripped;
    prepared.debug.extend(outcome.debug);
    Ok(())
}

/// The extension with symbols.
pub(super) struct DebugExtension {
    /// Name of the extension.
    pub name: PrefixName,
    /// Names of its files.
    pub names: Vec<FileNames>,
    /// Images of the extension; empty if no symbols were separated.
    pub images: Vec<PackedImage>,
}

/// Writes the extension with symbols into `workplace` in every format.
pub(super) fn write(
    request: &PackRequest,
    prepared: &mut Prepared,
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<DebugExtension> {
    let name = format!("{}{SUFFIX}", request.name);
    let debug = std::mem::take(&mut prepared.debug);
    if debug.is_empty() {
        if request.options.strip.as_ref().is_some_and(|strip| strip.splitdebug) {
            let warning = format!("nothing has symbols: there is no {name}");
            reporter.warn(&warning);
            prepared.warnings.push(warning);
        }
        let name = request.name.clone();
        return Ok(DebugExtension { name, names: Vec::new(), images: Vec::new() });
    }
    let name: PrefixName = name.parse().context("could not name the extension with the symbols")?;
    let mut plan = FileTree::new(request.root.eprefix(), prepared.plan.epoch);
    for (path, entry) in debug {
        plan.add(path, entry)?;
    }
    let Naming { version, architecture, .. } = prepared.naming.clone();
    let fields =
        request.options.fields.iter().filter(|field| ReleaseField::is_for_matching(field)).cloned();
    let release = ExtensionRelease {
        name: name.clone(),
        version: version.clone(),
        architecture,
        fields: fields.collect(),
    };
    plan.add(release::path(&name), Entry::generated(release.render()?, plan.epoch))?;
    digest::hash_contents(&mut plan)?;
    let naming = Naming { name: name.clone(), version, architecture };
    let names = naming.files(&request.options.formats);
    let signing = request.options.signing.as_ref();
    let input = ImageInput { tree: &plan, architecture, signing };
    let mut images = Vec::new();
    for (format, names) in request.options.formats.iter().zip(&names) {
        reporter.step(&format!("writing {} ({format})", names.file));
        write_image(input, *format, workplace, &names.file, reporter)
            .with_context(|| format!("{} was not written", names.file))?;
        images.push(PackedImage::of(*format, names, workplace, &plan)?);
    }
    Ok(DebugExtension { name, names, images })
}
