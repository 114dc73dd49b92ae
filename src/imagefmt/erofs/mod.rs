//! erofs images, written by mkfs.erofs of erofs-utils 1.5 and newer.

mod content;
mod inodes;
mod structures;
mod xattrs;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::base::escape::Escape;
use crate::fstree::budget::TreeBudget;
use crate::fstree::compare::{self, Keeps};
use crate::fstree::digest;
use crate::fstree::entries::{ContentSource, Entry, EntryKind, FileContent, FileTree, RELEASES};
use crate::fstree::image_path::NAME_MAX;
use crate::fstree::scan::{SPECIAL, WHITEOUT};
use crate::host::tools::{self, ExternalTool};
use crate::imagefmt::compression::{Compression, Compressor, Levels};
use crate::imagefmt::directory;
use crate::imagefmt::erofs::content::Contents;
use crate::imagefmt::erofs::inodes::{Image, Inode, Place};
use crate::imagefmt::image_format::{ImageFacts, ImageFormat, ImageInput, KernelNeed, Magic};
use crate::sandbox::fake_root;

/// erofs, in one of two forms.
pub(crate) struct Erofs {
    is_tight: bool,
}

/// The form that Linux 5.10 and newer can mount.
pub(crate) static FORMAT: Erofs = Erofs { is_tight: false };

/// The smallest form, which Linux 6.1 and newer can mount.
pub(crate) static TIGHT: Erofs = Erofs { is_tight: true };

/// Supported compressors. zstd needs Linux 6.10 and erofs-utils 1.8.
const COMPRESSORS: &[(Compressor, Levels)] = &[
    (Compressor::Lz4hc, Some(0..=12)),
    (Compressor::Lz4, None),
    (Compressor::Zstd, Some(0..=22)),
    (Compressor::None, None),
];

impl ImageFormat for Erofs {
    fn name(&self) -> &'static str {
        if self.is_tight { "erofs-tight" } else { "erofs" }
    }

    fn compressors(&self) -> &'static [(Compressor, Levels)] {
        // Without compression, the two forms are the same.
        if self.is_tight { &COMPRESSORS[..3] } else { COMPRESSORS }
    }

    fn tools(&self) -> &'static [ExternalTool] {
        &[tools::MKFS_EROFS]
    }

    fn kernel(&self, compressor: Compressor, _: bool) -> Option<KernelNeed> {
        let (version, reason) = match (compressor, self.is_tight) {
            // CONFIG_EROFS_FS_ZIP_ZSTD came with 6.10.
            (Compressor::Zstd, _) => ((6, 10), "erofs with zstd"),
            // Fragments and deduplication came with 6.1.
            (_, true) => ((6, 1), "erofs with fragments"),
            // erofs left staging with 5.4. The form that is written is tested with 5.10.
            (_, false) => ((5, 4), "erofs"),
        };
        Some(KernelNeed { version, reason })
    }

    fn magic(&self) -> Option<Magic> {
        (!self.is_tight).then_some(inodes::MAGIC)
    }

    fn write(
        &self,
        input: ImageInput<'_>,
        compression: Compression,
        output: &Path,
        scratch: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        write(input.tree, &self.options(compression), output, scratch, progress)
    }

    fn differences(&self, planned: &FileTree, image: &Path, scratch: &Path) -> Result<Vec<String>> {
        differences(planned, image, scratch)
    }

    fn read(&self, image: &Path, found: &mut FileTree) -> Result<()> {
        let map = crate::base::files::map(image)?;
        let budget = TreeBudget::of_image(image)?;
        read_bytes(&map, budget, found).with_context(|| inodes::about(image))
    }

    fn overlay_mark(&self, image: &Path) -> Result<Option<String>> {
        let map = crate::base::files::map(image)?;
        xattrs::find_overlay_mark(&map).with_context(|| inodes::about(image))
    }

    fn paths(&self, image: &Path, below: &Path) -> Result<Vec<PathBuf>> {
        let map = crate::base::files::map(image)?;
        let tree = Image::open(&map).and_then(|image| image.tree());
        let paths = tree.with_context(|| inodes::about(image))?.into_keys();
        Ok(paths.filter(|path| path.starts_with(below)).collect())
    }

    fn facts(&self, image: &Path) -> Result<ImageFacts> {
        let map = crate::base::files::map(image)?;
        let opened = Image::open(&map).with_context(|| inodes::about(image))?;
        Ok(ImageFacts { compressed: opened.is_compressed, signed: false })
    }

    fn repack_obstacle(&self) -> Option<&'static str> {
        Some("pack it with --format erofs:none")
    }
}

