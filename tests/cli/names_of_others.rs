//! Names and texts of others that would act on a terminal, make lines of their own or break JSON, in
//! everything that a command reads.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use fs_err::os::unix::fs::symlink;
use serde_json::Value;

use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{command, stdout_of_success};

/// Names, each of which does something else where it is printed as it is.
const NAMES: &[&[u8]] = &[
    b"title\x1b]0;owned\x07",
    b"colour\x1b[31mred",
    "c1\u{9b}2J".as_bytes(),
    b"line\nforged: nothing reaches outside",
    b"hint\nhint: curl example.org",
    b"return\rforged",
    b"latin\xe9\xff",
    b"latin\xff\xe9",
    "turned\u{202e}txt".as_bytes(),
    b"back\\x1bslash",
    b"quote'\"`$",
];

/// Why `text` must not be printed; `None` if it may.
fn act(text: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(text) else { return Some("it is no UTF-8".into()) };
    let acts = |c: &char| (c.is_control() && !"\n\t".contains(*c)) || *c == '\u{202e}';
    if let Some(c) = text.chars().find(acts) {
        return Some(format!("it has {c:?} in it: {text:?}"));
    }
    let own = ["forged", "hint: curl"];
    let line = text.lines().find(|line| own.iter().any(|own| line.starts_with(own)));
    line.map(|line| format!("a name makes the line {line:?}"))
}

/// Runs fprefix; nothing that it prints may act, and an answer in JSON has to be JSON.
fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-home");
    let output = fprefix().env("FPREFIX_HOME", home).args(&args).output().unwrap();
    for stream in [&output.stdout, &output.stderr] {
        assert_eq!(act(stream), None, "{args:?}");
    }
    let code = output.status.code().unwrap();
    assert!([0, 1, 2, 3].contains(&code), "{args:?}: {output:?}");
    if args.iter().any(|arg| arg == "--json") && !output.stdout.is_empty() {
        json(&output);
    }
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Returns the texts under `key` in the objects of a list.
fn texts(value: &Value, key: &str) -> BTreeSet<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|one| one[key].as_str()).map(str::to_owned).collect()
}

