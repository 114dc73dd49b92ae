//! Programs that need nothing: the smallest that a root can hold and still pass its check.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::tools::stdout_of;

const EXIT: &str = if cfg!(target_arch = "aarch64") {
    "mov x8, #93\\n mov x0, #42\\n svc #0"
} else {
    "mov $60, %eax\\n mov $42, %edi\\n syscall"
};

/// A static program, which ends with the status 42.
pub(crate) fn program() -> PathBuf {
    built().join("program")
}

/// A shared library without needs; its soname is `libthing.so.1`.
pub(crate) fn library() -> PathBuf {
    built().join("library")
}

/// The directory that they are in. Tests of one run share it, and so do runs.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-programs");
        fs_err::create_dir_all(&dir).unwrap();
        let fresh = tempfile::tempdir_in(&dir).unwrap();
        let make = |name: &str, code: &str, options: &[&str]| {
            let source = fresh.path().join("source.c");
            fs_err::write(&source, code).unwrap();
            let made = fresh.path().join(name);
            let files = ["-o", made.to_str().unwrap(), source.to_str().unwrap()];
            stdout_of("gcc", [&["-nostdlib", "-s"], options, &files[..]].concat());
            fs_err::rename(made, dir.join(name)).unwrap();
        };
        let start = format!("void _start(void) {{ __asm__ volatile (\"{EXIT}\"); }}\n");
        make("program", &start, &["-static"]);
        let soname = "-Wl,-soname,libthing.so.1";
        make("library", "int thing(void) { return 1; }\n", &["-shared", "-fPIC", soname]);
        dir
    })
}
