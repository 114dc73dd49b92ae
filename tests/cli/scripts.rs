//! Scripts after rewriting: each is started by the real kernel, and by the real env(1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::libc_root::{compile, errors, on};
use super::random::Random;
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::{find, stdout_of, stdout_of_success};

const EPREFIX: &str = "/opt/x";

/// A root with programs that are never started.
fn root() -> SmallRoot {
    let root = SmallRoot::empty(EPREFIX);
    for path in [
        "usr/bin/env",
        "usr/bin/sh",
        "usr/bin/awk",
        "usr/sbin/nft",
        "usr/bin/python3",
        "usr/libexec/pkg/python3",
        "usr/lib/venv/bin/python3",
    ] {
        root.file(path, "");
        root.mode(path, 0o755);
    }
    root
}

fn script(root: &SmallRoot, name: &str, text: &str) {
    let path = format!("usr/bin/{name}");
    root.file(&path, text);
    root.mode(&path, 0o755);
}

/// Rewrites scripts with these beginnings; returns their beginnings then, and what `check` finds.
fn rewritten(texts: &[&str]) -> Vec<(String, Option<String>)> {
    let root = root();
    for (number, text) in texts.iter().enumerate() {
        script(&root, &format!("script-{number}"), text);
    }
    stdout_of_success(on(&root, &["rewrite"]));
    let found: BTreeMap<_, _> = errors(&root)
        .into_iter()
        .filter(|(rule, ..)| rule == "shebang")
        .map(|(_, path, detail)| (path, detail))
        .collect();
    let said = stdout_of_success(on(&root, &["rewrite"]));
    assert!(said.ends_with(" 0 changed\n"), "a second run: {said}");
    let after = |number| {
        let path = format!("usr/bin/script-{number}");
        let text = fs_err::read(root.inside(&path)).unwrap();
        let finding = found.get(&format!("{EPREFIX}/{path}")).cloned();
        (String::from_utf8(text).unwrap(), finding)
    };
    (0..texts.len()).map(after).collect()
}

#[test]
fn programs_of_the_prefix_take_the_place_of_others() {
    let cases = [
        ("#!/bin/awk -f\n", "#!/opt/x/usr/bin/awk -f\n"),
        ("#! /usr/local/bin/awk  -f \n", "#! /opt/x/usr/bin/awk  -f \n"),
        ("#!/usr/bin/awk", "#!/opt/x/usr/bin/awk"),
        ("#!/usr/sbin/nft -f\n", "#!/opt/x/usr/sbin/nft -f\n"),
        ("#!/usr/libexec/pkg/python3\n", "#!/opt/x/usr/libexec/pkg/python3\n"),
        ("#!/opt/x/usr/lib/venv/bin/python3\n", "#!/opt/x/usr/lib/venv/bin/python3\n"),
        ("#!/fprefix/final/root/opt/x/usr/bin/awk\n", "#!/opt/x/usr/bin/awk\n"),
        ("#!/fprefix/staging/broot/usr/bin/awk\n", "#!/opt/x/usr/bin/awk\n"),
        (
            "#!/fprefix/staging/tmp/portage/a/b-1/image/opt/x/usr/lib/venv/bin/python3\n",
            "#!/opt/x/usr/lib/venv/bin/python3\n",
        ),
        ("#!/usr/bin/env awk\n", "#!/opt/x/usr/bin/awk\n"),
        ("#!/opt/x/usr/bin/env awk\n", "#!/opt/x/usr/bin/awk\n"),
        ("#!/usr/bin/env -S awk -f\n", "#!/opt/x/usr/bin/awk -f\n"),
        ("#!/usr/bin/env -S awk 'a b'\n", "#!/opt/x/usr/bin/awk a b\n"),
        (
            "#!/usr/bin/env -S awk -v x=1 -f\n",
            "#!/opt/x/usr/bin/env -S /opt/x/usr/bin/awk -v x=1 -f\n",
        ),
        (
            "#!/bin/env -iS A=\"b c\" /usr/bin/awk\n",
            "#!/opt/x/usr/bin/env -iS A=\"b c\" /opt/x/usr/bin/awk\n",
        ),
        (
            "#!/bin/env -S PATH=/opt/x/usr/bin awk\n",
            "#!/opt/x/usr/bin/env -S PATH=/opt/x/usr/bin awk\n",
        ),
        (
            "#!/bin/sh\n'''exec' /usr/bin/python3 \"$0\" \"$@\"\n' '''\n",
            "#!/opt/x/usr/bin/sh\n'''exec' /opt/x/usr/bin/python3 \"$0\" \"$@\"\n' '''\n",
        ),
        (
            "#!/opt/x/usr/bin/sh\n\"exec\" \"/fprefix/staging/root/opt/x/usr/lib/venv/bin/python3\" \"$0\"\n",
            "#!/opt/x/usr/bin/sh\n\"exec\" /opt/x/usr/lib/venv/bin/python3 \"$0\"\n",
        ),
        (
            "#!/usr/bin/env sh\n# \\\nexec awk \"$0\"\n",
            "#!/opt/x/usr/bin/sh\n# \\\nexec /opt/x/usr/bin/awk \"$0\"\n",
        ),
    ];
    let texts: Vec<_> = cases.iter().map(|(before, _)| *before).collect();
    for ((before, expected), (after, finding)) in cases.iter().zip(rewritten(&texts)) {
        assert_eq!((after.as_str(), finding), (*expected, None), "{before}");
    }
}

