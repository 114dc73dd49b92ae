//! Rules about units, with systemd's own parser beside them.

use super::libc_root::on;
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::command;

const EPREFIX: &str = "/usr/local/iso";

/// A root with one program.
fn root() -> SmallRoot {
    let root = SmallRoot::empty(EPREFIX);
    root.file("usr/bin/there", "");
    root.mode("usr/bin/there", 0o755);
    root.file("usr/bin/data", "");
    root.file("etc/there.env", "");
    root
}

/// Returns the findings about units, each as its level, file name and text.
fn findings(root: &SmallRoot) -> Vec<String> {
    let output = on(root, &["check", "--json", "--rule", "unit"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown = |finding: &serde_json::Value| {
        let text = |key: &str| finding[key].as_str().unwrap().to_owned();
        let name = text("path").rsplit_once('/').unwrap().1.to_owned();
        format!("{} {name} {}", text("level"), text("detail"))
    };
    report["findings"].as_array().unwrap().iter().map(shown).collect()
}

#[test]
fn units_start_what_systemd_says() {
    let root = root();
    let unit = root.beside("x.service");
    for line in [
        "/nope/a b",
        "@/nope/a name",
        ":!!/nope/a",
        "\"/nope/a b\" c",
        "'/nope/a'\"b\" c",
        "/nope/a\\x20b\\sc\\075 d",
        "/nope/a \\\n# comment\n  ; comment\n  b",
        "/nope/100%%/%p",
        "/nope/a 'b;' \\; c",
        "/nope/a b\\q",
    ] {
        let text = format!("[Service]\nExecStart={line}\n[Install]\nExecStart=/nope/b\n");
        fs_err::write(&unit, &text).unwrap();
        root.file("usr/lib/systemd/system/x.service", &text);
        let verified = command("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
        let verified = String::from_utf8_lossy(&verified.stderr).into_owned();
        let program = verified
            .split_once("Command ")
            .and_then(|(_, text)| text.split_once(" is not executable"))
            .unwrap_or_else(|| panic!("{line}: {verified}"))
            .0;
        assert_eq!(findings(&root), [format!("note x.service starts {program} of the target")]);
    }
}

#[test]
fn what_a_unit_needs_is_there() {
    let root = root();
    let units = "usr/lib/systemd/system";
    for (text, found) in [
        ("ExecStart=PREFIX/usr/bin/there", ""),
        (
            "ExecStart=-PREFIX/usr/bin/no",
            "note x.service starts PREFIX/usr/bin/no, which is not there",
        ),
        (
            "ExecStart=+PREFIX/usr/bin/no",
            "error x.service starts PREFIX/usr/bin/no, which is not there",
        ),
        (
            "ExecStart=PREFIX/usr/bin/there ; PREFIX/usr/bin/no",
            "error x.service starts PREFIX/usr/bin/no, which is not there",
        ),
        (
            "ExecStart=PREFIX/usr/bin/data",
            "error x.service starts PREFIX/usr/bin/data, which cannot be executed",
        ),
        ("ExecStart=PREFIX/usr/bin/no\nExecStart=\nExecStart=PREFIX/usr/bin/there", ""),
        (
            "ExecStart=usr/bin/there",
            "error x.service starts usr/bin/there, which is no absolute path",
        ),
        ("ExecStart=there", "note x.service starts there of the target"),
        ("ExecSearchPath=/none:PREFIX/usr/bin\nExecStart=there", ""),
        ("ExecStart=%d/there", "note x.service starts %d/there, which only a target can tell"),
        (
            "ExecStart=\"PREFIX/usr/bin/there",
            "error x.service has a command line that systemd ignores: \"PREFIX/usr/bin/there",
        ),
        (
            "RootDirectory=/srv/x\nExecStart=/bin/no",
            "note x.service starts programs in a root of its own, /srv/x",
        ),
        ("EnvironmentFile=PREFIX/etc/there.env", ""),
        ("EnvironmentFile=-PREFIX/etc/no.env", ""),
        (
            "EnvironmentFile=PREFIX/etc/no.env",
            "error x.service needs PREFIX/etc/no.env, an environment file that is not there",
        ),
        (
            "WorkingDirectory=PREFIX/var/no",
            "error x.service needs PREFIX/var/no, a directory that is not there",
        ),
    ] {
        let text = format!("[Service]\n{text}\n").replace("PREFIX", EPREFIX);
        root.file(&format!("{units}/x.service"), &text);
        assert_eq!(findings(&root).concat(), found.replace("PREFIX", EPREFIX), "{text}");
    }
    programs_of_the_prefix_are_named_with_it(&root);
    // systemd-tmpfiles makes it on the target.
    root.file("usr/lib/tmpfiles.d/x.conf", &format!("d {EPREFIX}/var/made 0700 x x\n"));
    root.file(
        &format!("{units}/x.service"),
        &format!("[Service]\nWorkingDirectory={EPREFIX}/var/made/\n"),
    );
    assert_eq!(findings(&root).concat(), "");
    root.file(&format!("{units}/x.service"), "[Service]\nExecStart=/usr/local/iso/usr/bin/no\n");
    let drop_in = format!("{units}/x.service.d/10-other.conf");
    root.file(&drop_in, "[Service]\nExecStart=\nExecStart=/usr/local/iso/usr/bin/there\n");
    assert_eq!(findings(&root).concat(), "");
    root.file(&drop_in, "[Service]\nExecStart=\nExecStart=/usr/local/iso/usr/bin/none\n");
    let expected = format!("error 10-other.conf starts {EPREFIX}/usr/bin/none, which is not there");
    assert_eq!(findings(&root).concat(), expected);
    root.file(&drop_in, "[Service]\nExecStart=\nExecStart=/usr/local/iso/usr/bin/there\n");
    let service = "[D-BUS Service]\nName=a.b\nExec=\"/usr/local/iso/usr/bin/no\" --now\n";
    root.file("usr/share/dbus-1/services/a.b.service", service);
    let expected = format!("error a.b.service starts {EPREFIX}/usr/bin/no, which is not there");
    assert_eq!(findings(&root).concat(), expected);
}

/// A program that both may have, at a path without EPREFIX: `pack` mends what it finds, and the rest is an
/// error.
fn programs_of_the_prefix_are_named_with_it(root: &SmallRoot) {
    root.file("usr/libexec/thing/helper", "");
    root.mode("usr/libexec/thing/helper", 0o755);
    let mended = "note x.service starts PROGRAM, in whose place `pack` puts PREFIXPROGRAM";
    let wrong = "error x.service starts PROGRAM of the target, and not the program PREFIXPROGRAM";
    let inside = root.inside("usr/lib/systemd/system/x.service");
    let outside = root.root().join("usr/lib/systemd/system/x.service");
    fs_err::create_dir_all(outside.parent().unwrap()).unwrap();
    for program in ["/usr/bin/there", "/usr/libexec/thing/helper"] {
        for (line, place, found) in [
            ("PROGRAM -x", &inside, mended),
            ("-@PROGRAM name", &inside, mended),
            ("\"PROGRAM\" -x", &inside, wrong),
            ("PREFIX/usr/bin/there ; PROGRAM", &inside, wrong),
            ("PROGRAM", &outside, wrong),
            ("PREFIXPROGRAM", &outside, ""),
        ] {
            let fill = |text: &str| text.replace("PREFIX", EPREFIX).replace("PROGRAM", program);
            fs_err::write(place, fill(&format!("[Service]\nExecStart={line}\n"))).unwrap();
            assert_eq!(findings(root).concat(), fill(found), "{line}");
            fs_err::remove_file(place).unwrap();
        }
    }
}
