//! Programs and libraries that the packages do not have: made by other linkers than the
//! distribution's, and one that loads libraries.

use std::path::Path;

use crate::Machine;
use crate::harness::tools::success_of;
use crate::root::Root;

const LINKERS: [&str; 3] = ["bfd", "lld", "mold"];

const LIBRARY: &str = "#include <math.h>
double made(double x) { return sqrt(x); }
";
const PROGRAM: &str = r#"#include <stdio.h>
double made(double x);
int main(int argc, char **argv) { (void)argv; printf("made %.3f\n", made(argc)); }
"#;

/// Loads each library that is named to it in a process of its own, because constructors may do
/// as they like, and says which could be.
pub(crate) const LOAD: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		int status = 0;
		pid_t pid = fork();
		if (pid == 0) {
			alarm(20);
			void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
			if (library == NULL) {
				fprintf(stderr, "%s: %s\n", argv[i], dlerror());
			}
			_exit(library == NULL);
		}
		waitpid(pid, &status, 0);
		if (status == 0) {
			printf("%s\n", argv[i]);
			fflush(stdout);
		}
	}
}
"#;

/// Place where the program that loads libraries is.
pub(crate) const LOADING: &str = "/usr/bin/load-libraries";

/// The programs, each with a library in a directory of its own.
pub(crate) fn programs() -> Vec<String> {
    LINKERS.iter().map(|linker| format!("/usr/bin/made-by-{linker}")).collect()
}

pub(crate) fn add(machine: &Machine, root: &Root) {
    let sources = tempfile::tempdir().unwrap();
    let source = |name: &str, text: &str| {
        let path = sources.path().join(name);
        fs_err::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [library, program, load] =
        [source("library.c", LIBRARY), source("program.c", PROGRAM), source("load.c", LOAD)];
    // A compiler for another machine takes linkers for any machine only from where it is told.
    for linker in ["ld.lld", "ld.mold"] {
        let place = Path::new("/usr/bin").join(linker);
        fs_err::os::unix::fs::symlink(place, sources.path().join(linker)).unwrap();
    }
    let linkers = format!("-B{}", sources.path().display());
    for (linker, path) in LINKERS.iter().zip(programs()) {
        let dir = format!("/usr/lib/made-by-{linker}");
        fs_err::create_dir_all(root.disk(&dir)).unwrap();
        let made = root.disk(&format!("{dir}/libmade-{linker}.so"));
        let made = made.to_str().unwrap();
        let linker = format!("-fuse-ld={linker}");
        let soname = format!("-Wl,-soname,{}", made.rsplit('/').next().unwrap());
        let flags = ["-shared", "-fPIC", &linkers, &linker, &soname, "-o", made, &library, "-lm"];
        success_of(machine.gcc, flags);
        let runpath = format!("-Wl,-rpath,{dir}");
        let disk = root.disk(&path);
        success_of(
            machine.gcc,
            [&linkers, &linker, &runpath, "-o", disk.to_str().unwrap(), &program, made],
        );
    }
    success_of(machine.gcc, ["-o", root.disk(LOADING).to_str().unwrap(), &load]);
}
