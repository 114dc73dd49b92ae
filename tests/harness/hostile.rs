//! A target on which everything that a loader or a C library may look for is there, and wrong.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::tools::{command, find, success_of};

/// The directories in which loaders of any distribution look, and one of the test's.
const DIRS: &[&str] = &[
    "lib",
    "lib64",
    "usr/lib",
    "usr/lib64",
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/local/lib",
    "evil",
];
/// Libraries that programs of the tests need, open, or are made to open by nsswitch.conf.
const LIBRARIES: &[&str] = &[
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libcrypto.so.3",
    "libevil.so",
    "libgcc_s.so.1",
    "libjq.so.1",
    "libm.so.6",
    "libnss_evil.so.2",
    "libnss_files.so.2",
    "libonig.so.5",
    "libreadline.so.8",
    "libssl.so.3",
    "libthing.so.1",
];
/// Character set modules of the target.
const MODULES: &[&str] = &["ISO8859-1.so", "ISO8859-15.so", "KOI8-R.so", "UTF-16.so"];

/// The target.
pub(crate) struct Hostile {
    dir: tempfile::TempDir,
}

impl Hostile {
    /// Makes one; the prefix will be shown at `eprefix`.
    pub(crate) fn new(eprefix: &str) -> Self {
        let hostile = Self { dir: tempfile::tempdir().unwrap() };
        let library = hostile.library();
        let target = hostile.target();
        for dir in DIRS {
            fs_err::create_dir_all(target.join(dir)).unwrap();
            for name in LIBRARIES {
                fs_err::copy(&library, target.join(dir).join(name)).unwrap();
            }
        }
        hostile.add_character_sets(&library);
        let locales = target.join("usr/lib/locale");
        fs_err::create_dir_all(&locales).unwrap();
        fs_err::write(locales.join("locale-archive"), "no archive").unwrap();
        for (name, text) in [
            ("ld.so.preload", "/evil/libevil.so\n"),
            ("ld.so.conf", "/evil\n"),
            ("nsswitch.conf", "passwd: evil files\nhosts: evil files\n"),
            ("passwd", "nobody:x:65534:65534::/:/bin/false\n"),
            ("hosts", "192.0.2.7 seven.example\n"),
        ] {
            let path = target.join("etc").join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        success_of("ldconfig", ["-r".as_ref(), target.as_os_str()]);
        for dir in ["dev", "proc", eprefix.trim_start_matches('/')] {
            fs_err::create_dir_all(target.join(dir)).unwrap();
        }
        hostile
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    /// A library that ends whatever loads it.
    fn library(&self) -> PathBuf {
        let (source, library) = (self.dir.path().join("evil.c"), self.dir.path().join("evil.so"));
        let code = "__attribute__((constructor)) static void e(void) { __builtin_trap(); }\n";
        fs_err::write(&source, code).unwrap();
        let options = ["-shared", "-fPIC", "-nostdlib", "-o"].map(OsStr::new);
        success_of("gcc", options.into_iter().chain([library.as_os_str(), source.as_os_str()]));
        library
    }

    /// The cache of this machine, and modules at the places that it names.
    fn add_character_sets(&self, library: &Path) {
        for dir in
            ["usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv", "usr/lib64/gconv"]
        {
            let to = self.target().join(dir);
            fs_err::create_dir_all(&to).unwrap();
            for name in MODULES {
                fs_err::copy(library, to.join(name)).unwrap();
            }
            let cache = Path::new("/").join(dir).join("gconv-modules.cache");
            if cache.exists() {
                fs_err::copy(cache, to.join("gconv-modules.cache")).unwrap();
            }
        }
    }

    /// Runs `words` with the prefix at `eroot` on disk; nothing but it may be mapped as code or
    /// executed, and of the rest nothing may be opened but configuration.
    pub(crate) fn run(&self, eroot: &Path, eprefix: &str, words: &[&str]) -> Output {
        let trace = self.dir.path().join("trace");
        let mut command = command("strace");
        command.args(["-f", "-y", "-e", "trace=execve,openat,open,mmap", "-o"]).arg(&trace);
        command.arg(find("bwrap"));
        if !rustix::process::geteuid().is_root() {
            command.arg("--unshare-user");
        }
        command.arg("--ro-bind").arg(self.target()).arg("/");
        command.args(["--dev", "/dev", "--proc", "/proc", "--ro-bind"]).arg(eroot).arg(eprefix);
        command.args(["--clearenv", "--setenv", "LD_LIBRARY_PATH", "/evil:/lib"]);
        command.args(["--setenv", "LC_ALL", "C.UTF-8", "--"]).args(words);
        let output = command.output().unwrap();
        let trace = fs_err::read_to_string(trace).unwrap();
        judge(&trace, words[0], eprefix);
        output
    }
}

fn judge(trace: &str, program: &str, eprefix: &str) {
    let began = format!("execve(\"{program}\"");
    let lines: Vec<&str> = trace.lines().skip_while(|line| !line.contains(&began)).collect();
    assert!(!lines.is_empty(), "{program} was not started: {trace}");
    let inside = format!("<{eprefix}/");
    let allowed = ["</etc/", "</dev/", "</proc/"];
    let taken = |line: &&&str| {
        let Some((call, result)) = line.rsplit_once(" = ") else { return false };
        if call.contains("execve(") {
            return result == "0" && !call.contains(&format!("execve(\"{eprefix}/"));
        }
        if call.contains("mmap(") {
            return call.contains("PROT_EXEC") && call.contains('<') && !call.contains(&inside);
        }
        let is_inside = result.contains(&inside);
        let is_configuration = allowed.iter().any(|dir| result.contains(dir));
        call.contains("open") && result.contains('<') && !is_inside && !is_configuration
    };
    let taken: Vec<_> = lines.iter().filter(taken).collect();
    assert!(taken.is_empty(), "{program} takes from the target: {taken:#?}");
    let mapped = lines.iter().any(|line| line.contains("PROT_EXEC") && line.contains(&inside));
    assert!(mapped, "{program} maps nothing of the prefix: {trace}");
}
