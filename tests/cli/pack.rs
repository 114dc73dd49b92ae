//! `fprefix pack`, by what it writes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::small_root::{BUILD_TIME, FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{both_streams, stdout_as_root_of, stdout_of, stdout_of_success};

/// What a squashfs image holds, by unsquashfs: `mode owner size [-> target]` by path.
fn squashfs(image: &Path) -> BTreeMap<String, String> {
    let image = image.to_str().unwrap();
    let listing = stdout_of("unsquashfs", ["-UTC", "-lln", image]);
    let mut entries = BTreeMap::new();
    for line in listing.lines() {
        let (head, path) = line.split_once("squashfs-root").expect(line);
        let words: Vec<&str> = head.split_whitespace().collect();
        let (path, target) = path.split_once(" -> ").unwrap_or((path, ""));
        entries.insert(path.to_owned(), [words[0], words[1], words[3], words[4], target].join(" "));
    }
    entries
}

#[test]
fn the_image_is_the_plan_and_not_the_disk() {
    let small = SmallRoot::full();
    small.pack("out", &[]);
    let image = squashfs(&small.beside("out/small.raw"));
    let at = |path: &str| image.get(path).cloned().unwrap_or_default();
    let epoch = "2023-11-14 22:13";
    for shared in ["", "/usr", "/usr/lib/extension-release.d", "/usr/local", "/usr/local/small"] {
        assert_eq!(at(shared), format!("drwxr-xr-x 0/0 {epoch} "), "{shared}");
    }
    let inside = |path: &str| at(&format!("/usr/local/small/{path}"));
    assert_eq!(inside("usr/bin/program"), format!("-rwxr-xr-x 0/0 {epoch} "));
    assert_eq!(inside("usr/bin/setuid"), format!("-rwsr-xr-x 0/0 {epoch} "));
    assert_eq!(inside("var/lib/thing"), format!("drwxrwx--T 0/0 {epoch} "));
    assert_eq!(inside("lib64"), format!("lrwxrwxrwx 0/0 {epoch} usr/lib64"));
    assert_eq!(
        inside("usr/lib64/libthing.so.1"),
        format!("lrwxrwxrwx 0/0 {epoch} libthing.so.1.2")
    );
    assert_ne!(inside("usr/lib64/plugins/libplugin.so"), "");
    let old = "-rw-r--r-- 0/0 2001-09-09 01:46 ";
    assert_eq!(inside("usr/share/thing/na me 'é' \"x\""), old, "an old file keeps its time");
    for gone in [
        "usr/include",
        "usr/lib64/libthing.a",
        "usr/lib64/libthing.so",
        "usr/lib64/libscript.so",
        "usr/share/doc",
        "var/db",
    ] {
        assert_eq!(inside(gone), "", "{gone}");
    }
}

#[test]
fn a_library_that_a_program_loads_by_name_keeps_it() {
    let small = SmallRoot::full();
    let program = small.inside("usr/bin/program");
    let mut bytes = fs_err::read(&program).unwrap();
    bytes.extend(b"\0libthing.so\0");
    fs_err::write(&program, bytes).unwrap();
    // A library without a version in its soname is no name for the link editor either.
    small.copy(crate::harness::small_programs::library(), "usr/lib64/libplain.so", 0o755);
    small.pack("out", &[]);
    let image = squashfs(&small.beside("out/small.raw"));
    for name in ["libthing.so", "libplain.so", "plugins/libplugin.so"] {
        assert!(image.contains_key(&format!("/usr/local/small/usr/lib64/{name}")), "{name}");
    }
}

