//! Prefixes that were really set up.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use crate::harness::killing::{mounts, processes};
use crate::harness::{Run, Said, World};

/// EPREFIX of the prefixes here.
pub(crate) const EPREFIX: &str = "/usr/local/fprefix-test";

/// A name that a shell, a make file or Portage would split, expand or end early.
pub(crate) const HOSTILE: &str = "it's \"two  words\" $HOME `id` \\ \nü";

/// A world with a prefix in it: set up with hostile names, with jq in it.
pub(crate) struct Prefix {
    pub world: World,
    pub staging: PathBuf,
    pub r#final: PathBuf,
    /// Directory that goes with this.
    copy: Option<PathBuf>,
}

/// The prefix that the others are copies of, and what was said when it was built. Nothing runs in
/// it any more.
pub(crate) struct Original {
    prefix: Prefix,
    /// What setup said.
    pub setup: Said,
    /// What `emerge app-misc/jq` said.
    pub jq: Said,
}

/// Builds the original, once in a run.
pub(crate) fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(Original::make)
}

/// The copy for tests that only look at a prefix.
pub(crate) fn shared() -> &'static Prefix {
    static SHARED: OnceLock<Prefix> = OnceLock::new();
    SHARED.get_or_init(|| original().copy("shared", false))
}

/// A copy for a test that changes it. It goes when the test has passed.
pub(crate) fn own() -> Prefix {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    original().copy(&number.to_string(), true)
}

/// The directory of a world with a prefix; they differ in `name` alone.
fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e").join(name).join(HOSTILE)
}

/// The name of the world that is copied.
const ORIGINAL: &str = "original";

/// Portage, which all prefixes here share: it is fetched once.
fn portage() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e/portage")
}

/// Lets `world` have the Portage of the prefixes here.
pub(crate) fn lend_portage(world: &World) {
    original();
    fs_err::create_dir_all(world.home()).unwrap();
    fs_err::os::unix::fs::symlink(portage(), world.home().join("portage")).unwrap();
}

/// The ebuild repository of these tests, in `world`.
pub(crate) fn overlay(world: &World) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/overlay");
    let to = world.path("overlay");
    for entry in walkdir::WalkDir::new(&from) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = fs_err::read(entry.path()).unwrap();
            world.write(to.join(entry.path().strip_prefix(&from).unwrap()), bytes);
        }
    }
    to
}

