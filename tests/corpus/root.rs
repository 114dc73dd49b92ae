//! A root directory made of unpacked packages, and the same below EPREFIX.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use fprefix::elf::{self, ObjectKind};
use rayon::prelude::*;
use walkdir::WalkDir;

use crate::Machine;
use crate::harness::tools::success_of;

/// A path of 100 characters.
pub(crate) fn eprefix() -> String {
    format!("/opt/{}", "p".repeat(100 - "/opt/".len()))
}

/// A root directory.
pub(crate) struct Root {
    path: PathBuf,
    /// Below which path of it the packages are: none, or EPREFIX.
    prefix: String,
}

/// Place where programs of a root find what the kernel provides.
const MOUNT_POINTS: [&str; 4] = ["proc", "dev", "tmp", "emulator"];

impl Root {
    /// Unpacks archives. Their programs and libraries are below /usr, as on every system today.
    pub(crate) fn unpack(archives: &[PathBuf], dir: &Path) -> Root {
        let path = dir.join("root");
        for name in ["bin", "sbin", "lib", "lib64"] {
            fs_err::create_dir_all(path.join("usr").join(name)).unwrap();
            fs_err::os::unix::fs::symlink(format!("usr/{name}"), path.join(name)).unwrap();
        }
        for archive in archives {
            let contents = success_of("dpkg-deb", ["--fsys-tarfile".as_ref(), archive.as_os_str()]);
            Command::new("tar")
                .args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"])
                .arg(&path)
                .write_stdin(contents.stdout)
                .assert()
                .success();
        }
        let root = Root { path, prefix: String::new() };
        root.choose_alternatives();
        root.add_mount_points();
        root
    }

    /// What installing would do for libraries that several packages offer: links to one of them.
    fn choose_alternatives(&self) {
        let top = self.disk("/usr/lib");
        for offer in ["blas", "lapack", "openblas-pthread"] {
            let dirs = WalkDir::new(&top).min_depth(2).max_depth(2).into_iter();
            for dir in dirs.map(Result::unwrap).filter(|dir| dir.file_name() == offer) {
                for library in fs_err::read_dir(dir.path()).unwrap().map(Result::unwrap) {
                    let link = dir.path().parent().unwrap().join(library.file_name());
                    if !link.exists() {
                        let target = Path::new(offer).join(library.file_name());
                        fs_err::os::unix::fs::symlink(target, link).unwrap();
                    }
                }
            }
        }
    }

    /// The same below EPREFIX of a root that holds nothing else.
    pub(crate) fn into_prefix(self, dir: &Path) -> Root {
        let (path, prefix) = (dir.join("final"), eprefix());
        let inside = path.join(prefix.trim_start_matches('/'));
        fs_err::create_dir_all(inside.parent().unwrap()).unwrap();
        fs_err::rename(self.path, inside).unwrap();
        let root = Root { path, prefix };
        root.add_mount_points();
        root
    }

    fn add_mount_points(&self) {
        for name in MOUNT_POINTS {
            fs_err::create_dir_all(self.path.join(name)).unwrap();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Place where something of the packages is, as programs see it.
    pub(crate) fn inside(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The same on disk.
    pub(crate) fn disk(&self, path: &str) -> PathBuf {
        self.path.join(self.inside(path).trim_start_matches('/'))
    }

    /// Paths in the packages of the dynamic files of these kinds.
    pub(crate) fn files(&self, kinds: &[ObjectKind]) -> Vec<String> {
        let top = self.disk("/usr");
        let entries = WalkDir::new(&top).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().is_file());
        let files: Vec<PathBuf> = files.map(walkdir::DirEntry::into_path).collect();
        let of_kind = |path: &&PathBuf| {
            let file = fs_err::File::open(path).unwrap().into();
            let bytes = elf::open(&file).unwrap();
            elf::read(&bytes).is_ok_and(|image| kinds.contains(&image.kind))
        };
        let mut found: Vec<String> = (files.par_iter().filter(of_kind))
            .map(|path| format!("/usr/{}", path.strip_prefix(&top).unwrap().to_str().unwrap()))
            .collect();
        found.sort();
        found
    }

    /// Strips every file that can be.
    pub(crate) fn strip(&self, machine: &Machine) {
        let kinds = [ObjectKind::Executable, ObjectKind::PieExecutable, ObjectKind::SharedObject];
        let files: Vec<PathBuf> = self.files(&kinds).iter().map(|file| self.disk(file)).collect();
        files.par_chunks(50).for_each(|files| {
            success_of(machine.strip, files);
        });
    }
}
