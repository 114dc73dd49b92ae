//! `fprefix emerge` is emerge: what a Portage user knows of it holds.

use crate::harness::escaped;
use crate::prefix::{contents_are_true, own};

/// The name of final's root in emerge's output.
const INTO_FINAL: &str = "to /fprefix/final/root";

#[test]
fn pretend_changes_nothing() {
    let prefix = own();
    prefix.fprefix(&["emerge", "--oneshot", "test-cases/small"]).said().succeeds();
    let before = (prefix.packages(), crate::harness::contents(&prefix.staging.join("pkgs")));
    for args in [&["-p", "app-misc/jq"][..], &["-pv", "@world"], &["--pretend", "test-cases/small"]]
    {
        let said = prefix.fprefix(&["emerge"]).args(args).said().succeeds();
        let said = said.prints("[ebuild   R").prints("[binary   R");
        assert!(said.stdout.contains(INTO_FINAL), "{said}");
    }
    // Before it was built, what final will get is told from ebuilds.
    let said = prefix.fprefix(&["emerge", "-p", "sys-libs/zlib"]).said().succeeds();
    let lines: Vec<&str> = said.stdout.lines().filter(|line| line.contains("zlib-")).collect();
    assert!(lines.iter().any(|line| !line.contains(INTO_FINAL)), "{said}");
    assert!(lines.iter().any(|line| line.contains(INTO_FINAL)), "{said}");
    // What cannot be installed without being built cannot be pretended to be.
    let said = prefix.fprefix(&["emerge", "--install", "-p", "sys-libs/zlib"]).said();
    said.ends_with(1).tells("there are no binary packages to satisfy");
    let after = (prefix.packages(), crate::harness::contents(&prefix.staging.join("pkgs")));
    assert_eq!(before, after);
}

