//! Inspection of extensions that users supply: the name is in the extension, not in its file name.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::fstree::entries::FileTree;
use crate::imagefmt::registry;

/// Directory of extension-release files, and the start of their names.
const RELEASES: &str = "usr/lib/extension-release.d";
const RELEASE: &str = "extension-release.";

/// Returns the name of the extension in the image or directory at `path`: the end of the name of
/// its only extension-release file. It becomes part of file names of an OS image, so that names
/// which `pack` could not give are refused.
pub(crate) fn name(path: &Path) -> Result<PrefixName> {
    let names =
        releases(path).with_context(|| format!("could not look into {}", path.escaped()))?;
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => bail!("{} is no extension: it has no {RELEASES}/{RELEASE}NAME", path.escaped()),
        _ => {
            let names: Vec<&str> = names.iter().map(PrefixName::as_str).collect();
            bail!("{} has several names: {}", path.escaped(), names.join(", "))
        }
    }
}

/// Reads the image or directory at `path`; extended attributes of images are left out.
pub(crate) fn read(path: &Path) -> Result<FileTree> {
    let mut found = FileTree::without_prefix()?;
    let format = registry::detect(path)?;
    format.read(path, &mut found)?;
    found.entries.remove(Path::new(""));
    if format.is_file() {
        found.entries.values_mut().for_each(|entry| entry.xattrs.clear());
    }
    Ok(found)
}

fn releases(path: &Path) -> Result<Vec<PrefixName>> {
    let paths = registry::detect(path)?.paths(path, Path::new(RELEASES))?;
    let names = paths.iter().filter_map(|path| {
        let name = path.strip_prefix(RELEASES).ok()?.to_str()?.strip_prefix(RELEASE)?;
        // An entry of a directory in this one is no file of a release.
        (!name.contains('/')).then_some(name)
    });
    names.map(|name| name.parse().context("its extension-release file has a bad name")).collect()
}