#[test]
fn what_is_not_understood_stays_and_is_found() {
    let long = format!("#!/usr/bin/awk -f{}\n", "x".repeat(233));
    let dir = "#!/opt/x/usr/bin\n";
    let cases = [
        (
            "#!/home/builder/.venv/bin/python3\n",
            "is run by /home/builder/.venv/bin/python3, outside",
        ),
        ("#!/usr/bin/python3\r\n", "CR LF: the kernel reads \"/usr/bin/python3\\r\""),
        ("#!/usr/bin/env python3\r\n", "CR LF: the kernel reads \"python3\\r\""),
        ("#!/opt/x/usr/bin/awk -f\r\n", "CR LF"),
        ("#!/usr/bin/env perl\n", "perl, which is not in the prefix"),
        ("#!/opt/x/usr/bin/env perl\n", "perl, which is not in the prefix"),
        ("#!/usr/bin/env python3 -u\n", "without -S"),
        ("#!/usr/bin/env -i python3\n", "without -S"),
        ("#!/usr/bin/env -S --unknown awk\n", "option that is not known"),
        ("#!/usr/bin/env -S 'awk\n", "a quotation has no end"),
        ("#!/usr/bin/env -S PATH=/usr/bin awk\n", "in PATH=/usr/bin"),
        ("#!/opt/x/usr/bin/env -S PATH=/usr/bin awk\n", "looks for in /usr/bin"),
        ("#!/usr/bin/env\n", "it names no program"),
        ("#!\n", "names no interpreter"),
        (dir, "/opt/x/usr/bin, which is no program"),
        ("#!usr/bin/awk\n", "is run by usr/bin/awk, outside"),
        ("#!/opt/x/../../usr/bin/awk\n", "outside"),
        (long.as_str(), "is run by /usr/bin/awk, outside"),
        ("#!/opt/x/usr/bin/sh\nexec /usr/bin/python3 -V\n", "is run by /usr/bin/python3, outside"),
        ("#!/opt/x/usr/bin/sh\n'''exec' /home/b/python3 \"$0\"\n", "/home/b/python3, outside"),
    ];
    let texts: Vec<_> = cases.iter().map(|(before, _)| *before).collect();
    for ((before, expected), (after, finding)) in cases.iter().zip(rewritten(&texts)) {
        let finding = finding.unwrap_or_default();
        let expected = expected.replace("in PATH=/usr/bin", "in /usr/bin");
        assert_eq!(after, *before);
        assert!(finding.contains(&expected), "{before}: {finding}");
    }
}