#[test]
fn several_atoms_and_nothing_to_do() {
    let prefix = own();
    let atoms = ["test-cases/small", "=test-cases/flagged-1"];
    let said = prefix.fprefix(&["emerge", "--oneshot"]).args(atoms).said().succeeds();
    assert!(said.stdout.contains("(2 of 2)"), "{said}");
    let before = prefix.packages();
    for list in [&before.0, &before.1] {
        for package in ["test-cases/small-1", "test-cases/flagged-1"] {
            assert!(list.iter().any(|there| there == package), "{list:?}");
        }
    }
    let args = ["emerge", "--oneshot", "--noreplace"];
    let said = prefix.fprefix(&args).args(atoms).said().succeeds();
    assert!(!said.stdout.contains(">>> Emerging"), "{said}");
    let said = prefix.fprefix(&["emerge", "-uDN", "@world"]).said().succeeds();
    assert!(!said.stdout.contains(">>> Emerging"), "{said}");
    assert_eq!(prefix.packages(), before);
    // The script's interpreter is the prefix's, and its link leads to it.
    let small = prefix.in_final("usr/bin/small-script");
    assert!(fs_err::read_to_string(small).unwrap().starts_with("#!/usr/local/fprefix-test/"));
    contents_are_true(&prefix.world, &prefix.r#final);
}

/// On a terminal a bar tells which package of how many is in which phase. In a log nothing counts jobs.
#[test]
fn a_terminal_and_a_log_see_how_far_a_run_is() {
    let prefix = own();
    let args = ["emerge", "--oneshot", "--jobs=2", "test-cases/small", "=test-cases/flagged-1"];
    let said = prefix.fprefix(&args).said().succeeds();
    assert!(said.stdout.contains(">>> Emerging (1 of 2)"), "{said}");
    assert!(!said.stdout.contains("Load avg"), "{said}");

    let words = prefix.fprefix(&args).shell_words();
    let script = prefix.world.run("script").env("TERM", "xterm");
    let said = script.args(["--quiet", "--return", "--command", &words, "/dev/null"]).said();
    let said = said.succeeds();
    let bar =
        regex::Regex::new(r"\[=*>? *\] [01]/2 test-cases/(small|flagged)-1 [a-z]+ \d+ s").unwrap();
    assert!(bar.is_match(&said.stdout), "{said}");
    assert!(!said.stdout.contains("Load avg"), "{said}");
    assert!(said.stdout.is_ascii(), "{said}");
}

/// Packages are built, rewritten and merged at the same time, in staging and in final.
#[test]
fn many_at_once() {
    let prefix = own();
    let names = ["dated", "flagged", "library", "small", "strays", "uses-library"];
    let atoms = names.map(|name| format!("test-cases/{name}"));
    let said = prefix
        .fprefix(&["emerge", "--oneshot", "--jobs", "4"])
        // With less room than 19 GiB, Portage would build one at a time.
        .args(["--jobs-tmpdir-require-free-gb", "0"])
        .args(&atoms)
        .env("MAKEOPTS", "-j7")
        .said()
        .succeeds();
    for environment in ["", " for /fprefix/final/root"] {
        let begun = |line: &&str| line.starts_with(">>> Emerging") && line.contains(environment);
        assert!(said.stdout.lines().filter(begun).count() >= names.len(), "{said}");
    }
    let log = fs_err::read_to_string(prefix.staging.join("logs/emerge.log")).unwrap();
    let (mut at_once, mut most) = (0, 0);
    for line in log.rsplit("Started emerge on").next().unwrap().lines() {
        at_once += i32::from(line.contains("  >>> emerge ("));
        at_once -= i32::from(line.contains("  ::: completed emerge ("));
        most = most.max(at_once);
    }
    assert!(most >= 3, "{log}");
    let makeopts = prefix.in_final("usr/share/strays/makeopts");
    assert_eq!(fs_err::read_to_string(makeopts).unwrap(), "-j7\n");
    contents_are_true(&prefix.world, &prefix.staging);
    contents_are_true(&prefix.world, &prefix.r#final);
    prefix.fprefix(&["check"]).said().succeeds();
    let run = prefix.fprefix(&["check", "--run", "uses-library"]).said();
    run.prints("ended with status 7").prints(", 0 from outside");
}

#[test]
fn depclean_keeps_what_programs_need() {
    let prefix = own();
    prefix.fprefix(&["emerge", "--oneshot", "test-cases/small"]).said().succeeds();
    prefix.fprefix(&["emerge", "--depclean"]).said().succeeds();
    let (r#final, staging) = prefix.packages();
    let has = |list: &[String], name: &str| list.iter().any(|package| package.contains(name));
    for list in [&r#final, &staging] {
        assert!(!has(list, "test-cases/small"), "{list:?}");
        for kept in ["sys-libs/glibc-", "sys-libs/gcc-runtime-", "app-misc/jq-", "prefix-final"] {
            assert!(has(list, kept), "{kept} is gone: {list:?}");
        }
    }
    assert!(has(&staging, "sys-kernel/linux-headers-"), "{staging:?}");
    prefix.fprefix(&["check"]).said().succeeds();
    prefix.fprefix(&["check", "--run", "jq -n 1+1"]).said().succeeds().prints("2\n");
}

#[test]
fn use_flags_of_the_environment() {
    let prefix = own();
    let extra =
        (prefix.in_staging("usr/share/flagged/extra"), prefix.in_final("usr/share/flagged/extra"));
    for (flags, expected) in [("-extra", false), ("extra", true)] {
        let args = ["emerge", "--oneshot", "test-cases/flagged"];
        prefix.fprefix(&args).env("USE", flags).said().succeeds();
        assert_eq!(extra.0.exists(), expected, "USE={flags} in staging");
        assert_eq!(extra.1.exists(), expected, "USE={flags} in final");
    }
}

#[test]
fn stage_builds_and_install_installs() {
    let prefix = own();
    let libraries = |dir: &std::path::Path| {
        let said = prefix.world.run("readelf").args(["--dynamic".as_ref(), dir.as_os_str()]).said();
        said.succeeds().stdout
    };
    let (staging, r#final) = (prefix.in_staging("usr/bin/jq"), prefix.in_final("usr/bin/jq"));
    // It is built without what only a USE flag brings; and that alone is installed afterwards.
    let before = libraries(&r#final);
    let said = prefix
        .fprefix(&["emerge", "--stage", "app-misc/jq"])
        .env("USE", "-oniguruma")
        .said()
        .succeeds();
    assert!(!said.stderr.contains("final:"), "{said}");
    assert_eq!(libraries(&r#final), before, "--stage left final as it was");
    assert!(!libraries(&staging).contains("libonig"));
    let said = prefix.fprefix(&["emerge", "--install", "app-misc/jq"]).said().succeeds();
    assert!(!said.stderr.contains("staging:"), "{said}");
    let vdb = crate::prefix::vdb(&prefix.r#final).join("app-misc/jq-1.7.1");
    assert!(!fs_err::read_to_string(vdb.join("USE")).unwrap().contains("oniguruma"));
    let said = prefix.fprefix(&["check", "--run", "jq -n '\"abc\" | test(\"b\")'"]).said();
    assert!(said.stdout.contains("was compiled without ONIGURUMA"), "{said}");
    contents_are_true(&prefix.world, &prefix.r#final);
}

#[test]
fn the_exit_status_is_emerges() {
    let prefix = own();
    let before = prefix.packages();
    let said = prefix.fprefix(&["emerge", "app-misc/no-such-thing"]).said().ends_with(1);
    let said = said.tells("there are no ebuilds to satisfy");
    assert!(!said.stderr.contains("final:"), "{said}");
    prefix.fprefix(&["emerge", "--no-such-option"]).said().ends_with(2);
    prefix.fprefix(&["emerge", "--version"]).said().succeeds().prints("Portage");
    prefix.fprefix(&["emerge", "--search", "jq"]).said().succeeds().prints("app-misc/jq");
    assert_eq!(prefix.packages(), before);
}

#[test]
fn a_failing_ebuild_names_package_phase_and_log() {
    let prefix = own();
    let before = prefix.packages();
    let said = prefix.fprefix(&["emerge", "test-cases/dies"]).said().ends_with(1);
    let logs = prefix.staging.join("logs");
    let shown = prefix.world.plain(escaped(logs.to_str().unwrap()).as_bytes());
    let start = format!(
        "error: test-cases/dies-1 failed in its compile phase, in staging; its build log is {shown}/"
    );
    let rest = said.stderr.split(&start).nth(1).unwrap_or_else(|| panic!("{start}\n{said}"));
    let log = logs.join(rest.lines().next().unwrap());
    let text = fs_err::read_to_string(&log).unwrap();
    assert!(text.contains("this is what went wrong"), "{text}");
    assert!(!said.stderr.contains("final:"), "{said}");
    assert_eq!(prefix.packages(), before);
}
