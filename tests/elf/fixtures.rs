//! Small programs and libraries that know whether they were loaded right.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::tools::success_of;

/// A library with data, a function, a constructor and thread-local storage.
const LIBRARY: &str = r#"
int shared_data = 5;
__thread int shared_tls = 3;
static int constructed;
const char *shared_names[] = {"alpha", "beta", "gamma"};
__attribute__((constructor)) static void construct(void) { constructed = 1; }
int shared_value(int n) { return constructed ? n * 2 + shared_tls : -1; }
const char *shared_name(int n) { return shared_names[n]; }
"#;

/// A program that exits with 42 if everything about its loading is right. Its argument must be
/// part of the path of a mapped file.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
extern int shared_data;
int shared_value(int);
const char *shared_name(int);
static char big[BIG];
static __thread int own_tls = 9;
static int constructed;
__attribute__((constructor)) static void construct(void) { constructed = 1; }
const char *names[] = {"one", "two", "three"};
static int headers(struct dl_phdr_info *info, size_t size, void *out) {
    int i;
    (void)size;
    if (*(int *)out != 0) return 0;
    *(int *)out = 1;
    /* The first object is the program: its headers must be the ones that the kernel saw. */
    if ((unsigned long)info->dlpi_phdr != getauxval(AT_PHDR)) *(int *)out = 2;
    if (info->dlpi_phnum != getauxval(AT_PHNUM)) *(int *)out = 3;
    for (i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_PHDR && info->dlpi_addr + p->p_vaddr != getauxval(AT_PHDR))
            *(int *)out = 4;
        if (p->p_type == PT_NOTE && p->p_filesz > 0 &&
            ((const ElfW(Nhdr) *)(info->dlpi_addr + p->p_vaddr))->n_namesz > 64) *(int *)out = 5;
    }
    return 0;
}
int main(int argc, char **argv) {
    char line[4096];
    int mapped = argc < 2, seen = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (argc > 1 && strstr(line, argv[1])) mapped = 1;
    if (!mapped) return 10;
    dl_iterate_phdr(headers, &seen);
    if (seen != 1) return 20 + seen;
    if (!constructed || own_tls != 9 || shared_data != 5) return 11;
    if (shared_value(4) != 11) return 12;
    if (strcmp(names[2], "three") || strcmp(shared_name(1), "beta")) return 13;
    big[sizeof big - 1] = 1;
    return big[0] == 0 && big[sizeof big / 2] == 0 ? 42 : 14;
}
"#;

/// A prefix of 100 characters with the machine's loader and libc in it, and the sources.
pub(crate) struct World {
    /// Removed at the end of the process only: it is shared by all tests.
    pub dir: PathBuf,
    /// The directory of 100 characters that holds the loader and the libraries.
    pub lib: PathBuf,
    pub loader: PathBuf,
}

/// The machine's own loader.
pub(crate) const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

impl World {
    pub(crate) fn get() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(World::make)
    }

    fn make() -> World {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("elf-world");
        fs_err::create_dir_all(&dir).unwrap();
        let lib = hundred(&dir);
        fs_err::create_dir_all(&lib).unwrap();
        let loader = lib.join("ld-linux-x86-64.so.2");
        install(Path::new(LOADER), &loader);
        for name in ["libc.so.6", "libm.so.6"] {
            install(&Path::new("/lib/x86_64-linux-gnu").join(name), &lib.join(name));
        }
        fs_err::write(dir.join("library.c"), LIBRARY).unwrap();
        fs_err::write(dir.join("program.c"), PROGRAM).unwrap();
        World { dir, lib, loader }
    }

    pub(crate) fn lib_text(&self) -> &str {
        self.lib.to_str().unwrap()
    }
}

/// Copy by rename: another run of the tests may have it mapped.
pub(crate) fn install(from: &Path, to: &Path) {
    let fresh = to.with_extension(format!("new{}", std::process::id()));
    fs_err::copy(from, &fresh).unwrap();
    fs_err::rename(fresh, to).unwrap();
}

/// A directory below `dir` whose path has exactly 100 characters.
fn hundred(dir: &Path) -> PathBuf {
    let start = dir.to_str().unwrap().len() + "/usr/lib64".len() + 1;
    assert!(start < 95, "the target directory's path is too long for these tests");
    dir.join("p".repeat(100 - start)).join("usr/lib64")
}

/// One program and its library, built in one way.
pub(crate) struct Build {
    pub dir: TempDir,
    pub program: PathBuf,
    pub library: PathBuf,
}

/// Compile the pair with a compiler and flags for the linking of both.
pub(crate) fn build(compiler: &str, flags: &[&str], program_flags: &[&str], big: u64) -> Build {
    let world = World::get();
    let dir = tempfile::tempdir().unwrap();
    let (program, library) = (dir.path().join("program"), dir.path().join("libshared.so"));
    let mut args = vec!["-O1", "-g", "-shared", "-fPIC", "-o", library.to_str().unwrap()];
    let source = world.dir.join("library.c");
    args.push(source.to_str().unwrap());
    args.push("-Wl,-soname,libshared.so");
    args.extend(flags);
    success_of(compiler, &args);
    let source = world.dir.join("program.c");
    let big = format!("-DBIG={big}UL");
    let mut args = vec!["-O1", "-g", &big, "-o", program.to_str().unwrap()];
    args.extend([source.to_str().unwrap(), library.to_str().unwrap()]);
    args.extend(flags);
    args.extend(program_flags);
    success_of(compiler, &args);
    Build { dir, program, library }
}
