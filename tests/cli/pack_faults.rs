//! Packing that does not come to its end leaves nothing that could be taken for an image.

use std::os::unix::process::ExitStatusExt;

use crate::harness::small_root::{FPREFIX, SmallRoot, fprefix};
use crate::harness::tools::{command, find_in_system, search_path_after, write_program};

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

/// The names in the output directory `output`, sorted.
fn names_in(small: &SmallRoot, output: &str) -> Vec<String> {
    let Ok(entries) = fs_err::read_dir(small.beside(output)) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// The points at which packing is killed: at the n-th of these system calls.
const CALLS: [(&str, u32); 11] = [
    ("?mkdir,?mkdirat", 2),
    ("?mkdir,?mkdirat", 4),
    ("?fchmod", 1),
    ("?chmod,?fchmodat", 2),
    ("?fsync", 1),
    ("?rename,?renameat,?renameat2", 1),
    ("?symlink,?symlinkat", 1),
    ("?rename,?renameat,?renameat2", 3),
    ("?fsync", 4),
    ("?unlinkat", 20),
    ("?rename,?renameat,?renameat2", 13),
];

#[test]
fn killed_at_many_points() {
    let small = SmallRoot::full();
    let options = ["--format", "squashfs", "--format", "erofs", "--force"];
    small.pack("whole", &options);
    let arguments = small.arguments("out", &options);
    let mut killed = 0;
    for (calls, number) in CALLS {
        let inject = format!("inject={calls}:signal=KILL:when={number}");
        let mut strace = command("strace");
        strace.args(["-f", "-o", "/dev/null", "-e", &inject, "--"]).arg(FPREFIX).args(&arguments);
        let output = strace.output().unwrap();
        killed += u32::from(output.status.signal() == Some(9));
        nothing_is_there_in_part(&small, &inject);
    }
    assert!(killed > 8, "hardly a run was killed: {killed}");
    for tool in ["mksquashfs", "unsquashfs", "mkfs.erofs"] {
        for script in ["kill -KILL $PPID", "REAL \"$@\"; kill -KILL $PPID"] {
            let tools = small.beside("tools");
            let script = script.replace("REAL", find_in_system(tool).to_str().unwrap());
            write_program(&tools.join(tool), format!("#!/bin/sh\n{script}\n"));
            let path = search_path_after(&[&tools]);
            let output = fprefix().args(&arguments).env("PATH", path).output().unwrap();
            // As an ordinary user fprefix starts the tool through bwrap, which is killed instead of it.
            assert!(!output.status.success(), "{tool}: {script}");
            fs_err::remove_dir_all(tools).unwrap();
            nothing_is_there_in_part(&small, tool);
        }
    }
    small.pack("out", &options);
    // Only a root that has been at rest for a while gets the record of what was packed.
    let names = |output: &str| {
        let names = names_in(&small, output).into_iter();
        names.filter(|name| name != ".small.packed").collect::<Vec<_>>()
    };
    assert_eq!(names("out"), names("whole"), "killed runs left something");
}

/// Whatever can be taken for an image or a report is the same as from a run that nobody killed.
#[track_caller]
fn nothing_is_there_in_part(small: &SmallRoot, moment: &str) {
    for name in names_in(small, "out").into_iter().filter(|name| !name.starts_with('.')) {
        let bytes = |output: &str| fs_err::read(small.beside(output).join(&name)).unwrap();
        assert!(bytes("out") == bytes("whole"), "{name} was written in part, killed at {moment}");
    }
    let root = small.root().display().to_string();
    assert!(!fs_err::read_to_string("/proc/mounts").unwrap().contains(&root), "{moment}");
}

#[test]
fn the_disk_is_full() {
    let small = large();
    let program = FPREFIX;
    let out = small.beside("out").display().to_string();
    fs_err::create_dir(&out).unwrap();
    for format in ["squashfs", "erofs", "ext4", "tar", "directory", "ddi"] {
        let options = ["--format", format, "--architecture", "x86-64"];
        // What is left is looked at in the same namespace, where the small disk is.
        let script = "\"$@\"; status=$?; ls -A \"$0\"; exit $status";
        let output = command("bwrap")
            .args(["--dev-bind", "/", "/", "--size", "3000000", "--tmpfs", &out])
            .args(["sh", "-c", script, &out, program])
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
    let program = FPREFIX;
    // Nobody in a namespace has the rights of root.
    let words = "--unshare-user --uid 1000 --gid 1000 --dev-bind / / --";
    let output = command("bwrap")
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
    assert_eq!(names_in(&small, "out"), [""; 0]);
}

#[test]
fn a_damaged_image_is_not_published() {
    let small = SmallRoot::full();
    // A tool that succeeds and writes something else.
    let tools = small.beside("tools");
    let other = small.beside("other");
    fs_err::create_dir_all(other.join("usr/local/small")).unwrap();
    let script = format!(
        "#!/bin/sh\ncat > /dev/null\nexec {} {} \"$2\" -all-root -quiet -no-progress > \
         /dev/null\n",
        find_in_system("mksquashfs").display(),
        other.display()
    );
    write_program(&tools.join("mksquashfs"), script);
    let path = search_path_after(&[&tools]);
    let output = fprefix().env("PATH", path).args(small.arguments("out", &[])).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("what was written is not what was planned"), "{error}");
    assert!(error.contains("and ") && error.contains(" more"), "{error}");
    assert_eq!(names_in(&small, "out"), [""; 0]);
}
