//! btrfs images, by the btrfs-progs of a release that has new enough ones: run from its root
//! directory by its own loader.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{root, runs_from};
use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::{command, search_path_after, stdout_of, stdout_of_success};

/// Unpacks btrfs-progs; returns a directory with programs to put before the search path.
fn newest(dir: &Path) -> PathBuf {
    let (root, programs) = (dir.join("debian"), dir.join("programs"));
    stdout_of(
        "mmdebstrap",
        [
            "--quiet",
            "--variant=extract",
            "--include=btrfs-progs",
            "--dpkgopt=path-exclude=/usr/share/*",
            // A release that is still in the making has no valid date at times.
            "--aptopt=Acquire::Check-Valid-Until \"false\"",
            "sid",
            root.to_str().unwrap(),
        ],
    );
    fs_err::create_dir(&programs).unwrap();
    let find = |names: &str| {
        let found = stdout_of(
            "find",
            [root.to_str().unwrap(), "-name", names, "(", "-type", "f", "-o", "-type", "l", ")"],
        );
        let first = found.lines().find(|path| !path.contains("/share/")).map(str::to_owned);
        first.unwrap_or_else(|| panic!("the release has no {names}"))
    };
    let loader = find("ld-linux-*.so.[12]");
    let libc = find("libc.so.6");
    let libraries = Path::new(&libc).parent().unwrap().display().to_string();
    // Relative to the directory of both, which can be bound elsewhere.
    let below = |path: &str| {
        let below = Path::new(path).strip_prefix(dir).unwrap();
        format!("\"${{0%/programs/*}}/{}\"", below.display())
    };
    for name in ["mkfs.btrfs", "btrfs"] {
        let script = format!(
            "#!/bin/sh\nexec {} --library-path {} {} \"$@\"\n",
            below(&loader),
            below(&libraries),
            below(&find(name))
        );
        let place = programs.join(name);
        fs_err::write(&place, script).unwrap();
        fs_err::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs
}

/// Packs with those programs.
fn pack(small: &SmallRoot, programs: &Path, output: &str, format: &str) -> PathBuf {
    let path = search_path_after(&[programs]);
    let mut command = fprefix();
    command.env("PATH", path).args(small.arguments(output, &["--format", format, "--no-reports"]));
    stdout_of_success(command.output().unwrap());
    small.beside(output).join("small.raw")
}

#[test]
fn the_same_bytes_attach_and_are_read_only() {
    let small = root("/usr/local/small");
    let programs = newest(&small.beside(""));
    small.copy(crate::harness::small_programs::program(), "usr/bin/setuid", 0o4755);
    small.link("program", "usr/bin/link");
    small.file("usr/share/thing/na me 'é' \"x\" \\n", "odd name\n");
    small.file("usr/share/thing/text", &"much of the same\n".repeat(100_000));
    let twin = small.inside("usr/share/a twin");
    fs_err::hard_link(small.inside("usr/share/thing/na me 'é' \"x\" \\n"), twin).unwrap();
    stdout_of("setcap", ["cap_net_raw=ep", small.inside("usr/bin/program").to_str().unwrap()]);
    // More than btrfs restore unpacks without a question.
    for number in 0..1500 {
        small.file(&format!("usr/share/many/{number}"), "");
    }
    let image = pack(&small, &programs, "out", "btrfs");
    small.file("usr/share/passing", "");
    fs_err::remove_file(small.inside("usr/share/passing")).unwrap();
    let again = pack(&small, &programs, "again", "btrfs");
    assert!(fs_err::read(&image).unwrap() == fs_err::read(again).unwrap(), "not reproducible");
    runs_from(&small, &image);

    let script = "mount -o loop,rw \"$1\" /mnt; cd /mnt/usr/local/small/usr
        stat -c '%a %h %s' bin/setuid share/thing/na*; getcap bin/program
        touch here 2>&1 || :; cd /; umount /mnt";
    let output = command("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"])
        .arg(&image)
        .output()
        .unwrap();
    let said = stdout_of_success(output);
    let size = fs_err::metadata(small.inside("usr/bin/setuid")).unwrap().len();
    assert!(said.starts_with(&format!("4755 1 {size}\n644 2 9\n")), "{said}");
    assert!(said.contains("cap_net_raw=ep") && said.contains("Read-only file system"), "{said}");

    // What reads images reads this one, and what is not compressed takes more room.
    small.pack("other", &["--no-reports", "--format", "erofs"]);
    // What reads an image of somebody else sees the machine's own directories of programs alone.
    let shown = Path::new("/usr/local/games");
    let bind = "mount --bind \"$1\" \"$2\"; shift 2; exec \"$@\"";
    let output = command("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", bind, "sh"])
        .args([programs.parent().unwrap(), shown])
        .arg(fprefix().get_program())
        .arg("diff")
        .args([&image, &small.beside("other/small.raw")])
        .env("PATH", search_path_after(&[&shown.join("programs")]))
        .output()
        .unwrap();
    stdout_of_success(output);
    let used =
        |image: &Path| std::os::unix::fs::MetadataExt::blocks(&fs_err::metadata(image).unwrap());
    let plain = pack(&small, &programs, "plain", "btrfs:none");
    assert!(used(&plain) > used(&image) + 2000, "{} {}", used(&plain), used(&image));
}
