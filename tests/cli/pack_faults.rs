//! Packing that does not come to its end leaves nothing that could be taken for an image.

use std::time::Duration;

use super::small_root::{SmallRoot, fprefix, run};

/// A root that takes a while to compress.
fn large() -> SmallRoot {
    let small = SmallRoot::full();
    let mut state = 1_u32;
    let mut bytes = Vec::new();
    for _ in 0..(12 << 20) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((state >> 24) as u8 & 0x3f);
    }
    fs_err::write(small.inside("usr/share/thing/large"), bytes).unwrap();
    small
}

/// The names in the output directory.
fn left(small: &SmallRoot) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(small.beside("out")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn killed_at_any_moment() {
    let small = large();
    let arguments = small.arguments("out", &["--format", "squashfs", "--format", "erofs"]);
    for milliseconds in [20, 60, 150, 300, 500, 800, 1200] {
        let mut child = fprefix()
            .args(&arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(milliseconds));
        let ended = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        child.wait().unwrap();
        let images = left(&small).into_iter().filter(|name| !name.starts_with('.'));
        assert!(ended || images.count() == 0, "after {milliseconds} ms: {:?}", left(&small));
        assert!(!fs_err::read_to_string("/proc/mounts").unwrap().contains("small"));
        let _ = fs_err::remove_file(small.beside("out/small.raw"));
    }
    let all = ["--format", "squashfs", "--format", "erofs", "--no-reports"];
    small.pack("out", &all);
    let mut names = left(&small);
    let ours = |name: &str| name.starts_with("small") || name == ".small.packed";
    names.retain(|name| !ours(name) && name != "SHA256SUMS");
    assert_eq!(names, [""; 0], "what killed runs left is still there");
}

#[test]
fn the_disk_is_full() {
    let small = large();
    let program = assert_cmd::cargo::cargo_bin("fprefix").display().to_string();
    let out = small.beside("out").display().to_string();
    fs_err::create_dir(&out).unwrap();
    for format in ["squashfs", "erofs", "ext4", "tar", "directory", "ddi"] {
        let options = ["--format", format, "--architecture", "x86-64"];
        // What is left is looked at in the same namespace, where the small disk is.
        let script = "\"$@\"; status=$?; ls -A \"$0\"; exit $status";
        let output = std::process::Command::new("bwrap")
            .args(["--dev-bind", "/", "/", "--size", "3000000", "--tmpfs", &out])
            .args(["sh", "-c", script, &out, &program])
            .args(small.arguments("out", &options))
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{format}: {error}");
        assert!(error.contains("was not written"), "{error}");
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{format}");
    }
    small.pack("out", &[]);
}

#[test]
fn a_file_can_not_be_read() {
    let small = SmallRoot::full();
    small.mode("usr/share/thing/data", 0);
    fs_err::create_dir(small.beside("out")).unwrap();
    let program = assert_cmd::cargo::cargo_bin("fprefix").display().to_string();
    // Nobody in a namespace has the rights of root.
    let words = "--unshare-user --uid 1000 --gid 1000 --dev-bind / / --";
    let output = std::process::Command::new("bwrap")
        .args(words.split(' '))
        .arg(program)
        .args(small.arguments("out", &[]))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("usr/share/thing/data") && error.contains("ermission denied"),
        "{error}"
    );
    assert_eq!(left(&small), [""; 0]);
}

#[test]
fn a_damaged_image_is_not_published() {
    let small = SmallRoot::full();
    // A tool that succeeds and writes something else.
    let tools = small.beside("tools");
    fs_err::create_dir(&tools).unwrap();
    let real = run("sh", &["-c", "command -v mksquashfs"]);
    let other = small.beside("other");
    fs_err::create_dir_all(other.join("usr/local/small")).unwrap();
    let script = format!(
        "#!/bin/sh\ncat > /dev/null\nexec {} {} \"$2\" -all-root -quiet -no-progress > \
         /dev/null\n",
        real.trim(),
        other.display()
    );
    fs_err::write(tools.join("mksquashfs"), script).unwrap();
    run("chmod", &["+x", tools.join("mksquashfs").to_str().unwrap()]);
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let output = fprefix().env("PATH", path).args(small.arguments("out", &[])).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("what was written is not what was planned"), "{error}");
    assert!(error.contains("and ") && error.contains(" more"), "{error}");
    assert_eq!(left(&small), [""; 0]);
}
