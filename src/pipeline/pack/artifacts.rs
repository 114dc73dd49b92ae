//! Files that are written beside images.

use anyhow::{Context, Result};

use crate::base::escape::Escape;
use crate::base::output::Reporter;
use crate::fstree::digest;
use crate::imagefmt::image_format::ImageInput;
use crate::imagefmt::workplace::Workplace;
use crate::pipeline::pack::image_files::write_image;
use crate::pipeline::pack::packed::PackedImage;
use crate::pipeline::pack::prepare::Prepared;
use crate::pipeline::pack::request::PackRequest;
use crate::report::{self, ImageFile, ReportSubject};
use crate::sysext::{base, sums, sysupdate};

/// Writes these files into `workplace` and returns their names.
pub(super) fn write(
    request: &PackRequest,
    prepared: &mut Prepared,
    images: &[PackedImage],
    debug: &[PackedImage],
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<Vec<String>> {
    let mut written = Vec::new();
    let images: Vec<ImageFile> = images.iter().map(PackedImage::file).collect();
    let debug: Vec<ImageFile> = debug.iter().map(PackedImage::file).collect();
    if request.options.reports {
        reporter.step("writing the reports");
        let images = [&images[..], &debug];
        written = reports(request, prepared, images, workplace, reporter)?;
    }
    if let (Some(url), Some(first)) = (&request.options.sysupdate, images.first()) {
        let text = sysupdate::render(&prepared.naming, &first.name, url)?;
        for suffix in sysupdate::SUFFIXES {
            let name = format!("{}{suffix}", request.name);
            fs_err::write(workplace.path(&name), &text)?;
            written.push(name);
        }
        if let Some(obstacle) = fetch_obstacle(request, &first.name, workplace) {
            reporter.warn(&obstacle);
            prepared.warnings.push(obstacle);
        }
    }
    if let Some(mut information) = prepared.package_information.take() {
        digest::hash_contents(&mut information)?;
        let name = format!("{}{}", prepared.naming.stem(), base::SUFFIX);
        let input = ImageInput { tree: &information, architecture: None, signing: None };
        write_image(input, "squashfs".parse()?, workplace, &name, reporter)?;
        written.push(name);
    }
    Ok(written)
}

/// Returns the reason for which systemd-sysupdate would not fetch the image `file`, with its remedy: it
/// fetches what SHA256SUMS lists, if that list is signed (sysupdate.d(5), "url-file" and "Verify=").
fn fetch_obstacle(request: &PackRequest, file: &str, workplace: &Workplace) -> Option<String> {
    let list = workplace.place(sums::FILE_NAME);
    let suffix = sysupdate::SUFFIXES.first().copied().unwrap_or_default();
    if !request.options.reports {
        return Some(format!(
            "{} does not list {file}, and systemd-sysupdate fetches only what is listed there: pack \
             without --no-reports (in fprefix.toml: reports = true), or add the line of `sha256sum \
             {file}`",
            list.escaped()
        ));
    }
    let is_signed =
        request.options.sign_sums.is_some() || workplace.has_published(sums::SIGNATURE_NAME);
    (!is_signed).then(|| {
        format!(
            "{0}{suffix} says Verify=yes, and {1} has no signature {2}, without which \
             systemd-sysupdate fetches nothing: sign it with --sign-sums KEY, or with `gpg \
             --detach-sign --output {2} {3}`",
            request.name,
            list.escaped(),
            sums::SIGNATURE_NAME,
            sums::FILE_NAME
        )
    })
}

fn reports(
    request: &PackRequest,
    prepared: &mut Prepared,
    [images, debug]: [&[ImageFile]; 2],
    workplace: &Workplace,
    reporter: &Reporter,
) -> Result<Vec<String>> {
    let mut packages = report::installed(&request.root.vdb())?;
    packages.retain(|package| !prepared.in_base.contains(&package.cpv));
    let subject = ReportSubject {
        naming: &prepared.naming,
        plan: &prepared.plan,
        packages: &packages,
        repositories: &request.repositories,
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
    let old = workplace.published(sums::FILE_NAME)?;
    let text = sums::merge_lines(&old, &sums, |name| workplace.has_published(name));
    let list = workplace.path(sums::FILE_NAME);
    fs_err::write(&list, &text)?;
    written.push(sums::FILE_NAME.to_owned());
    if let Some(key) = &request.options.sign_sums {
        key.sign(&list, &workplace.path(sums::SIGNATURE_NAME))?;
        written.push(sums::SIGNATURE_NAME.to_owned());
    } else if text != old && workplace.has_published(sums::SIGNATURE_NAME) {
        let warning = format!(
            "{} is the signature of an older list, and targets will not accept it: sign the new \
             one with --sign-sums",
            workplace.place(sums::SIGNATURE_NAME).escaped()
        );
        reporter.warn(&warning);
        prepared.warnings.push(warning);
    }
    Ok(written)
}