/// First lines of files that nobody executes stay, and so does all that finds data by offsets.
#[test]
fn nothing_moves_that_has_to_stay() {
    let root = root();
    root.file("usr/lib/module.py", "#!/usr/bin/python3\n");
    script(&root, "payload", "#!/usr/bin/awk\ndata\0");
    script(&root, "offset", "#!/usr/bin/awk\ntail -c +40 \"$0\" | tar x\n");
    script(&root, "room", "#!/usr/bin/env        python3\ndata\0");
    let said = stdout_of_success(on(&root, &["rewrite"]));
    let text = |path: &str| fs_err::read_to_string(root.inside(path)).unwrap();
    assert_eq!(text("usr/lib/module.py"), "#!/usr/bin/python3\n");
    assert_eq!(text("usr/bin/room"), "#!/opt/x/usr/bin/python3     \ndata\0");
    for name in ["payload", "offset"] {
        assert!(text(&format!("usr/bin/{name}")).starts_with("#!/usr/bin/awk\n"));
        assert!(
            said.contains(&format!("/opt/x/usr/bin/{name}: left as it is: it finds data")),
            "{said}"
        );
        assert!(errors(&root).iter().any(|(_, path, _)| path.ends_with(name)));
    }
}

/// Prints its arguments and what env sets.
const PRINTER: &str = r#"#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
	char *names[] = {"A", "B", "X"}, *value, place[4096];
	for (int i = 1; i < count; i++) printf("[%s]", words[i]);
	for (int i = 0; i < 3; i++) printf("{%s}", (value = getenv(names[i])) ? value : "none");
	return puts(getcwd(place, sizeof place)) < 0;
}
"#;

/// Random lines run a program with the same arguments and environment before and after.
#[test]
fn random_lines_mean_the_same_afterwards() {
    let place =
        tempfile::Builder::new().prefix("x").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let eprefix = format!("{}/p", place.path().display());
    let root = SmallRoot::empty(Box::leak(eprefix.clone().into_boxed_str()));
    compile(&root, "printer.c", PRINTER, "usr/bin/printer", &[]);
    root.copy(find("env"), "usr/bin/env", 0o755);
    fs_err::os::unix::fs::symlink(root.eroot(), &eprefix).unwrap();
    let scripts: Vec<(PathBuf, String)> = (0..LINES)
        .map(|number| {
            let line = random_line(&mut Random::numbered(number));
            let name = format!("s{number}");
            script(&root, &name, &format!("{line}\n"));
            (Path::new(&eprefix).join("usr/bin").join(name), line)
        })
        .collect();
    let path = format!("{eprefix}/usr/bin");
    let before: Vec<_> = scripts.iter().map(|(script, _)| run(script, &path)).collect();
    stdout_of_success(on(&root, &["rewrite", &path]));
    let mut changed = 0;
    for ((script, line), before) in scripts.iter().zip(before) {
        let text = fs_err::read_to_string(script).unwrap();
        if text == format!("{line}\n") {
            continue;
        }
        changed += 1;
        // Not even the search path is needed.
        let after = run(script, "/nowhere");
        assert_eq!(after.status.code(), Some(0), "{line} became {text}: {after:?}");
        // With -i, env has no search path, and found nothing.
        if before.status.code() != Some(127) {
            let facts = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(facts(&before), facts(&after), "{line} became {text}: {before:?}");
        }
    }
    assert!(changed > LINES / 4, "{changed} lines changed");
}

const LINES: u64 = 400;

/// Runs a script, when nobody has it open for writing.
fn run(script: &Path, path: &str) -> Output {
    loop {
        let mut command = Command::new(script);
        command.args(["one", "two words"]).env_clear().env("PATH", path).env("X", "from outside");
        match command.current_dir(script.parent().unwrap()).output() {
            Ok(output) => return output,
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            Err(error) => panic!("{}: {error}", script.display()),
        }
    }
}

fn random_line(random: &mut Random) -> String {
    fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
        of[random.below(of.len())]
    }
    let mut line = format!("#!{}/usr/bin/env", pick(random, &["", " ", "\t "]));
    line += pick(random, &[" ", "\t", "  "]);
    if random.below(6) == 0 {
        line += pick(random, &["printer", "printer ", "printer a"]);
        return line;
    }
    line += pick(random, &["-S", "-S ", "-S  ", "--split-string=", "--split=", "-iS ", "-vS"]);
    for _ in 0..random.below(3) {
        line += pick(
            random,
            &[
                "-i ",
                "- ",
                "-u X ",
                "-uX ",
                "--unset=X ",
                "-C / ",
                "-- ",
                "A=1 ",
                "B='x y' ",
                "A=${X} ",
                "\"B=a\\_b\" ",
                "--default-signal=PIPE ",
                "-v\t",
            ],
        );
    }
    line += pick(random, &["printer", "'printer'", "p\"rint\"er", "printer"]);
    for _ in 0..random.below(4) {
        line += pick(random, &[" ", "\t", "  ", "\\_"]);
        line += pick(
            random,
            &[
                "a",
                "-f",
                "x=1",
                "'a  b'",
                "\"a\\_b\"",
                "a\\tb",
                "''",
                "${X}",
                "a${A}b",
                "'$X'",
                "\\$X",
                "#c",
                "a#b",
                "\\c",
                "\"it's\"",
                "\\\\",
                "'\\''",
                "é",
                "a\\ b",
            ],
        );
    }
    line + pick(random, &["", " ", "\t", "\r"])
}

