//! Extensions for an OS image, built one on top of the other.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::wait::wait_for;
use crate::harness::{contents, write_program};
use crate::prefix::{Prefix, own, processes, vdb};
use crate::slow::Stop;

/// The root directory of an image that Portage installed a package into.
struct Os {
    root: PathBuf,
    output: PathBuf,
}

impl Os {
    fn new(prefix: &Prefix, name: &str) -> Self {
        let root = prefix.world.path(name).join("rootfs");
        let write = |path: &str, text: &str| {
            prefix.world.write(root.join(path), text);
        };
        write("usr/lib/os-release", "ID=flatcar\nVERSION=4000.1.0\n");
        write("usr/bin/base-program", "base\n");
        write("var/db/pkg/app-shells/base-1.0/repository", "gentoo\n");
        write("var/db/pkg/app-shells/base-1.0/LICENSE", "GPL-2+\n");
        write("var/db/pkg/app-shells/base-1.0/CONTENTS", "obj /usr/bin/base-program 0 1\n");
        Self { root, output: prefix.world.path(name).join("out") }
    }

    fn build(&self, sysexts: &str) -> Vec<String> {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let words = ["image", "build", "--rootfs", &path(&self.root), "--sysexts", sysexts];
        let more = ["--output", &path(&self.output)];
        words.iter().chain(&more).map(ToString::to_string).collect()
    }

