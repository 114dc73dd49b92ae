//! Examination of the extensions of an OS image, as systemd attaches all of them together.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::base::output::Reporter;
use crate::imagefmt::inspect::ReadExtension;
use crate::os_image::{AttachedFile, OsRoot};
use crate::sysext::target::{StackedExtension, TargetCheck, TargetFinding, TargetRule};

/// Reads all of the extensions in `files`, and returns the findings about attaching them to `root`
/// together with those that it has. Warns of those that cannot be read.
pub(crate) fn examine_added(
    root: &OsRoot,
    files: &[PathBuf],
    waived: Vec<TargetRule>,
    reporter: &Reporter,
) -> Result<Vec<TargetFinding>> {
    let mut extensions = Vec::new();
    for file in files {
        let about = || {
            format!(
                "could not add {}: it is damaged, or has what no extension may have",
                file.escaped()
            )
        };
        extensions.push(stacked(ReadExtension::open(file).with_context(about)?, true));
    }
    let names: Vec<PrefixName> =
        extensions.iter().map(|extension| extension.name.clone()).collect();
    extensions.extend(read_present(root, &names, reporter)?.into_iter().map(|(_, other)| other));
    TargetCheck::open(root.path(), &[], waived)?.examine_stack(extensions)
}

/// Reads all of the extensions that `root` has, and returns the findings about attaching them.
pub(crate) fn examine_present(
    root: &OsRoot,
    waived: Vec<TargetRule>,
) -> Result<Vec<TargetFinding>> {
    let attached = root.list_attached()?;
    let extensions = attached.iter().map(|file| read_attached(file, true));
    let extensions = extensions.collect::<Result<Vec<_>>>()?;
    TargetCheck::open(root.path(), &[], waived)?.examine_stack(extensions)
}

/// Reads the extensions that `root` has, except those that are called as one of `replaced`. Warns of
/// those that cannot be read.
pub(super) fn read_present(
    root: &OsRoot,
    replaced: &[PrefixName],
    reporter: &Reporter,
) -> Result<Vec<(PathBuf, StackedExtension)>> {
    let mut present = Vec::new();
    let is_replaced = |file: &AttachedFile| replaced.iter().any(|name| name.as_str() == file.name);
    for file in root.list_attached()?.into_iter().filter(|file| !is_replaced(file)) {
        match read_attached(&file, false) {
            Ok(extension) => present.push((file.disk, extension)),
            Err(error) => reporter.warn(&format!("{error:#}")),
        }
    }
    Ok(present)
}

fn read_attached(file: &AttachedFile, is_examined: bool) -> Result<StackedExtension> {
    let about = || {
        format!(
            "the image has the extension {}, which keeps systemd from attaching any",
            file.name.escaped()
        )
    };
    let extension = ReadExtension::open(&file.disk).with_context(about)?;
    ensure!(
        extension.name.as_str() == file.name,
        "the image has the extension {} under the name {}, under which systemd does not attach it",
        extension.name,
        file.name.escaped()
    );
    Ok(stacked(extension, is_examined))
}

fn stacked(extension: ReadExtension, is_examined: bool) -> StackedExtension {
    let ReadExtension { name, tree, format, signed } = extension;
    StackedExtension { name, tree, format, signed, is_examined }
}
