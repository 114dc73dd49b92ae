//! A small root with a prefix, as final has one after a few packages were merged.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::small_programs::{library, program};
use super::tools::stdout_of_success;

/// The binary that is tested.
pub(crate) const FPREFIX: &str = env!("CARGO_BIN_EXE_fprefix");

/// The time of every package in the small root's database: no image is newer.
pub(crate) const BUILD_TIME: u64 = 1_700_000_000;

/// A root directory below a temporary one, and a place to write images to.
pub(crate) struct SmallRoot {
    dir: tempfile::TempDir,
    pub eprefix: &'static str,
}

impl SmallRoot {
    /// A root with an empty prefix at `eprefix`.
    pub(crate) fn empty(eprefix: &'static str) -> Self {
        let root = Self { dir: tempfile::tempdir().unwrap(), eprefix };
        fs_err::create_dir_all(root.eroot()).unwrap();
        root
    }

    /// A root with one of everything that packing has to treat in a way of its own.
    pub(crate) fn full() -> Self {
        let root = Self::empty("/usr/local/small");
        root.copy(program(), "usr/bin/program", 0o755);
        root.copy(program(), "usr/bin/setuid", 0o4755);
        root.copy(library(), "usr/lib64/libthing.so.1.2", 0o755);
        root.link("libthing.so.1.2", "usr/lib64/libthing.so.1");
        root.link("libthing.so.1.2", "usr/lib64/libthing.so");
        root.copy(library(), "usr/lib64/plugins/libplugin.so", 0o755);
        root.file("usr/lib64/libscript.so", "/* GNU ld script */\nGROUP ( libthing.so.1 )\n");
        root.file("usr/lib64/libthing.a", "!<arch>\n");
        root.file("usr/include/thing.h", "int thing;\n");
        root.file("usr/share/doc/thing/README", "read me\n");
        root.file("usr/share/thing/data", "data\n");
        root.file("usr/share/thing/na me 'é' \"x\"", "odd name\n");
        fs_err::hard_link(
            root.inside("usr/share/thing/data"),
            root.inside("usr/share/thing/same data"),
        )
        .unwrap();
        root.age("usr/share/thing/na me 'é' \"x\"", 1_000_000_000);
        root.link("usr/lib64", "lib64");
        root.package();
        fs_err::create_dir_all(root.inside("var/lib/thing")).unwrap();
        root.mode("var/lib/thing", 0o1770);
        root
    }

    /// What Portage knows of the package in it.
    fn package(&self) {
        let fact = |name: &str, text: &str| {
            self.file(&format!("var/db/pkg/app-misc/thing-1.2-r1/{name}"), text);
        };
        fact("BUILD_TIME", &format!("{BUILD_TIME}\n"));
        fact("repository", "gentoo\n");
        fact("LICENSE", "MIT || ( GPL-2+ odd ) strange\n");
        fact("DESCRIPTION", "A \"thing\"\n");
        fact("HOMEPAGE", "https://thing.example/\n");
        let prefix = self.eprefix;
        fact(
            "CONTENTS",
            &format!(
                "dir {prefix}/usr\n\
                 obj {prefix}/usr/bin/program 0123 {BUILD_TIME}\n\
                 obj {prefix}/usr/include/thing.h 0123 {BUILD_TIME}\n\
                 sym {prefix}/usr/lib64/libthing.so.1 -> libthing.so.1.2 {BUILD_TIME}\n"
            ),
        );
    }

    /// EPREFIX.
    pub(crate) fn eprefix(&self) -> &'static str {
        self.eprefix
    }

    /// The root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// The prefix on disk.
    pub(crate) fn eroot(&self) -> PathBuf {
        self.root().join(self.eprefix.trim_start_matches('/'))
    }

    /// What is at `path` below the prefix.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.eroot().join(path)
    }

    /// Place where images go, or other things beside the root.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.inside(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, text).unwrap();
    }

    pub(crate) fn copy(&self, from: impl AsRef<Path>, path: &str, mode: u32) {
        self.file(path, "");
        fs_err::write(self.inside(path), fs_err::read(from).unwrap()).unwrap();
        self.mode(path, mode);
    }

    pub(crate) fn link(&self, target: &str, path: &str) {
        let path = self.inside(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Sets the time of a file's last change.
    pub(crate) fn age(&self, path: &str, seconds: u64) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file = std::fs::File::options().write(true).open(self.inside(path)).unwrap();
        file.set_modified(time).unwrap();
    }

    pub(crate) fn mode(&self, path: &str, mode: u32) {
        let permissions = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(self.inside(path), permissions).unwrap();
    }

    /// The arguments of `fprefix pack` for this root, writing to the directory `output` beside it.
    pub(crate) fn arguments(&self, output: &str, more: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = ["pack", "--root"].map(String::from).into();
        arguments.push(self.root().display().to_string());
        arguments.extend(["--eprefix".into(), self.eprefix.into(), "--output".into()]);
        arguments.push(self.beside(output).display().to_string());
        arguments.extend(more.iter().map(ToString::to_string));
        arguments
    }

    /// Packs it, whatever comes of it.
    pub(crate) fn try_pack(&self, output: &str, more: &[&str]) -> Output {
        fprefix().args(self.arguments(output, more)).output().unwrap()
    }

    /// Packs it; returns what was printed.
    pub(crate) fn pack(&self, output: &str, more: &[&str]) -> String {
        stdout_of_success(self.try_pack(output, more))
    }

    /// Packs it where that has to fail; returns the error.
    pub(crate) fn refuse(&self, output: &str, more: &[&str]) -> String {
        self.fail(output, more, 1)
    }

    /// Packs it where the command line is wrong; returns the error.
    pub(crate) fn refuse_usage(&self, output: &str, more: &[&str]) -> String {
        self.fail(output, more, 2)
    }

    fn fail(&self, output: &str, more: &[&str], status: i32) -> String {
        let output = self.try_pack(output, more);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        self.plain(&output.stderr)
    }

    /// `text` without what differs between runs, for snapshots.
    pub(crate) fn plain(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text);
        let text = text.replace(self.dir.path().to_str().unwrap(), "[DIR]");
        let work = regex::Regex::new(r"\.fprefix-pack-\w+").unwrap();
        work.replace_all(&text, ".fprefix-pack-[RANDOM]").into_owned()
    }
}

/// fprefix, with nothing of the caller's environment that images depend on.
pub(crate) fn fprefix() -> Command {
    let mut command = Command::new(FPREFIX);
    command.env_remove("SOURCE_DATE_EPOCH").env_remove("FPREFIX").env("NO_COLOR", "1");
    command
}
