//! Programs that are linked statically with glibc: they open no module, library or locale of the
//! machine once they are rewritten, and do what they did otherwise.

use std::collections::BTreeSet;

use regex::Regex;

use super::libc_root::{compile, errors, on};
use crate::harness::small_root::SmallRoot;
use crate::harness::tools::stdout_of_success;

/// Asks for all that glibc loads, and names some of its files in texts of its own. The linker
/// stores `see` and glibc's path at its end once.
const PROGRAM: &str = "
#include <dlfcn.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
__asm__(\".section .rodata.str1.1,\\\"aMS\\\",%progbits,1\\n.globl see\\n\"
        \"see: .asciz \\\"see /etc/ld.so.cache\\\"\\n.text\\n\");
extern const char see[] __attribute__((visibility(\"hidden\")));
int main(void) {
    struct addrinfo *found;
    getpwnam(\"ghost\");
    setlocale(LC_ALL, \"xx_XX.UTF-8\");
    iconv_open(\"X-GHOST\", \"UTF-8\");
    dlopen(\"libghost.so.1\", RTLD_NOW);
    getaddrinfo(\"localhost\", \"80\", 0, &found);
    struct passwd *root = getpwnam(\"root\");
    puts(root ? root->pw_dir : \"nobody\");
    puts(\"not libnss_%s.so%s\");
    puts(see);
    return 0;
}
";

const SAID: &str = "/root\nnot libnss_%s.so%s\nsee /etc/ld.so.cache\n";

/// Returns what the program says, and the paths that it tries to open on a target whose
/// nsswitch.conf names a module.
fn run(root: &SmallRoot, program: &str) -> (String, BTreeSet<String>) {
    let switch = root.beside("nsswitch.conf");
    fs_err::write(&switch, "passwd: files ghost\nhosts: files ghost\n").unwrap();
    let trace = root.beside("trace");
    let mut bwrap = std::process::Command::new("bwrap");
    bwrap.args(["--dev-bind", "/", "/", "--ro-bind"]).arg(switch).arg("/etc/nsswitch.conf");
    bwrap.args(["--", "strace", "-f", "-qq", "-e", "trace=open,openat", "-o"]).arg(&trace);
    let said = stdout_of_success(bwrap.arg("--").arg(root.inside(program)).output().unwrap());
    let opened = Regex::new("open(?:at)?\\([^\"]*\"([^\"]*)\"").unwrap();
    let trace = fs_err::read_to_string(trace).unwrap();
    let opened = opened.captures_iter(&trace).map(|found| found[1].to_owned()).collect();
    (said, opened)
}

fn of_machine(opened: &BTreeSet<String>) -> Vec<&String> {
    let outside = ["/lib", "/usr/lib", "/etc/ld.so"];
    opened.iter().filter(|path| outside.iter().any(|start| path.starts_with(start))).collect()
}

#[test]
fn static_programs_load_nothing_of_the_machine() {
    let root = SmallRoot::empty("/opt/still");
    for (name, option) in [("static", "-static"), ("static-pie", "-static-pie")] {
        compile(&root, "asks.c", PROGRAM, &format!("usr/bin/{name}"), &[option, "-w"]);
        compile(&root, "asks.c", PROGRAM, &format!("usr/bin/{name}-bare"), &[option, "-w", "-s"]);
    }
    let names = ["static", "static-bare", "static-pie", "static-pie-bare"];
    for name in names {
        let (said, opened) = run(&root, &format!("usr/bin/{name}"));
        assert_eq!(said, SAID, "{name}");
        assert!(opened.contains("/etc/ld.so.cache"), "{name}: {opened:?}");
        let path = format!("/opt/still/usr/bin/{name}");
        for rule in ["name-services", "character-sets", "locale", "loader"] {
            let is_found = errors(&root).iter().any(|(id, at, _)| id == rule && *at == path);
            assert!(is_found, "{rule} {name}");
        }
    }
    stdout_of_success(on(&root, &["rewrite"]));
    assert_eq!(errors(&root), []);
    for name in names {
        let (said, opened) = run(&root, &format!("usr/bin/{name}"));
        assert_eq!(said, SAID, "{name}");
        assert!(of_machine(&opened).is_empty(), "{name}: {opened:?}");
        assert!(opened.contains("/~/nss_ghost.so.2"), "{name}: {opened:?}");
    }
    assert!(stdout_of_success(on(&root, &["rewrite"])).ends_with("0 changed\n"));
}

/// Static programs without glibc have nothing to close, whatever texts they have.
#[test]
fn other_static_programs_stay_as_they_are() {
    let root = SmallRoot::empty("/opt/still");
    let program = "
        const char *const texts[] = {\"GCONV_PATH\", \"/etc/ld.so.cache\", \"libnss_%s.so%s\",
                                     \"/usr/lib/\\0/lib/\", \"/usr/lib/locale/locale-archive\"};
        void _start(void) { for (;;) __asm__ volatile(\"\" :: \"r\"(texts)); }";
    compile(&root, "bare.c", program, "usr/bin/bare", &["-static", "-nostdlib"]);
    assert!(stdout_of_success(on(&root, &["rewrite"])).ends_with("0 changed\n"));
    assert_eq!(errors(&root), []);
}
