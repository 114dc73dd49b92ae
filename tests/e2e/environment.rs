//! The caller's environment reaches neither a prefix nor its image.

use crate::harness::World;
use crate::prefix::{EPREFIX, lend_portage, overlay};

/// The rest of a build file, with the packages that would show an environment.
const BUILD_FILE: &str = "\
[trees]
overlays = [\"overlay\"]
[emerge]
packages = [\"test-cases/small\", \"test-cases/environment\"]
[pack]
format = [\"erofs\"]
output = \"output\"
";

/// Variables of a caller by which programs do something else. Directories and files are those of
/// the world.
const HOSTILE: &[(&str, &str)] = &[
    ("BASH_ENV", "WORLD/exits"),
    ("CDPATH", "/usr:/"),
    ("CFLAGS", "-O0 -DHOSTILE"),
    ("COLORTERM", "truecolor"),
    ("COLUMNS", "20"),
    ("CPATH", "WORLD/evil"),
    ("ENV", "WORLD/exits"),
    ("GREP_OPTIONS", "-v"),
    ("HOME", "WORLD/evil"),
    ("LANG", "tr_TR.UTF-8"),
    ("LC_ALL", "tr_TR.UTF-8"),
    ("LDFLAGS", "-Wl,--hash-style=sysv"),
    ("LD_LIBRARY_PATH", "WORLD/evil"),
    ("LIBRARY_PATH", "WORLD/evil"),
    ("LINES", "5"),
    ("LOGNAME", "evil"),
    ("MAKEFLAGS", "-n"),
    ("MAKEOPTS", "-j7"),
    ("PERL5OPT", "-Mnothing"),
    ("PKG_CONFIG_PATH", "WORLD/evil"),
    ("PYTHONPATH", "WORLD/evil"),
    ("PYTHONSTARTUP", "WORLD/exits"),
    ("RUSTFLAGS", "-Copt-level=0"),
    ("SHELL", "WORLD/exits"),
    ("TAR_OPTIONS", "--mode=700"),
    ("TERM", "vt52"),
    ("TZ", "Asia/Kolkata"),
    ("USE", "-extra"),
    ("USER", "evil"),
    ("XZ_OPT", "-0"),
    ("ZSTD_CLEVEL", "1"),
];

/// Starts a program on one of the processors that we may use, with a umask, on a machine of another
/// name.
const START: &str = "\
    umask \"$1\"; host=$2; shift 2\n\
    one=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*\\([0-9]*\\).*/\\1/p' /proc/self/status)\n\
    exec bwrap --dev-bind / / --unshare-uts --hostname \"$host\" -- taskset -c \"$one\" \"$@\"";

/// Builds a prefix with this umask; returns its image, and what its build saw.
fn build(umask: &str, variables: &[(&str, &str)]) -> (Vec<u8>, String) {
    let world = World::new();
    lend_portage(&world);
    overlay(&world);
    let prefix =
        format!("[prefix]\nname = \"test\"\neprefix = \"{EPREFIX}\"\nwrapper-dir = \"w\"\n");
    world.write("fprefix.toml", format!("{prefix}{BUILD_FILE}"));
    world.write("exits", "exit 9\n");
    world.write("evil/re.py", "raise SystemExit(9)\n");
    let place = world.path("");
    let run = |args: &[&str]| {
        let words = ["sh", "-c", START, "sh", umask, &format!("of-umask-{umask}")];
        let mut run = world.fprefix(args).env("SOURCE_DATE_EPOCH", "1700000000").through(words);
        for (name, value) in variables {
            run = run.env(name, value.replace("WORLD", place.to_str().unwrap()));
        }
        run.said().succeeds()
    };
    run(&["build"]);
    let notes = run(&["check", "--rule", "access,mode", "-v"]).stdout;
    assert!(!notes.contains("[access]") && !notes.contains("everybody"), "{notes}");
    let board = if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" };
    let r#final = world.home().join("prefixes").join(format!("test-{board}")).join("final");
    let saw = crate::prefix::eroot(&r#final).join("usr/share/environment");
    let image = fs_err::read(world.path("output/test.raw")).unwrap();
    (image, fs_err::read_to_string(saw).unwrap())
}

#[test]
fn a_prefix_is_the_same_in_every_environment() {
    let (image, saw) = build("000", &[]);
    let (of_hostile, hostile_saw) = build("077", HOSTILE);
    assert_eq!(saw, hostile_saw);
    assert!(image == of_hostile, "the images differ");
}
