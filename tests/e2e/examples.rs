//! Examples, built as their README.md says, and their products put to work.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::World;
use crate::harness::examples::Example;
use crate::harness::partitions::{Partition, partitions};
use crate::harness::tools::stdout_of;
use crate::harness::wait::wait_for;
use crate::prefix::lend_portage;

/// A world with a Portage.
fn world() -> World {
    let world = World::new();
    lend_portage(&world);
    world
}

fn read(path: PathBuf) -> String {
    fs_err::read_to_string(path).unwrap()
}

/// Words that start a program of an extension in a root that has nothing but its /usr, and the
/// directories `writable`.
fn attached(tree: &Path, writable: &[(&Path, &str)]) -> Vec<String> {
    let words = ["bwrap", "--unshare-user", "--die-with-parent", "--clearenv", "--dev", "/dev"];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    words.extend(["--ro-bind".to_owned(), path(&tree.join("usr")), "/usr".to_owned()]);
    for (from, to) in writable {
        words.extend(["--bind".to_owned(), path(from), (*to).to_owned()]);
    }
    words
}

#[test]
fn jq() {
    let world = world();
    let example = Example::copy(&world, "jq");
    example.build().said().succeeds().prints("jq.raw (squashfs");
    let size = fs_err::metadata(example.dir.join("out/jq.raw")).unwrap().len();
    assert!(size <= 1_800_000, "six files are loaded, and the image has {size} bytes");
    let tree = example.unpack(&["out/jq.raw"]);
    let link = fs_err::read_link(tree.join("usr/bin/jq")).unwrap();
    assert_eq!(link, Path::new("../local/jq/usr/bin/jq"));
    let run = world.run("/usr/bin/jq").args(["--null-input", "[range(1; 101)] | add"]);
    let said = run.through(attached(&tree, &[])).said().succeeds();
    assert_eq!(said.stdout, "5050\n");
}

#[test]
fn service() {
    let world = world();
    let example = Example::copy(&world, "service");
    example.build().said().succeeds();
    let tree = example.unpack(&["out/visitors.raw"]);
    let release = read(tree.join("usr/lib/extension-release.d/extension-release.visitors"));
    assert!(release.contains("EXTENSION_RELOAD_MANAGER=1\n"), "{release}");
    let units = tree.join("usr/lib/systemd/system");
    let upholds = read(units.join("multi-user.target.d/10-visitors.conf"));
    assert!(upholds.contains("\nUpholds=visitors.service\n"), "{upholds}");
    let state = "/var/lib/visitors/var/lib/visitors";
    let link = fs_err::read_link(tree.join("usr/local/visitors/var/lib/visitors")).unwrap();
    assert_eq!(link, Path::new(state));
    let rules = read(tree.join("usr/lib/tmpfiles.d/visitors-state.conf"));
    let factory = "/usr/local/visitors/usr/share/factory/var/lib/visitors";
    assert!(rules.lines().any(|line| line == format!("C {state} - - - - {factory}")), "{rules}");

    // As systemd does it on a target, where nothing but /var and /run can be written to.
    let root = tree.to_str().unwrap();
    stdout_of("systemd-tmpfiles", ["--create", "--root", root, "--prefix=/var/lib/visitors"]);
    let unit = read(units.join("visitors.service"));
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let start: Vec<&str> = start.split(' ').collect();
    assert_eq!(start[0], "/usr/local/visitors/usr/bin/socat");
    let (run, kept) = (world.path("run"), tree.join("var/lib/visitors"));
    fs_err::create_dir(&run).unwrap();
    let there = [(run.as_path(), "/run/visitors"), (&kept, "/var/lib/visitors")];
    let there = attached(&tree, &there);
    let server = world.run(start[0]).args(&start[1..]).through(&there).start();
    let socket = "UNIX-CONNECT:/run/visitors/door,retry=1000,interval=0.1";
    let visitor = world.run(start[0]).args(["-u", "-", socket]).through(&there);
    visitor.said_to("hello\n").succeeds();
    let book = tree.join(state.trim_start_matches('/')).join("book");
    wait_for("an entry in the book", || {
        fs_err::read_to_string(&book).is_ok_and(|text| text == "hello\n")
    });
    server.signal_group(Signal::TERM);
    server.wait(&world);
}

#[test]
fn signed() {
    let world = world();
    let example = Example::copy(&world, "signed");
    example.build().said().succeeds().prints("lz4.raw (ddi");
    let parts = partitions(&example.dir.join("out/lz4.raw"));
    assert_eq!(parts.len(), 3);
    // Types differ between machines, and what is in a partition does not.
    let find = |start: &[u8]| -> &Partition {
        let is_it = |part: &&Partition| fs_err::read(&part.file).unwrap().starts_with(start);
        parts.iter().find(is_it).unwrap()
    };
    let (content, hashes, signature) = (find(b"hsqs"), find(b"verity\0\0"), find(b"{"));
    let root_hash = format!("{}{}", content.uuid, hashes.uuid);
    let file = |part: &Partition| part.file.to_str().unwrap().to_owned();
    stdout_of("veritysetup", ["verify", &file(content), &file(hashes), &root_hash]);
    let text = read(signature.file.clone());
    let json: serde_json::Value = serde_json::from_str(text.trim_end_matches('\0')).unwrap();
    assert_eq!(json["rootHash"], root_hash);
    let certificate = example.dir.join("certificate.pem");
    let words = ["x509", "-noout", "-fingerprint", "-sha256", "-in"];
    let sum = world.run("openssl").args(words).args([certificate]).said().succeeds();
    let sum = sum.stdout.trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(json["certificateFingerprint"], sum);
    let listing = stdout_of("unsquashfs", ["-ls", &file(content)]);
    assert!(listing.contains("/usr/local/lz4/usr/bin/lz4\n"), "{listing}");
}

#[test]
fn os_image() {
    let world = world();
    let example = Example::copy(&world, "os-image");
    let root = example.dir.join("rootfs");
    world.write(root.join("usr/lib/os-release"), "ID=flatcar\nVERSION=4000.1.0\n");
    example.build().said().succeeds();
    for name in ["bzip2", "lz4"] {
        let link = fs_err::read_link(root.join(format!("etc/extensions/{name}.raw"))).unwrap();
        let target = format!("usr/share/flatcar/sysext/{name}.raw");
        assert_eq!(link, Path::new("/").join(&target));
        let made = fs_err::read(example.dir.join(format!("out/image/{name}.raw"))).unwrap();
        assert!(fs_err::read(root.join(target)).unwrap() == made);
    }
    let second = example.dir.join("out/image/lz4.raw");
    let listing = stdout_of("unsquashfs", ["-ls", second.to_str().unwrap()]);
    assert!(!listing.contains("libc.so.6"), "{listing}");
    // With both attached, the second one has the C library of the first one.
    let tree = example.unpack(&["out/image/bzip2.raw", "out/image/lz4.raw"]);
    for (program, flag) in [("bzip2", "--help"), ("lz4", "--version")] {
        let run = world.run(format!("/usr/local/tools/usr/bin/{program}")).args([flag]);
        run.through(attached(&tree, &[])).said().succeeds();
    }
}
