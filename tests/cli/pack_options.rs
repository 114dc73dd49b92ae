//! What changes the content of an extension, and what is written for those who fetch it.

use std::path::{Path, PathBuf};

use crate::harness::small_programs::program;
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::{both_streams, stdout_of};

/// Unpacks the image `name`.
fn unpack(small: &SmallRoot, name: &str) -> PathBuf {
    let dir = small.beside(&format!("{name}.tree"));
    let image = small.beside("out").join(name);
    stdout_of("unsquashfs", ["-f", "-d", dir.to_str().unwrap(), image.to_str().unwrap()]);
    dir
}

#[test]
fn programs_are_exposed() {
    let small = SmallRoot::full();
    small.pack("out", &["--expose", "program"]);
    let tree = unpack(&small, "small.raw");
    let link = tree.join("usr/bin/program");
    assert_eq!(fs_err::read_link(&link).unwrap(), Path::new("../local/small/usr/bin/program"));
    assert_eq!(fs_err::read(&link).unwrap(), fs_err::read(program()).unwrap());
    assert!(!tree.join("usr/bin/setuid").exists());

    let opt = SmallRoot::empty("/opt/small");
    opt.copy(program(), "bin/program", 0o755);
    opt.pack("out", &["--expose", "all"]);
    let link = unpack(&opt, "small.raw").join("usr/bin/program");
    assert_eq!(fs_err::read_link(&link).unwrap(), Path::new("../../opt/small/bin/program"));
    assert_eq!(fs_err::read(&link).unwrap(), fs_err::read(program()).unwrap());
}