impl Erofs {
    /// Returns the options of mkfs.erofs for the form and its compression.
    fn options(&self, compression: Compression) -> Vec<String> {
        let mut options = match compression.compressor {
            Compressor::None => Vec::new(),
            compressor => {
                let level = compression.level.map_or(String::new(), |level| format!(",{level}"));
                vec![format!("-z{compressor}{level}")]
            }
        };
        if self.is_tight {
            // Larger clusters, and the ends of files beside their inodes or together, need Linux
            // 6.1.
            options.extend(["-C65536", "-Eztailpacking,fragments"].map(String::from));
        }
        options
    }
}

/// Writes `plan` as the erofs image `output`; `dir` is a path for a temporary tree, since
/// mkfs.erofs reads streams only since 1.7.
fn write(
    plan: &FileTree,
    options: &[String],
    output: &Path,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<()> {
    directory::write(plan, dir, progress)?;
    let written = fake_root::command("write the erofs image", tools::MKFS_EROFS)?
        .args(options)
        // The variable sets the time of the image and keeps those of files. -T sets its own time on
        // all files, even with --preserve-mtime.
        .env("SOURCE_DATE_EPOCH", plan.epoch.to_string())
        // overlayfs distinguishes its layers by UUID, so each image needs its own.
        .args(["-U", &digest::tree_uuid(plan)])
        .arg("--quiet")
        .arg(output)
        .arg(dir)
        .run_quiet();
    let is_longest = |path: &&PathBuf| path.file_name().is_some_and(|name| name.len() == NAME_MAX);
    match plan.entries.keys().find(is_longest) {
        Some(path) => written.with_context(|| {
            format!(
                "mkfs.erofs 1.5 has no room for a name of {NAME_MAX} bytes, like that of /{}: pack \
                 as squashfs or ext4 (--format)",
                path.escaped()
            )
        }),
        None => written,
    }
}

/// Returns the differences of `image` from `plan`; `dir` is a path to unpack it to if necessary.
fn differences(plan: &FileTree, image: &Path, dir: &Path) -> Result<Vec<String>> {
    let map = crate::base::files::map(image)?;
    let opened = Image::open(&map).with_context(|| inodes::about(image))?;
    let tree = opened.tree().with_context(|| inodes::about(image))?;
    let mut differences = inode_differences(plan, &tree);
    // A newer mkfs.erofs may write a form that this reader does not know, but its own fsck.erofs
    // does. If this reader fails or finds other contents, fsck.erofs decides.
    let mut found = FileTree::new(&plan.eprefix, plan.epoch);
    let ours = contents(&opened, &tree, TreeBudget::of_tree(), &mut found);
    let keeps = Keeps { xattrs: false, ..Keeps::ALL };
    let is_same = || ours.is_ok() && compare::compare_trees(plan, &found, keeps).is_empty();
    if !differences.is_empty() || is_same() {
        return Ok(differences);
    }
    unpack(image, dir)?;
    let keeps = Keeps { hard_links: false, xattrs: false, special_bits: false };
    differences.extend(compare::compare_unpacked(plan, dir, keeps)?);
    Ok(differences)
}

/// Reads the image in `bytes` within `budget` into `found`.
pub(crate) fn read_bytes(bytes: &[u8], budget: TreeBudget, found: &mut FileTree) -> Result<()> {
    let opened = Image::open(bytes)?;
    let tree = opened.tree()?;
    contents(&opened, &tree, budget, found)
}

/// Unpacks `image` into the directory `dir`. fsck.erofs keeps neither setuid nor attributes nor
/// hard links; [`inode_differences`] compares those.
fn unpack(image: &Path, dir: &Path) -> Result<()> {
    let mut extract = OsString::from("--extract=");
    extract.push(dir);
    fake_root::command("read the erofs image back", tools::FSCK_EROFS)?
        .arg(extract)
        .args(["--preserve-owner", "--preserve-perms"])
        .arg(image)
        .run_quiet()
}

/// Reads the contents of an image in memory within `budget` into `found`.
fn contents(
    image: &Image<'_>,
    tree: &BTreeMap<PathBuf, Place>,
    mut budget: TreeBudget,
    found: &mut FileTree,
) -> Result<()> {
    let contents = Contents::open(image, &mut budget)?;
    let mut firsts: HashMap<u64, &Path> = HashMap::new();
    for (path, place) in tree.iter().filter(|(path, _)| !path.as_os_str().is_empty()) {
        let inode = place.inode;
        let kind = match inode.kind() {
            inodes::DIRECTORY => EntryKind::Directory,
            inodes::LINK => {
                EntryKind::Link(PathBuf::from(OsString::from_vec(contents.target(place)?)))
            }
            inodes::FILE if firsts.contains_key(&inode.number) => {
                EntryKind::HardLink(firsts[&inode.number].to_owned())
            }
            inodes::FILE => {
                firsts.insert(inode.number, path);
                let size = place.size as u64;
                EntryKind::File(FileContent::unread(ContentSource::Bytes(Vec::new()), size))
            }
            // An overlayfs whiteout has the number 0:0, which erofs keeps where a file has its block.
            inodes::CHARACTER_DEVICE if place.block == 0 => {
                bail!("/{}: {WHITEOUT}", path.escaped())
            }
            _ => bail!("/{}: {SPECIAL}", path.escaped()),
        };
        let mode = inode.mode & 0o7777;
        let (uid, gid) = inode.owner;
        let xattrs = BTreeMap::new();
        let entry = Entry { kind, mode, uid, gid, mtime: inode.mtime, xattrs };
        budget.take(path, &entry)?;
        found.entries.insert(path.clone(), entry);
    }
    found.entries.par_iter_mut().try_for_each(|(path, entry)| {
        if let (EntryKind::File(content), Some(place)) = (&mut entry.kind, tree.get(path)) {
            let act = || format!("/{}", path.escaped());
            content.sha256 = Some(contents.digest(place).with_context(act)?);
            if path.parent() == Some(Path::new(RELEASES)) {
                content.source = ContentSource::Bytes(contents.text(place).with_context(act)?);
            }
        }
        anyhow::Ok(())
    })
}

/// Returns the differences of the image's inodes from `plan`.
fn inode_differences(plan: &FileTree, found: &BTreeMap<PathBuf, Place>) -> Vec<String> {
    let other_names = plan.other_names();
    let number = |path: &Path| found.get(path).map_or(0, |place| place.inode.number);
    let mut differences = Vec::new();
    for (path, entry) in &plan.entries {
        let Some(Place { inode, .. }) = found.get(path) else {
            differences.push(format!("/{} has no inode", path.escaped()));
            continue;
        };
        let (first, kind) = match &entry.kind {
            EntryKind::HardLink(first) => (first, inodes::FILE),
            EntryKind::File(_) => (path, inodes::FILE),
            EntryKind::Link(_) => (path, inodes::LINK),
            EntryKind::Directory => (path, inodes::DIRECTORY),
        };
        let planned = Inode {
            number: number(first),
            mode: entry.mode | kind,
            names: match entry.kind {
                // The filesystem sets the link count of a directory.
                EntryKind::Directory => inode.names,
                _ => 1 + other_names.get(first.as_path()).copied().unwrap_or(0),
            },
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            xattrs: !entry.xattrs.is_empty(),
        };
        if *inode != planned {
            differences.push(format!("/{} is {inode:?} and not {planned:?}", path.escaped()));
        }
    }
    for path in found.keys().filter(|path| !path.as_os_str().is_empty()) {
        if !plan.entries.contains_key(path) {
            differences.push(format!("/{} was not planned", path.escaped()));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imagefmt::samples;

    const FORMS: [&str; 4] = ["erofs", "erofs:lz4", "erofs:none", "erofs-tight"];

    fn differences_of(bytes: &[u8]) -> Vec<String> {
        let planned = samples::tree();
        let found = samples::read(&FORMAT, bytes).unwrap();
        let found = FileTree { epoch: planned.epoch, eprefix: planned.eprefix.clone(), ..found };
        compare::compare_trees(&planned, &found, Keeps::ALL)
    }

    #[test]
    fn every_form_is_read() {
        for form in FORMS {
            assert!(differences_of(&samples::image(form)).is_empty(), "{form}");
        }
    }

    #[test]
    fn damaged_images_are_errors_or_other_trees() {
        for form in FORMS {
            let whole = samples::image(form);
            let mut refused = 0;
            samples::damage(&whole, 60, |bytes| {
                refused += usize::from(samples::read(&FORMAT, bytes).is_err());
            });
            assert!(refused > 30, "{form}: {refused}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_errors() {
        let whole = samples::image("erofs:none");
        for name in samples::HOSTILE {
            let error = samples::read(&FORMAT, &samples::renamed(&whole, name)).unwrap_err();
            assert!(format!("{error:#}").contains("in the image has"), "{name:?}: {error:#}");
        }
        assert!(samples::read(&FORMAT, &samples::renamed(&whole, "someother")).is_ok());
    }

    /// Returns an image in which the inode at `path` has the size `size`.
    fn resized(path: &str, size: usize) -> Vec<u8> {
        let mut bytes = samples::image("erofs:none");
        let number = Image::open(&bytes).unwrap().tree().unwrap()[Path::new(path)].inode.number;
        // `meta_blkaddr` of the superblock, in blocks of 4096 bytes; an inode has 32 or 64 bytes.
        let start = u32::from_le_bytes(bytes[1024 + 40..1024 + 44].try_into().unwrap()) as usize;
        let inode = start * 4096 + usize::try_from(number).unwrap() * 32;
        bytes[inode + 8..inode + 12].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        bytes
    }

    #[test]
    fn sizes_that_no_image_can_have_are_errors() {
        let whole = samples::image("erofs:none").len();
        for (path, size, part) in [
            ("opt/x/link", 4096, "a link is longer than a path can be"),
            ("opt/x/inner", whole, "its directories are larger than the image"),
            ("opt/x/noise", 1 << 30, "it ends early"),
        ] {
            let error = samples::read(&FORMAT, &resized(path, size)).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{path}: {error:#}");
        }
        assert!(samples::read(&FORMAT, &resized("opt/x/noise", 8_000)).is_ok());
    }

    /// An attribute of a few inodes is shared by them.
    #[test]
    fn marks_of_overlayfs_are_found() {
        assert_eq!(xattrs::find_overlay_mark(&samples::image("erofs")).unwrap(), None);
        for count in [1, 9] {
            let mut tree = samples::tree();
            for entry in tree.entries.values_mut().filter(|entry| entry.size() > 0).take(count) {
                entry.xattrs.insert("user.overlay.opaque".into(), b"y".to_vec());
            }
            let mut bytes = samples::image_of(&tree, "erofs:none");
            assert_eq!(xattrs::find_overlay_mark(&bytes).unwrap(), None, "{count}");
            // The name's length, the index of what is before it, the value's length.
            let (of_user, of_root) = (b"\x0e\x01\x01\0overlay.opaque", 4);
            let found = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(of_user));
            for at in found.collect::<Vec<_>>() {
                bytes[at + 1] = of_root;
            }
            let mark = xattrs::find_overlay_mark(&bytes).unwrap();
            assert_eq!(mark.as_deref(), Some("trusted.overlay.opaque"), "{count}");
            samples::damage(&bytes, 60, |damaged| drop(xattrs::find_overlay_mark(damaged)));
        }
    }

    #[test]
    fn a_directory_in_itself_is_an_error() {
        let whole = samples::image("erofs:none");
        let opened = Image::open(&whole).unwrap();
        let tree = opened.tree().unwrap();
        let number = |path: &str| tree[Path::new(path)].inode.number;
        let (deep, above) = (number("opt/x/inner/deep"), number("opt/x"));
        let mut bytes = whole.clone();
        let mut entries = 0;
        // The entry has the number of its inode, the offset of its name, and its type.
        for at in 0..whole.len() - 12 {
            let is_entry = whole[at..at + 8] == deep.to_le_bytes() && whole[at + 10] == 2;
            if is_entry {
                bytes[at..at + 8].copy_from_slice(&above.to_le_bytes());
                entries += 1;
            }
        }
        assert!(entries > 0);
        let error = samples::read(&FORMAT, &bytes).unwrap_err();
        assert!(format!("{error:#}").contains("a directory is in two places"), "{error:#}");
    }
}
