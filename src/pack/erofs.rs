//! erofs images, by mkfs.erofs of erofs-utils 1.5 and newer.

use std::path::Path;

use anyhow::Result;

use super::digest;
use super::erofs_inodes::{self, Inode};
use super::format::{Compressor, Format, FormatKind};
use super::plan::{Kind, Plan};
use super::{as_root, tree};

/// Writes `plan` as the erofs image `output`; `dir` is a place for a tree, since mkfs.erofs takes
/// streams only since 1.7.
pub fn write(
    plan: &Plan,
    format: Format,
    output: &Path,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    tree::write(plan, dir, progress)?;
    let written = as_root::command("write the erofs image", "mkfs.erofs", "erofs-utils")?
        .args(compression(format))
        // The variable gives the image its time and keeps those of files; -T gives all files
        // its own time, whatever --preserve-mtime says.
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
        // overlayfs tells its layers apart by UUID, so none that all images share.
        .args(["-U", &digest::uuid(plan)])
        .arg("--quiet")
        .arg(output)
        .arg(dir)
        .run_quiet();
    crate::tree::remove(dir)?;
    written
}

fn compression(format: Format) -> Vec<String> {
    let mut options = match format.compressor() {
        Compressor::None => Vec::new(),
        compressor => {
            let level = format.level().map_or(String::new(), |level| format!(",{level}"));
            vec![format!("-z{compressor}{level}")]
        }
    };
    if format.kind() == FormatKind::ErofsTight {
        // Larger clusters, and the ends of files beside their inodes or together: Linux 6.1.
        options.extend(["-C65536", "-Eztailpacking,fragments"].map(String::from));
    }
    options
}

/// Unpacks `image` into the directory `dir`. fsck.erofs keeps neither setuid nor attributes nor
/// hard links; [`inodes`] looks at those.
pub fn unpack(image: &Path, dir: &Path) -> Result<()> {
    as_root::command("read the erofs image back", "fsck.erofs", "erofs-utils")?
        .arg(format!("--extract={}", dir.display()))
        .args(["--preserve-owner", "--preserve-perms"])
        .arg(image)
        .run_quiet()
}

/// How the inodes of `image` differ from `plan`.
pub fn inodes(plan: &Plan, image: &Path) -> Result<Vec<String>> {
    let found = erofs_inodes::read(image)?;
    let other_names = plan.other_names();
    let mut differences = Vec::new();
    for (path, entry) in &plan.entries {
        let Some(inode) = found.get(path) else {
            differences.push(format!("/{} has no inode", path.display()));
            continue;
        };
        let first = match &entry.kind {
            Kind::HardLink(first) => first,
            _ => path,
        };
        let planned = Inode {
            number: found.get(first).map_or(0, |inode| inode.number),
            mode: entry.mode,
            names: match entry.kind {
                // A directory's names are the filesystem's.
                Kind::Directory => inode.names,
                _ => 1 + other_names.get(first.as_path()).copied().unwrap_or(0),
            },
            owner: (entry.uid, entry.gid),
            xattrs: !entry.xattrs.is_empty(),
        };
        if *inode != planned {
            differences.push(format!("/{} is {inode:?} and not {planned:?}", path.display()));
        }
    }
    Ok(differences)
}
