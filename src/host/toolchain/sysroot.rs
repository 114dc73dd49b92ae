//! Root directory of a board, in which Flatcar's SDK keeps the content of the board's images. It
//! includes the C library that programs of the board run with. Cross compilers of crossdev have
//! their own root directory.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::base::board::Board;
use crate::base::escape::Escape;
use crate::base::input;
use crate::fstree::resolve::RootResolver;
use crate::host::machine::{Machine, SDK_BOARDS};
use crate::host::toolchain::{Compiler, ask};

/// Files it must have so that programs can be built with its C library. A board with an incomplete
/// setup lacks some of them.
const NEEDED: [&str; 3] = ["libc.so.6", "libc.so", "crt1.o"];
const NEEDED_HEADERS: [&str; 2] = ["stdio.h", "linux/version.h"];

/// A root directory that has a C library with its development files.
#[derive(Debug)]
pub(crate) struct Sysroot {
    dir: PathBuf,
    rooted: RootResolver,
    libraries: Vec<PathBuf>,
    headers: Vec<PathBuf>,
    runtime: PathBuf,
}

/// A file by the path of its name, and the path that this resolves to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) real: PathBuf,
}

impl Sysroot {
    /// Finds the root directory of `board` on a machine of this kind. Without one, finds the
    /// directory that `compiler` was made for, as crossdev makes them, unless it is the machine's
    /// own root. Also returns the reason if the board has a root directory that cannot be used.
    pub(crate) fn find(
        machine: Machine,
        board: &Board,
        compiler: &Compiler,
    ) -> Result<(Option<Self>, Option<String>)> {
        let mut missing = None;
        if machine == Machine::Sdk {
            let of_board = Path::new(SDK_BOARDS).join(&board.name);
            let (found, lacks) = Self::open(&of_board, board, compiler)?;
            if found.is_some() {
                return Ok((found, None));
            }
            missing = lacks;
        }
        let own = ask(&compiler.cc, &["-print-sysroot"])?;
        match fs_err::canonicalize(own) {
            Ok(own) if own != Path::new("/") => Ok((Self::open(&own, board, compiler)?.0, missing)),
            _ => Ok((None, missing)),
        }
    }

    fn open(
        dir: &Path,
        board: &Board,
        compiler: &Compiler,
    ) -> Result<(Option<Self>, Option<String>)> {
        if !dir.is_dir() {
            return Ok((None, None));
        }
        let multiarch = ask(&compiler.cc, &["-print-multiarch"])?;
        let below = |top: &str| {
            let mut dirs = vec![Path::new(top).join(&board.libdir)];
            dirs.extend(
                (!multiarch.is_empty()).then(|| Path::new(top).join("lib").join(&multiarch)),
            );
            // The loader of arm64 is always in this directory.
            dirs.push(Path::new(top).join("lib"));
            dirs
        };
        let mut headers = vec![PathBuf::from("/usr/include")];
        if !multiarch.is_empty() {
            headers.insert(0, Path::new("/usr/include").join(&multiarch));
        }
        let version = compiler.install_dir()?;
        let version = version.file_name().unwrap_or_default();
        let sysroot = Self {
            rooted: RootResolver::new(vec![dir.to_owned()]),
            libraries: [below("/usr"), below("/")].concat(),
            headers: headers
                .iter()
                .map(|inside| dir.join(inside.strip_prefix("/").unwrap_or(inside)))
                .collect(),
            runtime: Path::new("/usr/lib/gcc").join(&compiler.machine).join(version),
            dir: dir.to_owned(),
        };
        if let Some(missing) = sysroot.find_missing_file() {
            let note = format!(
                "{} has no {missing}: the C library of {} is taken instead; set the board up to \
                 have programs built with its own",
                dir.escaped(),
                compiler.cc.escaped()
            );
            return Ok((None, Some(note)));
        }
        sysroot.check_machine(board)?;
        Ok((Some(sysroot), None))
    }

