//! A box for programs that read images of others. A damaged or hostile image may make such a
//! program do anything, so it gets nothing that it could harm.
//!
//! In the box are the program with the machine's libraries, the image, and one directory to write
//! to. There are no device nodes, no network, no other processes, and none of root's rights. Limits
//! end a program that computes, allocates or writes without end.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::base::command::{Command, SYSTEM_PATH};
use crate::base::escape::Escape;
use crate::base::input;
use crate::base::inside::{self, InsidePath};
use crate::base::scratch::ScratchFile;
use crate::host::machine;
use crate::host::tools::{self, ExternalTool};
use crate::sandbox::bubblewrap::{Bubblewrap, Namespace};
use crate::sandbox::limits::Limits;
use crate::sandbox::namespaces::prove_renouncing;
use crate::sandbox::syscall_filter;

/// Directories of the machine that programs are started from.
const PROGRAMS: &[&str] =
    &["/bin", "/gnu", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/sbin", "/usr"];

/// Start of the names in /etc that tell the loader where libraries are (`ld.so(8)`; musl's have the
/// architecture in them).
const LOADER: &str = "ld";

/// Size of the largest listing of an image that is kept in memory, in bytes.
const LISTING: u64 = 512 << 20;

/// A program that reads an image of somebody else.
#[derive(Debug)]
pub(crate) struct ForeignTool {
    command: Command,
    image: PathBuf,
    dir: Option<PathBuf>,
    /// The image, where the box could not read the original.
    _copy: Option<ScratchFile>,
    /// The file that stands in for a device.
    _null: Option<ScratchFile>,
}

impl ForeignTool {
    /// Prepares `tool` to read `image`.
    ///
    /// # Errors
    ///
    /// Fails if a tool is missing, if the machine forbids namespaces, or if `image` cannot be read.
    pub(crate) fn reading(purpose: &str, tool: ExternalTool, image: &Path) -> Result<Self> {
        Self::prepare(purpose, tool.require()?.path(), image, None, None, Limits::of_machine())
    }

    /// Prepares git to read the checkout at `top`. It starts only where there is a `/dev/null`, for
    /// which an empty file of ours stands in.
    ///
    /// # Errors
    ///
    /// Fails like [`ForeignTool::reading`].
    pub(crate) fn reading_checkout(purpose: &str, top: &Path) -> Result<Self> {
        let null = ScratchFile::new()?;
        let git = tools::GIT.require()?;
        Self::prepare(purpose, git.path(), top, None, Some(null), Limits::of_machine())
    }

    /// Prepares `tool` to read `image` and to write below the directory `dir`.
    ///
    /// # Errors
    ///
    /// Fails like [`ForeignTool::reading`], and if there is no directory `dir`.
    pub(crate) fn unpacking(
        purpose: &str,
        tool: ExternalTool,
        image: &Path,
        dir: &Path,
    ) -> Result<Self> {
        Self::prepare(purpose, tool.require()?.path(), image, Some(dir), None, Limits::of_machine())
    }

    /// Returns the command, without arguments for the program. It can be run once, because bubblewrap
    /// reads the filter of system calls from an open file.
    pub(crate) fn command(&self) -> Command {
        self.command.clone()
    }

    /// Returns the path of the image, for the arguments of the program.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// Returns the path of the directory, for the arguments of the program. Without a directory, it
    /// is a path where the program cannot write.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_deref().unwrap_or(inside::ROOT.as_path())
    }

    fn prepare(
        purpose: &str,
        program: &Path,
        image: &Path,
        dir: Option<&Path>,
        null: Option<ScratchFile>,
        limits: Limits,
    ) -> Result<Self> {
        prove_renouncing()?;
        let image = fs_err::canonicalize(image)?;
        let copy = if is_readable(&image)? { None } else { Some(copy(&image)?) };
        let image = copy.as_ref().map_or(image, |copy| copy.path().to_owned());
        let dir = dir.map(fs_err::canonicalize).transpose()?;
        let filter = syscall_filter::open()?.map(Arc::new);
        let mut bwrap = Bubblewrap::find()?;
        show_programs(&mut bwrap)?;
        let program = show_program(&mut bwrap, program)?;
        plan(
            &mut bwrap,
            &InsidePath::parse(&image)?,
            dir.as_ref().map(InsidePath::parse).transpose()?,
        );
        if let Some(null) = &null {
            bwrap.bind(null.path(), &inside::DEV.join("null"));
        }
        if let Some(filter) = &filter {
            bwrap.seccomp(filter.as_raw_fd());
        }
        let mut command = tools::PRLIMIT
            .command(purpose)?
            .args(limits.options())
            .arg(bwrap.program())
            .args(bwrap.options())
            .brief()
            .arg("--")
            .arg(&program);
        for (symptom, meaning) in limits.symptoms() {
            command = command.explain(symptom, meaning);
        }
        if let Some(filter) = filter {
            command = command.inherit(filter);
        }
        Ok(Self { command, image, dir, _copy: copy, _null: null })
    }
}

