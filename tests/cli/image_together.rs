//! Extensions of an OS image, which systemd attaches all together: they are examined before one is
//! added.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::symlink;

use super::image::Os;
use crate::harness::small_programs::program;
use crate::harness::tools::stdout_of;

/// An OS image like Flatcar's, and a place for extensions that somebody else made.
struct Flatcar(Os);

impl Flatcar {
    fn new() -> Self {
        let os = Os::new();
        os.write(
            "usr/lib/os-release",
            "ID=flatcar\nVERSION=4230.2.1\nVERSION_ID=4230.2.1\nSYSEXT_LEVEL=1.0\n",
        );
        os.write("usr/lib/systemd/libsystemd-shared-257.so", "");
        os.write("usr/bin/env", "");
        fs_err::copy(program(), os.rootfs.join("usr/bin/env")).unwrap();
        symlink("bin", os.rootfs.join("usr/sbin")).unwrap();
        for dir in ["usr", "usr/bin", "usr/lib", "usr/lib/systemd"] {
            set_mode(&os.rootfs.join(dir), 0o755);
        }
        set_mode(&os.rootfs.join("usr/bin/env"), 0o755);
        Self(os)
    }

    /// Makes the extension NAME.raw of `files`, whose names end in a slash if they are directories.
    fn extension(&self, name: &str, release: &str, files: &[(&str, &str)]) -> PathBuf {
        self.pseudo(name, release, files, &[])
    }

    fn pseudo(
        &self,
        name: &str,
        release: &str,
        files: &[(&str, &str)],
        pseudo: &[&str],
    ) -> PathBuf {
        let tree = tempfile::tempdir().unwrap();
        let of_release = format!("usr/lib/extension-release.d/extension-release.{name}");
        for (path, text) in files.iter().chain([&(&*of_release, release)]) {
            let place = tree.path().join(path);
            let dir = if path.ends_with('/') { &place } else { place.parent().unwrap() };
            fs_err::create_dir_all(dir).unwrap();
            for above in dir.ancestors().take_while(|above| *above != tree.path()) {
                set_mode(above, 0o755);
            }
            if !path.ends_with('/') {
                fs_err::write(&place, text).unwrap();
                set_mode(&place, 0o644);
            }
        }
        set_mode(tree.path(), 0o755);
        let image = self.0.small.beside("out").join(format!("{name}.raw"));
        let paths = [tree.path().to_str().unwrap(), image.to_str().unwrap()];
        let words = ["-quiet", "-no-progress", "-noappend", "-all-root"];
        let pseudo: Vec<&str> = pseudo.iter().flat_map(|line| ["-p", line]).collect();
        stdout_of("mksquashfs", [&paths[..], &words, &pseudo].concat());
        image
    }

    /// Adds `name`.raw; returns the status, and the rules that were found, with their levels.
    fn add(&self, name: &str, more: &[&str]) -> (i32, String) {
        let file = format!("{name}.raw");
        let output = self.0.try_image(&[&["add", &file], more].concat());
        let said = self.0.small.plain(&output.stderr);
        let is_told = |line: &&str| !line.starts_with("help:") && !line.starts_with(">>>");
        let told: Vec<&str> = said.lines().filter(is_told).collect();
        (output.status.code().unwrap(), told.join("\n"))
    }

    /// Expects that `name` is refused because of `rule` before anything is written, and that it can be
    /// added nonetheless.
    fn refuses(&self, name: &str, rule: &str) -> String {
        let before = self.listed();
        let (status, told) = self.add(name, &[]);
        assert_eq!(status, 3, "{told}");
        assert!(told.contains(&format!("error[{rule}]: {name}: ")), "{told}");
        assert_eq!(self.listed(), before, "something was written");
        // An os-release is a file of the OS, too.
        let rules = format!("{rule},shadowed-file");
        let (status, waived) = self.add(name, &["--dry-run", "--waive", &rules]);
        assert_eq!(status, 0, "{waived}");
        told
    }

