//! `check --run`: what a program used, what it tried, and how it ended.

use std::process::Output;

use super::libc_root::{self, compile, on};
use crate::harness::small_root::SmallRoot;

const EPREFIX: &str = "/usr/local/iso";

/// A root whose program does what its argument says, and has a helper.
fn root() -> SmallRoot {
    let root = libc_root::root(EPREFIX);
    let define = format!("-DPREFIX=\"{EPREFIX}\"");
    compile(&root, "acts.c", ACTS, "usr/bin/acts", &[&define, "-pthread"]);
    compile(&root, "helper.c", "int main(void) { return 0; }\n", "usr/libexec/d/helper", &[]);
    root.link("/usr/lib/liblinked.so.1", "usr/lib64/liblinked.so.1");
    root.file("usr/libexec/d/script", "#!/usr/bin/interpreter\n");
    root.mode("usr/libexec/d/script", 0o755);
    root.file("usr/libexec/d/relative", "#!./helper\n");
    root.mode("usr/libexec/d/relative", 0o755);
    root.copy(root.inside("usr/libexec/d/helper"), "usr/libexec/a <b> \"c\"\n\u{e9}, 3", 0o755);
    let rewritten = on(&root, &["rewrite"]);
    assert!(rewritten.status.success(), "{rewritten:?}");
    root
}

const ACTS: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
static char *words[] = {"helper", 0};
static const char *helper = PREFIX "/usr/libexec/d/helper";
static void *in_thread(void *none) { chdir(PREFIX "/usr/libexec/d"); return none; }
static void *executes(void *none) { execv(helper, words); return none; }
static int wait_for(pid_t child) { int status = 9; waitpid(child, &status, 0); return status; }
int main(int count, char **acts) {
	const char *act = acts[1];
	char name[64];
	pid_t child;
	pthread_t thread;
	if (!strcmp(act, "status")) return atoi(acts[2]);
	if (!strcmp(act, "signal")) { raise(SIGSEGV); return 0; }
	if (!strcmp(act, "load")) { dlopen(acts[2], RTLD_NOW); return 0; }
	if (!strcmp(act, "open")) { open(acts[2], O_RDONLY); return 0; }
	if (!strcmp(act, "search")) { if (fork() == 0) { execvp("convert", words); _exit(0); } wait(0); return 0; }
	if (!strcmp(act, "execute")) { if (fork() == 0) { execv(acts[2], words); _exit(0); } wait(0); return 0; }
	if (!strcmp(act, "relative")) { chdir(PREFIX "/usr/libexec/d"); execv("./helper", words); return 9; }
	if (!strcmp(act, "interpreter")) { chdir(PREFIX "/usr/libexec/d"); execv("./relative", words); return 9; }
	if (!strcmp(act, "thread-directory")) {
		pthread_create(&thread, 0, in_thread, 0); pthread_join(thread, 0); execv("./helper", words); return 9; }
	if (!strcmp(act, "thread-execution")) { pthread_create(&thread, 0, executes, 0); for (;;) pause(); }
	if (!strcmp(act, "directory")) {
		syscall(SYS_execveat, open(PREFIX "/usr/libexec", O_PATH), "d/helper", words, environ, 0); return 9; }
	if (!strcmp(act, "fexecve")) { fexecve(open(helper, O_PATH | O_CLOEXEC), words, environ); return 9; }
	if (!strcmp(act, "descriptor")) {
		snprintf(name, sizeof name, "/proc/self/fd/%d", dup(open(helper, O_PATH)));
		if ((child = vfork()) == 0) { execv(name, words); _exit(9); } return wait_for(child); }
	if (!strcmp(act, "spawn")) {
		chdir(PREFIX "/usr"); return posix_spawn(&child, "libexec/d/helper", 0, 0, words, environ) || wait_for(child); }
	if (!strcmp(act, "odd-name")) { execv(PREFIX "/usr/libexec/a <b> \"c\"\n\303\251, 3", words); return 9; }
	if (!strcmp(act, "temporary")) {
		int file = open("/tmp/own", O_RDWR | O_CREAT, 0600);
		rename("/tmp/own", "/tmp/other"); return open("/tmp/other", O_RDONLY) < 0 || file < 0; }
	if (!strcmp(act, "code")) {
		int file = memfd_create("generated", 0); ftruncate(file, 4096);
		return mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED; }
	return 9;
}
"#;