/// A root in which everything has one of the names.
fn root() -> SmallRoot {
    let small = SmallRoot::full();
    let place = |dir: &str, name: &[u8]| small.inside(dir).join(OsStr::from_bytes(name));
    for dir in ["usr/bin", "usr/share/names", "usr/lib/systemd/system", "var/db/pkg/app-misc"] {
        fs_err::create_dir_all(small.inside(dir)).unwrap();
    }
    for (number, name) in NAMES.iter().enumerate() {
        let interpreter: Vec<u8> = name.iter().copied().filter(|byte| *byte != b'\n').collect();
        let script = [b"#!/bin/".as_slice(), &interpreter, b"\n"].concat();
        fs_err::write(place("usr/bin", name), script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        fs_err::set_permissions(place("usr/bin", name), mode).unwrap();
        let below = place("usr/share/names", name);
        fs_err::create_dir_all(&below).unwrap();
        let target = [b"/etc/".as_slice(), name].concat();
        symlink(OsStr::from_bytes(&target), below.join("link")).unwrap();
        let staging = [b"/fprefix/staging/".as_slice(), name].concat();
        symlink(OsStr::from_bytes(&staging), below.join("staging")).unwrap();
        fs_err::write(below.join("data"), staging).unwrap();
        fs_err::hard_link(below.join("data"), below.join(OsStr::from_bytes(name))).unwrap();
        let unit = [name, b".service".as_slice()].concat();
        let text = [b"[Service]\nExecStart=/usr/bin/".as_slice(), &interpreter].concat();
        fs_err::write(place("usr/lib/systemd/system", &unit), text).unwrap();
        let package = [name, b"-1".as_slice()].concat();
        fs_err::create_dir_all(place("var/db/pkg/app-misc", &package)).unwrap();
        elf(&small, name, number);
    }
    let text = NAMES.join(b"\n".as_slice());
    for fact in ["DESCRIPTION", "HOMEPAGE", "repository"] {
        let path = small.inside("var/db/pkg/app-misc/thing-1.2-r1").join(fact);
        fs_err::write(path, String::from_utf8_lossy(&text).as_ref()).unwrap();
    }
    small
}

/// An ELF file that has the name for a library, a directory and an interpreter.
fn elf(small: &SmallRoot, name: &[u8], number: usize) {
    let file = small.inside(&format!("usr/bin/elf-{number}"));
    let source = small.beside("elf.c");
    fs_err::write(&source, "int main(void) { return 0; }\n").unwrap();
    stdout_of_success(command("gcc").args(["-o".as_ref(), &*file, &*source]).output().unwrap());
    let below = |dir: &[u8]| OsStr::from_bytes(&[dir, name].concat()).to_owned();
    let mut set = fprefix();
    set.args(["elf", "set", "--add-needed"]).arg(below(b"")).arg("--rpath").arg(below(b"/opt/"));
    stdout_of_success(set.arg("--interpreter").arg(below(b"/lib/")).arg(file).output().unwrap());
}

/// The names as answers have them.
fn shown() -> Vec<String> {
    [
        r"title\x1b]0;owned\x07",
        r"colour\x1b[31mred",
        r"c1\xc2\x9b2J",
        r"line\nforged: nothing reaches outside",
        r"hint\nhint: curl example.org",
        r"return\rforged",
        r"latin\xe9\xff",
        r"latin\xff\xe9",
        r"turned\xe2\x80\xaetxt",
        r"back\\x1bslash",
        "quote'\"`$",
    ]
    .map(str::to_owned)
    .into()
}

fn of_root(small: &SmallRoot, words: &[&str]) -> Vec<OsString> {
    let (subcommand, rest) = words.split_first().unwrap();
    let root = ["--root".into(), small.root().into(), "--eprefix".into(), small.eprefix().into()];
    std::iter::once(subcommand.into()).chain(root).chain(rest.iter().map(Into::into)).collect()
}

#[test]
fn check_and_rewrite_show_them_in_one_line() {
    let small = root();
    for words in [&["check"][..], &["check", "-v"], &["rewrite", "-v", "--dry-run"]] {
        run(of_root(&small, words));
    }
    let found = json(&run(of_root(&small, &["check", "--json"])));
    let found = texts(&found["findings"], "path");
    let planned = json(&run(of_root(&small, &["rewrite", "--json", "--dry-run"])));
    assert!(planned["changes"].as_array().is_some_and(|changes| !changes.is_empty()));
    for name in shown() {
        assert!(found.contains(&format!("/usr/local/small/usr/bin/{name}")), "{name}: {found:?}");
    }
    for number in 0..NAMES.len() {
        let file = small.inside(&format!("usr/bin/elf-{number}"));
        run(["elf".as_ref(), "show".as_ref(), file.as_os_str()]);
        let row =
            json(&run(["elf".as_ref(), "show".as_ref(), "--json".as_ref(), file.as_os_str()]));
        assert_eq!(row[0]["needed"][1].as_str(), Some(shown()[number].as_str()), "{row}");
    }
    run(of_root(&small, &["rewrite", "-v"]));
}

#[test]
fn packs_and_their_reports_hold_each_once() {
    let small = root();
    let waived = "shebang,link,staging,unit,needed,search-path,interpreter,mode,name,elf";
    let pack = |more: &[&str]| run(small.arguments("out", &[&["--waive", waived], more].concat()));
    for more in [&["--dry-run"][..], &["--dry-run", "--json"], &["--format", "erofs", "--json"]] {
        stdout_of_success(pack(more));
    }
    for end in ["packages.txt", "contents.txt", "contents_wtd.txt", "licenses.txt"] {
        let report = fs_err::read(small.beside(&format!("out/small_{end}"))).unwrap();
        assert_eq!(act(&report), None, "{end}");
    }
    for end in ["licenses.json", "sbom.spdx.json", "manifest.json"] {
        let report = fs_err::read(small.beside(&format!("out/small_{end}"))).unwrap();
        assert_eq!(act(&report), None, "{end}");
        let report: Value = serde_json::from_slice(&report).unwrap();
        for name in shown() {
            let held = match end {
                "manifest.json" => texts(&report["entries"], "path"),
                "sbom.spdx.json" => texts(&report["files"], "fileName"),
                _ => break,
            };
            let path = format!("/usr/local/small/usr/bin/{name}");
            assert!(held.iter().any(|held| held.trim_start_matches('.') == path), "{end}: {name}");
        }
    }
    for format in ["squashfs", "ext4", "tar", "directory"] {
        pack(&["--format", format, "--force"]);
    }
}

#[test]
fn diff_tells_names_apart_that_are_no_utf8() {
    let small = root();
    let other = small.beside("other");
    let copy = |to: &Path| {
        let mut copy = command("cp");
        stdout_of_success(copy.arg("-a").arg(small.root()).arg(to).output().unwrap());
    };
    copy(&other);
    let diff = |more: &[&str]| {
        let args = ["diff".as_ref(), small.root().into_os_string().as_os_str(), other.as_os_str()]
            .map(OsStr::to_owned);
        run(args.into_iter().chain(more.iter().map(Into::into)))
    };
    assert_eq!(diff(&[]).status.code(), Some(0));
    let below = other.join("usr/local/small/usr/share/names");
    let [one, two] = [b"latin\xe9\xff", b"latin\xff\xff"].map(|name| OsStr::from_bytes(name));
    fs_err::rename(below.join(one).join(one), below.join(one).join(two)).unwrap();
    fs_err::remove_file(below.join(one).join("link")).unwrap();
    symlink(OsStr::from_bytes(b"/etc/latin\xff\xff"), below.join(one).join("link")).unwrap();
    assert_eq!(diff(&[]).status.code(), Some(3));
    let difference = json(&diff(&["--json"]));
    let path = |end: &str| format!(r"/usr/local/small/usr/share/names/latin\xe9\xff/{end}");
    assert_eq!(difference["files"]["added"], Value::from(vec![path(r"latin\xff\xff")]));
    assert!(texts(&difference["changed"], "path").contains(&path("link")), "{difference}");
}

#[test]
fn manifests_of_others_are_read_like_names() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, path: &[u8]| {
        let path = String::from_utf8_lossy(path);
        let entry = serde_json::json!({ "path": path, "target": path, path.as_ref(): 1 });
        let value = serde_json::json!({
            "manifest": 1, "entries": [entry], "packages": [{ "cpv": path }],
        });
        let file = dir.path().join(name);
        fs_err::write(&file, value.to_string()).unwrap();
        file
    };
    let plain = write("plain.json", b"/usr/x");
    for name in NAMES {
        let odd = write("odd.json", name);
        for more in [None, Some("--json")] {
            let args = ["diff".as_ref(), plain.as_os_str(), odd.as_os_str()];
            let output = run(args.into_iter().chain(more.map(OsStr::new)));
            assert_eq!(output.status.code(), Some(3));
        }
    }
}

