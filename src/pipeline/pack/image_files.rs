//! Writes an image into the workplace, and moves finished images to their places.

use std::path::Path;

use anyhow::Result;
use indicatif::HumanBytes;

use crate::base::names::PrefixName;
use crate::base::output;
use crate::base::output::Reporter;
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::ImageInput;
use crate::imagefmt::workplace::Workplace;
use crate::imagefmt::writer;
use crate::sysext::name::FileNames;
use crate::sysext::release;

/// Moves the images of the extension `extension` to their places, with their links.
pub(super) fn publish(
    workplace: &Workplace,
    names: &[FileNames],
    extension: &PrefixName,
) -> Result<()> {
    for names in names {
        workplace.publish(&names.file, |there| is_extension(there, extension))?;
        if let Some(link) = &names.link {
            workplace.publish_link(link, &names.file)?;
        }
    }
    Ok(())
}

/// Writes an image under the name `name` of the workplace, reads it back and compares.
pub(super) fn write_image(
    input: ImageInput<'_>,
    format: Format,
    workplace: &Workplace,
    name: &str,
    reporter: &Reporter,
) -> Result<()> {
    let total = input.tree.count_totals().bytes;
    let bar = reporter.spinner();
    let done = std::cell::Cell::new(0);
    let progress = |count: u64| {
        done.set(done.get() + count);
        output::show(&bar, &format!("{} of {}", HumanBytes(done.get()), HumanBytes(total)));
    };
    let result = writer::write(input, format, workplace, name, &progress).and_then(|()| {
        output::show(&bar, "reading it back");
        writer::verify(input.tree, format, workplace, name)
    });
    bar.finish_and_clear();
    result
}

/// Returns whether the directory at `path` has the extension-release file of the extension `name`.
fn is_extension(path: &Path, name: &PrefixName) -> bool {
    path.join(release::path(name)).is_file()
}