fn prove(root: &SmallRoot, act: &str) -> (Output, String) {
    let output = on(root, &["check", "--run", &format!("acts {act}")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

#[test]
fn what_is_named_in_any_way_is_followed() {
    let root = root();
    for act in [
        "relative",
        "interpreter",
        "thread-directory",
        "thread-execution",
        "directory",
        "fexecve",
        "descriptor",
        "spawn",
    ] {
        let (output, text) = prove(&root, act);
        assert_eq!(output.status.code(), Some(0), "{act}: {output:?}");
        let helper = format!("inside   {EPREFIX}/usr/libexec/d/helper\n");
        assert!(text.contains(&helper), "{act}: {text}");
        assert!(text.contains(", 0 from outside\n"), "{act}: {text}");
    }
    let (_, text) = prove(&root, "odd-name");
    let shown = format!("inside   {EPREFIX}/usr/libexec/a <b> \"c\"\\n\u{e9}, 3\n");
    assert!(text.contains(&shown), "{text}");
}

#[test]
fn what_a_program_makes_is_not_from_outside() {
    let root = root();
    let (output, text) = prove(&root, "temporary");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains(", 0 from outside\n") && !text.contains("made "), "{text}");
    let (output, text) = prove(&root, "code");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text.contains("made     /memfd:generated by the program itself\n"), "{text}");
}

#[test]
fn what_a_target_would_give_is_named() {
    let root = root();
    for (act, tried) in [
        ("load /usr/lib/libtarget.so.1", "/usr/lib/libtarget.so.1 to load it"),
        ("load liblinked.so.1", "/usr/lib/liblinked.so.1 to load it"),
        ("open /usr/share/app/plugins.conf", "/usr/share/app/plugins.conf to open it"),
        ("search", "/bin/convert to execute it, and in 5 other directories"),
        ("execute /usr/bin/convert", "/usr/bin/convert to execute it"),
        ("execute /usr/local/iso/usr/libexec/d/script", "/usr/bin/interpreter to execute it"),
    ] {
        let (output, text) = prove(&root, act);
        assert_eq!(output.status.code(), Some(0), "{act}: {output:?}");
        assert!(text.contains(&format!("tried    {tried}\n")), "{act}: {text}");
        assert!(text.contains(", 0 from outside; 1 file that a target may have"), "{act}: {text}");
    }
    let (_, text) = prove(&root, "open /etc/app.conf");
    assert!(!text.contains("tried "), "{text}");
    let answer = on(&root, &["check", "--json", "--run", "acts load /usr/lib/libtarget.so.1"]);
    let proof: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let expected = serde_json::json!([{ "kind": "load", "path": "/usr/lib/libtarget.so.1" }]);
    assert_eq!(proof["tried"], expected);
}

#[test]
fn a_program_that_fails_proves_nothing() {
    let root = root();
    let (output, text) = prove(&root, "status 3");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text.contains("ended with status 3: ") && error.contains("--expect-status 3"),
        "{error}"
    );
    let expects = |status: &str, act: &str| {
        let run = ["check", "--expect-status", status, "--run", act];
        on(&root, &run).status.code()
    };
    assert_eq!(expects("3", "acts status 3"), Some(0));
    assert_eq!(expects("3", "acts status 0"), Some(1));
    let (output, text) = prove(&root, "signal");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("was ended by SIGSEGV: "), "{text}");
    fs_err::remove_file(root.inside("usr/lib64/libthing.so.1")).unwrap();
    let output = on(&root, &["check", "--run", "program"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("libthing.so.1: cannot open"));
}
