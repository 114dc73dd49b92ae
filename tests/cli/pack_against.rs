//! Attaching is tried out on a target's tree before anything is written.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::symlink;
use serde_json::Value;

use crate::harness::small_programs::program;
use crate::harness::small_root::SmallRoot;

/// The root directory of a target, like Debian's.
struct Target {
    dir: tempfile::TempDir,
}

impl Target {
    fn debian() -> Self {
        let target = Self { dir: tempfile::tempdir().unwrap() };
        let release =
            "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n";
        target.file("usr/lib/os-release", release);
        target.file("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.9-1~deb13u1.so", "");
        target.file("usr/lib/modules/6.12.48+deb13-amd64/modules.dep", "");
        target.file("usr/bin/tool", "the target's\n");
        target.file("etc/hostname", "target\n");
        target.file("usr/lib/systemd/systemd", "");
        fs_err::copy(program(), target.path("usr/lib/systemd/systemd")).unwrap();
        for dir in ["opt", "usr/local/bin", "usr/lib64"] {
            target.directory(dir);
        }
        symlink("../usr/lib/os-release", target.path("etc/os-release")).unwrap();
        symlink("usr/bin", target.path("bin")).unwrap();
        symlink("usr/lib", target.path("lib")).unwrap();
        target
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn directory(&self, path: &str) {
        make_directory(self.dir.path(), path);
    }

    fn file(&self, path: &str, text: &str) {
        make_file(self.dir.path(), path, text);
    }

    fn mode(&self, path: &str, mode: u32) {
        set_mode(&self.path(path), mode);
    }

    /// Replaces what is at `path` by a link.
    fn link(&self, to: &str, path: &str) {
        fs_err::remove_dir_all(self.path(path)).unwrap();
        symlink(to, self.path(path)).unwrap();
    }

    fn systemd(&self, version: &str) {
        fs_err::remove_dir_all(self.path("usr/lib/x86_64-linux-gnu/systemd")).unwrap();
        self.file(&format!("usr/lib/systemd/libsystemd-shared-{version}.so"), "");
    }

    fn kernel(&self, version: &str) {
        self.file(&format!("usr/lib/modules/{version}/modules.dep"), "");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a directory and those above it, as every target has them, whatever the umask.
fn make_directory(root: &Path, path: &str) {
    let mut at = root.to_owned();
    for part in Path::new(path) {
        at.push(part);
        if !at.exists() {
            fs_err::create_dir(&at).unwrap();
            set_mode(&at, 0o755);
        }
    }
}

fn make_file(root: &Path, path: &str, text: &str) {
    make_directory(root, Path::new(path).parent().unwrap().to_str().unwrap());
    fs_err::write(root.join(path), text).unwrap();
    set_mode(&root.join(path), 0o644);
}

/// A tree to lay over the extension.
fn over(small: &SmallRoot, files: &[(&str, &str)]) -> String {
    let dir = small.beside("over");
    fs_err::create_dir(&dir).unwrap();
    set_mode(&dir, 0o755);
    for (path, text) in files {
        make_file(&dir, path, text);
    }
    dir.to_str().unwrap().to_owned()
}

/// Packs against `target`; returns the exit code, and what was found: rule, level, path, detail.
fn findings(small: &SmallRoot, target: &Target, more: &[&str]) -> (i32, Vec<[String; 4]>) {
    let root = target.dir.path().to_str().unwrap();
    let options = [&["--target-root", root, "--no-reports", "--json"], more].concat();
    let output = small.try_pack("out", &options);
    let error = String::from_utf8_lossy(&output.stderr);
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}"));
    let none = Vec::new();
    let found = answer["against"].as_array().unwrap_or(&none).iter().map(|finding| {
        assert!(!finding["stake"].as_str().unwrap().is_empty());
        assert!(!finding["remedy"].as_str().unwrap().is_empty());
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        let level = if finding["waived"] == true { "warning" } else { text("level") };
        let path = finding["path"].as_str().map(|path| format!("{path} ")).unwrap_or_default();
        let line = format!("{level}[{}]: {path}{}; ", text("rule"), text("detail"));
        assert!(error.contains(&line), "{line}{error}");
        assert!(error.contains(&format!("\nhelp: {}\n", text("remedy"))), "{error}");
        ["rule", "level", "path", "detail"]
            .map(|key| finding[key].as_str().unwrap_or_default().to_owned())
    });
    (output.status.code().unwrap(), found.collect())
}

/// Expects one finding, and that it refuses or does not; returns its detail.
fn one(found: (i32, Vec<[String; 4]>), rule: &str, level: &str, path: &str) -> String {
    let (code, found) = found;
    assert_eq!(code, if level == "error" { 3 } else { 0 }, "{found:?}");
    let [[a, b, c, detail]] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((a.as_str(), b.as_str(), c.as_str()), (rule, level, path), "{detail}");
    detail.clone()
}

fn has_images(small: &SmallRoot) -> bool {
    let out = small.beside("out");
    out.is_dir() && fs_err::read_dir(out).unwrap().count() > 0
}

#[test]
fn a_target_that_fits_gives_no_finding() {
    let small = SmallRoot::full();
    let target = Target::debian();
    assert_eq!(findings(&small, &target, &[]), (0, Vec::new()));
    assert!(small.beside("out/small.raw").is_file());
    let fields = ["--release", "ID=debian", "--release", "VERSION_ID=13"];
    assert_eq!(findings(&small, &target, &fields), (0, Vec::new()));
    let plan = small.pack("out", &["--target-root", target.dir.path().to_str().unwrap(), "-n"]);
    assert!(plan.contains("usr/local/small"), "{plan}");
}

#[test]
fn hidden_files_are_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    let tree = over(&small, &[("usr/bin/tool", "the extension's\n"), ("usr/bin/new", "")]);
    let found = findings(&small, &target, &["--mangle", &tree]);
    one(found, "shadowed-file", "error", "/usr/bin/tool");
    assert!(!has_images(&small), "something was written");
    let waived = findings(&small, &target, &["--mangle", &tree, "--waive", "shadowed-file"]);
    assert_eq!((waived.0, waived.1.len()), (0, 1));
    assert!(small.beside("out/small.raw").is_file());
    // The same content hides nothing.
    target.file("usr/bin/tool", "the extension's\n");
    assert_eq!(findings(&small, &target, &["--mangle", &tree]), (0, Vec::new()));
}

#[test]
fn an_earlier_version_of_the_prefix_is_one_warning() {
    let small = SmallRoot::full();
    let target = Target::debian();
    target.file("usr/local/small/usr/share/thing/data", "old\n");
    target.file("usr/local/small/usr/bin/program", "old\n");
    let found = findings(&small, &target, &[]);
    let detail = one(found, "shadowed-file", "warning", "/usr/local/small");
    insta::assert_snapshot!(detail, @"is already a prefix in the target, and 2 of its entries are other ones");
}

#[test]
fn links_against_directories_are_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    target.link("../var/usrlocal", "usr/local");
    one(findings(&small, &target, &[]), "hidden-link", "error", "/usr/local");
    let target = Target::debian();
    target.link("lib", "usr/lib64");
    let tree = over(&small, &[("usr/lib64/libnew.so", ""), ("usr/share/new", "")]);
    let found = findings(&small, &target, &["--mangle", &tree]);
    one(found, "hidden-link", "error", "/usr/lib64");
    let target = Target::debian();
    target.directory("usr/share/new");
    let found = findings(&small, &target, &["--mangle", &tree]);
    one(found, "hidden-directory", "error", "/usr/share/new");
}

