//! Programs of the prefix that take the place of others: the interpreters of scripts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::base::escape::Escape;
use crate::base::inside::{BROOT, BUILD_DIR, COMPILER, FINAL, STAGING};
use crate::fstree::resolve::{ResolvedPath, RootResolver, normalize_path};

/// Directories in which every system has its programs. A path in one of them stands for the program
/// of that name, wherever it is.
const STANDARD: &[&str] =
    &["/bin", "/usr/bin", "/sbin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// Directories below EPREFIX with programs, in the order of the search.
const PROGRAMS: &[&str] = &["usr/bin", "usr/sbin", "bin", "sbin"];

/// Entry at a path, with links followed.
pub(crate) enum ProgramEntry {
    /// A file that may be executed, at this path without links.
    Program(PathBuf),
    /// Something else.
    Other,
    /// Nothing.
    Missing,
}

/// A tree in which programs are looked up.
pub(crate) trait ProgramTree {
    /// Returns the entry at an absolute path as programs see it.
    fn program(&self, path: &Path) -> ProgramEntry;
}

impl ProgramTree for RootResolver {
    fn program(&self, path: &Path) -> ProgramEntry {
        let ResolvedPath::There { inside, disk } = self.resolve(path) else {
            return ProgramEntry::Missing;
        };
        match fs_err::symlink_metadata(disk) {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                ProgramEntry::Program(inside)
            }
            _ => ProgramEntry::Other,
        }
    }
}

/// Place of a program that a script names.
pub(super) enum ProgramPlace {
    /// In the prefix.
    Inside,
    /// Outside of the prefix, which has the program at this path.
    Counterpart(PathBuf),
    /// Neither; a description.
    Nowhere(String),
}

/// Programs of a prefix.
#[derive(Clone, Copy)]
pub(crate) struct PrefixPrograms<'a> {
    /// EPREFIX.
    pub eprefix: &'a Path,
    /// Tree that holds the prefix.
    pub tree: &'a dyn ProgramTree,
}

impl PrefixPrograms<'_> {
    /// Returns the place of the program at `path`, which runs a script.
    pub(super) fn place(&self, path: &Path) -> ProgramPlace {
        let shown = path.escaped();
        if !normalize_path(path).starts_with(self.eprefix) || !path.starts_with(self.eprefix) {
            return match self.find_counterpart(path) {
                Some(found) => ProgramPlace::Counterpart(found),
                None => ProgramPlace::Nowhere(describe_outside(path)),
            };
        }
        match self.tree.program(path) {
            ProgramEntry::Program(found) if found.starts_with(self.eprefix) => ProgramPlace::Inside,
            ProgramEntry::Program(found) => {
                let text = format!("is run by {shown}, which leads to {}", found.escaped());
                ProgramPlace::Nowhere(text + ", outside of the prefix")
            }
            ProgramEntry::Other => {
                ProgramPlace::Nowhere(format!("is run by {shown}, which is no program"))
            }
            ProgramEntry::Missing => {
                ProgramPlace::Nowhere(format!("is run by {shown}, which is not there"))
            }
        }
    }

    /// Returns the program `name` of the prefix.
    pub(super) fn find_name(&self, name: &OsStr) -> Option<PathBuf> {
        if name.as_bytes().contains(&b'/') {
            return None;
        }
        PROGRAMS.iter().map(|dir| self.eprefix.join(dir).join(name)).find(|path| self.has(path))
    }

    /// Returns the program that the prefix has instead of the one at `path`. A program elsewhere is
    /// not replaced by one of the same name: that of a virtual environment is another.
    fn find_counterpart(&self, path: &Path) -> Option<PathBuf> {
        let path = strip_recorded(path);
        if path.starts_with(self.eprefix) {
            return Some(path).filter(|path| self.has(path));
        }
        let (dir, name) = (path.parent()?, path.file_name()?);
        let below = path.strip_prefix("/").ok()?;
        let is_merged = dir == Path::new("/bin") || dir == Path::new("/sbin");
        let usual = if is_merged { Path::new("usr").join(below) } else { below.to_owned() };
        let same = Some(self.eprefix.join(usual)).filter(|path| self.has(path));
        same.or_else(|| if is_standard(&path) { self.find_name(name) } else { None })
    }

    /// Returns whether `path` is env(1), of the prefix or of any system.
    pub(super) fn is_env(&self, path: &Path) -> bool {
        let is_known = path.starts_with(self.eprefix) || {
            let path = strip_recorded(path);
            path.starts_with(self.eprefix) || is_standard(&path)
        };
        is_known && path.file_name() == Some("env".as_ref())
    }

    /// Returns whether all directories of the search path are in the prefix, and one has the
    /// program.
    pub(super) fn is_found_in(&self, search_path: &[u8], name: &OsStr) -> bool {
        let dirs = || search_path.split(|byte| *byte == b':').map(OsStr::from_bytes).map(Path::new);
        dirs().all(|dir| normalize_path(dir).starts_with(self.eprefix) && dir.is_absolute())
            && dirs().any(|dir| self.has(&dir.join(name)))
    }

    fn has(&self, path: &Path) -> bool {
        matches!(self.tree.program(path), ProgramEntry::Program(found) if found.starts_with(self.eprefix))
    }
}

pub(super) fn describe_outside(path: &Path) -> String {
    format!("is run by {}, outside of the prefix", path.escaped())
}

fn is_standard(path: &Path) -> bool {
    STANDARD.iter().any(|dir| path.parent() == Some(Path::new(dir)))
}

/// Returns the path as it is on a target, if a build recorded a root directory of its own before it:
/// staging, final, the build tools', or the install image of a package.
fn strip_recorded(path: &Path) -> PathBuf {
    let roots = [STAGING.join("root"), FINAL.join("root"), BROOT.clone(), COMPILER.clone()];
    let below = roots.iter().find_map(|root| path.strip_prefix(root).ok());
    let below = below.or_else(|| {
        // portage/CATEGORY/PF/image
        let mut parts = path.strip_prefix(BUILD_DIR.join("portage")).ok()?.components();
        (parts.by_ref().nth(2)?.as_os_str() == "image").then_some(parts.as_path())
    });
    below.map_or_else(|| path.to_owned(), |below| Path::new("/").join(below))
}
