//! The reports beside an image.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{stdout_as_root_of, stdout_of};

fn text(small: &SmallRoot, end: &str) -> String {
    fs_err::read_to_string(small.beside(&format!("out/small{end}"))).unwrap()
}

fn parsed(small: &SmallRoot, end: &str) -> Value {
    serde_json::from_str(&text(small, end)).unwrap()
}

#[test]
fn lists_are_those_of_the_image() {
    let small = SmallRoot::full();
    small.pack("out", &[]);
    assert_eq!(text(&small, "_packages.txt"), "app-misc/thing-1.2-r1::gentoo\n");
    let tree = small.beside("tree");
    let image = small.beside("out/small.raw");
    stdout_as_root_of("unsquashfs", &["-d", tree.to_str().unwrap(), image.to_str().unwrap()]);
    let form = "%M %2n root    root    %7s %TY-%Tm-%Td %TH:%TM ./%P -> %l\n";
    let found = stdout_of("find", [tree.to_str().unwrap(), "-not", "-type", "d", "-printf", form]);
    let found: BTreeSet<&str> = found.lines().map(|line| line.trim_end_matches(" -> ")).collect();
    let contents = text(&small, "_contents.txt");
    let listed: BTreeSet<&str> = contents.lines().filter(|line| !line.starts_with('d')).collect();
    assert_eq!(listed, found);
    assert!(contents.starts_with("drwxr-xr-x  3 root    root          0 2023-11-14 22:13 ./\n"));
    let details = text(&small, "_contents_wtd.txt");
    let inode = |end: &str| {
        let line = details.lines().find(|line| line.ends_with(end)).expect(end);
        line.split(' ').nth(2).unwrap().to_owned()
    };
    assert_eq!(inode("thing/data"), inode("thing/same data"));
    assert!(text(&small, "_disk_usage.txt").contains("100% squashfs\n"));
}

