//! A machine that looks like another kind of machine: a mount namespace in which directories of this
//! one are replaced. What is bound into it lasts as long as the world.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::harness::{Run, World, write_program};

/// The folder of the machine, where all that is replaced can still be found.
pub(crate) const MACHINE: &str = "/machine";

/// Such a machine; each of its programs sees a namespace of its own.
pub(crate) struct LookAlike<'w> {
    pub world: &'w World,
    words: Vec<OsString>,
}

impl<'w> LookAlike<'w> {
    /// This machine for a user, without what is at these places; with the Portage of `world` as its
    /// own. Nothing of this machine can be written there but what is in the world.
    pub(crate) fn new(world: &'w World, user: &str, without: &[&str]) -> Self {
        let portage = fs_err::read_dir(world.home().join("portage")).unwrap();
        let portage = portage
            .map(|entry| entry.unwrap().path())
            .find(|path| path.join("bin/emerge").exists())
            .unwrap();
        let portage = fs_err::canonicalize(portage).unwrap();
        let mut machine = Self { world, words: Vec::new() };
        machine.add(["bwrap", "--unshare-user", "--uid", user, "--gid", user, "--unshare-pid"]);
        machine.add(["--die-with-parent", "--tmpfs", "/"]);
        if user == "0" && !fprefix::host::machine::is_root() {
            // bubblewrap takes the rights of root from it, with which root's programs make namespaces.
            machine.add(["--cap-add", "ALL"]);
        }
        for entry in fs_err::read_dir("/").unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_str().unwrap();
            if ["/proc", "/dev", "/portage"].contains(&name) || without.contains(&name) {
                continue;
            }
            match fs_err::read_link(&path) {
                Ok(target) => {
                    machine.add(["--symlink".as_ref(), target.as_os_str(), path.as_ref()]);
                }
                Err(_) => machine.add(["--ro-bind", name, name]),
            }
        }
        machine.add(["--proc", "/proc", "--dev-bind", "/dev", "/dev"]);
        machine.add(["--perms", "1777", "--tmpfs", "/tmp"]);
        let here = world.path("");
        machine.bind(&here, here.to_str().unwrap());
        // The program that is tried.
        let program = env!("CARGO_BIN_EXE_fprefix");
        machine.show(Path::new(program), program);
        let bin = machine.own("/usr/bin");
        for tool in ["emerge", "portageq", "ebuild"] {
            let text = format!(
                "#!/bin/sh\nPORTAGE_OVERRIDE_EPREFIX= exec /portage/bin/python /portage/bin/{tool} \
                 \"$@\"\n"
            );
            fs_err::remove_file(bin.join(tool)).ok();
            write_program(&bin.join(tool), &text);
        }
        // Portage from a wheel looks for its own files here, where it is told of no EPREFIX.
        machine.show(&portage, "/portage");
        machine.show(&portage.join("share/portage"), "/share/portage");
        machine
    }

    fn add<const N: usize>(&mut self, words: [impl AsRef<std::ffi::OsStr>; N]) {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
    }

    /// Shows what is at `from`, where it can be written.
    pub(crate) fn bind(&mut self, from: &Path, to: &str) {
        self.add(["--bind".as_ref(), from.as_os_str(), to.as_ref()]);
    }

    /// Shows what is at `from` as it is, read-only.
    pub(crate) fn show(&mut self, from: &Path, to: &str) {
        self.add(["--ro-bind".as_ref(), from.as_os_str(), to.as_ref()]);
    }

    /// The directory at `path` as one of the world: with links to all that the machine has in it.
    /// More can be put there, and less.
    pub(crate) fn own(&mut self, path: &str) -> PathBuf {
        let mut original = PathBuf::from("/");
        let mut place = self.world.path("machine/links");
        for part in Path::new(path).iter().skip(1) {
            original.push(part);
            place.push(part);
            if place.is_symlink() {
                fs_err::remove_file(&place).unwrap();
            } else if place.exists() {
                continue;
            }
            fs_err::create_dir_all(&place).unwrap();
            if original.is_dir() {
                link_all(&original, &place);
            }
            if original.parent() == Some(Path::new("/")) {
                let top = original.to_str().unwrap();
                self.show(&original, &format!("{MACHINE}{top}"));
                self.bind(&place, top);
            }
        }
        place
    }

    /// An empty directory at `path`, in place of what the machine has there.
    pub(crate) fn empty(&mut self, path: &str) -> PathBuf {
        let parent = Path::new(path).parent().unwrap();
        let place = self.own(parent.to_str().unwrap()).join(Path::new(path).file_name().unwrap());
        fs_err::remove_file(&place).ok();
        fs_err::create_dir_all(&place).unwrap();
        place
    }

    /// The directory that programs start in; after this the machine is ready.
    pub(crate) fn start_in(&mut self, dir: &str) {
        self.add(["--chdir", dir, "--"]);
    }

    /// Runs a program there.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Run<'_> {
        self.there(self.world.run(program).args(args))
    }

    /// Runs fprefix there.
    pub(crate) fn fprefix(&self, args: &[&str]) -> Run<'_> {
        let shown = ["/machine", "/portage", "/share"].map(|path| ["--sandbox-path", path]);
        let is_setup = args.first() == Some(&"setup");
        let shown = if is_setup { shown.concat() } else { Vec::new() };
        self.there(self.world.fprefix([args, &shown].concat()))
    }

    fn there<'r>(&self, run: Run<'r>) -> Run<'r> {
        run.through(&self.words).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("USER", "user")
    }
}

/// Links all that is in the machine's `dir` into `links`, from where it can still be found: gcc finds
/// its libraries relative to itself.
fn link_all(dir: &Path, links: &Path) {
    let original = Path::new(MACHINE).join(dir.strip_prefix("/").unwrap());
    for entry in fs_err::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name();
        fs_err::os::unix::fs::symlink(original.join(&name), links.join(&name)).unwrap();
    }
}
