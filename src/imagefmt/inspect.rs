//! Inspection of extensions that users supply: the name is in the extension, not in its file name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::names::PrefixName;
use crate::fstree::entries::{FileTree, RELEASES};
use crate::imagefmt::format::Format;
use crate::imagefmt::registry;

/// Start of the names of extension-release files.
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

/// Extension that a user supplies, after all of it was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadExtension {
    /// Name under which it is attached.
    pub name: PrefixName,
    /// Content. Of the bytes of files, those of the extension-release file are kept.
    pub tree: FileTree,
    /// Format of the image, without its compression.
    pub format: Format,
    /// True if it has a signature.
    pub signed: bool,
}

impl ReadExtension {
    /// Reads all of the image or directory at `path`, so that damaged data are found.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = name(path)?;
        let act = || format!("could not read all of {}", path.escaped());
        let kind = registry::detect(path).with_context(act)?;
        let tree = read(path).with_context(act)?;
        if let Some(mark) = kind.overlay_mark(path).with_context(act)? {
            bail!("it carries {mark}: attached, it would hide what the target has there");
        }
        Ok(Self {
            name,
            tree,
            format: Format::of_image(kind),
            signed: kind.facts(path).with_context(act)?.signed,
        })
    }
}

/// Returns the name of the extension that `tree` holds; `None` if it has no name, or several.
pub(crate) fn name_of(tree: &FileTree) -> Option<PrefixName> {
    let names = names(tree.entries.keys()).ok()?;
    <[PrefixName; 1]>::try_from(names).ok().map(|[name]| name)
}

fn releases(path: &Path) -> Result<Vec<PrefixName>> {
    names(&registry::detect(path)?.paths(path, Path::new(RELEASES))?)
}

fn names<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Vec<PrefixName>> {
    let names = paths.into_iter().filter_map(|path| {
        let name = path.strip_prefix(RELEASES).ok()?.to_str()?.strip_prefix(RELEASE)?;
        // An entry of a directory in this one is no file of a release.
        (!name.contains('/')).then_some(name)
    });
    names.map(|name| name.parse().context("its extension-release file has a bad name")).collect()
}
