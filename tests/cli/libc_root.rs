//! Roots with the machine's own C library and programs that are compiled for the test: what `setup`
//! and `emerge` leave, without their time.

use std::path::PathBuf;
use std::process::Output;

use crate::harness::small_root::{SmallRoot, fprefix};
use crate::harness::tools::stdout_of;

/// A root with libc, the loader, a library and a program that needs it, none of them rewritten.
pub(crate) fn root(eprefix: &'static str) -> SmallRoot {
    let root = SmallRoot::empty(eprefix);
    for name in ["libc.so.6", loader_name()] {
        root.copy(machine_file(name), &format!("usr/lib64/{name}"), 0o755);
    }
    let gconv = PathBuf::from(machine_file("libc.so.6")).with_file_name("gconv");
    for name in ["gconv-modules", "gconv-modules.cache", "ISO8859-15.so"] {
        root.copy(gconv.join(name), &format!("usr/lib64/gconv/{name}"), 0o644);
    }
    add_locale(&root);
    root.link("usr/lib64", "lib64");
    compile(
        &root,
        "thing.c",
        "int thing(void) { return 42; }\n",
        "usr/lib64/libthing.so.1",
        &["-shared", "-fPIC", "-Wl,-soname,libthing.so.1"],
    );
    let library = root.inside("usr/lib64/libthing.so.1");
    compile(
        &root,
        "program.c",
        "int thing(void);\nint main(void) { return thing() == 42 ? 0 : 1; }\n",
        "usr/bin/program",
        &[library.to_str().unwrap()],
    );
    root
}

/// C.UTF-8, as setup brings it in.
fn add_locale(root: &SmallRoot) {
    fs_err::create_dir_all(root.inside("usr/lib/locale")).unwrap();
    let prefix = format!("--prefix={}", root.eroot().display());
    stdout_of("localedef", [&prefix, "--add-to-archive", "/usr/lib/locale/C.utf8"]);
}

pub(crate) fn loader_name() -> &'static str {
    if cfg!(target_arch = "aarch64") { "ld-linux-aarch64.so.1" } else { "ld-linux-x86-64.so.2" }
}

pub(crate) fn machine_file(name: &str) -> String {
    let path = stdout_of("gcc", [&format!("-print-file-name={name}")]);
    fs_err::canonicalize(path.trim()).unwrap().display().to_string()
}

pub(crate) fn compile(root: &SmallRoot, name: &str, code: &str, to: &str, options: &[&str]) {
    compile_by("gcc", root, name, code, to, options);
}

pub(crate) fn compile_by(
    compiler: &str,
    root: &SmallRoot,
    name: &str,
    code: &str,
    to: &str,
    options: &[&str],
) {
    let source = root.beside(name);
    fs_err::write(&source, code).unwrap();
    let made = root.inside(to);
    fs_err::create_dir_all(made.parent().unwrap()).unwrap();
    stdout_of(
        compiler,
        [&["-o", made.to_str().unwrap(), source.to_str().unwrap()], options].concat(),
    );
}

pub(crate) fn on(root: &SmallRoot, words: &[&str]) -> Output {
    let (command, rest) = words.split_first().unwrap();
    fprefix()
        .arg(command)
        .arg("--root")
        .arg(root.root())
        .args(["--eprefix", root.eprefix()])
        .args(rest)
        .output()
        .unwrap()
}

/// What the check finds: the lines of its answer, as JSON, an error each.
pub(crate) fn errors(root: &SmallRoot) -> Vec<(String, String, String)> {
    let output = on(root, &["check", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["level"] == "error")
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            (text("rule"), text("path"), text("detail"))
        })
        .collect();
    assert_eq!(output.status.code(), Some(if found.is_empty() { 0 } else { 3 }));
    found
}
