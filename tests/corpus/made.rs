//! Programs and libraries that the packages do not have: made by other linkers than the
//! distribution's, and one that loads libraries.

use std::path::Path;

use crate::Machine;
use crate::harness::tools::success_of;
use crate::root::Root;
use crate::suite;

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
    let [source_of_library, program, load] =
        [source("library.c", LIBRARY), source("program.c", PROGRAM), source("load.c", LOAD)];
    // A compiler for another machine takes linkers for any machine only from where it is told.
    for linker in ["ld.lld", "ld.mold"] {
        let place = Path::new("/usr/bin").join(linker);
        fs_err::os::unix::fs::symlink(place, sources.path().join(linker)).unwrap();
    }
    let linkers = format!("-B{}", sources.path().display());
    let libc = CLibrary::of(root);
    for (linker, path) in LINKERS.iter().zip(programs()) {
        let dir = format!("/usr/lib/made-by-{linker}");
        fs_err::create_dir_all(root.disk(&dir)).unwrap();
        let made = root.disk(&format!("{dir}/libmade-{linker}.so"));
        let made = made.to_str().unwrap();
        let linker = format!("-fuse-ld={linker}");
        let soname = format!("-Wl,-soname,{}", made.rsplit('/').next().unwrap());
        let mut library: Vec<&str> = vec!["-shared", "-fPIC", &linkers, &linker, &soname];
        library.extend(["-o", made, &source_of_library]);
        library.extend(libc.libraries.iter().map(String::as_str));
        success_of(machine.gcc, library);
        let runpath = format!("-Wl,-rpath,{dir}");
        libc.link(machine, &[&linkers, &linker, &runpath, &program, made], &root.disk(&path));
    }
    libc.link(machine, &[&load], &root.disk(LOADING));
}

/// The C library to link with.
struct CLibrary {
    /// Object files at the start of a program.
    start: Vec<String>,
    libraries: Vec<String>,
}

impl CLibrary {
    /// That of the machine's compiler, or, for another release, that of `root`: what is linked with
    /// this machine's does not start with an older one. The linker script `libc.so` names files of
    /// this machine, so the files are named one by one.
    fn of(root: &Root) -> Self {
        if suite().is_none() {
            return Self { start: Vec::new(), libraries: vec!["-lm".into(), "-ldl".into()] };
        }
        let file = |name: &&str| {
            let mut dirs = fs_err::read_dir(root.disk("/usr/lib")).unwrap().map(Result::unwrap);
            let found = dirs.find_map(|dir| {
                let file = dir.path().join(name);
                file.exists().then(|| file.display().to_string())
            });
            found.unwrap_or_else(|| panic!("the packages have no {name}"))
        };
        let start = ["Scrt1.o", "crti.o", "crtn.o"].iter().map(file);
        let libraries = ["libm.so.6", "libdl.so.2", "libc.so.6", "libc_nonshared.a"];
        let flags = ["-nostdlib", "-Wl,--allow-shlib-undefined", "-Wl,--as-needed"];
        let flags = flags.map(str::to_owned).into_iter();
        Self {
            start: start.collect(),
            libraries: flags.chain(libraries.iter().map(file)).collect(),
        }
    }

    fn link(&self, machine: &Machine, args: &[&str], to: &Path) {
        let mut all: Vec<&str> = vec!["-o", to.to_str().unwrap()];
        all.extend(self.start.iter().map(String::as_str));
        all.extend(args);
        all.extend(self.libraries.iter().map(String::as_str));
        success_of(machine.gcc, all);
    }
}
