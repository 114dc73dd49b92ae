//! Build files: what is wrong with one is said with its line, and before anything is written.

use insta::assert_snapshot;

use crate::harness::World;

const GOOD: &str = r#"[prefix]
name = "demo"
eprefix = "/usr/local/demo"
wrapper-dir = "bin"

[trees]
overlays = []

[emerge]
packages = [
    "app-misc/jq",
    "=net-misc/socat-1.8.0.3",
]
use = "-nls ssl"

[check]
run = ["jq --version"]

[pack]
format = ["squashfs", "erofs:zstd"]
"#;

/// What `build` says of the good file with `from` replaced by `to`. Nothing may have been written.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let world = World::new();
    world.write("overlay/profiles/repo_name", "other\n");
    world.write("fprefix.toml", GOOD.replacen(from, to, 1));
    let before = world.contents();
    let said = world.fprefix(["build"]).said().ends_with(1);
    assert_eq!(world.contents(), before, "something was written\n{said}");
    said.stderr + "\n"
}

#[test]
fn what_is_wrong_is_shown_in_its_line() {
    let cases = [
        ("[prefix]", "[prefix"),
        ("name = \"demo\"", "name = \"a b\""),
        ("name = \"demo\"", "nam = \"demo\""),
        ("name = \"demo\"\n", ""),
        ("/usr/local/demo", "/usr/local"),
        ("wrapper-dir", "board = \"riscv-usr\"\nwrapper-dir"),
        ("wrapper-dir = \"bin\"", "wrapper-dir = 3"),
        ("overlays = []", "overlays = [\"none\"]"),
        ("overlays = []", "repos = [\"gentoo=overlay\"]"),
        ("overlays = []", "repos = [\"overlay\"]"),
        ("overlays = []", "tree = \"none\""),
        ("app-misc/jq", "jq"),
        ("app-misc/jq", "--depclean"),
        ("=net-misc", "net-misc"),
        ("\"=net-misc/socat-1.8.0.3\"", "\"app-misc/jq\""),
        ("-nls ssl", "-nls $ssl"),
        ("-nls ssl\"", "-nls\"\npackage-use.jq = \"x\""),
        ("-nls ssl\"", "-nls\"\npackage-accept-keywords.\"a/b\" = \"~amd64 'x\""),
        ("-nls ssl\"", "-nls\"\njobs = 0"),
        ("jq --version", "jq 'open"),
        ("run", "waive = [\"no-such-rule\"]\nrun"),
        ("erofs:zstd", "zip"),
        ("format", "keep = [\"no-such-rule\"]\nformat"),
        ("format", "private-key = \"k.pem\"\nformat"),
        ("format", "base = [\"none\"]\nformat"),
        ("format", "sysupdate = \"https://example.org/\"\nformat"),
        ("format", "release = [\"ID\"]\nformat"),
        ("format", "target-root = \"none\"\nformat"),
        ("format", "with-extension = [\"none.raw\"]\nformat"),
        ("format", "waive = [\"shadowed-file\"]\nformat"),
        ("format", "waive = [\"no-such-rule\"]\nformat"),
        ("[pack]", "[packs]"),
    ];
    let text: String = cases.iter().map(|(from, to)| refused(from, to)).collect();
    assert_snapshot!(text);
}

#[test]
fn a_file_that_is_not_there() {
    let world = World::new();
    let mut text = world.fprefix(["build"]).said().transcript();
    text += &world.fprefix(["build", "other.toml", "--locked"]).said().transcript();
    text += &world.fprefix(["lock"]).said().transcript();
    assert_snapshot!(text);
}

#[test]
fn locked_without_a_lock_or_with_one_that_is_none() {
    let world = World::new();
    world.write("fprefix.toml", GOOD);
    let before = world.contents();
    insta::assert_snapshot!(world.fprefix(["build", "--locked"]).said().ends_with(1).transcript(), @"
    $ fprefix build --locked
    error: there is no [WORLD]/fprefix.lock; `fprefix lock` writes it after a build
    [1]
    ");
    assert_eq!(world.contents(), before);
    world.write("fprefix.lock", "form = 2\n");
    insta::assert_snapshot!(world.fprefix(["build", "--locked"]).said().ends_with(1).transcript(), @"
    $ fprefix build --locked
    error: the lock file [WORLD]/fprefix.lock cannot be read: TOML parse error at line 1, column 1
      |
    1 | form = 2
      | ^
    missing field `request`

    [1]
    ");
    world.write("fprefix.lock", "form = 1\npackages = []\n");
    let said = world.fprefix(["build", "--locked"]).said().ends_with(1);
    said.tells("has the form 1, and this fprefix knows 2").tells("run `fprefix lock`");
    // What is not set up has nothing to record.
    insta::assert_snapshot!(world.fprefix(["lock"]).said().ends_with(1).transcript(), @"
    $ fprefix lock
    error: the prefix demo is not there; build it first: `fprefix build`
    [1]
    ");
}

#[test]
fn a_prefix_that_is_something_else_is_left_alone() {
    let world = World::new();
    let board = if cfg!(target_arch = "aarch64") { "arm64-usr" } else { "amd64-usr" };
    world.prefix("demo", board, "/opt/demo");
    world.write("fprefix.toml", GOOD);
    let before = world.contents();
    let said = world.fprefix(["build"]).said().ends_with(1);
    let said = said.tells("its EPREFIX is /opt/demo, and the file says /usr/local/demo");
    said.tells("`fprefix build --force` sets it up anew");
    assert_eq!(world.contents(), before);
}

#[test]
fn init_writes_a_file_that_can_be_built() {
    let world = World::new();
    world.fprefix(["init", "--name", "demo"]).said().succeeds();
    let said = world.fprefix(["build", "--dry-run"]).said().succeeds();
    said.prints("emerge app-misc/jq").prints("prove jq --version");
    assert!(!world.home().exists());
    // Every line that is commented out is one that can be used: the words are known.
    let text = fs_err::read_to_string(world.path("fprefix.toml")).unwrap();
    let words: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.split_once(" = ").map(|(word, _)| word))
        .filter(|word| !word.contains(' '))
        .collect();
    assert!(words.len() > 15, "{words:?}");
    for word in words {
        let used = text.replacen(&format!("# {word} = "), &format!("{word} = "), 1);
        world.write("used.toml", used);
        let said = world.fprefix(["build", "--dry-run", "used.toml"]).said();
        assert!(!said.stderr.contains("unknown field"), "{word}: {said}");
        assert!(!said.stderr.contains("invalid type"), "{word}: {said}");
    }
    // It never replaces what is there.
    world.write("fprefix.toml", "mine");
    insta::assert_snapshot!(world.fprefix(["init", "--name", "demo"]).said().ends_with(1).transcript(), @"
    $ fprefix init --name demo
    error: could not write fprefix.toml: File exists (os error 17)
    [1]
    ");
    assert_eq!(fs_err::read_to_string(world.path("fprefix.toml")).unwrap(), "mine");
}
