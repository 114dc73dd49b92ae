//! Writes a file tree as an image, in each format, and reads it back.

use std::path::Path;

use anyhow::Result;

use crate::base::files;
use crate::fstree::compare;
use crate::fstree::entries::FileTree;
use crate::imagefmt::format::Format;
use crate::imagefmt::image_format::ImageInput;
use crate::imagefmt::workplace::Workplace;

/// Name of the directory in a workplace for what is not an image.
const SCRATCH: &str = ".scratch";

/// Fails if the machine cannot write `format`; the error is more useful before the work than after.
pub(crate) fn ready(format: Format) -> Result<()> {
    format.kind().tools().iter().try_for_each(|tool| tool.require().map(drop))
}

/// Writes `input` in `format` under the name `name` of the workplace.
pub(crate) fn write(
    input: ImageInput<'_>,
    format: Format,
    workplace: &Workplace,
    name: &str,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let (output, scratch) = (workplace.path(name), workplace.path(SCRATCH));
    let written = format.kind().write(input, format.compression(), &output, &scratch, progress);
    with_scratch_removed(&scratch, written)
}

/// Reads the written image and compares it with `tree`.
pub(crate) fn verify(
    tree: &FileTree,
    format: Format,
    workplace: &Workplace,
    name: &str,
) -> Result<()> {
    let (image, scratch) = (workplace.path(name), workplace.path(SCRATCH));
    let differences = format.kind().differences(tree, &image, &scratch);
    compare::require_equal(&with_scratch_removed(&scratch, differences)?)
}

/// Removes the tree at `scratch`. If the work failed, its error is more useful than one of the
/// removal.
fn with_scratch_removed<T>(scratch: &Path, done: Result<T>) -> Result<T> {
    let removed = files::remove(scratch);
    let done = done?;
    removed.map(|()| done)
}
