//! Files and directories: atomic writes, and removal that never follows a link.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::base::escape::Escape;
use crate::base::input;
use crate::base::publish::{self, Durability};

/// Writes `contents` to `path`: a reader sees either the old file or the new one, each complete.
/// After a power failure the file may be empty, so this is for files that are written again then.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    publish::write(path, contents, 0o644, Durability::Cached)
}

/// Writes `contents` to `path` like [`write_atomically`]. After a power failure, too, the file is
/// the old one or the new one.
pub fn write_durably(path: &Path, contents: &[u8]) -> Result<()> {
    publish::write(path, contents, 0o644, Durability::Flushed)
}

/// Writes a script atomically, like [`write_atomically`].
pub fn write_executable(path: &Path, contents: &[u8]) -> Result<()> {
    publish::write(path, contents, 0o755, Durability::Cached)
}

/// Sets the mode of written files on `file`, which was created readable by its owner only.
pub fn open_to_all(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// Makes `link` a symbolic link to `target`, replacing an existing link.
pub fn link(target: impl AsRef<Path>, link: &Path) -> Result<()> {
    let target = target.as_ref();
    match fs_err::symlink_metadata(link) {
        Ok(meta) if meta.is_symlink() => {
            if fs_err::read_link(link)? == target {
                return Ok(());
            }
        }
        Ok(_) => bail!("{} is there and is not a link", link.escaped()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let act = || format!("could not make the link {}", link.escaped());
    let (dir, name) = link.parent().zip(link.file_name()).with_context(act)?;
    fs_err::create_dir_all(dir)?;
    let dir = publish::open_directory(dir)?;
    publish::remove_unfinished(&dir).with_context(act)?;
    publish::replace_entry(dir, name, Durability::Cached, |dir, new| {
        rustix::fs::symlinkat(target, dir, new)
    })
    .with_context(act)
}

/// Makes the directories `dirs` below `top`. Code of packages may have written below `top`: a link of
/// it could lead anywhere, so none on the way is followed. Nobody may write there meanwhile.
///
/// # Errors
///
/// Fails if something else than a directory is on the way, or if one cannot be made.
pub fn create_dirs_below<D: AsRef<Path>>(
    top: &Path,
    dirs: impl IntoIterator<Item = D>,
) -> Result<()> {
    fs_err::create_dir_all(top)?;
    for dir in dirs {
        let mut path = top.to_owned();
        for component in dir.as_ref().components() {
            path.push(component);
            match fs_err::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) => bail!(
                    "{} is no directory any more; a package replaced it\n\
                     hint: remove it, or set the prefix up anew with --force",
                    path.escaped()
                ),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    fs_err::create_dir(&path)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Removes the tree at `dir` without following links. Directories that Portage left without write
/// permission for their owner are made writable first.
pub fn remove(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs_err::symlink_metadata(dir).is_err() {
        return Ok(());
    }
    if fs_err::remove_dir_all(dir).is_ok() {
        return Ok(());
    }
    for entry in walkdir::WalkDir::new(dir).follow_links(false).into_iter().flatten() {
        if entry.file_type().is_dir() {
            let mode = entry.metadata()?.permissions().mode();
            if mode & 0o700 != 0o700 {
                let open = std::fs::Permissions::from_mode(mode | 0o700);
                fs_err::set_permissions(entry.path(), open)?;
            }
        }
    }
    fs_err::remove_dir_all(dir).with_context(|| format!("could not remove {}", dir.escaped()))
}

/// Removes the file at `path`, if there is one.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns the deepest existing ancestor of `path` (or `path` itself), and the rest below it.
pub fn existing_ancestor(path: &Path) -> (PathBuf, PathBuf) {
    for ancestor in path.ancestors() {
        if ancestor.exists() {
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return (ancestor.to_owned(), rest.to_owned());
        }
    }
    (PathBuf::from("/"), path.strip_prefix("/").unwrap_or(path).to_owned())
}

/// Maps the file at `path` into memory: of a large file, only the accessed parts are read.
///
/// If another process shrinks the file meanwhile, SIGBUS ends this process (mmap(2)). The lock of a
/// prefix prevents writes to a tree while it is read.
#[expect(unsafe_code, reason = "memory that another process may change; see above")]
pub fn map(path: &Path) -> Result<memmap2::Mmap> {
    let (file, size) = input::open_sized(path)?;
    // The size is known, so the file is not asked for it again.
    unsafe { memmap2::MmapOptions::new().len(usize::try_from(size)?).map(file.file()) }
        .with_context(|| format!("could not map {}", path.escaped()))
}

/// Maps an open file that nobody else knows into memory.
#[expect(unsafe_code, reason = "memory of a file that has no name")]
pub(crate) fn map_unnamed(file: &std::fs::File) -> Result<memmap2::Mmap> {
    unsafe { memmap2::Mmap::map(file) }.context("could not map a temporary file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_does_not_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs_err::create_dir(&kept).unwrap();
        fs_err::write(kept.join("file"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree).unwrap();
        link(&kept, &tree.join("link")).unwrap();
        remove(&tree).unwrap();
        assert!(kept.join("file").exists());
        assert!(!tree.exists());
    }
    #[test]
    fn directories_are_not_made_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        create_dirs_below(&top, ["usr/bin", "usr/share/x"]).unwrap();
        assert!(top.join("usr/share/x").is_dir());
        for planted in ["var", "usr/lib"] {
            link(dir.path(), &top.join(planted)).unwrap();
            let error = create_dirs_below(&top, [format!("{planted}/made")]).unwrap_err();
            assert!(error.to_string().contains(&format!("{planted} is no directory any more")));
            assert!(!dir.path().join("made").exists());
        }
    }
}