/// Returns what `command` prints.
///
/// # Errors
///
/// Fails if the command fails, and if it prints more than any image has to list.
pub(crate) fn read_listing(command: &Command) -> Result<String> {
    command.run_read(|output| {
        let mut listing = String::new();
        output
            .take(LISTING + 1)
            .read_to_string(&mut listing)
            .context("the listing of the image cannot be read")?;
        if listing.len() as u64 > LISTING {
            bail!("the listing of the image is longer than {} MiB", LISTING >> 20);
        }
        Ok(listing)
    })
}

/// Returns whether the box can read `image`. In its user namespace, root has no rights over the
/// files of others.
fn is_readable(image: &Path) -> Result<bool> {
    let meta = fs_err::metadata(image)?;
    Ok(!machine::is_root() || meta.uid() == 0 || meta.mode() & 0o004 != 0)
}

fn copy(image: &Path) -> Result<ScratchFile> {
    let copy = ScratchFile::new()?;
    let to = fs_err::OpenOptions::new().write(true).open(copy.path())?;
    let (original, size) = input::open_sized(image)?;
    input::copy_data(original.file(), 0..size, to.file(), 0)
        .with_context(|| format!("could not copy {}", image.escaped()))?;
    Ok(copy)
}

/// Shows the directories of programs and their libraries.
fn show_programs(bwrap: &mut Bubblewrap) -> Result<()> {
    for dir in PROGRAMS {
        bwrap.ro_bind_own(&InsidePath::parse(dir)?)?;
    }
    for entry in fs_err::read_dir(inside::ETC.as_path())? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().starts_with(LOADER.as_bytes()) {
            bwrap.ro_bind_own(&inside::ETC.join(name))?;
        }
    }
    Ok(())
}

/// Shows `program` itself if it is in none of these directories. Returns its path in the box.
fn show_program(bwrap: &mut Bubblewrap, program: &Path) -> Result<InsidePath> {
    let file = fs_err::canonicalize(program)?;
    // A program of many names acts by the name that it is started with.
    let is_same_name = file.file_name() == program.file_name();
    if is_same_name && PROGRAMS.iter().any(|dir| file.starts_with(dir)) {
        return InsidePath::parse(file);
    }
    let at = inside::FOREIGN_TOOL.join(program.file_name().unwrap_or_default());
    bwrap.ro_bind(&file, &at);
    Ok(at)
}