#[test]
fn a_linked_opt_is_a_warning() {
    let small = SmallRoot::empty("/opt/small");
    small.copy(program(), "usr/bin/program", 0o755);
    let target = Target::debian();
    target.link("var/opt", "opt");
    let found = findings(&small, &target, &[]);
    let detail = one(found, "linked-hierarchy", "warning", "/opt");
    insta::assert_snapshot!(detail, @"is a link to /var/opt on the target");
    target.file("var/opt/small", "a file\n");
    let (code, found) = findings(&small, &target, &[]);
    assert_eq!(code, 3, "{found:?}");
    assert!(found.iter().any(|f| f[0] == "shadowed-file" && f[2] == "/opt/small"), "{found:?}");
}

#[test]
fn changed_directories_are_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    target.mode("usr/local", 0o2775);
    let found = findings(&small, &target, &[]);
    let detail = one(found, "directory-mode", "warning", "/usr/local");
    insta::assert_snapshot!(detail, @"is 0755 of 0:0 in the extension, and 2775 of 0:0 in the target");
    let target = Target::debian();
    let tree = over(&small, &[("usr/bin/new", "")]);
    target.mode("usr/bin", 0o750);
    let found = findings(&small, &target, &["--mangle", &tree]);
    one(found, "directory-mode", "error", "/usr/bin");
}

