//! Other machines: 64-bit ARM with its large pages, 32-bit x86, and s390x, which is big-endian.

use std::path::{Path, PathBuf};

use fprefix::elf::{self, Edit, ElfClass, ElfData, SearchPathEdit};

use crate::fixtures::{build, install};
use crate::harness::tools::{both_streams, output_of, success_of, write_program};
use crate::inspect::{assert_no_new_complaints, rewrite};

struct Machine {
    triplet: &'static str,
    loader: &'static str,
    emulator: Option<&'static str>,
    class: ElfClass,
    data: ElfData,
}

const ARM: Machine = Machine {
    triplet: "aarch64-linux-gnu",
    loader: "ld-linux-aarch64.so.1",
    emulator: Some("qemu-aarch64"),
    class: ElfClass::Elf64,
    data: ElfData::Little,
};

const X86: Machine = Machine {
    triplet: "i686-linux-gnu",
    loader: "ld-linux.so.2",
    emulator: None,
    class: ElfClass::Elf32,
    data: ElfData::Little,
};

const S390X: Machine = Machine {
    triplet: "s390x-linux-gnu",
    loader: "ld64.so.1",
    emulator: Some("qemu-s390x"),
    class: ElfClass::Elf64,
    data: ElfData::Big,
};

#[test]
fn arm() {
    ARM.check(&["-pie"]);
    ARM.check(&["-no-pie"]);
    ARM.check(&["-no-pie", "-s"]);
    ARM.check(&["-Wl,-z,noseparate-code", "-Wl,-z,max-page-size=0x1000"]);
    // gcc of another machine looks for linkers of that machine alone, unless it is told a place.
    let linkers = tempfile::tempdir().unwrap();
    fs_err::os::unix::fs::symlink("/usr/bin/ld.lld", linkers.path().join("ld.lld")).unwrap();
    ARM.check(&[&format!("-B{}", linkers.path().display()), "-fuse-ld=lld"]);
}

#[test]
fn x86_of_32_bits() {
    X86.check(&["-pie"]);
    X86.check(&["-no-pie"]);
    X86.check(&["-s", "-Wl,-z,noseparate-code"]);
    X86.check(&["-Wl,--hash-style=both"]);
}

#[test]
fn big_endian() {
    S390X.check(&["-pie"]);
    S390X.check(&["-no-pie"]);
    S390X.check(&["-Wl,--hash-style=sysv", "-s"]);
}

impl Machine {
    /// A directory of about 100 characters with this machine's loader and libc in it.
    fn prefix(&self) -> PathBuf {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.triplet);
        let used = base.to_str().unwrap().len();
        let dir = base.join("p".repeat(94 - used)).join("lib");
        fs_err::create_dir_all(&dir).unwrap();
        for name in [self.loader, "libc.so.6"] {
            let from = format!("/usr/{}/lib/{name}", self.triplet);
            install(Path::new(&from), &dir.join(name));
        }
        dir
    }

    fn check(&self, flags: &[&str]) {
        let prefix = self.prefix();
        let compiler = format!("{}-gcc", self.triplet);
        let kept = |flag: &&&str| !flag.ends_with("pie");
        let shared: Vec<_> = flags.iter().filter(kept).copied().collect();
        let build = build(&compiler, &shared, flags, 1 << 20);
        let edit = Edit {
            interpreter: Some(prefix.join(self.loader).to_str().unwrap().into()),
            search_path: SearchPathEdit::Runpath(format!("$ORIGIN:{}", prefix.display()).into()),
            ..Edit::default()
        };
        let name = format!("{} {flags:?}", self.triplet);
        let place = build.dir.path().join("new");
        fs_err::create_dir(&place).unwrap();
        for from in [&build.library, &build.program] {
            let old = fs_err::read(from).unwrap();
            let image = elf::read(&old).unwrap();
            assert_eq!((image.class, image.data), (self.class, self.data));
            let (_, new) = rewrite(&old, &edit, &name);
            let to = place.join(from.file_name().unwrap());
            write_program(&to, &new);
            assert_no_new_complaints(from, &to, &name);
        }
        let program = place.join("program");
        self.assert_runs(&program, &prefix, &name);
        for file in [&program, &place.join("libshared.so")] {
            success_of(format!("{}-strip", self.triplet), [file]);
        }
        self.assert_runs(&program, &prefix, &format!("{name}, stripped"));
    }

    #[track_caller]
    fn assert_runs(&self, program: &Path, prefix: &Path, name: &str) {
        let output = match self.emulator {
            Some(emulator) => output_of(emulator, [program, prefix]),
            None => output_of(program, [prefix]),
        };
        assert_eq!(
            output.status.code(),
            Some(42),
            "{name}: {} {}",
            output.status,
            both_streams(&output)
        );
    }
}