/// Plans the box without the programs. The image and the directory keep their paths, which messages
/// name.
fn plan(bwrap: &mut Bubblewrap, image: &InsidePath, dir: Option<InsidePath>) {
    bwrap.renounce_rights();
    for namespace in
        [Namespace::Pid, Namespace::Net, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup]
    {
        bwrap.unshare(namespace);
    }
    bwrap.proc().dir(&inside::DEV);
    for (name, target) in [("stdin", "0"), ("stdout", "1"), ("stderr", "2")] {
        bwrap.symlink(&Path::new("/proc/self/fd").join(target), &inside::DEV.join(name));
    }
    if let Some(dir) = &dir {
        bwrap.bind(dir.as_path(), dir);
        // Directories may be read-only before all their files are there.
        for capability in ["CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP"] {
            bwrap.capability(capability);
        }
    }
    bwrap.ro_bind(image.as_path(), image).seal(&inside::ROOT).chdir(&inside::ROOT);
    bwrap.environment(vec![
        ("PATH", SYSTEM_PATH.into()),
        ("LC_ALL", "C.UTF-8".into()),
        // Each arena of the C library reserves address space, which is limited.
        ("MALLOC_ARENA_MAX", "2".into()),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::files;
    use crate::sandbox::bubblewrap::samples;

    const LIMITS: Limits = Limits { seconds: 1, memory: 1 << 30, file_size: 1 << 20 };

    /// A hostile program, an image, and a directory to write to.
    struct HostileTool {
        dir: tempfile::TempDir,
    }

    impl HostileTool {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs_err::write(dir.path().join("image"), "content\n").unwrap();
            fs_err::write(dir.path().join("beside"), "").unwrap();
            fs_err::create_dir(dir.path().join("output")).unwrap();
            Self { dir }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Runs a script of a shell as the program, with the image and the directory as its
        /// arguments.
        fn run(&self, script: &str) -> Result<String> {
            let (program, output) = (self.path("program"), self.path("output"));
            let script = format!("#!/bin/sh\n{script}\n");
            files::write_executable(&program, script.as_bytes()).unwrap();
            let tool = ForeignTool::prepare(
                "read",
                &program,
                &self.path("image"),
                Some(&output),
                None,
                LIMITS,
            )?;
            tool.command().arg(tool.image()).arg(tool.dir()).read()
        }

        fn error(&self, script: &str) -> String {
            self.run(script).unwrap_err().to_string()
        }
    }

    #[test]
    fn the_box_is_the_same_for_every_caller() {
        let planned = |sample: fn() -> Bubblewrap, dir| {
            let mut bwrap = sample();
            plan(&mut bwrap, &inside::TMP.join("x.raw"), dir);
            bwrap.seccomp(9);
            samples::lines(&bwrap)
        };
        let [root, user, setuid] =
            samples::ALL.map(|sample| planned(sample, Some(inside::TMP.join("tree"))));
        insta::assert_snapshot!(root);
        assert_eq!(root, user);
        let without = root.lines().filter(|line| !line.starts_with("--cap-"));
        assert_eq!(without.collect::<Vec<_>>(), setuid.lines().collect::<Vec<_>>());
        let reading = planned(samples::for_root, None);
        let unpacking = root
            .lines()
            .filter(|line| !line.starts_with("--cap-add") && !line.starts_with("--bind"));
        assert_eq!(unpacking.collect::<Vec<_>>(), reading.lines().collect::<Vec<_>>());
    }

    #[test]
    fn the_program_reads_the_image_and_writes_to_the_directory() {
        let world = HostileTool::new();
        let said = world.run("read -r line < $1; echo $line; echo 7 > $2/file").unwrap();
        assert_eq!(said, "content\n");
        assert_eq!(fs_err::read_to_string(world.path("output/file")).unwrap(), "7\n");
    }

    #[test]
    fn an_image_that_only_its_owner_reads_is_copied() {
        use std::os::unix::fs::PermissionsExt;
        let world = HostileTool::new();
        let image = world.path("image");
        fs_err::set_permissions(&image, std::fs::Permissions::from_mode(0o600)).unwrap();
        if machine::is_root() {
            std::os::unix::fs::chown(&image, Some(12345), Some(12345)).unwrap();
        }
        assert_eq!(world.run("read -r line < $1; echo $line").unwrap(), "content\n");
    }

    #[test]
    fn nothing_else_can_be_written() {
        let world = HostileTool::new();
        let beside = world.path("beside").escaped().to_string();
        for place in [&beside, "/usr/new", "/tmp/new", "/etc/new", "/dev/new", "/new", "$1"] {
            let error = world.error(&format!("echo 7 > {place}"));
            assert!(
                error.contains("Read-only file system") || error.contains("nonexistent"),
                "{place}: {error}"
            );
        }
        assert_eq!(fs_err::read_to_string(world.path("image")).unwrap(), "content\n");
        assert_eq!(fs_err::read_to_string(beside).unwrap(), "");
    }

    #[test]
    fn the_machine_cannot_be_seen() {
        let world = HostileTool::new();
        let said = world.run("echo / /*; echo /dev /dev/*; echo /etc /etc/*").unwrap();
        let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
        for hidden in ["/root", "/home", "/run", "/var", "/sys", "/boot", "/mnt", "/opt"] {
            assert!(!lines[0].contains(&hidden), "{said}");
        }
        assert_eq!(lines[1], ["/dev", "/dev/stderr", "/dev/stdin", "/dev/stdout"]);
        assert!(lines[2].iter().skip(1).all(|path| path.starts_with("/etc/ld")), "{said}");
    }

    #[test]
    fn no_right_of_root_is_left() {
        let world = HostileTool::new();
        let said = world
            .run("while read -r name value; do echo $name $value; done < /proc/self/status")
            .unwrap();
        let tool = ForeignTool::prepare(
            "read",
            Path::new("/bin/cat"),
            &world.path("image"),
            None,
            None,
            LIMITS,
        );
        let said_without = tool.unwrap().command().arg("/proc/self/status").read().unwrap();
        // CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID and CAP_SETFCAP (linux/capability.h).
        assert!(said.contains("CapEff: 000000008000001a\n"), "{said}");
        assert!(said_without.contains("CapEff:\t0000000000000000\n"), "{said_without}");
        assert!(said.contains("Seccomp: 2\n") && said.contains("NoNewPrivs: 1\n"), "{said}");
    }

    #[test]
    fn dev_stdout_stays() {
        let world = HostileTool::new();
        let before = fs_err::symlink_metadata("/dev/stdout").unwrap().ino();
        assert_eq!(world.run("echo said > /dev/stdout").unwrap(), "said\n");
        let error = world.error("exec rm /dev/stdout");
        assert!(error.contains("Read-only file system"), "{error}");
        assert_eq!(fs_err::symlink_metadata("/dev/stdout").unwrap().ino(), before);
    }

    #[test]
    fn processes_and_sockets_are_refused() {
        let world = HostileTool::new();
        let error = world.error("(exec true)");
        assert!(error.contains("annot fork"), "{error}");
        for act in [
            "import socket; socket.socket()",
            "import os; os.fork()",
            "import os; os.posix_spawn('/bin/true', ['true'], {})",
            "import ctypes; libc = ctypes.CDLL(None, use_errno=True); \
             raise OSError(ctypes.get_errno(), os.strerror(1)) if libc.unshare(0x10000000) else 0",
        ] {
            let error = world.error(&format!("exec python3 -c \"import os; {act}\""));
            assert!(error.contains("Operation not permitted"), "{act}: {error}");
        }
        let thread = "import threading; t = threading.Thread(target=print, args=[7]); \
                      t.start(); t.join()";
        assert_eq!(world.run(&format!("exec python3 -c '{thread}'")).unwrap(), "7\n");
    }

    #[test]
    fn limits_end_the_program_and_are_named() {
        let world = HostileTool::new();
        let error = world.error("while :; do :; done");
        assert!(error.contains("status 152 (it may compute for 1 seconds)"), "{error}");
        let error = world.error("exec truncate --size 1G $2/file");
        assert!(error.contains("status 153 (it may write files of 1 MiB)"), "{error}");
        let act = "import mmap; [mmap.mmap(-1, 1 << 29) for _ in range(4)]";
        let error = world.error(&format!("exec python3 -c '{act}'"));
        assert!(error.contains(" (it may use 1024 MiB of memory)"), "{error}");
    }
}