    /// Returns its path.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn find_missing_file(&self) -> Option<&'static str> {
        let header = |name: &&str| !self.headers.iter().any(|dir| dir.join(name).is_file());
        let mut libraries = NEEDED.into_iter().filter(|name| self.library(name).is_none());
        libraries.next().or_else(|| NEEDED_HEADERS.into_iter().find(header))
    }

    fn check_machine(&self, board: &Board) -> Result<()> {
        let Some(libc) = self.library(NEEDED[0]) else { return Ok(()) };
        // e_machine (elf.h). Both boards are little-endian.
        let header = input::read_start(&libc.real, 20)?;
        let machine = header.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        if machine != Some(board.elf_machine) {
            bail!("{} is no library for {}", libc.path.escaped(), board.machine);
        }
        Ok(())
    }

    /// Returns the library, object or linker script `name`.
    pub(super) fn library(&self, name: &str) -> Option<Found> {
        self.libraries.iter().find_map(|dir| self.file(&dir.join(name)))
    }

    /// Returns gcc's library `name`, if the board has it in the compiler's own version. A program
    /// linked with a newer version does not run with an older one.
    pub(super) fn runtime(&self, name: &str) -> Option<Found> {
        self.file(&self.runtime.join(name))
    }

    /// Returns the file at the absolute `path` in it.
    pub(super) fn file(&self, path: &Path) -> Option<Found> {
        let on_disk = |path: &Path| self.rooted.find_on_disk(path);
        let real = on_disk(path)?;
        Some(Found { path: on_disk(path.parent()?)?.join(path.file_name()?), real })
    }

    /// Returns the directories of its headers, on disk.
    pub(super) fn headers(&self) -> &[PathBuf] {
        &self.headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_that_were_not_set_up_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let board = Board::of_this_machine().unwrap();
        let compiler = Compiler::find(&board).unwrap();
        let none = dir.path().join("none");
        assert!(matches!(Sysroot::open(&none, &board, &compiler).unwrap(), (None, None)));
        let missing = || Sysroot::open(dir.path(), &board, &compiler).unwrap().1;
        assert!(missing().unwrap().contains(" has no libc.so.6: the C library of "));
        let put = |place: &str, bytes: &[u8]| {
            let path = dir.path().join(place);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, bytes).unwrap();
        };
        let mut header = [0; 64];
        header[18..20].copy_from_slice(&board.elf_machine.to_le_bytes());
        put("usr/lib64/libc.so.6", &header);
        put("usr/lib64/libc.so", b"");
        put("usr/lib64/crt1.o", b"");
        put("usr/include/stdio.h", b"");
        assert!(missing().unwrap().contains(" has no linux/version.h: "));
        put("usr/include/linux/version.h", b"");
        let (whole, lacking) = Sysroot::open(dir.path(), &board, &compiler).unwrap();
        let whole = whole.unwrap();
        assert_eq!((whole.dir(), lacking), (dir.path(), None));
        // Links resolve inside it, and gcc's libraries have the compiler's version.
        fs_err::os::unix::fs::symlink("/usr/lib64/libc.so", dir.path().join("usr/lib64/l"))
            .unwrap();
        let link = whole.library("l").unwrap();
        assert_eq!(link.real, dir.path().join("usr/lib64/libc.so"));
        assert!(whole.runtime("libc.so").is_none());
        // A compiler that was made for it reports its path.
        let gcc = dir.path().join("gcc");
        let script = format!("#!/bin/sh\nexec gcc --sysroot={} \"$@\"\n", dir.path().escaped());
        crate::base::files::write_executable(&gcc, script.as_bytes()).unwrap();
        let cross = Compiler { cc: gcc, ..compiler.clone() };
        let of = |compiler| Sysroot::find(Machine::Other, &board, compiler).unwrap().0;
        assert_eq!(of(&cross).unwrap().dir(), fs_err::canonicalize(dir.path()).unwrap());
        assert!(of(&compiler).is_none());
        header[18] ^= 1;
        put("usr/lib64/libc.so.6", &header);
        let error = Sysroot::open(dir.path(), &board, &compiler).unwrap_err().to_string();
        assert!(error.contains("is no library for "), "{error}");
    }
}