#[test]
fn the_release_file_describes_the_package() {
    let small = SmallRoot::full();
    let release = |out: &str, options: &[&str]| {
        small.pack(out, &[&["--format", "directory", "--no-reports"], options].concat());
        let file = "small/usr/lib/extension-release.d/extension-release.small";
        let text = fs_err::read_to_string(small.beside(out).join(file)).unwrap();
        text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(release("none", &[]), [""; 0]);
    small.file("var/lib/portage/world", "@other\napp-misc/thing\n");
    let about = ["SYSEXT_ID=small", "SYSEXT_NAME=thing", "SYSEXT_VERSION_ID=1.2"];
    let page = "SYSEXT_HOME_URL=https://thing.example/";
    assert_eq!(release("one", &[]), [&about[..], &[page]].concat());
    let given = ["--release", "SYSEXT_VERSION_ID=5", "--release", "SYSEXT_NAME=The Thing"];
    let lines = ["SYSEXT_ID=small", "SYSEXT_NAME=\"The Thing\"", "SYSEXT_VERSION_ID=5", page];
    assert_eq!(release("given", &given), lines);
    small.file("var/lib/portage/world", "app-misc/thing\napp-misc/other\n");
    assert_eq!(release("two", &[]), [""; 0], "it is about neither");
}

#[test]
fn what_is_unpacked_is_what_was_packed() {
    let small = SmallRoot::full();
    small.pack("out", &["--name", "other"]);
    let out = small.beside("tree");
    let image = small.beside("out/other.raw");
    stdout_of("unsquashfs", ["-d", out.to_str().unwrap(), image.to_str().unwrap()]);
    let release = out.join("usr/lib/extension-release.d/extension-release.other");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86-64" };
    assert_eq!(
        fs_err::read_to_string(release).unwrap(),
        format!("ID=_any\nARCHITECTURE={architecture}\n")
    );
    let inside = |path: &str| out.join("usr/local/small").join(path);
    let program = fs_err::read(inside("usr/bin/program")).unwrap();
    assert_eq!(program, fs_err::read(crate::harness::small_programs::program()).unwrap());
    let data = fs_err::metadata(inside("usr/share/thing/data")).unwrap();
    let same = fs_err::metadata(inside("usr/share/thing/same data")).unwrap();
    assert_eq!((data.ino(), data.nlink()), (same.ino(), 2), "hard links");
}

#[test]
fn the_same_root_gives_the_same_bytes() {
    let small = SmallRoot::full();
    let bytes = |output: &str| fs_err::read(small.beside(output).join("small.raw")).unwrap();
    small.pack("first", &[]);
    let first = bytes("first");
    for passing in ["usr/share/passing", "usr/bin/passing", "passing"] {
        small.file(passing, "");
        fs_err::remove_file(small.inside(passing)).unwrap();
    }
    small.pack("second", &[]);
    assert!(first == bytes("second"), "directories that were touched change the image");
    // The user's number is another one in a namespace, as it is on another machine.
    fs_err::create_dir(small.beside("third")).unwrap();
    let mut arguments: Vec<String> =
        ["--unshare-user", "--uid", "4321", "--gid", "1234", "--dev-bind", "/", "/", "--"]
            .map(String::from)
            .into();
    arguments.push(FPREFIX.to_owned());
    arguments.extend(small.arguments("third", &[]));
    stdout_of("bwrap", &arguments);
    assert!(first == bytes("third"), "another user gets another image");
}

#[test]
fn the_time_of_the_image_can_be_set() {
    let small = SmallRoot::full();
    let pack = |value: &str| {
        let mut command = fprefix();
        command.env("SOURCE_DATE_EPOCH", value).args(small.arguments("out", &["--json"]));
        command.output().unwrap()
    };
    let packed: serde_json::Value = serde_json::from_str(&stdout_of_success(pack("1000"))).unwrap();
    assert_eq!(packed["epoch"], 1000);
    let image = squashfs(&small.beside("out/small.raw"));
    assert!(image.values().all(|entry| entry.contains("1970-01-01 00:16")), "{image:#?}");
    let refused = pack("yesterday");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("SOURCE_DATE_EPOCH is \"yesterday\"")
    );
}

