//! Root directory of a system that is not ours, like a target or an OS image. Nothing that its links
//! say leads out of it, even if somebody changes them meanwhile: the kernel resolves each path below
//! an open directory (openat2(2)).

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Error, Result, bail};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::base::escape::Escape;
use crate::base::limits::TEXT;
use crate::base::publish::{self, Durability, NewFile};
use crate::fstree::resolve::{ResolvedPath, RootResolver};

/// Number of attempts if a rename or a mount elsewhere disturbs the kernel. Then openat2(2) fails with
/// `EAGAIN`. Or it begins anew by itself, without forgetting how many links it has followed, so a path
/// with more than 20 of them may fail with `ELOOP` (`do_filp_open` in the kernel's fs/namei.c).
const ATTEMPTS: usize = 64;

/// Resolution without links, for what is written: the path was resolved before.
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Open root directory. Paths in it are as programs see them; a leading slash makes no difference.
#[derive(Clone, Debug)]
pub(crate) struct RootDir {
    path: PathBuf,
    top: Arc<OwnedFd>,
    rooted: RootResolver,
}

impl RootDir {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    ///
    /// Fails if there is no directory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = fs_err::canonicalize(path)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .with_context(|| format!("could not open the directory {}", path.escaped()))?;
        let rooted = RootResolver::new(vec![path.clone()]);
        Ok(Self { path, top: Arc::new(top), rooted })
    }

    /// Opens the directory at `path`, or returns `None` unless it has a directory `usr`, as every
    /// system has.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be opened.
    pub(crate) fn open_system(path: &Path) -> Result<Option<Self>> {
        if !path.is_dir() {
            return Ok(None);
        }
        let root = Self::open(path)?;
        Ok(root.has_directory(Path::new("usr"))?.then_some(root))
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves `path`, to name where it leads. Its place on disk is safe to use only if nobody
    /// changes the directory meanwhile.
    pub(crate) fn resolve(&self, path: &Path) -> ResolvedPath {
        self.rooted.resolve(path)
    }

    /// Opens the file at `path`, following links. Returns `None` if nothing is there.
    ///
    /// # Errors
    ///
    /// Fails if it is no regular file, or cannot be read.
    pub(crate) fn open_file(&self, path: &Path) -> Result<Option<File>> {
        // Without O_NONBLOCK, opening a pipe waits for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(file) = self.look_up(path, flags)? else { return Ok(None) };
        let file = File::from(file);
        if !file.metadata().with_context(|| self.act("read", path))?.is_file() {
            bail!("{} in {} is no regular file", path.escaped(), self.path.escaped());
        }
        Ok(Some(file))
    }

    /// Reads the text file at `path`, following links. Returns `None` if nothing is there.
    ///
    /// # Errors
    ///
    /// Fails if it is no regular file, is larger than a text can be, or cannot be read.
    pub(crate) fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_file(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(TEXT.bytes + 1).read_to_end(&mut bytes);
        read.with_context(|| self.act("read", path))?;
        if bytes.len() as u64 > TEXT.bytes {
            let (limit, kind) = (TEXT.bytes >> 20, TEXT.kind);
            bail!("{}: it has more than {limit} MiB, the limit of {kind}", self.act("read", path));
        }
        Ok(Some(bytes))
    }

    /// Returns the metadata of whatever `path` leads to, or `None` if nothing is there.
    ///
    /// # Errors
    ///
    /// Fails if the directories above it cannot be searched.
    pub(crate) fn metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.stat(path, OFlags::PATH)
    }

    /// Returns the metadata of the entry at `path`, which may be a link, or `None` without one.
    ///
    /// # Errors
    ///
    /// Fails if the directories above it cannot be searched.
    pub(crate) fn symlink_metadata(&self, path: &Path) -> Result<Option<Metadata>> {
        self.stat(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Returns whether there is an entry at `path`, even a broken link.
    ///
    /// # Errors
    ///
    /// Fails if the directories above it cannot be searched.
    pub(crate) fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.symlink_metadata(path)?.is_some())
    }

    /// Returns the first of `roots` that has an entry at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the directories above it cannot be searched.
    pub(crate) fn first_with<'r>(roots: &'r [Self], path: &Path) -> Result<Option<&'r Self>> {
        for root in roots {
            if root.exists(path)? {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }

    /// Returns whether `path` leads to a regular file.
    ///
    /// # Errors
    ///
    /// Fails if the directories above it cannot be searched.
    pub(crate) fn has_file(&self, path: &Path) -> Result<bool> {
        Ok(self.metadata(path)?.is_some_and(|meta| meta.is_file()))
    }

    /// Returns whether `path` leads to a directory.
    ///
    /// # Errors
    ///
    /// Fails if the directories above it cannot be searched.
    pub(crate) fn has_directory(&self, path: &Path) -> Result<bool> {
        Ok(self.metadata(path)?.is_some_and(|meta| meta.is_dir()))
    }

    /// Returns the target of the link at `path`.
    ///
    /// # Errors
    ///
    /// Fails if there is no link.
    pub(crate) fn read_link(&self, path: &Path) -> Result<PathBuf> {
        let act = || self.act("read the link", path);
        let link = self.look_up(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let link = link.ok_or(Errno::NOENT).with_context(act)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new()).with_context(act)?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Returns the names in the directory at `path`, sorted. Returns `None` without a directory.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read.
    pub(crate) fn read_dir(&self, path: &Path) -> Result<Option<Vec<OsString>>> {
        let act = || self.act("list", path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(dir) = self.look_up(path, flags)? else { return Ok(None) };
        let mut names = Vec::new();
        for entry in Dir::new(dir).with_context(act)? {
            let entry = entry.with_context(act)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(Some(names))
    }

    /// Creates the file at `path`, in directories that are created as needed. `write` fills it. The
    /// file appears complete, by a rename that replaces an earlier file or link.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written; then nothing of it stays.
    pub(crate) fn create(
        &self,
        path: &Path,
        mode: u32,
        write: impl FnOnce(&mut &File) -> Result<()>,
    ) -> Result<()> {
        let (dir, name) = self.parent(path, true)?;
        let written = || -> Result<()> {
            publish::remove_unfinished(open_readable(&dir)?)?;
            let new = NewFile::create_at(&dir)?;
            write(&mut new.file())?;
            new.file().set_permissions(PermissionsExt::from_mode(mode))?;
            Ok(new.publish(name, Durability::Flushed)?)
        };
        written().with_context(|| self.act("write", path))
    }

    /// Makes the entry at `path` a link to `target`, replacing an existing link.
    ///
    /// # Errors
    ///
    /// Fails if something other than a link is there.
    pub(crate) fn link(&self, path: &Path, target: &Path) -> Result<()> {
        let act = || self.act("link", path);
        let (dir, name) = self.parent(path, true)?;
        match rustix::fs::readlinkat(&dir, name, Vec::new()) {
            Ok(old) if old.as_bytes() == target.as_os_str().as_bytes() => return Ok(()),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(Errno::INVAL) => {
                bail!("{} is there in {} and is not a link", path.escaped(), self.path.escaped())
            }
            Err(error) => return Err(error).with_context(act),
        }
        publish::remove_unfinished(open_readable(&dir).with_context(act)?).with_context(act)?;
        publish::replace_entry(&dir, name, Durability::Flushed, |dir, new| {
            rustix::fs::symlinkat(target, dir, new)
        })
        .with_context(act)
    }

    /// Removes the file or link at `path`.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<()> {
        let (dir, name) = self.parent(path, false)?;
        rustix::fs::unlinkat(&dir, name, AtFlags::empty()).with_context(|| self.act("remove", path))
    }

    /// Removes the empty directory at `path`.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or if it is not empty.
    pub(crate) fn remove_dir(&self, path: &Path) -> Result<()> {
        let (dir, name) = self.parent(path, false)?;
        rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)
            .with_context(|| self.act("remove", path))
    }

    fn stat(&self, path: &Path, flags: OFlags) -> Result<Option<Metadata>> {
        let Some(found) = self.look_up(path, flags)? else { return Ok(None) };
        let meta = File::from(found).metadata();
        Ok(Some(meta.with_context(|| self.act("read the metadata of", path))?))
    }

    /// Opens `path` for reading. A path that leads nowhere, also by a loop of links, is `None`.
    fn look_up(&self, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        match open_below(&*self.top, path, flags, ResolveFlags::IN_ROOT) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(explain(error)).with_context(|| self.act("open", path)),
        }
    }

    /// Opens the directory that holds `path`, and returns the name in it. The links on the way were
    /// resolved before; a link that appears later is an error.
    fn parent<'p>(&self, path: &'p Path, create: bool) -> Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().context("a path ends without a name")?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        let parent = match self.resolve(parent) {
            ResolvedPath::There { inside, .. } => inside,
            ResolvedPath::Missing(inside) if create => inside,
            ResolvedPath::Missing(inside) => {
                bail!("there is no directory {} in {}", inside.escaped(), self.path.escaped())
            }
            ResolvedPath::NoDirectory(place) => bail!(
                "{} in {} leads up from {}, which is no directory there",
                parent.escaped(),
                self.path.escaped(),
                place.escaped()
            ),
            ResolvedPath::Loop => bail!("{} is a link that leads to itself", parent.escaped()),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let act = || self.act("open the directory", &parent);
        let mut dir = open_below(&*self.top, Path::new("."), flags, PLAIN)
            .map_err(explain)
            .with_context(act)?;
        for part in parent.strip_prefix("/").unwrap_or(&parent) {
            if create {
                make_directory(&dir, part)
                    .with_context(|| self.act("make the directory", &parent))?;
            }
            let below = open_below(&dir, Path::new(part), flags, PLAIN);
            dir = below.map_err(explain).with_context(act)?;
        }
        Ok((dir, name))
    }

    fn act(&self, act: &str, path: &Path) -> String {
        format!("could not {act} {} in {}", path.escaped(), self.path.escaped())
    }
}

