//! Files that something depends on are on the disk before they have their names, and their names
//! before the run ends. After a power failure, there is the old file or the new one.

use std::path::Path;
use std::process::Command;

use super::pack_ddi::key;
use crate::harness::World;
use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{find, stdout_of_success};
use crate::harness::trace::{Recording, Trace};

/// Records a run of fprefix in the directory `dir`.
fn record(small: &SmallRoot, dir: &str, arguments: &[String]) -> Trace {
    let recording = Recording::to(small.beside("trace"));
    let words = recording.words();
    let mut command = Command::new(find(&words[0]));
    command.args(&words[1..]).arg(FPREFIX).args(arguments).current_dir(small.beside(dir));
    for (name, value) in fprefix().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    stdout_of_success(command.output().unwrap());
    recording.read()
}

#[test]
fn an_image_and_what_is_beside_it() {
    let small = SmallRoot::full();
    let out = small.beside("out");
    let options = ["--version", "1.0", "--architecture", "arm64", "--format", "squashfs"];
    let trace = record(&small, ".", &small.arguments("out", &options));
    let mut named = trace.named_in(&out);
    assert!(named.len() > 8, "{named:?}");
    let image = out.join("small-1.0-arm64.raw");
    for path in named.iter().filter(|path| !path.is_symlink()) {
        trace.assert_durable(path);
    }
    trace.assert_durable_link(&out.join("small.raw"));
    // Where the image is, all that describes it is there too. The record says that all is done.
    named.retain(|path| !path.ends_with(".small.packed"));
    assert_eq!(named[named.len() - 2..], [image, out.join("small.raw")]);
}

#[test]
fn an_image_that_is_a_directory_is_flushed_as_a_whole() {
    let small = SmallRoot::full();
    for round in 0..2 {
        let options = ["--format", "directory", "--no-reports", "--force"];
        let trace = record(&small, ".", &small.arguments("out", &options));
        let text = trace.to_string();
        let flushed = text.find("syncfs(").expect("nothing was flushed");
        let renamed = text.find("rename").expect("nothing was renamed");
        assert!(flushed < renamed, "{round}: {text}");
        trace.assert_durable_link(&small.beside("out/small"));
    }
}

#[test]
fn an_extension_of_an_os_image() {
    let small = SmallRoot::full();
    let rootfs = small.beside("rootfs");
    fs_err::create_dir_all(rootfs.join("usr")).unwrap();
    let [key, certificate] = key(&small, "own");
    let ddi = ["--format", "ddi:none", "--architecture", "arm64", "--private-key", &key];
    small.pack("out", &[&ddi[..], &["--certificate", &certificate]].concat());
    let add = ["image", "add", "--rootfs", rootfs.to_str().unwrap(), "--certificate", &certificate];
    // The second run replaces all that the first one made.
    for round in 0..2 {
        let arguments: Vec<String> =
            add.iter().chain(&["small.raw"]).map(ToString::to_string).collect();
        let trace = record(&small, "out", &arguments);
        let image = trace.assert_durable(&rootfs.join("opt/extensions/small/small.raw"));
        trace.assert_durable(&rootfs.join("usr/lib/verity.d/small.crt"));
        if round == 0 {
            let link = trace.assert_durable_link(&rootfs.join("etc/extensions/small.raw"));
            assert!(image < link, "{trace}");
            // So that the next round makes it again.
            let link = rootfs.join("etc/extensions/small.raw");
            fs_err::remove_file(&link).unwrap();
            fs_err::os::unix::fs::symlink("other", link).unwrap();
        }
    }
}

#[test]
fn a_definition_and_a_build_file() {
    let world = World::new();
    world.prefix("demo", "amd64-usr", "/usr/local/demo");
    for (name, text) in [
        ("profiles/repo_name", "main\n"),
        ("metadata/layout.conf", "masters =\n"),
        ("profiles/categories", "app-misc\n"),
    ] {
        world.write(Path::new("main").join(name), text);
    }
    let recording = Recording::to(world.path("trace"));
    let add = world.fprefix(["repo", "add", "main"]).through(recording.words());
    add.said().succeeds();
    let definition = world.home().join("prefixes/demo-amd64-usr/prefix.toml");
    let trace = recording.read();
    let written = trace.assert_durable(&definition);
    // What it says is whole is on the disk before it says so.
    let text = trace.to_string();
    let flushed = text.rfind("syncfs(").expect("the environments were not flushed");
    assert!(flushed < text.find(&format!("\n{written} ")).unwrap(), "{text}");

    let init = world.fprefix(["init", "fprefix.toml", "--name", "x"]).through(recording.words());
    init.said().succeeds();
    recording.read().assert_durable(&world.path("fprefix.toml"));
}
