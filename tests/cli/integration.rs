//! Files of packages at the places where a target looks for them, read by systemd's own programs.

use std::path::{Path, PathBuf};

use crate::harness::small_root::SmallRoot;
use crate::harness::tools::{both_streams, command, output_of, stdout_of};

const EPREFIX: &str = "/usr/local/small";

/// A root with one program, and a program for udev.
fn root() -> SmallRoot {
    let small = SmallRoot::empty(EPREFIX);
    for program in ["usr/bin/demo", "usr/lib/udev/probe"] {
        small.file(program, "");
        small.mode(program, 0o755);
    }
    small
}

/// Packs the root into a directory. Returns it, and what was said.
fn pack(small: &SmallRoot, more: &[&str]) -> (PathBuf, String) {
    let options = [&["--format", "directory", "--no-reports"], more].concat();
    let output = small.try_pack("out", &options);
    let said = small.plain(both_streams(&output).as_bytes());
    assert!(output.status.success(), "{said}");
    (small.beside("out/small"), said)
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).unwrap()
}

#[test]
fn files_are_where_a_target_reads_them_and_name_programs_of_the_prefix() {
    let small = root();
    let own = |text: &str| text.replace("=/usr", &format!("={EPREFIX}/usr"));
    let bus = "[D-BUS Service]\nName=a.b\nExec=/usr/bin/demo --bus\nUser=root\n";
    let policy = "<annotate key=\"org.freedesktop.policykit.exec.path\">/usr/bin/demo</annotate>\n";
    let rule = "KERNEL==\"a\", PROGRAM==\"probe\", RUN+=\"/usr/bin/demo\", RUN+=\"other\"\n";
    let own_rule = format!(
        "KERNEL==\"a\", PROGRAM==\"{EPREFIX}/usr/lib/udev/probe\", RUN+=\"{EPREFIX}/usr/bin/demo\", \
         RUN+=\"other\"\n"
    );
    let cases = [
        ("usr/share/dbus-1/system-services/a.b.service", bus, own(bus)),
        ("usr/share/dbus-1/services/a.b.service", bus, own(bus)),
        (
            "usr/share/polkit-1/actions/a.policy",
            policy,
            policy.replace("/usr", &format!("{EPREFIX}/usr")),
        ),
        ("usr/share/polkit-1/rules.d/a.rules", "polkit\n", "polkit\n".to_owned()),
        ("usr/share/dbus-1/session.d/a.conf", "<busconfig/>\n", "<busconfig/>\n".to_owned()),
        ("usr/lib/udev/rules.d/60-a.rules", rule, own_rule),
        ("usr/lib/udev/hwdb.d/60-a.hwdb", "usb:v0\n", "usb:v0\n".to_owned()),
        ("usr/lib/sysctl.d/a.conf", "a.b=1\n", "a.b=1\n".to_owned()),
        ("usr/lib/modules-load.d/a.conf", "loop\n", "loop\n".to_owned()),
        ("usr/lib/modprobe.d/a.conf", "options a b=1\n", "options a b=1\n".to_owned()),
        ("usr/lib/environment.d/a.conf", "A=1\n", "A=1\n".to_owned()),
        (
            "usr/lib/binfmt.d/a.conf",
            ":a:E::a::/usr/bin/demo:\n",
            format!(":a:E::a::{EPREFIX}/usr/bin/demo:\n"),
        ),
        (
            "usr/lib/systemd/system-preset/a.preset",
            "enable a.service\n",
            "enable a.service\n".to_owned(),
        ),
        ("usr/lib/systemd/network/a.network", "[Match]\n", "[Match]\n".to_owned()),
    ];
    for (path, text, _) in &cases {
        small.file(path, text);
    }
    // Settings of an administrator's directory hide those of the same name.
    small.file("etc/dbus-1/system.d/a.conf", "<busconfig><!-- etc --></busconfig>\n");
    small.file("usr/share/dbus-1/system.d/a.conf", "<busconfig/>\n");
    small.file("usr/lib/sysctl.d/.keep_app-misc_a-0", "");
    small.file("usr/lib/sysctl.d/theirs.conf", "a.b=2\n");
    small.file("usr/share/a/other.conf", "other\n");
    small.link("../../share/a/other.conf", "usr/lib/sysctl.d/other.conf");
    small.link("a.conf", "usr/lib/sysctl.d/same.conf");
    small.link("../../../bin/demo", "usr/lib/systemd/system-generators/demo");
    let target = small.beside("target");
    fs_err::create_dir_all(target.join("usr/lib/sysctl.d")).unwrap();
    fs_err::write(target.join("usr/lib/sysctl.d/theirs.conf"), "").unwrap();
    let (tree, said) = pack(&small, &["--base", target.to_str().unwrap()]);
    for (path, text, expected) in &cases {
        assert_eq!(read(&tree.join(path)), *expected, "{path}");
        assert_eq!(read(&tree.join(EPREFIX.trim_start_matches('/')).join(path)), *text, "{path}");
    }
    assert_eq!(
        read(&tree.join("usr/share/dbus-1/system.d/a.conf")),
        "<busconfig><!-- etc --></busconfig>\n"
    );
    assert!(!tree.join("usr/lib/sysctl.d/.keep_app-misc_a-0").exists());
    assert!(!tree.join("usr/lib/sysctl.d/theirs.conf").exists());
    assert!(
        said.contains("left to the target, which has them: usr/lib/sysctl.d/theirs.conf"),
        "{said}"
    );
    let link = |path: &str| fs_err::read_link(tree.join(path)).unwrap();
    assert_eq!(
        link("usr/lib/sysctl.d/other.conf"),
        Path::new(EPREFIX).join("usr/share/a/other.conf")
    );
    assert_eq!(link("usr/lib/sysctl.d/same.conf"), Path::new("a.conf"));
    let generator = tree.join("usr/lib/systemd/system-generators/demo");
    assert_eq!(
        fs_err::canonicalize(generator).unwrap(),
        fs_err::canonicalize(tree.join("usr/local/small/usr/bin/demo")).unwrap()
    );
    let unit = tree.join("usr/lib/systemd/system/small-rules.service");
    assert!(
        read(&unit)
            .contains("ExecStart=-/usr/lib/systemd/systemd-sysctl a.conf other.conf same.conf\n")
    );
    let verified = command("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    let verified = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!verified.contains("small-rules.service:"), "{verified}");
}

/// Follows the tmpfiles rules of the extension `tree` on a target with a writable /var and /run, and
/// a read-only EPREFIX. Returns the target.
fn follow_rules(small: &SmallRoot, tree: &Path) -> PathBuf {
    let target = small.beside("booted");
    stdout_of("cp", ["-a", tree.to_str().unwrap(), target.to_str().unwrap()]);
    let prefix = target.join(EPREFIX.trim_start_matches('/'));
    let before = stdout_of("find", [prefix.to_str().unwrap()]);
    let root = format!("--root={}", target.display());
    let output = output_of("systemd-tmpfiles", ["--create", "--remove", "--boot", &root]);
    assert!(output.status.success(), "{}", both_streams(&output));
    let after = stdout_of("find", [prefix.to_str().unwrap()]);
    assert_eq!(before, after, "rules changed the prefix, which is read-only on a target");
    target
}

#[test]
fn directories_that_rules_make_are_writable_on_a_target() {
    let small = root();
    fs_err::create_dir_all(small.inside("etc/there")).unwrap();
    fs_err::create_dir_all(small.inside("var/lib/parts/one")).unwrap();
    small.file("var/lib/kept/.keep_app-misc_demo-0", "");
    small.file("var/lib/full/data", "data\n");
    fs_err::create_dir_all(small.inside("run")).unwrap();
    small.link("../run", "var/run");
    let rules = "# A comment\n\
                 d PREFIX/var/lib/kept 0700 - - -\n\
                 d PREFIX/var/lib/none 0750 - - 10d\n\
                 f PREFIX/var/lib/none/file 0600 - - - text\n\
                 d PREFIX/var/lib/parts 0711\n\
                 d PREFIX/var/run/demo 0755\n\
                 d PREFIX/etc/there 0755 root root\n\
                 d /var/lib/others 0700\n\
                 C /etc/demo.conf\n\
                 d PREFIX/var/lib/full 0700\n\
                 d PREFIX/etc/none 0700\n";
    small.file("usr/lib/tmpfiles.d/demo.conf", &rules.replace("PREFIX", EPREFIX));
    small.file("usr/share/factory/etc/demo.conf", "setting\n");
    let (tree, said) = pack(&small, &[]);
    let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("warning:")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"
    warning: /usr/local/small/usr/lib/tmpfiles.d/demo.conf: the rule `d /usr/local/small/var/lib/full 0700` and 1 more is left out, because EPREFIX is read-only on a target and systemd-tmpfiles would fail; --state etc/none,var/lib/full makes the directory writable there
    warning: /usr/local/small/run/demo is a link to /run/small/demo in the extension, because a tmpfiles rule makes it and EPREFIX is read-only on a target
    warning: /usr/local/small/var/lib/kept is a link to /var/lib/small/var/lib/kept in the extension, because a tmpfiles rule makes it and EPREFIX is read-only on a target
    warning: /usr/local/small/var/lib/none is a link to /var/lib/small/var/lib/none in the extension, because a tmpfiles rule makes it and EPREFIX is read-only on a target
    warning: /usr/local/small/var/lib/parts is a link to /var/lib/small/var/lib/parts in the extension, because a tmpfiles rule makes it and EPREFIX is read-only on a target
    ");
    let placed = read(&tree.join("usr/lib/tmpfiles.d/demo.conf"));
    assert!(placed.starts_with("# A comment\n") && !placed.contains("full"), "{placed}");
    let target = follow_rules(&small, &tree);
    let mode = |path: &str| {
        stdout_of("stat", ["-c", "%a", target.join(path).to_str().unwrap()]).trim().to_owned()
    };
    let state = "var/lib/small/var/lib";
    for (path, expected) in [
        ("kept", "700"),
        ("none", "750"),
        ("none/file", "600"),
        ("parts", "711"),
        ("parts/one", "755"),
    ] {
        assert_eq!(mode(&format!("{state}/{path}")), expected, "{path}");
    }
    assert_eq!(mode("run/small/demo"), "755");
    assert_eq!(mode("var/lib/others"), "700");
    assert_eq!(read(&target.join("etc/demo.conf")), "setting\n");
    let link = |path: &str| fs_err::read_link(tree.join("usr/local/small").join(path)).unwrap();
    assert_eq!(link("var/lib/none"), Path::new("/var/lib/small/var/lib/none"));
    assert_eq!(link("run/demo"), Path::new("/run/small/demo"));

    // The remedies that were named work.
    fs_err::remove_dir_all(small.beside("booted")).unwrap();
    let (tree, said) = pack(&small, &["--state", "etc/none,var/lib/full"]);
    assert!(!said.contains("is left out"), "{said}");
    let target = follow_rules(&small, &tree);
    assert_eq!(read(&target.join("var/lib/small/var/lib/full/data")), "data\n");
    let full = target.join("var/lib/small/var/lib/full");
    assert_eq!(stdout_of("stat", ["-c", "%a", full.to_str().unwrap()]).trim(), "700");
    assert!(target.join("var/lib/small/etc/none").is_dir());
}

#[test]
fn users_of_packages_are_made() {
    let small = root();
    small.file(
        "usr/lib/sysusers.d/demo.conf",
        &format!("u demo - \"Demo\" {EPREFIX}/var/lib/demo\n"),
    );
    let (tree, _) = pack(&small, &[]);
    fs_err::create_dir(tree.join("etc")).unwrap();
    let root = format!("--root={}", tree.display());
    stdout_of("systemd-sysusers", [&root]);
    let users = read(&tree.join("etc/passwd"));
    assert!(
        users.starts_with("demo:x:") && users.contains(":Demo:/usr/local/small/var/lib/demo:"),
        "{users}"
    );
    let unit = read(&tree.join("usr/lib/systemd/system/small-rules.service"));
    assert!(unit.contains("\nExecStart=-systemd-sysusers demo.conf\n"), "{unit}");
}

#[test]
fn what_has_no_effect_is_said() {
    let small = root();
    small.file("etc/cron.d/demo", "* * * * * root demo\n");
    small.file("etc/cron.d/.keep_app-misc_demo-0", "");
    small.file("usr/lib/firmware/a/b.bin", "");
    small.file("usr/lib/firmware/a/c.bin", "");
    let (tree, said) = pack(&small, &[]);
    let warnings: Vec<&str> = said.lines().filter(|line| line.starts_with("warning:")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @"
    warning: 1 file has no effect on a target, in /usr/local/small/etc/cron.d: cron reads /etc of the target; give the package a timer of systemd
    warning: 2 files have no effect on a target, in /usr/local/small/usr/lib/firmware: the kernel reads /usr/lib/firmware of the target; put it there with --mangle, if the target does not have it
    ");
    assert!(!tree.join("usr/lib/systemd").exists() && !tree.join("usr/lib/firmware").exists());
}

#[test]
fn files_of_exposed_programs_are_where_shells_and_menus_look() {
    let small = root();
    small.file("usr/bin/other", "");
    small.mode("usr/bin/other", 0o755);
    let entry = "[Desktop Entry]\nName=Demo\nTryExec=/usr/bin/demo\nExec=/usr/bin/demo %u\nIcon=demo-icon\n";
    let placed = [
        "usr/share/man/man1/demo.1",
        "usr/share/man/de/man1/demo.1",
        "usr/share/bash-completion/completions/demo",
        "usr/share/zsh/site-functions/_demo",
        "usr/share/fish/vendor_completions.d/demo.fish",
        "usr/share/icons/hicolor/16x16/apps/demo-icon.png",
        "usr/share/pixmaps/demo-icon.xpm",
    ];
    let others = [
        "usr/share/man/man1/other.1",
        "usr/share/man/man5/demo-file.5",
        "usr/share/bash-completion/completions/other",
        "usr/share/icons/hicolor/16x16/apps/other.png",
        "usr/share/icons/hicolor/index.theme",
    ];
    placed.iter().chain(&others).for_each(|path| small.file(path, path));
    small.file("usr/share/applications/org.demo.desktop", entry);
    small.file("usr/share/applications/other.desktop", "[Desktop Entry]\nExec=other\n");
    let (tree, _) = pack(&small, &["--keep", "man"]);
    assert!(!tree.join("usr/share").exists(), "no program is exposed");
    let (tree, _) = pack(&small, &["--keep", "man", "--expose", "demo"]);
    for path in placed {
        assert!(tree.join(path).is_symlink(), "{path}");
        assert_eq!(read(&tree.join(path)), path);
    }
    let desktop = read(&tree.join("usr/share/applications/org.demo.desktop"));
    assert_eq!(desktop, entry.replace("/usr/bin", &format!("{EPREFIX}/usr/bin")));
    for path in others.iter().chain(&["usr/share/applications/other.desktop"]) {
        assert!(!tree.join(path).exists(), "{path}");
    }
    let (tree, _) = pack(&small, &["--keep", "man", "--expose", "all"]);
    for path in &others[..3] {
        assert_eq!(read(&tree.join(path)), *path);
    }
    assert!(!tree.join(others[4]).exists(), "it is of the whole theme");
}