    fn text(&self, name: &str) -> String {
        fs_err::read_to_string(self.output.join(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }
}

/// The paths of the files in an image.
fn files(prefix: &Prefix, image: &Path) -> Vec<String> {
    let said = prefix.world.run("unsquashfs").args(["-ls".as_ref(), image.as_os_str()]).said();
    let said = said.succeeds();
    said.stdout.lines().map(|line| line.replace("squashfs-root", "")).collect()
}

#[test]
fn each_extension_holds_what_none_before_it_has() {
    let prefix = own();
    let os = Os::new(&prefix, "image build");
    let mangle = prefix.world.path("image build/mangle");
    write_program(
        &mangle.join("sysext_mangle_tools"),
        "#!/bin/sh\nmkdir -p \"$1/usr/share\"\necho mangled > \"$1/usr/share/mangled\"\n",
    );
    let before = fprefix::portage::vdb::packages(&vdb(&prefix.r#final)).unwrap();
    let mut words = os.build("tools|app-misc/jq,more|test-cases/small&app-misc/jq");
    words.extend(["--mangle".into(), mangle.display().to_string(), "--expose".into()]);
    let said = prefix.fprefix(&words).said().succeeds();
    assert_eq!(fprefix::portage::vdb::packages(&vdb(&prefix.r#final)).unwrap(), before, "{said}");

    let (tools, more) =
        (files(&prefix, &os.output.join("tools.raw")), files(&prefix, &os.output.join("more.raw")));
    let has = |list: &[String], end: &str| list.iter().any(|path| path.ends_with(end));
    assert!(has(&tools, "/usr/bin/jq") && has(&tools, "/libc.so.6"), "{tools:#?}");
    assert!(has(&tools, "/usr/share/mangled") && !has(&more, "/usr/share/mangled"));
    assert!(!has(&more, "/usr/bin/jq") && !has(&more, "/libc.so.6"), "{more:#?}");
    assert!(tools.iter().any(|path| path == "/usr/bin/jq"), "it is not exposed: {tools:#?}");
    assert_eq!(os.text("more_packages.txt"), "test-cases/small-1::test-cases\n");
    for name in ["tools", "more"] {
        let link = fs_err::read_link(os.root.join(format!("etc/extensions/{name}.raw"))).unwrap();
        let target = format!("/usr/share/flatcar/sysext/{name}.raw");
        assert_eq!(link, Path::new(&target));
        let there = fs_err::read(os.root.join(target.trim_start_matches('/'))).unwrap();
        assert!(there == fs_err::read(os.output.join(format!("{name}.raw"))).unwrap());
    }

    let packages = os.text("image_packages.txt");
    let sections: Vec<&str> = packages.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(sections, ["# base", "# extension tools", "# extension more"]);
    assert!(packages.contains("app-shells/base-1.0::gentoo\n"), "{packages}");
    let listed = os.text("image_contents.txt");
    assert!(listed.contains(" ./usr/bin/base-program\n") && listed.contains("/usr/bin/jq\n"));
    let usage = os.text("image_disk_usage.txt");
    for start in ["/usr ", "/ ", "tools.raw ", "more.raw "] {
        assert!(usage.lines().any(|line| line.starts_with(start)), "{usage}");
    }
    for text in ["app-shells/base-1.0::gentoo", "app-misc/jq-1.7.1::fprefix"] {
        let rows = os.json("image_licenses.json");
        assert!(rows.as_array().unwrap().iter().any(|row| row["project"] == text), "{rows:#}");
    }
    one_document(&os.json("image_sbom.spdx.json"));
    // Nothing of the work is left.
    assert!(
        fs_err::read_dir(&os.output)
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().starts_with('.') })
    );
}

/// Every identifier is there once, and every relation is between some that are there.
fn one_document(sbom: &Value) {
    let mut ids = vec!["SPDXRef-DOCUMENT"];
    for kind in ["packages", "files"] {
        ids.extend(sbom[kind].as_array().unwrap().iter().filter_map(|one| one["SPDXID"].as_str()));
    }
    let known: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(known.len(), ids.len());
    let relations = sbom["relationships"].as_array().unwrap();
    for relation in relations {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(known.contains(relation[end].as_str().unwrap()), "{relation:#}");
        }
    }
    let described = relations.iter().filter(|relation| relation["relationshipType"] == "DESCRIBES");
    assert_eq!(described.count(), 1);
}

#[test]
fn what_a_killed_image_build_made_goes() {
    let prefix = own();
    let os = Os::new(&prefix, "image killed");
    let before = contents(&os.root);
    for signal in [Signal::KILL, Signal::TERM] {
        let stop = Stop::new(&prefix, "preinst", "/fprefix/final/root");
        let mut run = prefix.fprefix(&os.build("slow|test-cases/slow")).start();
        assert!(run.until(|_| stop.is_reached()), "{}", run.wait(&prefix.world));
        run.signal(signal);
        run.wait(&prefix.world);
        wait_for("an output directory that is empty, with nobody at work in it", || {
            fs_err::read_dir(&os.output).unwrap().count() == 0 && processes(&os.output).is_empty()
        });
        assert_eq!(contents(&os.root), before);
    }
}

#[test]
fn an_image_build_that_fails_changes_nothing() {
    let prefix = own();
    let os = Os::new(&prefix, "image fails");
    let before = contents(&os.root);
    let said = prefix.fprefix(&os.build("tools|app-misc/jq,dies|test-cases/dies")).said();
    let said = said.ends_with(1);
    said.tells("dies was not built: emerge ended with status 1; nothing was changed");
    let twice =
        prefix.fprefix(&os.build("tools|app-misc/jq,again|app-misc/jq")).said().ends_with(1);
    twice.tells("again would be empty");
    assert_eq!(contents(&os.root), before);
    assert_eq!(fs_err::read_dir(&os.output).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_described() {
    let prefix = own();
    let os = Os::new(&prefix, "image full");
    fs_err::create_dir_all(&os.output).unwrap();
    let before = contents(&os.root);
    let output = os.output.to_str().unwrap();
    let full = "mount -t tmpfs -o size=2M tmpfs \"$0\" && exec \"$@\"";
    let said = prefix
        .fprefix(&os.build("tools|app-misc/jq"))
        .through(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", full, output])
        .said();
    let said = said.ends_with(1).tells("could not install").tells("(tmpfs, writable): 2.00 MiB");
    said.tells("% used, room for ").tells("the kernel said");
    assert_eq!(contents(&os.root), before);
}
