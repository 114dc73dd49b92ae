//! A portable Python: built from source with all that it needs, packed, and run from the extension on
//! a target that has no C library. It takes longest, and tests begin in the order of their names.

use std::path::Path;

use crate::harness::World;
use crate::harness::examples::Example;
use crate::harness::loader::compare_prefix;

/// EPREFIX of the example.
const EPREFIX: &str = "/usr/local/python";
/// Paths to which it is relocated then: one byte shorter, and about the shortest that there is.
const SHORTER: [&str; 2] = ["/usr/local/pytho", "/opt/p"];

#[test]
fn python_runs_from_an_extension() {
    let world = World::lasting(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("python"));
    let example = Example::copy(&world, "python");
    wheel(&world, &example.dir.join("wheels"));
    // Its packages could be those of any path.
    example.set("[prefix]", "relocatable = true");
    example.build().said().succeeds().prints("python.raw (squashfs");
    world.fprefix(["check"]).said().succeeds().prints("nothing reaches outside of the prefix");
    let size = fs_err::metadata(example.dir.join("out/python.raw")).unwrap().len();
    assert!(size <= 18_500_000, "the image has {size} bytes");
    let tree = example.unpack(&["out/python.raw"]);
    let said = world.fprefix(["elf", "libraries", "--json"]).said().succeeds();
    let extension = tree.join(&EPREFIX[1..]);
    let judged = compare_prefix(&world, &said, &extension, EPREFIX, "usr/bin/python3");
    assert!(judged > 50, "{judged} files are too few to mean much");
    certificate(&world);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/python_on_target.py");
    world.write("test/target.py", fs_err::read(script).unwrap());
    runs_on_target(&world, &extension, EPREFIX);
    let mut from = EPREFIX;
    for to in SHORTER {
        let args = ["relocate", "--root", tree.to_str().unwrap(), "--from", from, "--to", to];
        world.fprefix(args).said().succeeds();
        runs_on_target(&world, &tree.join(&to[1..]), to);
        from = to;
    }
}

/// Runs the program of the test on a target that has the extension at `eprefix`.
fn runs_on_target(world: &World, extension: &Path, eprefix: &str) {
    let said = world
        .run("bwrap")
        .args(["--unshare-user", "--die-with-parent", "--ro-bind"])
        .args([extension, Path::new(eprefix)])
        .args(["--ro-bind".as_ref(), world.path("test").as_os_str(), "/test".as_ref()])
        // Where most distributions have the certificates that they trust (Debian, Flatcar, Arch).
        .args(["--ro-bind".as_ref(), world.path("test/certificate.pem").as_os_str()])
        .args(["/etc/ssl/certs/ca-certificates.crt", "--proc", "/proc", "--dev", "/dev"])
        .args(["--tmpfs", "/tmp", "--clearenv", "--setenv", "HOME", "/tmp", "--"])
        .args([&format!("{eprefix}/usr/bin/python3"), "/test/target.py", eprefix])
        .said()
        .succeeds();
    let checks: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(checks.len(), 10, "{said}");
}

/// A certificate for localhost that vouches for itself, and its key.
fn certificate(world: &World) {
    fs_err::create_dir_all(world.path("test")).unwrap();
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"];
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let files = ["-keyout", "test/key.pem", "-out", "test/certificate.pem"];
    world.run("openssl").args(request).args(subject).args(files).said().succeeds();
}

/// A wheel in the directory `wheels`: a module, and what says of it that it is installed.
fn wheel(world: &World, wheels: &Path) {
    let about = "greeting-1.dist-info";
    world.write("wheel/greeting.py", "def hello():\n    return 'hello'\n");
    let write = |name: &str, text: &str| {
        world.write(Path::new("wheel").join(about).join(name), text);
    };
    write("METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1\n");
    write("WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
    write("RECORD", "greeting.py,,\n");
    fs_err::create_dir(wheels).unwrap();
    let wheel = wheels.join("greeting-1-py3-none-any.whl");
    let zip = world.run("python3").args(["-m", "zipfile", "-c"]).args([wheel.as_os_str()]);
    zip.args(["greeting.py", about]).dir(world.path("wheel")).said().succeeds();
}
