//! A small world of its own for each test, with the real binary in it.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use fprefix::base::names::{Environment, PrefixId};
use fprefix::host::machine::Machine;
use fprefix::prefix::definition::{Definition, PrefixRepo};
use fprefix::prefix::layout;
use tempfile::TempDir;

pub(crate) mod examples;
pub(crate) mod hidden;
pub(crate) mod hostile;
pub(crate) mod killing;
pub(crate) mod loader;
pub(crate) mod partitions;
mod run;
pub(crate) mod small_programs;
pub(crate) mod small_root;
pub(crate) mod tools;
pub(crate) mod trace;
pub(crate) mod wait;

#[allow(unused_imports, reason = "each test binary uses its own part of this")]
pub(crate) use run::{Run, Running, Said};
#[allow(unused_imports, reason = "each test binary uses its own part of this")]
pub(crate) use tools::write_program;

/// A directory in which everything is that a run of the program may read or write by default.
pub(crate) struct World {
    dir: PathBuf,
    program: PathBuf,
    /// Words that start every program.
    before: Vec<OsString>,
    _temporary: Option<TempDir>,
}

impl World {
    /// An empty world.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("world-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        // Others than its maker may look in: tests go on as an ordinary user.
        open_to_all(dir.path());
        Self {
            dir: fs_err::canonicalize(dir.path()).unwrap(),
            program: env!("CARGO_BIN_EXE_fprefix").into(),
            before: Vec::new(),
            _temporary: Some(dir),
        }
    }

    /// An empty world at `dir`, which can be looked at after the run, with a binary of its own.
    pub(crate) fn lasting(dir: &Path) -> Self {
        fprefix::base::files::remove(dir).unwrap();
        let program = dir.join("bin/fprefix");
        fs_err::create_dir_all(program.parent().unwrap()).unwrap();
        fs_err::copy(env!("CARGO_BIN_EXE_fprefix"), &program).unwrap();
        Self { dir: dir.to_owned(), program, before: Vec::new(), _temporary: None }
    }

    /// A copy of this world at `dir`, with the same binary. Whoever knows where this world's path is
    /// written has to change it there.
    pub(crate) fn copy_to(&self, dir: &Path) -> Self {
        let program = dir.join(self.program.strip_prefix(&self.dir).unwrap());
        fs_err::create_dir_all(program.parent().unwrap()).unwrap();
        fs_err::hard_link(&self.program, &program).unwrap();
        for entry in fs_err::read_dir(&self.dir).unwrap() {
            let from = entry.unwrap().path();
            if !self.program.starts_with(&from) {
                let cp = self.run("cp").args(["-a", "--reflink=auto", "--"]);
                cp.args([from.as_path(), dir]).said().succeeds();
            }
        }
        Self { dir: dir.to_owned(), program, before: self.before.clone(), _temporary: None }
    }

    /// The same world for another user.
    pub(crate) fn for_user(mut self, id: u32) -> Self {
        std::os::unix::fs::chown(&self.dir, Some(id), Some(id)).unwrap();
        let id = id.to_string();
        let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
        self.before = words.into_iter().map(OsString::from).collect();
        self
    }

    /// What is called `name` in this world.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Place where fprefix keeps everything.
    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes a file, and the directories that it is in.
    pub(crate) fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, text).unwrap();
        path
    }

    /// The binary with `args`, in this world.
    pub(crate) fn fprefix<I, S>(&self, args: I) -> Run<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.run(&self.program).args(args)
    }

    /// Any program, in this world.
    pub(crate) fn run(&self, program: impl AsRef<OsStr>) -> Run<'_> {
        Run {
            world: self,
            before: self.before.clone(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: vec![
                ("FPREFIX_HOME".into(), Some(self.home().into())),
                ("HOME".into(), Some(self.path("user").into())),
            ],
            dir: self.dir.clone(),
        }
    }

    /// A prefix as setup leaves it, as far as those can tell who do not build into it.
    pub(crate) fn prefix(&self, name: &str, board: &str, eprefix: &str) -> Definition {
        let id = PrefixId { name: name.parse().unwrap(), board: board.into() };
        let dir = self.home().join("prefixes").join(id.to_string());
        let definition = Definition {
            eprefix: eprefix.parse().unwrap(),
            relocatable: false,
            staging: dir.join("staging"),
            r#final: dir.join("final"),
            machine: Machine::Other,
            profile: "/fprefix/staging/profiles/portage/amd64".into(),
            use_flags: Vec::new(),
            package_config: None,
            repos: vec![PrefixRepo { name: "fprefix".into(), path: None, priority: -100 }],
            repos_before: None,
            distdir: self.home().join("distfiles"),
            binhost: None,
            binhost_key: Some("here".into()),
            without_staging: false,
            pkgdir: None,
            features: Vec::new(),
            sandbox_paths: Vec::new(),
            compiler: None,
            wrappers: Vec::new(),
            data: fprefix::base::data::stamp().unwrap(),
            rewriting: fprefix::prefix::definition::REWRITING,
            complete: true,
            id,
        };
        for (environment, dir) in
            [(Environment::Staging, &definition.staging), (Environment::Final, &definition.r#final)]
        {
            layout::mark(dir, &definition.id, environment).unwrap();
            let vdb = dir.join("root").join(eprefix.trim_start_matches('/')).join("var/db/pkg");
            fs_err::create_dir_all(vdb).unwrap();
        }
        self.define(&definition);
        definition
    }

    /// Writes a definition to where setup keeps it.
    pub(crate) fn define(&self, definition: &Definition) {
        let path = self.home().join("prefixes").join(definition.id.to_string());
        self.write(path.join("prefix.toml"), toml::to_string(definition).unwrap());
    }

    /// Everything below the world, with what tells whether it was changed.
    pub(crate) fn contents(&self) -> Vec<(PathBuf, u64, i64, i64)> {
        contents(&self.dir)
    }

    /// `text` without what differs between worlds.
    pub(crate) fn plain(&self, text: &[u8]) -> String {
        let dir = self.dir.to_str().unwrap();
        String::from_utf8_lossy(text).replace(dir, "[WORLD]").replace(&escaped(dir), "[WORLD]")
    }
}

/// `path` as messages show it: a backslash and a newline are escaped.
pub(crate) fn escaped(path: &str) -> String {
    path.replace('\\', r"\\").replace('\n', r"\n")
}

/// Everything below `dir`: path, size, and the time of the last change in seconds and nanoseconds.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    walkdir::WalkDir::new(dir)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            (entry.path().to_owned(), meta.size(), meta.ctime(), meta.ctime_nsec())
        })
        .collect()
}

/// Lets every user look into `dir`.
pub(crate) fn open_to_all(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}
