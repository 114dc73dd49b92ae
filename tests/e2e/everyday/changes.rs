//! What changes around a prefix: the place of its repository, fprefix, the machine's toolchain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Everyday;
use crate::harness::Run;
use crate::prefix::EPREFIX;

/// The library of gcc that machines have in several builds of a version.
const LIBRARY: &str = "libgomp.so.1";
/// The header that has the version of the kernel's headers.
const VERSION_H: &str = "/usr/include/linux/version.h";

impl Everyday {
    /// The run of `fprefix setup` that brings the prefix up to date.
    pub(super) fn setup(&self) -> Run<'_> {
        let prefix = &self.prefix;
        self.fprefix(&["setup", "test", EPREFIX, "--wrapper-dir"])
            .args([prefix.world.path("wrappers")])
            .args(["--overlay".as_ref(), self.repository.as_os_str()])
            .args(["--staging-dir".as_ref(), prefix.staging.as_os_str()])
            .args(["--final-dir".as_ref(), prefix.r#final.as_os_str()])
            .through(&self.machine)
    }

    /// Moves the repository to the directory `name`.
    pub(super) fn move_repository(&mut self, name: &str) {
        let moved = self.prefix.world.path(name);
        fs_err::rename(&self.repository, &moved).unwrap();
        self.repository = moved;
    }

    /// From now on another version of fprefix is the one that runs. With `new_packages`, it has
    /// another package that every prefix starts with; with `fewer_programs`, it takes one program
    /// less from the machine's toolchain.
    pub(super) fn update_fprefix(
        &mut self,
        number: usize,
        new_package: bool,
        fewer_programs: bool,
    ) {
        let data = self.prefix.world.path(format!("data-{number}"));
        for folder in ["profiles", "wrappers", "templates", "overlay"] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            fprefix::base::files::remove(&data.join(folder)).unwrap();
            fs_err::create_dir_all(&data).unwrap();
            let cp = self.prefix.world.run("cp").args(["-a", "--"]).args([&from, &data]);
            cp.said().succeeds();
        }
        let edit = |file: &str, before: &str, after: &str| {
            let file = data.join(file);
            let text = fs_err::read_to_string(&file).unwrap();
            assert!(text.contains(before), "{text}");
            fs_err::write(file, text.replacen(before, after, 1)).unwrap();
        };
        edit("templates/portage/make.conf", "\n", &format!("\n# Version {number}.\n"));
        if new_package {
            let dir = data.join("overlay/prefix/prefix-final");
            let ebuild = |version: usize| dir.join(format!("prefix-final-{version}.ebuild"));
            fs_err::rename(ebuild(1), ebuild(1 + number)).unwrap();
        }
        if fewer_programs {
            edit("profiles/toolchain.toml", "\"locale\", ", "");
        }
        self.data = Some(data);
    }

    /// From now on the machine has other kernel headers, of another version, and another library of
    /// gcc, of the same version. 0 is the machine as it really is.
    pub(super) fn change_toolchain(&mut self, number: usize) {
        self.machine.clear();
        if number == 0 {
            return;
        }
        let world = &self.prefix.world;
        let text = fs_err::read_to_string(VERSION_H).unwrap();
        let code = regex::Regex::new(r"(?m)^#define LINUX_VERSION_CODE (\d+)$").unwrap();
        let was: usize = code.captures(&text).unwrap()[1].parse().unwrap();
        let define = format!("#define LINUX_VERSION_CODE {}", was + number);
        let header =
            world.write("machine/version.h", code.replace(&text, define.as_str()).as_ref());
        let said = world.run("gcc").args([format!("-print-file-name={LIBRARY}")]).said().succeeds();
        let library = fs_err::canonicalize(said.stdout.trim()).unwrap();
        let bytes = [fs_err::read(&library).unwrap(), vec![b'x'; number]].concat();
        let changed = world.write("machine/libgomp", bytes);
        let mut words: Vec<OsString> = ["bwrap", "--dev-bind", "/", "/"].map(Into::into).into();
        for (from, to) in [(header, PathBuf::from(VERSION_H)), (changed, library)] {
            words.extend(["--ro-bind".into(), from.into(), to.into()]);
        }
        words.push("--".into());
        self.machine = words;
    }

    /// The prefix has the files that the machine of this [number](Self::change_toolchain) has.
    #[track_caller]
    pub(super) fn has_toolchain(&self, number: usize) {
        let version_h = self.prefix.in_staging("usr/include/linux/version.h");
        let machine = match number {
            0 => PathBuf::from(VERSION_H),
            _ => self.prefix.world.path("machine/version.h"),
        };
        assert_eq!(fs_err::read(version_h).unwrap(), fs_err::read(machine).unwrap());
        let library = self.prefix.in_staging(&format!("usr/lib64/{LIBRARY}"));
        let end = fs_err::read(library).unwrap();
        let added = end.iter().rev().take_while(|byte| **byte == b'x').count();
        assert_eq!(added, number);
    }
}
