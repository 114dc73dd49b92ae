//! What is written beside images.

use anyhow::{Context, Result};

use crate::base::output::Reporter;
use crate::fstree::digest;
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::writer::ImageInput;
use crate::pipeline::pack::{Image, PackRequest, Prepared, write_image};
use crate::report::{self, ImageFile, Repositories, Subject, sysupdate};
use crate::sysext::base;

/// Writes it into `workplace`; returns the names.
pub(super) fn write(
    request: &PackRequest,
    prepared: &mut Prepared,
    images: &[Image],
    debug: &[Image],
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<Vec<String>> {
    let mut written = Vec::new();
    let images: Vec<ImageFile> = images.iter().map(Image::file).collect();
    let debug: Vec<ImageFile> = debug.iter().map(Image::file).collect();
    if let Some(repositories) = &request.reports {
        reporter.step("writing the reports");
        let images = [&images[..], &debug];
        written = reports(request, prepared, repositories, images, workplace, reporter)?;
    }
    if let (Some(url), Some(first)) = (&request.sysupdate, images.first()) {
        let text = sysupdate::render(&prepared.naming, &first.name, url)?;
        for suffix in sysupdate::SUFFIXES {
            let name = format!("{}{suffix}", request.name);
            fs_err::write(workplace.path(&name), &text)?;
            written.push(name);
        }
    }
    if let Some(mut information) = prepared.package_information.take() {
        digest::fill(&mut information)?;
        let name = format!("{}{}", prepared.naming.stem(), base::SUFFIX);
        let input = ImageInput { tree: &information, architecture: None, signing: None };
        write_image(input, "squashfs".parse()?, workplace, &name, reporter)?;
        written.push(name);
    }
    Ok(written)
}

fn reports(
    request: &PackRequest,
    prepared: &mut Prepared,
    repositories: &Repositories,
    [images, debug]: [&[ImageFile]; 2],
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<Vec<String>> {
    let mut packages = report::installed(&request.root.vdb())?;
    packages.retain(|package| !prepared.in_base.contains(&package.cpv()));
    let subject = Subject {
        naming: &prepared.naming,
        plan: &prepared.plan,
        packages: &packages,
        repositories,
        left_out: &prepared.left_out,
        stripped: &prepared.stripped,
        images,
        debug,
    };
    let mut written =
        report::write(&subject, &workplace.path("")).context("could not make the reports")?;
    let sums: Vec<(String, String)> = images
        .iter()
        .chain(debug)
        .filter_map(|image| Some((image.name.clone(), image.sha256.clone()?)))
        .collect();
    let old = workplace.published(report::SUMS)?;
    let text = report::merge_sums(&old, &sums, |name| workplace.has_published(name));
    let list = workplace.path(report::SUMS);
    fs_err::write(&list, &text)?;
    written.push(report::SUMS.to_owned());
    if let Some(key) = &request.sign_sums {
        key.sign(&list, &workplace.path(report::SUMS_SIGNATURE))?;
        written.push(report::SUMS_SIGNATURE.to_owned());
    } else if text != old && workplace.has_published(report::SUMS_SIGNATURE) {
        let warning = format!(
            "{} is the signature of an older list, and targets will not accept it: sign the new \
             one with --sign-sums",
            workplace.place(report::SUMS_SIGNATURE).display()
        );
        reporter.warn(&warning);
        prepared.warnings.push(warning);
    }
    Ok(written)
}