    fn listed(&self) -> String {
        self.0.image(&["list"])
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const ANY: &str = "ID=_any\n";

#[test]
fn what_stops_others_or_damages_the_os_is_refused() {
    let os = Flatcar::new();
    os.extension("whole", ANY, &[("usr/lib/os-release", "ID=x\n")]);
    let told = os.refuses("whole", "release-match");
    assert!(told.contains("/usr/lib/os-release is in the extension"), "{told}");
    os.extension("hide", ANY, &[("usr/bin/env/", "")]);
    insta::assert_snapshot!(os.refuses("hide", "shadowed-file"), @"
    error[shadowed-file]: hide: /usr/bin/env is a directory in the extension, and a file in the target; whoever uses the file gets the extension's as long as it is attached
    error: nothing was added: what the image has would be hidden, or not be attached
    hint: correct what was found, or waive a rule by name (--waive RULE)
    ");
    os.extension("sbin", ANY, &[("usr/sbin/tool", "")]);
    os.refuses("sbin", "hidden-link");
    os.extension("other", ANY, &[("usr/bin/env", "another")]);
    os.refuses("other", "shadowed-file");
    os.extension("file", ANY, &[("usr/lib/systemd/", ""), ("usr/lib/system", "")]);
    assert_eq!(os.add("file", &[]).0, 0);
    os.0.write("usr/lib/system/one", "");
    os.refuses("file", "hidden-directory");
    os.pseudo("mode", ANY, &[], &["usr/bin d 700 0 0"]);
    let told = os.refuses("mode", "directory-mode");
    assert!(
        told.contains("is 0700 of 0:0 in the extension, and 0755 of 0:0 in the target"),
        "{told}"
    );
}

#[test]
fn what_no_extension_may_have_is_refused() {
    let os = Flatcar::new();
    for (name, line, reason) in [
        ("whiteout", "usr/bin/env c 644 0 0 0 0", "it is an overlayfs whiteout"),
        ("device", "usr/bin/null c 666 0 0 1 3", "it is a device, a socket or a pipe"),
        ("pipe", "usr/bin/pipe i 644 0 0 f", "it is a device, a socket or a pipe"),
    ] {
        os.pseudo(name, ANY, &[("usr/bin/", "")], &[line]);
        let (status, told) = os.add(name, &["--waive", "shadowed-file"]);
        assert_eq!(status, 1, "{told}");
        assert!(told.contains(&format!("could not add {name}.raw: ")), "{told}");
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(os.listed(), "");
}

/// Makes the tar archive `argv[1]` of an extension with an attribute by which overlayfs hides what a
/// lower directory has. Only root could set it on disk.
const OPAQUE: &str = "import io, sys, tarfile
archive = tarfile.open(sys.argv[1], 'w', format=tarfile.PAX_FORMAT)
release = 'usr/lib/extension-release.d/extension-release.opaque'
for name in ['usr', 'usr/bin', 'usr/lib', 'usr/lib/extension-release.d', release]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, data = tarfile.DIRTYPE, 0o755, b''
    if name == release:
        entry.type, entry.mode, data = tarfile.REGTYPE, 0o644, b'ID=_any\\n'
    if name == 'usr/bin':
        entry.pax_headers = {'SCHILY.xattr.trusted.overlay.opaque': 'y'}
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
archive.close()
";

#[test]
fn directories_that_hide_those_below_are_refused() {
    let os = Flatcar::new();
    let path = |name: &str| os.0.small.beside("out").join(name).display().to_string();
    let (tar, image) = (path("opaque.tar"), path("opaque.raw"));
    stdout_of("python3", ["-c", OPAQUE, &tar]);
    let make = "mksquashfs - \"$1\" -tar -quiet -no-progress -noappend < \"$0\"";
    stdout_of("sh", ["-c", make, &tar, &image]);
    let (status, told) = os.add("opaque", &[]);
    assert_eq!(status, 1, "{told}");
    assert!(told.contains("it carries trusted.overlay.opaque: attached, it would hide"), "{told}");
    assert_eq!(os.listed(), "");
}

/// Every format is read with its extension-release file.
#[test]
fn each_format_is_examined() {
    let os = Flatcar::new();
    for format in ["squashfs:gzip", "erofs", "erofs:none", "ext4", "ddi:none"] {
        let fields = ["--release", "ID=flatcar", "--release", "SYSEXT_LEVEL=2.0"];
        let options = ["--format", format, "--architecture", "x86-64", "--no-reports"];
        os.0.small.pack("out", &[&fields[..], &options].concat());
        let (status, told) = os.add("small", &["--dry-run"]);
        assert_eq!(status, 0, "{format}: {told}");
        let level = "it has SYSEXT_LEVEL=2.0, and the target SYSEXT_LEVEL=1.0";
        assert!(told.contains(level), "{format}: {told}");
    }
}

#[test]
fn damaged_data_are_found_before_they_are_added() {
    let os = Flatcar::new();
    let noise: String =
        (0..400_000_u32).map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761))).collect();
    let image = os.extension("damaged", ANY, &[("usr/share/noise", &noise)]);
    let whole = fs_err::read(&image).unwrap();
    let half = whole[..whole.len() / 2].to_owned();
    let mut inside = whole.clone();
    inside[whole.len() / 3..][..64].fill(0x55);
    for damaged in [half, inside] {
        fs_err::write(&image, damaged).unwrap();
        let (status, told) = os.add("damaged", &[]);
        assert_eq!(status, 1, "{told}");
        assert!(told.contains("damaged.raw"), "{told}");
        assert_eq!(os.listed(), "");
    }
    fs_err::write(&image, whole).unwrap();
    assert_eq!(os.add("damaged", &[]), (0, String::new()));
    // One that is in the image, and is damaged, is warned of when another one is added.
    let there = os.0.rootfs.join("opt/extensions/damaged/damaged.raw");
    fs_err::write(there, fs_err::read(&image).unwrap().split_at(200_000).0).unwrap();
    os.extension("fine", ANY, &[("usr/share/fine", "")]);
    let (status, told) = os.add("fine", &[]);
    assert_eq!(status, 0, "{told}");
    let warning =
        "warning: the image has the extension damaged, which keeps systemd from attaching any";
    assert!(told.starts_with(warning), "{told}");
    let check = os.0.try_image(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
}

#[test]
fn what_the_os_passes_over_is_warned_of() {
    let os = Flatcar::new();
    let other = if cfg!(target_arch = "aarch64") { "x86-64" } else { "arm64" };
    for (name, release) in [
        ("arm", format!("ID=_any\nARCHITECTURE={other}\n")),
        ("fedora", "ID=fedora\nVERSION_ID=41\n".into()),
        ("idonly", "ID=flatcar\n".into()),
        ("level", "ID=flatcar\nSYSEXT_LEVEL=2.0\n".into()),
    ] {
        os.extension(name, &release, &[(&format!("usr/share/{name}"), "")]);
        let (status, told) = os.add(name, &[]);
        assert_eq!(status, 0, "{told}");
        assert!(told.starts_with(&format!("warning[release-match]: {name}: ")), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    os.extension("fits", "ID=flatcar\nSYSEXT_LEVEL=1.0\n", &[("usr/share/fits", "")]);
    assert_eq!(os.add("fits", &[]), (0, String::new()));
}

/// systemd sorts extensions like versions, by name, and lays the last one over all others.
#[test]
fn files_that_hide_each_other_are_told_with_their_order() {
    let os = Flatcar::new();
    let shared = "usr/share/shared";
    os.extension("a9", ANY, &[(shared, "nine"), ("usr/share/same", "same")]);
    os.extension("a10", ANY, &[(shared, "ten"), ("usr/share/same", "same")]);
    assert_eq!(os.add("a9", &[]), (0, String::new()));
    let (status, told) = os.add("a10", &[]);
    assert_eq!(status, 0, "{told}");
    insta::assert_snapshot!(told, @"warning[shadowed-file]: a10: /usr/share/shared is another file in the extension a9; this one is seen, since its name comes last; whoever uses the file gets the extension's as long as it is attached");
    // The same of extensions that are added at once, and of one below those that are there.
    os.extension("a1", ANY, &[(shared, "one")]);
    let (status, told) = os.add("a1", &["a10.raw"]);
    assert_eq!((status, told.lines().count()), (0, 3), "{told}");
    let check = os.0.try_image(&["check"]);
    assert_eq!(check.status.code(), Some(0));
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert_eq!(said.matches("warning[shadowed-file]").count(), 3, "{said}");
}

#[test]
fn caches_that_hide_each_other_are_refused() {
    let os = Flatcar::new();
    let schemas = "usr/share/glib-2.0/schemas/gschemas.compiled";
    for (name, text) in [("one", "1"), ("two", "2")] {
        os.extension(name, ANY, &[(schemas, text)]);
    }
    os.extension("same", ANY, &[(schemas, "1")]);
    assert_eq!(os.add("one", &[]), (0, String::new()));
    assert_eq!(os.add("same", &[]), (0, String::new()));
    os.0.image(&["remove", "same"]);
    insta::assert_snapshot!(os.refuses("two", "hidden-cache"), @"
    error[hidden-cache]: two: /usr/share/glib-2.0/schemas/gschemas.compiled is another cache in the extension one, made by glib-compile-schemas; this one is seen, since its name comes last; what the hidden one alone lists is not found, like schemas, icons, file types or modules
    error: nothing was added: what the image has would be hidden, or not be attached
    hint: correct what was found, or waive a rule by name (--waive RULE)
    ");
    // Both are there, whoever added them.
    assert_eq!(os.add("two", &["--waive", "hidden-cache"]).0, 0);
    let check = os.0.try_image(&["check", "--json"]);
    assert_eq!(check.status.code(), Some(3));
    let found: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(found[0]["rule"], "hidden-cache");
    assert_eq!(found[0]["extension"], "two");
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(os.0.try_image(&["check", "--waive", "hidden-cache"]).status.code(), Some(0));
    let unknown = os.0.try_image(&["check", "--waive", "no-such"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn many_differences_are_counted() {
    let os = Flatcar::new();
    let paths: Vec<String> = (0..20).map(|n| format!("usr/share/many/{n:02}")).collect();
    for name in ["first", "second"] {
        let files: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), name)).collect();
        os.extension(name, ANY, &files);
    }
    let (status, told) = os.add("first", &["second.raw"]);
    assert_eq!((status, told.lines().count()), (0, 6), "{told}");
    assert!(told.contains("(15 like this)"), "{told}");
}