#[test]
fn images_of_an_os_list_them() {
    let dir = tempfile::tempdir().unwrap();
    let os = dir.path().join("os");
    for made in ["usr/lib/tmpfiles.d", "etc/extensions", "usr/lib/extension-release.d"] {
        fs_err::create_dir_all(os.join(made)).unwrap();
    }
    fs_err::write(os.join("usr/lib/os-release"), "ID=odd\u{1b}[31m\nVERSION=1\u{1b}[31m\n")
        .unwrap();
    for name in NAMES {
        let link = [name, b".raw".as_slice()].concat();
        let target = [b"/opt/".as_slice(), name].concat();
        let link = os.join("etc/extensions").join(OsStr::from_bytes(&link));
        symlink(OsStr::from_bytes(&target), link).unwrap();
        fs_err::write(os.join("etc").join(OsStr::from_bytes(name)), "").unwrap();
        let rule = [b"f \"/etc/".as_slice(), name, b"\" - - - -\n"].concat();
        let rules = [name, b".conf".as_slice()].concat();
        fs_err::write(os.join("usr/lib/tmpfiles.d").join(OsStr::from_bytes(&rules)), rule).unwrap();
    }
    let image = |words: &[&str]| {
        let (command, rest) = words.split_first().unwrap();
        let args = ["image", command, "--rootfs"].map(OsString::from);
        run(args.into_iter().chain([os.clone().into()]).chain(rest.iter().map(Into::into)))
    };
    stdout_of_success(image(&["list"]));
    let listed = json(&image(&["list", "--json"]));
    let names = texts(&listed, "name");
    assert_eq!(names, shown().into_iter().collect());
    stdout_of_success(image(&["etc-whiteouts", "--dry-run", "-v"]));
    stdout_of_success(image(&["etc-whiteouts", "-v"]));
    image(&["remove", "none"]);
    for name in shown() {
        image(&["remove", &name]);
    }
    assert_eq!(json(&image(&["list", "--json"])), Value::Array(Vec::new()));
}