#[test]
fn the_version_is_never_in_the_name_that_is_attached() {
    let small = SmallRoot::full();
    let answer = small.pack("out", &["--version", "1.0", "--architecture", "arm64"]);
    let (out, link) = (small.beside("out"), small.beside("out/small.raw"));
    assert_eq!(fs_err::read_link(&link).unwrap(), Path::new("small-1.0-arm64.raw"));
    assert!(answer.contains("small-1.0-arm64.raw (squashfs, "), "{answer}");
    assert!(squashfs(&link).contains_key("/usr/lib/extension-release.d/extension-release.small"));
    let sums = fs_err::read_to_string(small.beside("out/SHA256SUMS")).unwrap();
    small.pack("out", &["--version", "1.1", "--architecture", "arm64"]);
    assert_eq!(fs_err::read_link(&link).unwrap(), Path::new("small-1.1-arm64.raw"));
    let more = fs_err::read_to_string(small.beside("out/SHA256SUMS")).unwrap();
    assert!(more.starts_with(&sums) && more.ends_with("  small-1.1-arm64.raw\n"), "{more}");
    stdout_of("sh", ["-c", "cd $0 && sha256sum --strict -c SHA256SUMS", out.to_str().unwrap()]);
    small.pack("out", &[]);
    assert!(!link.is_symlink() && link.is_file());
    let mut left: Vec<_> = fs_err::read_dir(out).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.retain(|name| name.to_str().unwrap().ends_with("raw"));
    left.sort();
    assert_eq!(left, ["small-1.0-arm64.raw", "small-1.1-arm64.raw", "small.raw"]);
}