#[test]
fn what_does_not_fit_os_release_is_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    let refused = |fields: &[&str]| {
        let options: Vec<&str> = fields.iter().flat_map(|field| ["--release", field]).collect();
        one(findings(&small, &target, &options), "release-match", "error", "")
    };
    insta::assert_snapshot!(refused(&["ID=flatcar", "VERSION_ID=13"]), @"ID=flatcar, and the target has ID=debian");
    insta::assert_snapshot!(refused(&["ID=debian", "VERSION_ID=12"]), @"it has VERSION_ID=12, and the target VERSION_ID=13");
    insta::assert_snapshot!(refused(&["ID=debian"]), @"it has no VERSION_ID, and the target VERSION_ID=13");
    insta::assert_snapshot!(refused(&["SYSEXT_SCOPE=portable"]), @"SYSEXT_SCOPE=portable leaves out running systems");
    let release = "ID=derived\nID_LIKE=\"debian other\"\nVERSION_ID=13\nSYSEXT_LEVEL=2\n";
    target.file("usr/lib/os-release", release);
    insta::assert_snapshot!(refused(&["ID=derived", "SYSEXT_LEVEL=1"]), @"it has SYSEXT_LEVEL=1, and the target SYSEXT_LEVEL=2");
    let fields = ["--release", "ID=derived", "--release", "SYSEXT_LEVEL=2"];
    assert_eq!(findings(&small, &target, &fields), (0, Vec::new()));
    // systemd compares with ID_LIKE since 258.
    let fields = ["--release", "ID=debian", "--release", "VERSION_ID=13"];
    one(findings(&small, &target, &fields), "release-match", "warning", "");
    target.systemd("258");
    assert_eq!(findings(&small, &target, &fields), (0, Vec::new()));
    let other = if cfg!(target_arch = "aarch64") { "x86-64" } else { "arm64" };
    let detail =
        one(findings(&small, &target, &["--architecture", other]), "release-match", "error", "");
    assert!(detail.contains(&format!("ARCHITECTURE={other}")), "{detail}");
    let tree = over(&small, &[("usr/lib/os-release", "")]);
    fs_err::copy(target.path("usr/lib/os-release"), format!("{tree}/usr/lib/os-release")).unwrap();
    let found = findings(&small, &target, &["--mangle", &tree]);
    one(found, "release-match", "error", "/usr/lib/os-release");
    fs_err::remove_file(target.path("usr/lib/os-release")).unwrap();
    one(findings(&small, &target, &[]), "release-match", "error", "");
}

#[test]
fn an_old_systemd_is_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    let reload = ["--release", "EXTENSION_RELOAD_MANAGER=1"];
    assert_eq!(findings(&small, &target, &reload), (0, Vec::new()));
    target.systemd("252");
    let detail = one(findings(&small, &target, &reload), "old-systemd", "warning", "");
    insta::assert_snapshot!(detail, @"EXTENSION_RELOAD_MANAGER=1 in its extension-release needs systemd 255 or newer, and the target has 252");
    // Without the library it is told from dpkg's database; 247 has no systemd-sysext.
    fs_err::remove_file(target.path("usr/lib/systemd/libsystemd-shared-252.so")).unwrap();
    one(findings(&small, &target, &[]), "unknown-target", "warning", "");
    let status = "Package: a\nStatus: install ok installed\nVersion: 300\n\nPackage: systemd\n\
                  Status: install ok installed\nVersion: 247.3-7+deb11u4\n";
    target.file("var/lib/dpkg/status", status);
    let (code, found) = findings(&small, &target, &[]);
    assert_eq!(code, 3);
    assert!(found.iter().any(|f| f[3].contains("every extension")), "{found:?}");
    assert!(found.iter().any(|f| f[1] == "error" && f[3].contains("ID=_any")), "{found:?}");
}

