//! What an extension that somebody brings is: its name is in it, whatever its file is called.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{as_root, ddi, erofs_inodes};

/// The directory of extension-release files, and how their names begin.
const RELEASES: &str = "usr/lib/extension-release.d";
const RELEASE: &str = "extension-release.";

/// The name of the extension in the image or directory at `path`: the end of the name of its
/// extension-release file, of which there has to be one.
pub fn name(path: &Path) -> Result<String> {
    let names =
        releases(path).with_context(|| format!("could not look into {}", path.display()))?;
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => bail!("{} is no extension: it has no {RELEASES}/{RELEASE}NAME", path.display()),
        _ => bail!("{} has several names: {}", path.display(), names.join(", ")),
    }
}

fn releases(path: &Path) -> Result<Vec<String>> {
    if path.is_dir() {
        let dir = path.join(RELEASES);
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let entries = fs_err::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
        return Ok(names.filter_map(|name| Some(name.strip_prefix(RELEASE)?.to_owned())).collect());
    }
    let mut head = Vec::new();
    fs_err::File::open(path)?.take(1028).read_to_end(&mut head)?;
    let is_at =
        |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|m| m.starts_with(magic));
    if is_at(0, b"hsqs") {
        return in_squashfs(path);
    }
    if is_at(1024, &0xe0f5_e1e2_u32.to_le_bytes()) {
        let inodes = erofs_inodes::paths(path)?;
        let below = inodes.iter().filter_map(|path| path.strip_prefix(RELEASES).ok());
        let names = below.filter_map(|name| name.to_str()?.strip_prefix(RELEASE));
        return Ok(names.map(str::to_owned).collect());
    }
    if is_at(512, b"EFI PART") {
        let dir = tempfile::tempdir()?;
        ddi::take_apart(path, dir.path())?;
        return in_squashfs(&dir.path().join(ddi::DATA));
    }
    bail!("it is neither squashfs nor erofs nor a disk image with one")
}

fn in_squashfs(image: &Path) -> Result<Vec<String>> {
    let listing = as_root::command("list the image", "unsquashfs", "squashfs-tools")?
        .args(["-no-progress", "-ls"])
        .arg(image)
        .arg(RELEASES)
        .read()?;
    let start = format!("/{RELEASES}/{RELEASE}");
    Ok(listing.lines().filter_map(|line| Some(line.split_once(&start)?.1.to_owned())).collect())
}