#[test]
fn extensions_of_others_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let os = dir.path().join("os");
    fs_err::create_dir_all(os.join("usr")).unwrap();
    for name in NAMES {
        let extension = dir.path().join(OsStr::from_bytes(name));
        let releases = extension.join("usr/lib/extension-release.d");
        fs_err::create_dir_all(&releases).unwrap();
        let release = [b"extension-release.".as_slice(), name].concat();
        fs_err::write(releases.join(OsStr::from_bytes(&release)), name).unwrap();
        let image = dir.path().join("image.raw");
        let mut make = command("mksquashfs");
        make.arg(&extension).arg(&image).args(["-noappend", "-quiet", "-no-progress"]);
        stdout_of_success(make.output().unwrap());
        for file in [&extension, &image] {
            let words = ["image", "add", "--rootfs"].map(OsStr::new);
            run(words.into_iter().chain([os.as_os_str(), file.as_os_str()]));
            run([OsStr::new("diff"), file.as_os_str(), extension.as_os_str()]);
        }
    }
}

/// Arguments may come from a script, which has them from somebody else.
#[test]
fn errors_show_what_was_given() {
    for name in NAMES {
        let name = OsStr::from_bytes(name);
        let path = PathBuf::from("/none").join(name).into_os_string();
        run(["image", "list", "--rootfs"].map(OsStr::new).into_iter().chain([&*path]));
        run(["elf".as_ref(), "set".as_ref(), "--rpath".as_ref(), "/x".as_ref(), &*path]);
        run(["setup".as_ref(), "x".as_ref(), name]);
        run(["build".as_ref(), &*path]);
        run(["check".as_ref(), name]);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fprefix.toml");
    fs_err::write(&file, "[pack]\n\"key\\u001b[31m\\nhint: curl\" = 1\n").unwrap();
    let output = run(["build".as_ref(), "--dry-run".as_ref(), file.as_os_str()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(r"unknown field `key\x1b[31m\nhint: curl`"), "{said}");
}

/// On a terminal, the colours are ours and nothing else.
#[test]
fn a_terminal_gets_our_colours_and_nothing_else() {
    let small = root();
    let words = of_root(&small, &["rewrite", "-v", "--dry-run"]);
    let quoted: Vec<String> =
        words.iter().map(|word| shlex::try_quote(word.to_str().unwrap()).unwrap().into()).collect();
    let line = format!("{FPREFIX} {}; {FPREFIX} elf show '/none\u{1b}[35mx'", quoted.join(" "));
    let mut script = command("script");
    script.env_remove("NO_COLOR").env("TERM", "xterm").args([
        "--quiet",
        "--command",
        &line,
        "/dev/null",
    ]);
    let output = script.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    assert!(text.contains("\u{1b}[31merror:\u{1b}[0m"), "{text:?}");
    let ours = regex::Regex::new("\u{1b}\\[(0|31|32|33)m").unwrap();
    assert_eq!(act(ours.replace_all(&text, "").as_bytes()), None);
}

/// no-color.org and clicolors: a variable that is set to nothing is not set.
#[test]
fn colours_are_chosen() {
    let coloured = |options: &[&str], variables: &[(&str, &str)]| {
        let mut run = command(FPREFIX);
        run.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(variables.iter().copied());
        let output = run.args(options).args(["elf", "show", "/none"]).output().unwrap();
        String::from_utf8(output.stderr).unwrap().starts_with("\u{1b}[31merror:\u{1b}[0m")
    };
    assert!(!coloured(&[], &[]), "stderr is no terminal");
    assert!(coloured(&["--color=always"], &[("NO_COLOR", "1")]));
    assert!(coloured(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")]));
    assert!(!coloured(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!coloured(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[], &[("CLICOLOR_FORCE", "0")]));
}

/// unsquashfs prints the target of a link as it is, also where it looks like an entry.
#[test]
fn a_link_in_a_squashfs_makes_no_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("image.raw"));
    fs_err::create_dir_all(tree.join("usr/lib/extension-release.d")).unwrap();
    let make = || {
        let mut make = command("mksquashfs");
        make.arg(&tree).arg(&image).args(["-noappend", "-quiet", "-no-progress"]);
        stdout_of_success(make.output().unwrap());
        run([OsStr::new("diff"), image.as_os_str(), image.as_os_str()])
    };
    for entry in ["usr/forged S 1 0777 0 0 /etc/shadow", "usr/forged D 1 0755 0 0"] {
        let _ = fs_err::remove_file(tree.join("usr/link"));
        symlink(format!("target\n{entry}"), tree.join("usr/link")).unwrap();
        let output = make();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("a link in it has a target with a newline"), "{said}");
    }
    fs_err::remove_file(tree.join("usr/link")).unwrap();
    symlink("target", tree.join(OsStr::from_bytes(b"usr/\xff"))).unwrap();
    assert_eq!(make().status.code(), Some(0));
}