#[test]
fn an_old_kernel_is_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    target.kernel("5.10.0-35-amd64");
    let tight = ["--format", "erofs-tight"];
    assert_eq!(findings(&small, &target, &["--format", "erofs"]), (0, Vec::new()));
    let detail = one(findings(&small, &target, &tight), "old-kernel", "warning", "");
    insta::assert_snapshot!(detail, @"erofs-tight:lz4hc needs Linux 6.1 or newer (erofs with fragments), and the target has 5.10");
    fs_err::remove_dir_all(target.path("usr/lib/modules/6.12.48+deb13-amd64")).unwrap();
    one(findings(&small, &target, &tight), "old-kernel", "error", "");
    let zstd = ["--format", "erofs:zstd", "--format", "squashfs"];
    let detail = one(findings(&small, &target, &zstd), "old-kernel", "error", "");
    insta::assert_snapshot!(detail, @"erofs:zstd needs Linux 6.10 or newer (erofs with zstd), and the target has 5.10");
}

#[test]
fn other_extensions_are_looked_at() {
    let (small, other) = (SmallRoot::full(), SmallRoot::full());
    let target = Target::debian();
    let theirs = over(&other, &[("usr/bin/new", "theirs\n"), ("usr/share/clash/file", "")]);
    other.pack("out", &["--name", "other", "--mangle", &theirs]);
    let image = other.beside("out/other.raw");
    let beside = ["--with-extension", image.to_str().unwrap()];
    // The prefix of both is the same.
    assert_eq!(findings(&small, &target, &beside), (0, Vec::new()));
    let ours = over(&small, &[("usr/bin/new", "ours\n")]);
    let options = [&beside[..], &["--mangle", &ours]].concat();
    let detail =
        one(findings(&small, &target, &options), "shadowed-file", "warning", "/usr/bin/new");
    insta::assert_snapshot!(detail, @"is another file in the extension other.raw; this one is seen, since its name comes last");
    make_file(Path::new(&ours), "usr/share/clash", "");
    let (code, found) = findings(&small, &target, &options);
    assert_eq!(code, 3);
    assert!(found.iter().any(|f| f[0] == "hidden-directory"), "{found:?}");
}

/// An extension that builds on another one has caches of both, which have to lie on top.
#[test]
fn hidden_caches_are_found() {
    let small = SmallRoot::full();
    let target = Target::debian();
    let cache = "usr/share/glib-2.0/schemas/gschemas.compiled";
    small.file(cache, "of one\n");
    small.pack("out", &["--name", "b", "--pkginfo"]);
    let file = |name: &str| small.beside("out").join(name).display().to_string();
    let (image, packages) = (file("b.raw"), file("b_pkginfo.raw"));
    small.file(cache, "of both\n");
    let found = |name: &str, more: &[&str]| {
        let options = ["--name", name, "--with-extension", &image, "--keep", "portage"];
        findings(&small, &target, &[&options, more].concat())
    };
    let path = format!("/usr/local/small/{cache}");
    assert_eq!(found("c", &["--base", &packages]), (0, Vec::new()));
    let detail = one(found("a", &["--base", &packages]), "hidden-cache", "error", &path);
    insta::assert_snapshot!(detail, @"is another cache in the extension b.raw, made by glib-compile-schemas; that one is seen, since its name comes last");
    // Without a base nothing says that the cache is one of both.
    let detail = one(found("c", &[]), "hidden-cache", "error", &path);
    assert!(detail.ends_with("this one is seen, since its name comes last"), "{detail}");
}

#[test]
fn what_is_no_target_is_refused() {
    let small = SmallRoot::full();
    let empty = small.beside("empty");
    fs_err::create_dir(&empty).unwrap();
    let error = small.refuse("out", &["--target-root", empty.to_str().unwrap()]);
    insta::assert_snapshot!(error, @"error: --target-root: [DIR]/empty is not the root directory of a target: it has no directory usr");
    let target = Target::debian();
    let root = target.dir.path().to_str().unwrap();
    let error = small.refuse("out", &["--target-root", root, "--with-extension", "/none.raw"]);
    insta::assert_snapshot!(error, @"error: --with-extension: there is no extension /none.raw");
}

#[test]
fn old_spellings_of_options_still_work() {
    let (small, target, other) = (SmallRoot::full(), Target::debian(), SmallRoot::full());
    other.pack("out", &["--name", "other"]);
    let (root, image) = (target.dir.path().to_str().unwrap(), other.beside("out/other.raw"));
    let old = ["--against", root, "--beside", image.to_str().unwrap(), "--again"];
    small.pack("out", &[&old[..], &["--no-reports"]].concat());
    assert!(small.beside("out/small.raw").is_file());
}
