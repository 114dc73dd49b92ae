//! Portage's other tools, the wrappers, and `enter`.

use crate::prefix::{EPREFIX, own, shared};

fn board() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" }
}

#[test]
fn tools_on_staging_and_on_final() {
    let prefix = shared();
    let run = |args: &[&str]| prefix.fprefix(&["run"]).args(args).said();
    let said = run(&["portageq", "envvar", "EPREFIX"]).succeeds();
    assert_eq!(said.stdout, format!("{EPREFIX}\n"));
    let said = run(&["portageq", "envvar", "ROOT"]).succeeds();
    assert_eq!(said.stdout, "/\n");
    for start in [["portageq", "--final"], ["--final", "portageq"]] {
        let said = prefix.fprefix(&["run"]).args(start).args(["envvar", "ROOT"]).said().succeeds();
        assert_eq!(said.stdout, "/fprefix/final/root/\n");
    }
    let said = run(&["portageq", "get_repos", EPREFIX]).succeeds();
    assert_eq!(said.stdout, "fprefix-toolchain test-cases fprefix\n");
    let said =
        run(&["portageq", "--final", "match", &format!("/fprefix/final/root{EPREFIX}"), "jq"]);
    assert_eq!(said.succeeds().stdout, "app-misc/jq-1.7.1\n");
    run(&["portageq", "envvar", "NO_SUCH_VARIABLE"]).ends_with(1);
    // Portage finds ebuilds although the overlay has no eclasses, and no advisories are not good news.
    let said = prefix.fprefix(&["emerge", "--search", "jq"]).said().succeeds();
    said.prints("app-misc/jq");
    let said = run(&["glsa-check", "--test", "all"]).ends_with(1);
    said.tells("has security advisories (metadata/glsa)");
    run(&["no-such-tool"]).ends_with(1).tells("neither Portage nor this machine has a program");
}

#[test]
fn quickpkg_and_ebuild() {
    let prefix = own();
    let said = prefix.fprefix(&["run", "quickpkg", "--include-config=y", "dev-libs/oniguruma"]);
    said.said().succeeds();
    let said = prefix.fprefix(&["run", "portageq", "get_repo_path", EPREFIX, "test-cases"]).said();
    let repo = said.succeeds().stdout;
    let ebuild = format!("{}/test-cases/small/small-1.ebuild", repo.trim_end());
    let said = prefix.fprefix(&["run", "ebuild", &ebuild, "clean", "compile"]).said().succeeds();
    assert!(said.stdout.contains("Source compiled"), "{said}");
    prefix.fprefix(&["run", "ebuild", &ebuild, "clean"]).said().succeeds();
    prefix.fprefix(&["run", "emaint", "--check", "world"]).said().succeeds();
    // They find their settings, in both environments.
    for environment in [&[][..], &["--final"]] {
        let run = |tool: &str| prefix.fprefix(&["run", tool]).args(environment).said().succeeds();
        run("etc-update").prints("Scanning Configuration files...");
        assert_eq!(run("dispatch-conf").stderr, "");
    }
}

/// The names under which ebuilds look for a compiler and its tools, behind CHOST and a dash
/// (toolchain-funcs.eclass).
pub(crate) const TOOLCHAIN: [&str; 22] = [
    "addr2line",
    "ar",
    "as",
    "c++",
    "c++filt",
    "cc",
    "cpp",
    "g++",
    "gcc",
    "gcc-ar",
    "gcc-nm",
    "gcc-ranlib",
    "ld",
    "nm",
    "objcopy",
    "objdump",
    "pkg-config",
    "ranlib",
    "readelf",
    "size",
    "strings",
    "strip",
];

/// Prints which of its arguments are no programs of BROOT's that say their version.
pub(crate) const WITHOUT_VERSION: &str = "for name; do \
        [ \"$(command -v \"$name\")\" = \"/fprefix/staging/broot/usr/local/bin/$name\" ] && \
        \"$name\" --version > /dev/null || echo \"$name\"; done";

#[test]
fn names_that_ebuilds_expect() {
    let prefix = shared();
    let gnu = ["awk", "find", "grep", "install", "make", "patch", "sed", "tar", "xargs"];
    let chost = format!("{}-cros-linux-gnu", std::env::consts::ARCH);
    let mut names: Vec<String> = gnu.map(|name| format!("g{name}")).into();
    names.extend(TOOLCHAIN.map(|name| format!("{chost}-{name}")));
    names.extend(TOOLCHAIN.map(str::to_owned));
    let said = prefix.fprefix(&["enter", "--", "sh", "-c", WITHOUT_VERSION, "sh"]).args(names);
    assert_eq!(said.said().succeeds().stdout, "");
}