fn open_below(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let flags = flags | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(&dir, below, flags, Mode::empty(), resolve);
    let follows = !resolve.contains(ResolveFlags::NO_SYMLINKS);
    let mut opened = open();
    for _ in 1..ATTEMPTS {
        match opened {
            Err(Errno::AGAIN) => {}
            Err(Errno::LOOP) if follows => {}
            _ => break,
        }
        opened = open();
    }
    opened
}

/// Makes the directory `name` in `dir`, unless it is there. Its name is flushed, as a file in it
/// will be.
fn make_directory(dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o777)) {
        Ok(()) => publish::flush_names(open_readable(dir)?),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens `dir` again, for reading.
fn open_readable(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::empty())
}

fn explain(error: Errno) -> Error {
    if error == Errno::NOSYS {
        return Error::new(error)
            .context("the kernel has no openat2(2), which needs Linux 5.6 or newer");
    }
    Error::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;
    use std::io::Write;

    struct World {
        dir: tempfile::TempDir,
        root: RootDir,
    }

    /// A root directory beside a file `secret` and a directory `outside`.
    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("root");
        fs_err::create_dir_all(top.join("usr/lib")).unwrap();
        fs_err::create_dir(dir.path().join("outside")).unwrap();
        fs_err::write(dir.path().join("secret"), "secret").unwrap();
        fs_err::write(top.join("usr/lib/os-release"), "ID=x").unwrap();
        symlink("../usr/lib/os-release", top.join("release")).unwrap();
        symlink(dir.path().join("secret"), top.join("absolute")).unwrap();
        symlink("../../../secret", top.join("up")).unwrap();
        symlink("missing/../../secret", top.join("behind")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        symlink(dir.path().join("outside"), top.join("opt")).unwrap();
        symlink("../outside", top.join("srv")).unwrap();
        World { root: RootDir::open(&top).unwrap(), dir }
    }

    fn is_empty(dir: &Path) -> bool {
        fs_err::read_dir(dir).unwrap().next().is_none()
    }

    #[test]
    fn reads_stay_inside() {
        let World { dir, root } = world();
        let read = |path: &str| root.read_file(Path::new(path)).unwrap();
        assert_eq!(read("/release").unwrap(), b"ID=x");
        assert_eq!(read("../usr/lib/os-release").unwrap(), b"ID=x");
        for path in ["absolute", "up", "behind", "/../secret", "loop", "loop/x", "release/x"] {
            assert_eq!(read(path), None, "{path}");
            assert!(root.metadata(Path::new(path)).unwrap().is_none(), "{path}");
        }
        assert!(root.exists(Path::new("up")).unwrap() && !root.exists(Path::new("none")).unwrap());
        assert!(root.has_file(Path::new("release")).unwrap());
        assert!(root.has_directory(Path::new("/")).unwrap());
        assert_eq!(root.read_link(Path::new("up")).unwrap(), Path::new("../../../secret"));
        assert!(root.read_link(Path::new("usr")).is_err());
        assert_eq!(root.read_dir(Path::new("usr")).unwrap(), Some(vec!["lib".into()]));
        for path in ["opt", "srv", "release", "none"] {
            assert_eq!(root.read_dir(Path::new(path)).unwrap(), None, "{path}");
        }
        let error = root.read_file(Path::new("usr")).unwrap_err().to_string();
        assert!(error.ends_with("is no regular file"), "{error}");
        // A pipe without a writer is refused and not waited for.
        let pipe = dir.path().join("root/pipe");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(root.read_file(Path::new("pipe")).is_err());
        let hole = fs_err::File::create(dir.path().join("root/hole")).unwrap();
        hole.set_len(4 << 40).unwrap();
        let error = root.read_file(Path::new("hole")).unwrap_err().to_string();
        assert!(error.ends_with("it has more than 16 MiB, the limit of a text"), "{error}");
        assert!(RootDir::open(&dir.path().join("none")).is_err());
        assert!(RootDir::open(&dir.path().join("secret")).is_err());
        assert!(RootDir::open_system(&dir.path().join("root")).unwrap().is_some());
        for other in ["outside", "secret", "none"] {
            assert!(RootDir::open_system(&dir.path().join(other)).unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn writes_stay_inside() {
        let World { dir, root } = world();
        let write =
            |path: &str| root.create(Path::new(path), 0o644, |file| Ok(file.write_all(b"new")?));
        for path in ["/opt/a/file", "/srv/file", "usr/new/file", "absolute", "release", "/up"] {
            write(path).unwrap();
            assert_eq!(root.read_file(Path::new(path)).unwrap().unwrap(), b"new", "{path}");
        }
        assert!(is_empty(&dir.path().join("outside")));
        assert_eq!(fs_err::read(dir.path().join("secret")).unwrap(), b"secret");
        // A link at the place of the file is replaced and not followed.
        assert_eq!(root.read_file(Path::new("usr/lib/os-release")).unwrap().unwrap(), b"ID=x");
        let inside = dir.path().strip_prefix("/").unwrap().join("outside/a/file");
        assert!(dir.path().join("root").join(inside).is_file());
        for (path, part) in [
            ("/behind/file", "leads up from /missing"),
            ("/loop/file", "leads to itself"),
            ("/usr/lib/os-release/file", "could not open the directory /usr/lib/os-release"),
            ("/", "without a name"),
        ] {
            let error = format!("{:#}", write(path).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_link_that_appears_later_is_refused() {
        let World { dir, root } = world();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        for path in ["opt", "srv", "/../outside"] {
            let found = open_below(&*root.top, Path::new(path), flags, PLAIN);
            assert!(matches!(found, Err(Errno::LOOP | Errno::XDEV)), "{path}");
        }
        assert!(is_empty(&dir.path().join("outside")));
    }

    #[test]
    fn links_and_removal() {
        let World { dir, root } = world();
        let path = Path::new("/etc/extensions/x.raw");
        for target in ["/opt/a", "/opt/b", "/opt/b"] {
            root.link(path, Path::new(target)).unwrap();
            assert_eq!(root.read_link(path).unwrap(), Path::new(target));
        }
        let error = root.link(Path::new("usr"), Path::new("x")).unwrap_err().to_string();
        assert!(error.contains("is not a link"), "{error}");
        root.remove_file(path).unwrap();
        assert!(!root.exists(path).unwrap());
        assert!(root.remove_file(path).is_err());
        assert!(root.remove_dir(Path::new("/etc")).is_err());
        root.remove_dir(Path::new("/etc/extensions")).unwrap();
        assert!(!root.exists(Path::new("etc/extensions")).unwrap());
        assert!(root.remove_file(Path::new("/srv/x")).is_err());
        root.remove_file(Path::new("/up")).unwrap();
        assert!(dir.path().join("secret").exists());
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let World { dir, root } = world();
        let failed = root.create(Path::new("usr/file"), 0o644, |file| {
            file.write_all(b"half")?;
            bail!("no more")
        });
        let error = format!("{:#}", failed.unwrap_err());
        assert!(error.starts_with("could not write usr/file in ") && error.ends_with("no more"));
        let names = fs_err::read_dir(dir.path().join("root/usr")).unwrap();
        assert_eq!(names.count(), 1);
    }

    #[test]
    fn renames_elsewhere_disturb_nobody() {
        let World { dir, root } = world();
        let mut last = "/usr/lib/os-release".to_owned();
        for number in 1..=40 {
            symlink(&last, dir.path().join(format!("root/chain{number}"))).unwrap();
            last = format!("chain{number}");
        }
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        fs_err::create_dir(&one).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs_err::rename(&one, &other).unwrap();
                    fs_err::rename(&other, &one).unwrap();
                }
            });
            let found = |_| root.look_up(Path::new(&last), OFlags::PATH).is_ok_and(|f| f.is_some());
            let all = (0..5000).all(found);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(all, "a path of 40 links was not found");
        });
        assert!(root.look_up(Path::new("loop"), OFlags::PATH).unwrap().is_none());
    }

    #[test]
    fn an_old_kernel_is_named() {
        let error = format!("{:#}", explain(Errno::NOSYS));
        assert!(error.contains("Linux 5.6 or newer"), "{error}");
    }
}
