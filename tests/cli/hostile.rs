//! A program that resolves names and users, opens character sets, locales and libraries, on a
//! target where all of these are wrong.

use super::libc_root::{compile, on, root};
use crate::harness::hostile::Hostile;
use crate::harness::tools::stdout_of_success;

const EPREFIX: &str = "/usr/local/a-prefix-with-a-rather-long-path";

const PROGRAM: &str = "
#include <dlfcn.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
int main(void) {
    iconv_t set = iconv_open(\"UTF-8\", \"ISO-8859-15\");
    printf(\"user %d host %d set %d library %d evil %d locale %d\\n\",
           getpwnam(\"nobody\") != 0, gethostbyname(\"seven.example\") != 0, set != (iconv_t)-1,
           dlopen(\"libthing.so.1\", RTLD_NOW) != 0, dlopen(\"libnone.so\", RTLD_NOW) != 0,
           setlocale(LC_ALL, \"\") != 0);
    return 0;
}
";

#[test]
fn a_hostile_target_is_not_listened_to() {
    let root = root(EPREFIX);
    compile(&root, "names.c", PROGRAM, "usr/bin/names", &[]);
    stdout_of_success(on(&root, &["rewrite"]));
    let program = format!("{EPREFIX}/usr/bin/names");
    let said = stdout_of_success(Hostile::new(EPREFIX).run(&root.eroot(), EPREFIX, &[&program]));
    assert_eq!(said, "user 1 host 1 set 1 library 1 evil 0 locale 1\n");
}