#[test]
fn wrappers() {
    let prefix = shared();
    let name = format!("emerge-prefix-test-{}", board());
    let wrapper = |tool: &str| prefix.world.path("wrappers").join(name.replacen("emerge", tool, 1));
    let run = |tool: &str, args: &[&str]| {
        let run = prefix.world.run(wrapper(tool)).args(args);
        // Who calls them need not know where the prefix is.
        run.without_env("FPREFIX_HOME").said()
    };
    run("emerge", &[]).succeeds().prints("Usage: fprefix emerge");
    run("emerge", &["--help"]).succeeds().prints("--stage").prints("--install");
    let said = run("emerge", &["--stage", "-p", "app-misc/jq"]).succeeds().prints("[ebuild   R");
    assert!(!said.stdout.contains("[binary"), "{said}");
    let said = run("emerge", &["--install", "-p", "app-misc/jq"]).succeeds().prints("[binary   R");
    assert!(!said.stdout.contains("[ebuild"), "{said}");
    run("emerge", &["-pv", "app-misc/jq"]).succeeds().prints("[ebuild   R").prints("[binary   R");
    run("emerge", &["app-misc/no-such-thing"]).ends_with(1);
    assert_eq!(run("portageq", &["envvar", "EPREFIX"]).succeeds().stdout, format!("{EPREFIX}\n"));
    let said = run("portageq", &["--final", "envvar", "ROOT"]).succeeds();
    assert_eq!(said.stdout, "/fprefix/final/root/\n");
    run("quickpkg", &["--help"]).succeeds().prints("quickpkg");
    run("ebuild", &["--help"]).succeeds().prints("ebuild");
}

/// shellcheck finds nothing in any script that was written.
#[test]
fn scripts_are_clean() {
    let prefix = shared();
    let mut scripts = Vec::new();
    for dir in [prefix.world.path("wrappers"), prefix.staging.join("broot/usr/local/bin")] {
        for entry in fs_err::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let bytes = fs_err::read(entry.path()).unwrap_or_default();
            let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let shell = first.starts_with(b"#!") && first.ends_with(b"sh");
            if entry.file_type().unwrap().is_file() && shell {
                scripts.push(entry.path());
            }
        }
    }
    scripts.push(prefix.staging.join(".fprefix/phases.sh"));
    assert!(scripts.len() > 8, "{scripts:?}");
    // What it says to a quote or a $ in a name that is meant to have one, it says of the name.
    let of_names = "--exclude=SC2016,SC2089,SC2090";
    prefix.world.run("shellcheck").args([of_names]).args(&scripts).said().succeeds();
    for dir in [&prefix.staging, &prefix.r#final] {
        let bashrc = dir.join("etc/portage/bashrc");
        prefix.world.run("shellcheck").args(["-s", "bash"]).args([bashrc]).said().succeeds();
    }
}

#[test]
fn enter() {
    let prefix = own();
    let enter = |args: &[&str]| prefix.fprefix(&["enter", "--"]).args(args).said();
    enter(&["sh", "-c", "exit 42"]).ends_with(42);
    enter(&["sh", "-c", "kill -9 $$"]).ends_with(137);
    enter(&["no-such-program"]).ends_with(1);
    let said =
        enter(&["sh", "-c", "for arg; do echo \"<$arg>\"; done", "sh", "two  words", "$x", ""]);
    assert_eq!(said.succeeds().stdout, "<two  words>\n<$x>\n<>\n");
    // The prefix is at its real path and can be written to; programs of it run as they are.
    let jq = format!("{EPREFIX}/usr/bin/jq");
    assert_eq!(enter(&[&jq, "-n", "6*7"]).succeeds().stdout, "42\n");
    enter(&["touch", &format!("{EPREFIX}/tmp/written")]).succeeds();
    assert!(prefix.in_staging("tmp/written").exists());
    // The rest is read-only, also for root.
    for path in ["/usr/written", "/usr/local/written", "/etc/written", "/written", "/root/written"]
    {
        enter(&["touch", path]).ends_with(1);
        assert!(!std::path::Path::new(path).exists(), "{path}");
    }
    let said = prefix.fprefix(&["enter"]).said_to("echo shell; exit 3\n");
    said.ends_with(3).prints("shell");
    // Portage works there, too: the code of packages runs in a sandbox of its own in this one. It reads
    // ebuilds anew, and tells them of the merge as those of EAPI 9, which need a newer bash.
    let as_eapi_9 = ["PORTAGE_DO_NOT_EXPORT_PMS_VARS=1", "PORTAGE_DEPCACHEDIR=/tmp/new"];
    for variables in [&[][..], &as_eapi_9] {
        let emerge = ["emerge", "--oneshot", "test-cases/small"];
        enter(&[&["env"], variables, &emerge].concat()).succeeds();
        assert!(prefix.in_staging("usr/bin/small").exists());
        enter(&["emerge", "--unmerge", "test-cases/small"]).succeeds();
    }
}