/// Compiled copies are still those of modules that were rewritten, and Python itself says so.
#[test]
fn compiled_copies_follow_their_modules() {
    let root = root();
    let modules = root.inside("usr/lib/python3");
    for mode in ["timestamp", "checked-hash", "unchecked-hash"] {
        let path = format!("usr/lib/python3/{mode}/module.py");
        root.file(&path, "#!/usr/bin/env python3\nx = 1\n");
        root.mode(&path, 0o755);
        root.file(
            &path.replace("module", "_sysconfigdata_x"),
            "x = '/fprefix/staging/root/opt/x'\n",
        );
        let dir = modules.join(mode);
        let words = [
            "-m",
            "compileall",
            "-q",
            "-o0",
            "-o2",
            "--hardlink-dupes",
            "--invalidation-mode",
            mode,
        ];
        let mut words: Vec<_> = words.iter().map(Path::new).collect();
        words.push(&dir);
        stdout_of("python3", words);
    }
    stdout_of_success(on(&root, &["rewrite"]));
    let answer =
        stdout_of("python3", ["-B".as_ref(), "-c".as_ref(), VALID.as_ref(), modules.as_os_str()]);
    let expected = "checked-hash True True /opt/x\ntimestamp True True /opt/x\nunchecked-hash True True /opt/x\n";
    assert_eq!(answer, expected);
}

/// The list of a wheel's files has the hashes of what they are now, as pip would compute them.
#[test]
fn lists_of_wheels_follow_their_files() {
    let root = root();
    script(&root, "tool", "#!/usr/bin/python3\nx = 1\n");
    root.file("usr/lib/python3/site-packages/a.py", "a = 1\n");
    let record = "usr/lib/python3/site-packages/tool-1.dist-info/RECORD";
    let lines =
        "a.py,sha256=old,6\r\n../../../bin/tool,sha256=old,25\r\ntool-1.dist-info/RECORD,,\r\n";
    root.file(record, lines);
    stdout_of_success(on(&root, &["rewrite"]));
    let tool = root.inside("usr/bin/tool");
    let code = "import base64, hashlib, sys; d = open(sys.argv[1], 'rb').read(); \
                print(base64.urlsafe_b64encode(hashlib.sha256(d).digest()).decode().strip('='), len(d), sep=',')";
    let hash = stdout_of("python3", ["-c".as_ref(), code.as_ref(), tool.as_os_str()]);
    let expected = lines.replace("tool,sha256=old,25", &format!("tool,sha256={}", hash.trim()));
    assert_eq!(fs_err::read_to_string(root.inside(record)).unwrap(), expected);
    assert!(stdout_of_success(on(&root, &["rewrite"])).ends_with(" 0 changed\n"));
}

/// Prints for each directory if its copies are valid and share their inode, and the text in it.
const VALID: &str = r#"
import importlib.util, os, struct, sys
for mode in sorted(os.listdir(sys.argv[1])):
    source = os.path.join(sys.argv[1], mode, "module.py")
    valid, inodes, status = True, set(), os.stat(source)
    for level in ("", "2"):
        copy = importlib.util.cache_from_source(source, optimization=level)
        flags, time, size = struct.unpack_from("<III", open(copy, "rb").read(16), 4)
        digest = importlib.util.source_hash(open(source, "rb").read())
        own = struct.pack("<II", time, size) == digest if flags else (time, size) == (int(status.st_mtime), status.st_size)
        valid = valid and own
        inodes.add(os.stat(copy).st_ino)
    sys.path.insert(0, os.path.dirname(source))
    sys.modules.pop("_sysconfigdata_x", None)
    import _sysconfigdata_x
    print(mode, valid, len(inodes) == 1, _sysconfigdata_x.x)
    del sys.path[0]
"#;