impl Original {
    fn make() -> Self {
        fprefix::base::files::remove(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e")).unwrap();
        let prefix = Prefix::of(World::lasting(&directory(ORIGINAL)), None);
        let overlay = overlay(&prefix.world);
        let setup = prefix
            .fprefix(&["setup", "test", EPREFIX, "--wrapper-dir"])
            .args([prefix.world.path("wrappers")])
            .args(["--overlay".as_ref(), overlay.as_os_str()])
            .args(["--staging-dir".as_ref(), prefix.staging.as_os_str()])
            .args(["--final-dir".as_ref(), prefix.r#final.as_os_str()])
            .said()
            .succeeds();
        let jq = prefix.fprefix(&["emerge", "app-misc/jq"]).said().succeeds();
        fs_err::rename(prefix.world.home().join("portage"), portage()).unwrap();
        fs_err::os::unix::fs::symlink(portage(), prefix.world.home().join("portage")).unwrap();
        Self { prefix, setup, jq }
    }

    /// A copy in the world `name`.
    fn copy(&self, name: &str, is_temporary: bool) -> Prefix {
        let world = self.prefix.world.copy_to(&directory(name));
        // The directories differ in a word, which no quoting or escaping changes.
        let places = [ORIGINAL, name].map(|name| format!("/e2e/{name}/"));
        let definitions = world.home().join("prefixes");
        for file in files_below(&world.path("wrappers")).chain(files_below(&definitions)) {
            let text = fs_err::read_to_string(&file).unwrap();
            assert!(text.contains(&places[0]), "{} names no world", file.display());
            fs_err::write(&file, text.replace(&places[0], &places[1])).unwrap();
        }
        let copy = Prefix::of(world, is_temporary.then(|| directory(name)));
        copy.names_no_other_world(&places[0]);
        copy
    }
}

fn files_below(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path)
}

impl Drop for Prefix {
    fn drop(&mut self) {
        if let Some(dir) = self.copy.take().filter(|_| !std::thread::panicking()) {
            fprefix::base::files::remove(dir.parent().unwrap()).unwrap();
        }
    }
}

impl Prefix {
    fn of(world: World, copy: Option<PathBuf>) -> Self {
        let (staging, r#final) = (world.path("staging dir").join(HOSTILE), world.path("final"));
        Self { world, staging, r#final, copy }
    }

    /// Nothing but logs names the world that this is a copy of.
    fn names_no_other_world(&self, place: &str) {
        let grep = self.world.run("grep").args(["-rlF", "--exclude-dir=bin", "--exclude-dir=logs"]);
        assert_eq!(grep.args([place, "."]).said().ends_with(1).stdout, "");
    }

    /// The binary with `args`.
    pub(crate) fn fprefix<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Run<'_> {
        self.world.fprefix(args)
    }

    /// A program of the prefix in final.
    pub(crate) fn in_final(&self, name: &str) -> PathBuf {
        eroot(&self.r#final).join(name)
    }

    /// A program of the prefix in staging.
    pub(crate) fn in_staging(&self, name: &str) -> PathBuf {
        eroot(&self.staging).join(name)
    }

    /// The packages of final and those of staging.
    pub(crate) fn packages(&self) -> (Vec<String>, Vec<String>) {
        let packages = |dir: &Path| {
            let packages = fprefix::portage::vdb::packages(&vdb(dir)).unwrap();
            packages.iter().map(ToString::to_string).collect()
        };
        (packages(&self.r#final), packages(&self.staging))
    }

    /// DISTDIR.
    pub(crate) fn distfiles(&self) -> PathBuf {
        self.world.home().join("distfiles")
    }
}

/// EROOT in the directory of an environment.
pub(crate) fn eroot(environment: &Path) -> PathBuf {
    eroot_of(environment, EPREFIX)
}

/// EROOT of the prefix at `eprefix` in the directory of an environment.
pub(crate) fn eroot_of(environment: &Path, eprefix: &str) -> PathBuf {
    environment.join("root").join(eprefix.trim_start_matches('/'))
}

/// The VDB in the directory of an environment.
pub(crate) fn vdb(environment: &Path) -> PathBuf {
    eroot(environment).join("var/db/pkg")
}

/// What CONTENTS of all packages says is what is on the disk: the digest and the time of every
/// file, the target of every link. Returns how many files and links that were.
pub(crate) fn contents_are_true(world: &World, environment: &Path) -> usize {
    contents_at(world, environment, EPREFIX)
}

/// The same for a prefix at `eprefix`.
pub(crate) fn contents_at(world: &World, environment: &Path, eprefix: &str) -> usize {
    use std::os::unix::fs::MetadataExt;
    let root = environment.join("root");
    let database = root.join(&eprefix[1..]).join("var/db/pkg");
    let mut sums = String::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for package in fprefix::portage::vdb::packages(&database).unwrap() {
        let entry = database.join(package.to_string());
        let text = fs_err::read_to_string(entry.join("CONTENTS")).unwrap();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap();
            let on_disk = |path: &str| root.join(path.trim_start_matches('/'));
            match kind {
                "obj" => {
                    let mut words = rest.rsplitn(3, ' ');
                    let time: i64 = words.next().unwrap().parse().unwrap();
                    let (sum, path) = (words.next().unwrap(), words.next().unwrap());
                    sums += &format!("{sum}  .{path}\n");
                    match fs_err::symlink_metadata(on_disk(path)) {
                        Ok(meta) if meta.is_file() && meta.mtime() == time => {}
                        other => wrong.push(format!("{package}: {line}: {other:?}")),
                    }
                    count += 1;
                }
                "sym" => {
                    let (path, rest) = rest.split_once(" -> ").unwrap();
                    let (target, time) = rest.rsplit_once(' ').unwrap();
                    let there = fs_err::read_link(on_disk(path));
                    let meta = fs_err::symlink_metadata(on_disk(path)).map(|meta| meta.mtime());
                    if there.ok() != Some(target.into()) || meta.ok() != time.parse().ok() {
                        wrong.push(format!("{package}: {line}"));
                    }
                    count += 1;
                }
                _ => assert!(on_disk(rest).is_dir(), "{package}: {line}"),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let list = world.write("sums", sums);
    let said = world.run("md5sum").args(["--check", "--quiet", "--strict"]).args([list]).dir(root);
    said.said().succeeds();
    count
}
