//! Collection of the facts about a root, in a single walk.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rayon::prelude::*;

use crate::base::input::{self, DataExtents};
use crate::check::changes::{NewContent, NewEntry, TreeChanges};
use crate::check::contents::{self, StagingPaths};
use crate::check::facts::{Elsewhere, Fact, FactKind};
use crate::elf;
use crate::fstree::walk::{TreeWalk, WalkEntry};
use crate::fstree::xattr;
use crate::prefix::final_root::FinalRoot;
use crate::relocate::prefix_change::{OldPath, PrefixChange};

/// Gathers facts about every entry of the tree, as it will be after `changes`.
pub(super) fn collect_facts(root: &FinalRoot, changes: &TreeChanges) -> Result<Vec<Fact>> {
    let mut entries = Vec::new();
    for entry in TreeWalk::below(root.path()) {
        let entry = entry?;
        let path = entry.inside();
        if !changes.0.contains_key(&path) {
            entries.push((path, entry));
        }
    }
    let former = root.former_eprefix();
    let former = former.map(|former| PrefixChange::new(former, root.eprefix())).transpose()?;
    let there = entries.into_par_iter().map(|(path, entry)| collect_fact(root, path, &entry));
    let put = changes.0.par_iter().filter_map(|(path, put)| Some((path, put.as_ref()?)));
    let put = put.map(|(path, put)| collect_new_fact(root, path, put));
    let complete = |fact: Result<Fact>| {
        let mut fact = fact?;
        if let Some(former) = &former {
            fact.former = find_former(root, &fact, former)?;
        }
        Ok(fact)
    };
    there.chain(put).map(complete).collect()
}

/// Directories below EPREFIX with the state of Portage, which is not shipped. What it has to know of
/// a relocated package is changed as that is merged.
const STATE: &[&str] =
    &["var/cache/edb", "var/db/pkg", "var/db/repos", "var/lib/portage", "var/log", "var/tmp"];

/// Finds a path of the prefix that the root was built for.
fn find_former(root: &FinalRoot, fact: &Fact, former: &PrefixChange) -> Result<Option<OldPath>> {
    let below = fact.path.strip_prefix(root.eprefix().as_path());
    if below.is_ok_and(|below| STATE.iter().any(|state| below.starts_with(state))) {
        return Ok(None);
    }
    let content = match (&fact.kind, &fact.elsewhere) {
        (FactKind::Link(target), _) => former.find(target.as_os_str().as_bytes()),
        (FactKind::Directory | FactKind::Special { .. }, _) => None,
        (_, Some(_)) => former.find(&fact.contents(root)?),
        (_, None) => find_in_file(&root.on_disk(&fact.path), former)?,
    };
    Ok(content.or_else(|| former.find_in_name(&fact.path)))
}

/// Finds it in the file at `disk`. Nothing is in its holes.
fn find_in_file(disk: &Path, former: &PrefixChange) -> Result<Option<OldPath>> {
    let file = input::open_walked(disk)?;
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(None);
    }
    if size > elf::LARGEST {
        return Ok(Some(OldPath::Unknown(elf::Error::TOO_LARGE.to_string())));
    }
    let bytes = elf::open(file.file())?;
    Ok(former.find_in(&bytes, DataExtents::new(file.file(), 0..bytes.len() as u64)))
}

fn collect_new_fact(root: &FinalRoot, path: &Path, put: &NewEntry) -> Result<Fact> {
    let mut fact = Fact::new(path.to_owned(), put.mode, put.owner);
    fact.attributes.clone_from(&put.attributes);
    match &put.content {
        NewContent::Directory => fact.kind = FactKind::Directory,
        NewContent::Link(target) => {
            fact.staging = contents::find_staging_path(target.as_os_str().as_bytes());
            fact.kind = FactKind::Link(target.clone());
        }
        NewContent::Disk(disk) => {
            let size = fs_err::metadata(disk)?.len();
            if size > 0 {
                contents::read_file(root, disk, size, &mut fact)?;
            }
            fact.elsewhere = Some(Elsewhere::Disk(disk.clone()));
        }
        NewContent::Bytes(bytes) => {
            contents::read_bytes(bytes, StagingPaths::Forbidden, &mut fact);
            fact.elsewhere = Some(Elsewhere::Bytes(bytes.clone()));
        }
    }
    Ok(fact)
}

fn collect_fact(root: &FinalRoot, path: PathBuf, entry: &WalkEntry) -> Result<Fact> {
    let disk = entry.disk();
    let meta = entry.metadata()?;
    let kind = entry.file_type();
    let mut fact = Fact::new(path, meta.mode(), (meta.uid(), meta.gid()));
    if kind.is_symlink() {
        let target = entry.link_target()?;
        fact.staging = contents::find_staging_path(target.as_os_str().as_bytes());
        fact.kind = FactKind::Link(target);
    } else if kind.is_dir() {
        fact.kind = FactKind::Directory;
        fact.attributes = xattr::list_names(entry.xattrs())?;
    } else if kind.is_file() {
        fact.attributes = xattr::list_names(entry.xattrs())?;
        if meta.len() > 0 {
            contents::read_file(root, disk, meta.len(), &mut fact)?;
        }
    } else {
        fact.kind = FactKind::Special { whiteout: kind.is_char_device() && meta.rdev() == 0 };
    }
    Ok(fact)
}