#[test]
fn what_the_target_has_is_not_hidden() {
    let small = SmallRoot::full();
    let target = small.beside("target");
    fs_err::create_dir_all(target.join("usr/bin")).unwrap();
    fs_err::write(target.join("usr/bin/program"), "").unwrap();
    let base = target.to_str().unwrap();
    let error = small.refuse("out", &["--base", base, "--expose", "program"]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    error: [DIR]/target has /usr/bin/program already, which a link would hide
    ");
    let error = small.refuse("out", &["--expose", "nothing"]);
    insta::assert_snapshot!(error, @r#"
    >>> planning small from [DIR]/root
    error: the prefix has no program "nothing" to expose
    "#);
    small.pack("out", &["--base", base, "--expose", "all"]);
    let tree = unpack(&small, "small.raw");
    assert!(tree.join("usr/bin/setuid").is_symlink() && !tree.join("usr/bin/program").exists());
}

#[test]
fn packages_that_a_base_has_are_left_out() {
    let small = SmallRoot::full();
    small.pack("out", &["--name", "first", "--pkginfo"]);
    small.file("usr/share/later/file", "later\n");
    let fact = |name: &str, text: &str| {
        small.file(&format!("var/db/pkg/app-misc/later-1/{name}"), text);
    };
    fact("repository", "gentoo\n");
    fact("CONTENTS", "obj /usr/local/small/usr/share/later/file 0123 1700000000\n");
    let base = small.beside("out/first_pkginfo.raw");
    let answer = small.pack("out", &["--base", base.to_str().unwrap(), "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["in_base"], serde_json::json!(["app-misc/thing-1.2-r1"]));
    let tree = unpack(&small, "small.raw").join("usr/local/small/usr");
    assert!(tree.join("share/later/file").exists());
    assert!(!tree.join("bin/program").exists(), "the base's package has it");
    assert!(tree.join("bin/setuid").exists(), "no package has it");
    let packages = fs_err::read_to_string(small.beside("out/small_packages.txt")).unwrap();
    assert_eq!(packages, "app-misc/later-1::gentoo\n");
}

#[test]
fn content_is_mangled() {
    let small = SmallRoot::full();
    let over = small.beside("over");
    fs_err::create_dir_all(over.join("usr/lib/tmpfiles.d")).unwrap();
    fs_err::write(over.join("usr/lib/tmpfiles.d/small.conf"), "d /var/lib/small\n").unwrap();
    fs_err::create_dir_all(over.join("usr/local/small/usr/share/thing")).unwrap();
    fs_err::write(over.join("usr/local/small/usr/share/thing/data"), "other\n").unwrap();
    stdout_of("chmod", ["-R", "g+w,o-rx", over.to_str().unwrap()]);
    let script = small.beside("script");
    let text = "#!/bin/sh\nset -eu\ncd \"$1\"\numask 077\nmkdir -p usr/lib/systemd/system\n\
                rm usr/local/small/usr/bin/setuid\necho [Unit] > usr/lib/systemd/system/x.service\n";
    fs_err::write(&script, text).unwrap();
    stdout_of("chmod", ["755", script.to_str().unwrap()]);
    let mangle =
        ["--mangle", over.to_str().unwrap(), "--mangle", script.to_str().unwrap(), "--json"];
    let answer = small.pack("out", &mangle);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["privileged"], serde_json::json!([]), "the script removed it");
    let tree = unpack(&small, "small.raw");
    let text = |path: &str| fs_err::read_to_string(tree.join(path)).unwrap();
    assert_eq!(text("usr/local/small/usr/share/thing/data"), "other\n");
    assert_eq!(text("usr/local/small/usr/share/thing/same data"), "data\n");
    assert_eq!(text("usr/lib/systemd/system/x.service"), "[Unit]\n");
    let modes =
        stdout_of("find", [tree.join("usr/lib").to_str().unwrap(), "-type", "d", "-printf", "%m "]);
    assert_eq!(
        modes.trim(),
        ["755"; 5].join(" "),
        "shared directories are as every target has them"
    );
    let first = fs_err::read(small.beside("out/small.raw")).unwrap();
    small.pack("out", &mangle);
    assert!(first == fs_err::read(small.beside("out/small.raw")).unwrap());

    fs_err::write(&script, "#!/bin/sh\necho no such thing >&2\nexit 5\n").unwrap();
    let error = small.refuse("failed", &["--mangle", script.to_str().unwrap()]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    >>> mangling the content
    error: could not mangle the content: `[DIR]/script [DIR]/failed/.fprefix-pack-[RANDOM]/made/.mangled-0` ended with status 5
      no such thing
    ");
}

#[test]
fn what_mangling_leaves_is_checked() {
    let small = SmallRoot::full();
    let over = small.beside("over");
    let bin = over.join("usr/local/small/usr/bin");
    fs_err::create_dir_all(&bin).unwrap();
    fs_err::write(bin.join("added"), "#!/usr/bin/perl\n").unwrap();
    stdout_of("chmod", ["-R", "u=rwX,go=rX", over.to_str().unwrap()]);
    stdout_of("chmod", ["755", bin.join("added").to_str().unwrap()]);
    let over = ["--mangle", over.to_str().unwrap()];
    let output = small.try_pack("out", &over);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let finding = "error[shebang]: /usr/local/small/usr/bin/added: is run by /usr/bin/perl";
    assert!(said.contains(finding), "{said}");
    assert_eq!(fs_err::read_dir(small.beside("out")).unwrap().count(), 0);

    // What mangling mends is mended, and what it takes away is missed.
    let script = small.beside("script");
    let write = |line: &str| {
        fs_err::write(
            &script,
            format!("#!/bin/sh\nset -eu\ncd \"$1\"/usr/local/small/usr\n{line}\n"),
        )
        .unwrap();
        stdout_of("chmod", ["755", script.to_str().unwrap()]);
    };
    let script_option = ["--mangle", script.to_str().unwrap()];
    write("rm bin/added; ln -s program bin/alias");
    small.pack("out", &[&over[..], &script_option].concat());
    write("ln -s gone bin/alias");
    let output = small.try_pack("other", &script_option);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("usr/bin/alias"), "{said}");
}

#[test]
fn updates_can_be_fetched() {
    let small = SmallRoot::full();
    let url = ["--sysupdate", "https://example.org/images"];
    let version = ["--version", "1.0", "--architecture", "arm64"];
    small.pack("out", &[url, ["--version", "1.0"]].concat());
    small.pack("out", &[&url[..], &version[..]].concat());
    let text = fs_err::read_to_string(small.beside("out/small.transfer")).unwrap();
    assert_eq!(text, fs_err::read_to_string(small.beside("out/small.conf")).unwrap());
    for line in [
        "Verify=yes",
        "Path=https://example.org/images/",
        "MatchPattern=small-@v-arm64.raw",
        "CurrentSymlink=/etc/extensions/small.raw",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
    }
    let without = small.try_pack("out", &url);
    assert_eq!(without.status.code(), Some(2));
    let directory = [&url[..], &version[..], &["--format", "directory"]].concat();
    insta::assert_snapshot!(small.refuse("out", &directory), @"
    >>> planning small from [DIR]/root
    error: systemd-sysupdate fetches image files, and small-1.0-arm64 is none
    ");
    assert_eq!(
        small.try_pack("out", &["--sysupdate", "ftp://x", "--version", "1"]).status.code(),
        Some(2)
    );
}

/// systemd-sysupdate needs a list of the images, and a signature of the list.
#[test]
fn updates_that_would_not_be_fetched_are_warned_of() {
    let small = SmallRoot::full();
    let url = ["--sysupdate", "https://example.org/images", "--version", "1.0"];
    let warnings = |more: &[&str]| {
        let output = small.try_pack("out", &[&url, more].concat());
        assert!(output.status.success(), "{output:?}");
        let said = small.plain(&output.stderr);
        let lines = said.lines().filter(|line| line.contains("systemd-sysupdate fetches"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let arch = ["--architecture", "arm64"];
    insta::assert_snapshot!(warnings(&[&arch[..], &["--no-reports"]].concat()), @"warning: [DIR]/out/SHA256SUMS does not list small-1.0-arm64.raw, and systemd-sysupdate fetches only what is listed there: pack without --no-reports (in fprefix.toml: reports = true), or add the line of `sha256sum small-1.0-arm64.raw`");
    insta::assert_snapshot!(warnings(&arch), @"warning: small.transfer says Verify=yes, and [DIR]/out/SHA256SUMS has no signature SHA256SUMS.gpg, without which systemd-sysupdate fetches nothing: sign it with --sign-sums KEY, or with `gpg --detach-sign --output SHA256SUMS.gpg SHA256SUMS`");
    // Whoever signs the list elsewhere is not warned.
    fs_err::write(small.beside("out/SHA256SUMS.gpg"), "").unwrap();
    assert_eq!(warnings(&["--force"]), "");
}

/// `k3s-@v.raw` takes images of `k3s-worker` too.
#[test]
fn updates_of_one_extension_take_no_other() {
    let small = SmallRoot::full();
    let url = ["--sysupdate", "https://example.org/images"];
    let pack = |name: &str, more: &[&str]| {
        let options = ["--name", name, "--version", "1.0"];
        small.try_pack("out", &[&options, more].concat())
    };
    assert!(pack("k3s-worker", &[]).status.success());
    let first = pack("k3s", &url);
    assert_eq!(first.status.code(), Some(1));
    let said = both_streams(&first);
    assert!(said.contains("k3s.transfer takes every image like k3s-@v"), "{said}");
    assert!(!small.beside("out/k3s.raw").exists());
    fs_err::remove_dir_all(small.beside("out")).unwrap();
    assert!(pack("k3s", &url).status.success());
    let second = pack("k3s-worker", &url);
    assert_eq!(second.status.code(), Some(1));
    assert!(!small.beside("out/k3s-worker.raw").exists());
    // Architectures end a pattern, and others may be beside it.
    assert!(pack("k3s", &url).status.success() && pack("k8s", &url).status.success());
}

#[test]
fn services_are_where_systemd_looks() {
    let small = SmallRoot::full();
    let service = "[Service]\nExecStart=-/usr/sbin/program -f\nExecReload=/bin/kill -HUP 1\n";
    small.file("usr/lib/systemd/system/demo.service", service);
    small.file("usr/lib/systemd/system/demo.service.d/a.conf", "[Service]\nNice=5\n");
    small.file("usr/lib/systemd/system/theirs.service", "[Service]\nExecStart=/bin/true\n");
    small.file("usr/lib/tmpfiles.d/demo.conf", "d /run/demo\n");
    small.file("usr/lib/sysusers.d/demo.conf", "u demo -\n");
    let target = small.beside("target");
    fs_err::create_dir_all(target.join("usr/lib/systemd/system")).unwrap();
    fs_err::write(target.join("usr/lib/systemd/system/theirs.service"), "").unwrap();
    let base = target.to_str().unwrap();
    small.pack("out", &["--start", "demo.service", "--base", base]);
    let tree = unpack(&small, "small.raw").join("usr/lib");
    let text = |path: &str| fs_err::read_to_string(tree.join(path)).unwrap();
    assert_eq!(
        text("systemd/system/demo.service"),
        service.replace("/usr/sbin/program", "/usr/local/small/usr/bin/program")
    );
    assert_eq!(text("systemd/system/demo.service.d/a.conf"), "[Service]\nNice=5\n");
    assert_eq!(text("tmpfiles.d/demo.conf"), "d /run/demo\n");
    assert_eq!(text("sysusers.d/demo.conf"), "u demo -\n");
    assert!(!tree.join("systemd/system/theirs.service").exists());
    let wish = text("systemd/system/multi-user.target.d/10-small.conf");
    assert!(wish.contains("[Unit]\nUpholds=demo.service\n"), "{wish}");
    let release = text("extension-release.d/extension-release.small");
    assert!(release.contains("EXTENSION_RELOAD_MANAGER=1\n"), "{release}");
    let field = ["--release", "EXTENSION_RELOAD_MANAGER=0", "--format", "directory"];
    small.pack("out", &field);
    let release = "out/small/usr/lib/extension-release.d/extension-release.small";
    let release = fs_err::read_to_string(small.beside(release)).unwrap();
    assert!(release.contains("EXTENSION_RELOAD_MANAGER=0\n"), "{release}");
    let error = small.refuse("out", &["--start", "other.service"]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    error: the extension has no unit other.service to start; it has demo.service, demo.service.d, theirs.service
    ");
    assert_eq!(small.try_pack("out", &["--start", "demo"]).status.code(), Some(2));
}

#[test]
fn state_is_where_a_target_can_write() {
    let small = SmallRoot::full();
    small.file("etc/thing/thing.conf", "setting\n");
    small.pack("out", &["--state", "var/lib/thing,etc", "--format", "directory"]);
    let tree = small.beside("out/small");
    let prefix = tree.join("usr/local/small");
    let link = |path: &str| fs_err::read_link(prefix.join(path)).unwrap();
    assert_eq!(link("etc"), Path::new("/var/lib/small/etc"));
    assert_eq!(link("var/lib/thing"), Path::new("/var/lib/small/var/lib/thing"));
    // What systemd-tmpfiles makes of it on a target, where only /var can be written to.
    let words = ["--create", "--root", tree.to_str().unwrap(), "--prefix=/var/lib/small"];
    stdout_of("systemd-tmpfiles", words);
    let state = tree.join("var/lib/small");
    assert_eq!(fs_err::read_to_string(state.join("etc/thing/thing.conf")).unwrap(), "setting\n");
    let mode = stdout_of("stat", ["-c", "%a", state.join("var/lib/thing").to_str().unwrap()]);
    assert_eq!(mode.trim(), "1770");
    let error = small.refuse("out", &["--state", "srv"]);
    insta::assert_snapshot!(error, @"
    >>> planning small from [DIR]/root
    error: the prefix has no directory srv for state
    ");
}