#[test]
fn licenses_in_both_languages() {
    let small = SmallRoot::full();
    small.pack("out", &[]);
    let listed = parsed(&small, "_licenses.json");
    assert_eq!(
        listed,
        json!([{
            "project": "app-misc/thing-1.2-r1::gentoo",
            "licenses": ["GPL-2+", "MIT", "strange"],
            "description": "A \"thing\"",
            "homepage": "https://thing.example/",
            "source": "",
            "files":
                "/usr/local/small/usr/bin/program\n/usr/local/small/usr/lib64/libthing.so.1\n",
        }])
    );
    let texts = text(&small, "_licenses.txt");
    assert!(texts.contains("GPL-2+\n======\n") && texts.contains("GNU GENERAL PUBLIC LICENSE"));
    assert!(texts.contains("strange\n=======\n\n(the text is in no repository here)\n"));
    let sbom = parsed(&small, "_sbom.spdx.json");
    let package = &sbom["packages"][1];
    assert_eq!(
        package["licenseDeclared"],
        "(MIT AND (GPL-2.0-or-later OR LicenseRef-Gentoo-odd) AND LicenseRef-Gentoo-strange)"
    );
    assert_eq!(package["name"], "app-misc/thing");
    assert_eq!(package["versionInfo"], "1.2-r1");
    assert_eq!(sbom["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    let is_program = |file: &&Value| file["fileName"] == "./usr/local/small/usr/bin/program";
    let program = sbom["files"].as_array().unwrap().iter().find(is_program).unwrap();
    let path = small.inside("usr/bin/program");
    let sum = stdout_of("sha1sum", [path.to_str().unwrap()]);
    assert_eq!(program["checksums"][0]["checksumValue"], sum.split(' ').next().unwrap());
    let contains = json!({
        "spdxElementId": package["SPDXID"],
        "relationshipType": "CONTAINS",
        "relatedSpdxElement": program["SPDXID"],
    });
    assert!(sbom["relationships"].as_array().unwrap().contains(&contains));
}

#[test]
fn the_manifest_has_everything() {
    let small = SmallRoot::full();
    small.pack("out", &["--version", "7", "--architecture", "arm64"]);
    let manifest = parsed(&small, "-7-arm64_manifest.json");
    assert_eq!(manifest["images"][0]["name"], "small-7-arm64.raw");
    assert_eq!(manifest["packages"][0]["cpv"], "app-misc/thing-1.2-r1");
    let entries = manifest["entries"].as_array().unwrap();
    let same = entries.iter().find(|entry| entry["kind"] == "hardlink").unwrap();
    assert_eq!(same["target"], "/usr/local/small/usr/share/thing/data");
    assert!(entries.iter().all(|entry| (entry["kind"] == "file") == entry["sha256"].is_string()));
}

#[test]
fn reports_are_reproducible_and_can_be_left_out() {
    let small = SmallRoot::full();
    small.pack("out", &[]);
    let first = [text(&small, "_sbom.spdx.json"), text(&small, "_manifest.json")];
    small.pack("out", &["--force"]);
    assert_eq!([text(&small, "_sbom.spdx.json"), text(&small, "_manifest.json")], first);
    small.pack("bare", &["--no-reports"]);
    let there = fs_err::read_dir(small.beside("bare")).unwrap();
    let mut names: Vec<_> = there.map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name != ".small.packed");
    assert_eq!(names, ["small.raw"]);
}

#[test]
fn extensions_are_compared() {
    let small = SmallRoot::full();
    for format in ["squashfs", "erofs", "directory", "ext4", "ddi"] {
        small.pack(format, &["--format", format, "--architecture", "arm64"]);
    }
    small.file("usr/share/thing/new", "new\n");
    small.file("usr/share/thing/data", "longer data\n");
    fs_err::remove_file(small.inside("usr/lib64/libthing.so.1")).unwrap();
    small.mode("usr/bin/program", 0o4755);
    let fact = |name: &str, text: &str| {
        small.file(&format!("var/db/pkg/app-misc/new-1/{name}"), text);
    };
    fact("CONTENTS", "obj /usr/local/small/usr/share/thing/new 0123 1700000000\n");
    small.pack("second", &["--architecture", "arm64"]);
    let diff = |one: &str, other: &str, more: &[&str]| {
        let paths = [one, other].map(|name| small.beside(name).display().to_string());
        let output = fprefix().arg("diff").args(paths).args(more).output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), answer, String::from_utf8(output.stderr).unwrap())
    };
    let inside = "/usr/local/small/usr";
    for first in [
        "squashfs/small.raw",
        "erofs/small.raw",
        "ext4/small.raw",
        "ddi/small.raw",
        "directory/small",
        "squashfs/small_manifest.json",
    ] {
        let (code, answer, error) = diff(first, "second/small.raw", &[]);
        assert_eq!(code, Some(3), "{first}: {error}");
        assert!(answer.starts_with("+ app-misc/new-1\n"), "{first}: {answer}");
        for line in [
            format!("- {inside}/lib64/libthing.so.1\n"),
            format!("+ {inside}/share/thing/new\n"),
            format!("~ {inside}/bin/program: mode 0755 -> 4755"),
            format!("~ {inside}/share/thing/data: "),
            "size 5 -> 12".to_owned(),
        ] {
            assert!(answer.contains(&line), "{first}: {line} is not in {answer}");
        }
    }
    let (code, answer, _) = diff("squashfs/small.raw", "erofs/small.raw", &[]);
    assert_eq!((code, answer.as_str()), (Some(0), ""));
    let (_, answer, _) = diff("squashfs/small.raw", "second/small_manifest.json", &["--json"]);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["packages"]["added"], serde_json::json!(["app-misc/new-1"]));
    assert_eq!(answer["files"]["removed"][0], format!("{inside}/lib64/libthing.so.1"));
    let (code, _, error) = diff("squashfs/small_packages.txt", "second/small.raw", &[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("it is neither squashfs nor erofs"), "{error}");
}