#[test]
fn fields_say_where_it_is_attached() {
    let small = SmallRoot::full();
    let fields = ["--release", "ID=flatcar", "--release", "EXTENSION_RELOAD_MANAGER=1"];
    small.pack(
        "out",
        &[&fields[..], &["--format", "directory", "--architecture", "arm64"]].concat(),
    );
    let file = small.beside("out/small/usr/lib/extension-release.d/extension-release.small");
    assert_eq!(
        fs_err::read_to_string(file).unwrap(),
        "ID=flatcar\nARCHITECTURE=arm64\nEXTENSION_RELOAD_MANAGER=1\n"
    );
    let alone = small.try_pack("alone", &["--release", "ID=flatcar", "--no-reports"]);
    let warning =
        "with ID=flatcar alone, systemd attaches the extension only where os-release has no";
    assert!(both_streams(&alone).contains(warning), "{}", both_streams(&alone));
    insta::assert_snapshot!(small.refuse("out", &["--release", "SYSEXT_LEVEL=1"]), @"
    >>> planning small from [DIR]/root
    error: SYSEXT_LEVEL says which release of a distribution an extension is for: give its ID too
    ");
    assert_eq!(small.try_pack("out", &["--release", "COLOUR=red"]).status.code(), Some(2));
}

#[test]
fn answers_as_json() {
    let small = SmallRoot::full();
    let packed = small.pack("out", &["--json"]);
    let packed: serde_json::Value = serde_json::from_str(&packed).unwrap();
    let image = small.beside("out/small.raw");
    assert_eq!(packed["images"][0]["path"], image.to_str().unwrap());
    assert_eq!(packed["images"][0]["size"], fs_err::metadata(&image).unwrap().len());
    let sum = stdout_of("sha256sum", [image.to_str().unwrap()]);
    assert_eq!(packed["images"][0]["sha256"], sum.split(' ').next().unwrap());
    assert_eq!(packed["epoch"], BUILD_TIME);
    assert_eq!(packed["contents"]["hard_links"], 1);
    assert_eq!(packed["privileged"], serde_json::json!(["/usr/local/small/usr/bin/setuid"]));
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let small = SmallRoot::full();
    let text = small.pack("out", &["--dry-run", "--keep", "doc"]);
    assert!(text.contains("-4755 0:0 "), "{text}");
    assert!(text.contains("/usr/local/small/usr/share/doc/thing/README\n"), "{text}");
    assert!(text.contains("left out: headers (2 entries, 11 B): compilers"), "{text}");
    assert!(!small.beside("out").exists());
}

#[test]
fn refuses_what_can_not_be_an_extension() {
    let elsewhere = SmallRoot::empty("/srv/small");
    insta::assert_snapshot!(elsewhere.refuse("out", &[]), @"error: /srv/small is not below /usr or /opt, and systemd-sysext merges only those: the prefix can be built and checked, but not packed as a sysext");
    assert!(!elsewhere.beside("out").exists());

    let small = SmallRoot::full();
    let error = small.refuse_usage("out", &["--keep", "haeders"]);
    insta::assert_snapshot!(error, @r#"
    error: invalid value 'haeders' for '--keep <RULE>': there is no rule "haeders" to keep; there are headers, static, link-editor, pkgconfig, config-scripts, cmake, aclocal, introspection, doc, man, info, locale-sources, locales, optimized-bytecode, debug, portage, login, libc-tools, unused-libraries, charsets

    For more information, try '--help'.
    "#);
    let error = small.refuse_usage("out", &["--waive", "sahdowed-file"]);
    insta::assert_snapshot!(error, @r#"
    error: invalid value 'sahdowed-file' for '--waive <RULE>': there is no rule "sahdowed-file"; about attaching there are shadowed-file, hidden-cache, hidden-directory, hidden-link, directory-mode, linked-hierarchy, release-match, old-systemd, old-kernel, unknown-target; about files interpreter, needed, start, search-path, symbol-version, symbol, loader, character-sets, locale, name-services, opened, modules, machine, hardening, elf, shebang, bytecode, unit, effect, link, staging, relocated, place, special, name, unfinished, unowned, preserved, owner, mode, access

    For more information, try '--help'.
    "#);

    // Anyone may make a whiteout (overlayfs, mknod(2) since Linux 5.8).
    let place = small.inside("usr/bin/hidden");
    stdout_of("mknod", [place.to_str().unwrap(), "c", "0", "0"]);
    insta::assert_snapshot!(small.refuse("out", &[]), @"
    >>> planning small from [DIR]/root
    error: [DIR]/root/usr/local/small/usr/bin/hidden is an overlayfs whiteout: attached, it would hide a file
    ");
    fs_err::remove_file(&place).unwrap();
    stdout_of("mkfifo", [place.to_str().unwrap()]);
    insta::assert_snapshot!(small.refuse("out", &[]), @"
    >>> planning small from [DIR]/root
    error: [DIR]/root/usr/local/small/usr/bin/hidden is a device, a socket or a pipe; an extension holds none
    ");
    assert!(!small.beside("out").exists());
}

#[test]
fn a_prefix_in_opt_has_its_release_file_in_usr() {
    let small = SmallRoot::empty("/opt/vendor/small");
    small.file("share/data", "data\n");
    small.pack("out", &[]);
    let image = squashfs(&small.beside("out/small.raw"));
    assert!(image.contains_key("/opt/vendor/small/share/data"));
    assert!(image.contains_key("/usr/lib/extension-release.d/extension-release.small"));
}

/// Everything about the tree at `dir` that an image of it keeps.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let find = ["-mindepth", "1", "-printf", "%P\\0%m %n %T@ %l %s\\0"];
    let listing = stdout_of("find", [&[dir.to_str().unwrap()], &find[..]].concat());
    let words: Vec<&str> = listing.split('\0').collect();
    let mut entries = BTreeMap::new();
    for pair in words.chunks_exact(2) {
        let is_file = dir.join(pair[0]).symlink_metadata().unwrap().is_file();
        let sizes_tell = is_file || dir.join(pair[0]).is_symlink();
        let facts = if sizes_tell { pair[1] } else { pair[1].rsplit_once(' ').unwrap().0 };
        let mut facts: Vec<&str> = facts.split(' ').collect();
        if !is_file {
            facts.remove(1); // A directory's link count is the filesystem's.
        }
        entries.insert(pair[0].to_owned(), facts.join(" "));
    }
    entries
}

#[test]
fn every_format_holds_the_same() {
    let small = SmallRoot::full();
    let formats = ["squashfs:gzip:1", "directory", "tar", "erofs:none"];
    let mut options: Vec<&str> = formats.iter().flat_map(|format| ["--format", format]).collect();
    options.extend(["--version", "1", "--architecture", "arm64"]);
    let answer = small.pack("out", &options);
    for line in ["small-1-arm64.squashfs.raw (squashfs, ", "small.raw links to it\n"] {
        assert!(answer.contains(line), "{answer}");
    }
    let out = |name: &str| small.beside("out").join(name);
    assert_eq!(
        fs_err::read_link(out("small.raw")).unwrap(),
        Path::new("small-1-arm64.squashfs.raw")
    );
    assert_eq!(fs_err::read_link(out("small")).unwrap(), Path::new("small-1-arm64"));
    let directory = tree(&out("small-1-arm64"));
    assert!(directory["usr/local/small/usr/bin/setuid"].starts_with("4755 1 "), "{directory:#?}");
    let unpack = |program: &str, arguments: &[&str]| {
        let dir = small.beside(program);
        let dir = dir.to_str().unwrap();
        let arguments: Vec<&str> =
            arguments.iter().map(|word| if *word == "DIR" { dir } else { word }).collect();
        stdout_as_root_of(program, &arguments);
        tree(Path::new(dir))
    };
    let file = |name: &str| out(name).display().to_string();
    let squashfs = file("small-1-arm64.squashfs.raw");
    assert_eq!(unpack("unsquashfs", &["-d", "DIR", &squashfs]), directory);
    fs_err::create_dir(small.beside("tar")).unwrap();
    let archive = file("small-1-arm64.tar");
    assert_eq!(unpack("tar", &["-x", "-p", "-C", "DIR", "-f", &archive]), directory);
    // fsck.erofs makes files of hard links, and drops setuid.
    let erofs = file("small-1-arm64.erofs.raw");
    let extract = format!("--extract={}", small.beside("fsck.erofs").display());
    let unpacked = unpack("fsck.erofs", &[&extract, "--preserve-perms", &erofs]);
    assert_eq!(unpacked.keys().collect::<Vec<_>>(), directory.keys().collect::<Vec<_>>());
    let looked_at =
        stdout_of("dump.erofs", ["--path=/usr/local/small/usr/share/thing/data", &erofs]);
    assert!(looked_at.contains("Links: 2"), "{looked_at}");
}

#[test]
fn every_format_is_reproducible() {
    let small = SmallRoot::full();
    let formats = ["squashfs", "erofs", "erofs-tight", "ext4", "tar"];
    for format in formats {
        let name = if format == "tar" { "small.tar" } else { "small.raw" };
        let pack = |output: &str| {
            small.pack(output, &["--format", format]);
            fs_err::read(small.beside(output).join(name)).unwrap()
        };
        let first = pack("first");
        small.file("usr/bin/passing", "");
        fs_err::remove_file(small.inside("usr/bin/passing")).unwrap();
        assert!(first == pack("second"), "{format}");
    }
}

#[test]
fn a_directory_is_replaced_only_where_it_is_this_extension() {
    let small = SmallRoot::full();
    small.pack("out", &["--format", "directory", "--no-reports"]);
    small.file("usr/share/thing/new", "");
    small.pack("out", &["--format", "directory", "--no-reports"]);
    assert!(small.beside("out/small/usr/local/small/usr/share/thing/new").exists());
    let error = small.refuse("", &["--format", "directory", "--name", "root"]);
    insta::assert_snapshot!(error, @"
    >>> planning root from [DIR]/root
    >>> writing root (directory)
    >>> writing the reports
    error: [DIR]/root is there, and is a directory that is not ours to replace
    ");
    assert!(small.inside("usr/bin/program").exists());
    assert_eq!(fs_err::read_dir(small.beside("out")).unwrap().count(), 1);
}

#[test]
fn capabilities_are_kept() {
    let small = SmallRoot::full();
    small.copy(crate::harness::small_programs::program(), "usr/bin/ping", 0o755);
    let ping = small.inside("usr/bin/ping").display().to_string();
    let words = "--unshare-user --uid 0 --gid 0 --cap-add ALL --dev-bind / / setcap cap_net_raw+ep";
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.push(&ping);
    stdout_of("bwrap", &arguments);
    let formats =
        ["--format", "tar", "--format", "squashfs", "--format", "erofs", "--format", "ext4"];
    let answer = small.pack("out", &[&formats[..], &["--json"]].concat());
    let packed: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(packed["privileged"][0], "/usr/local/small/usr/bin/ping");
    let archive = fs_err::read(small.beside("out/small.tar")).unwrap();
    let record = b"SCHILY.xattr.security.capability=\x01\0\0\x02\0\x20\0\0";
    assert!(archive.windows(record.len()).any(|window| window == record), "no capability");
}
