//! Command lines of bubblewrap (bwrap(1)). Every namespace of fprefix is planned here as a value.
//!
//! The caller is part of the plan: root needs no user namespace, and a bubblewrap that is setuid
//! gives no capabilities.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::base::command::Command;
use crate::base::inside::{self, InsidePath};
use crate::host::{machine, tools};
use crate::sandbox::all_users;

/// Options that make a user namespace in which the caller is root, and the only user.
pub(crate) const USER_NAMESPACE: [&str; 5] = ["--unshare-user", "--uid", "0", "--gid", "0"];

/// Rights over files of other users, by which root gives them away in an install image.
pub(crate) const GIVE_FILES: [&str; 4] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID"];

/// Rights with which bubblewrap starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub is_root: bool,
    /// True if the file of bubblewrap is setuid.
    pub is_setuid: bool,
}

/// A kind of namespace, apart from those for users and mounts (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    Cgroup,
    Ipc,
    Net,
    Pid,
    Uts,
}

impl Namespace {
    /// Returns the option that makes one.
    pub(crate) fn option(self) -> &'static str {
        match self {
            // Kernels may lack it.
            Self::Cgroup => "--unshare-cgroup-try",
            Self::Ipc => "--unshare-ipc",
            Self::Net => "--unshare-net",
            Self::Pid => "--unshare-pid",
            Self::Uts => "--unshare-uts",
        }
    }
}

/// The users that there are in a plan (`user_namespaces(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    /// Those of the namespace that bubblewrap starts in.
    OfMachine,
    /// Root alone, in a namespace of its own.
    Root,
    /// Those of the machine, in a namespace of its own.
    All,
}

/// Plan of a run of bubblewrap. Mounts are made in the order in which they are added.
///
/// Programs see themselves as root. They end with the process that started them.
#[derive(Clone, Debug)]
pub(crate) struct Bubblewrap {
    program: PathBuf,
    caller: Caller,
    users: Users,
    has_session: bool,
    hostname: Option<&'static str>,
    drops_capabilities: bool,
    capabilities: Vec<&'static str>,
    filter: Option<RawFd>,
    namespaces: Vec<Namespace>,
    mounts: Vec<OsString>,
    sealed: Vec<InsidePath>,
    dir: Option<InsidePath>,
    environment: Option<Vec<(&'static str, OsString)>>,
    is_brief: bool,
}

impl Bubblewrap {
    /// Starts a plan for this process and this machine's bubblewrap.
    ///
    /// # Errors
    ///
    /// Fails if bubblewrap is missing.
    pub(crate) fn find() -> Result<Self> {
        let program = tools::BWRAP.require()?.path().to_owned();
        let is_setuid = fs_err::metadata(&program)?.mode() & 0o4000 != 0;
        Ok(Self::new(program, Caller { is_root: machine::is_root(), is_setuid }))
    }

    /// Starts a plan for `caller` and the bubblewrap at `program`.
    pub(crate) fn new(program: impl Into<PathBuf>, caller: Caller) -> Self {
        Self {
            program: program.into(),
            caller,
            users: if caller.is_root { Users::OfMachine } else { Users::Root },
            has_session: false,
            hostname: None,
            drops_capabilities: false,
            capabilities: Vec::new(),
            filter: None,
            namespaces: Vec::new(),
            mounts: Vec::new(),
            sealed: Vec::new(),
            dir: None,
            environment: None,
            is_brief: false,
        }
    }

    /// Returns the path of bubblewrap.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Returns whether root is the caller.
    pub(crate) fn is_of_root(&self) -> bool {
        self.caller.is_root
    }

    /// Gives root a user namespace, too, and takes away all capabilities. Root still owns its files
    /// (`user_namespaces(7)`), so the mounts decide which of them are reached.
    pub(crate) fn renounce_rights(&mut self) -> &mut Self {
        self.users = Users::Root;
        self.drops_capabilities = true;
        self
    }

    /// Gives root a user namespace with all users of this machine: it can give files away, and has no
    /// rights over the machine. Such a plan is run by [`Self::command_with_users`].
    pub(crate) fn map_all_users(&mut self) -> &mut Self {
        if self.caller.is_root {
            self.users = Users::All;
        }
        self
    }

    /// Starts a plan for a run of bubblewrap in this one, where it is at `program`. It keeps the rights
    /// over files of other users, and those that namespaces need.
    pub(crate) fn within(&self, program: &InsidePath) -> Self {
        let mut inner = Self::new(program.as_path(), self.caller);
        inner.stay_in_namespace().drop_capabilities().nestable();
        if self.caller.is_root {
            inner.capabilities.extend(GIVE_FILES);
        }
        inner
    }

    /// Stays in the user namespace of a plan that keeps its capabilities, if it can.
    pub(crate) fn stay_in_namespace(&mut self) -> &mut Self {
        let has_no_rights = self.caller.is_setuid && !self.caller.is_root;
        self.users = if has_no_rights { Users::Root } else { Users::OfMachine };
        self
    }

    /// Takes away all capabilities but those that are named.
    pub(crate) fn drop_capabilities(&mut self) -> &mut Self {
        self.drops_capabilities = true;
        self
    }

    /// Starts the program in a session of its own: it has no terminal whose input it could write
    /// (`ioctl_tty(2)`, `TIOCSTI`).
    pub(crate) fn new_session(&mut self) -> &mut Self {
        self.has_session = true;
        self
    }

    /// Gives the machine another name in the namespace.
    pub(crate) fn hostname(&mut self, name: &'static str) -> &mut Self {
        self.hostname = Some(name);
        self.unshare(Namespace::Uts)
    }

    /// Keeps a capability over what belongs to the namespace.
    pub(crate) fn capability(&mut self, capability: &'static str) -> &mut Self {
        self.capabilities.push(capability);
        self
    }

    /// Filters the system calls of the program with the BPF program in the open file `filter`, which
    /// the command must inherit.
    pub(crate) fn seccomp(&mut self, filter: RawFd) -> &mut Self {
        self.filter = Some(filter);
        self
    }

    /// Keeps all capabilities over what belongs to the namespace.
    pub(crate) fn all_capabilities(&mut self) -> &mut Self {
        self.capabilities.push("ALL");
        self
    }

    /// Allows user namespaces in this one. Who maps user 0 into another namespace must have
    /// `CAP_SETFCAP` (`user_namespaces(7)`).
    pub(crate) fn nestable(&mut self) -> &mut Self {
        self.capability("CAP_SETFCAP")
    }

    /// Adds a namespace.
    pub(crate) fn unshare(&mut self, namespace: Namespace) -> &mut Self {
        self.namespaces.push(namespace);
        self
    }

    /// Shows `from` read-only.
    pub(crate) fn ro_bind(&mut self, from: &Path, to: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--ro-bind"), from.as_os_str(), to.as_ref()])
    }

    /// Shows `from` writable.
    pub(crate) fn bind(&mut self, from: &Path, to: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--bind"), from.as_os_str(), to.as_ref()])
    }

    /// Shows `from` writable, and lets programs open device nodes in it.
    pub(crate) fn dev_bind(&mut self, from: &Path, to: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--dev-bind"), from.as_os_str(), to.as_ref()])
    }

    /// Shows an entry of the machine's root read-only at its own path if it is there. A link stays
    /// a link.
    ///
    /// # Errors
    ///
    /// Fails if the entry cannot be read.
    pub(crate) fn ro_bind_own(&mut self, at: &InsidePath) -> Result<()> {
        match fs_err::symlink_metadata(at.as_path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
            Ok(meta) if meta.is_symlink() => {
                self.symlink(&fs_err::read_link(at.as_path())?, at);
            }
            // The entry may disappear before bubblewrap starts.
            Ok(_) => {
                self.mount([OsStr::new("--ro-bind-try"), at.as_ref(), at.as_ref()]);
            }
        }
        Ok(())
    }

    /// Shows the entries of the machine's directory `dir` read-only, except those with these names.
    /// Links stay links.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read.
    pub(crate) fn ro_bind_entries(&mut self, dir: &InsidePath, except: &[&str]) -> Result<()> {
        let mut entries: Vec<_> = fs_err::read_dir(dir.as_path())?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs_err::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if except.iter().any(|other| name.as_os_str() == *other) {
                continue;
            }
            self.ro_bind_own(&dir.join(&name))?;
        }
        Ok(())
    }

    /// Makes a symbolic link to `target`.
    pub(crate) fn symlink(&mut self, target: &Path, at: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--symlink"), target.as_os_str(), at.as_ref()])
    }

    /// Makes an empty directory.
    pub(crate) fn dir(&mut self, at: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--dir"), at.as_ref()])
    }

    /// Mounts an empty file system in memory.
    pub(crate) fn tmpfs(&mut self, at: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--tmpfs"), at.as_ref()])
    }

    /// Mounts an empty file system in memory to which every user may write, as to /tmp.
    pub(crate) fn tmpfs_for_all(&mut self, at: &InsidePath) -> &mut Self {
        self.mount([OsStr::new("--perms"), OsStr::new("1777")]).tmpfs(at)
    }

    /// Mounts /proc.
    pub(crate) fn proc(&mut self) -> &mut Self {
        self.mount([OsStr::new("--proc"), inside::PROC.as_ref()])
    }

    /// Mounts a new /dev with the harmless nodes.
    pub(crate) fn dev(&mut self) -> &mut Self {
        self.mount([OsStr::new("--dev"), inside::DEV.as_ref()])
    }

    /// Makes the mount at `at` read-only once all mounts below it are there.
    pub(crate) fn seal(&mut self, at: &InsidePath) -> &mut Self {
        self.sealed.push(at.clone());
        self
    }

    /// Starts the program in the directory `dir`.
    pub(crate) fn chdir(&mut self, dir: &InsidePath) -> &mut Self {
        self.dir = Some(dir.clone());
        self
    }

    /// Gives the program these variables and no others.
    pub(crate) fn environment(&mut self, variables: Vec<(&'static str, OsString)>) -> &mut Self {
        self.environment = Some(variables);
        self
    }

    /// Leaves the options out of messages, which they would make unreadable.
    pub(crate) fn brief(&mut self) -> &mut Self {
        self.is_brief = true;
        self
    }

    /// Makes a command that runs `program` as planned.
    pub(crate) fn command(
        &self,
        purpose: impl Into<String>,
        program: impl AsRef<OsStr>,
    ) -> Command {
        self.finish(Command::new(purpose, &self.program).args(self.options()), program)
    }

    /// Makes the same command for a plan whose namespace may have all users. It can be run once.
    ///
    /// # Errors
    ///
    /// Fails if no pipe can be made.
    pub(crate) fn command_with_users(
        &self,
        purpose: impl Into<String>,
        program: impl AsRef<OsStr>,
    ) -> Result<Command> {
        let mut command = Command::new(purpose, &self.program).args(self.options());
        if self.users == Users::All {
            command = all_users::add_map(command)?;
        }
        Ok(self.finish(command, program))
    }

    fn finish(&self, command: Command, program: impl AsRef<OsStr>) -> Command {
        let command = if self.is_brief { command.brief() } else { command };
        command.arg("--").arg(program)
    }

    /// Returns all options, for a command line that begins with another program.
    pub(crate) fn options(&self) -> Vec<OsString> {
        let mut options: Vec<OsString> = Vec::new();
        let mut add = |words: &[&OsStr]| options.extend(words.iter().map(OsString::from));
        if self.users != Users::OfMachine {
            add(&USER_NAMESPACE.map(OsStr::new));
        }
        if self.users != Users::OfMachine || self.drops_capabilities {
            self.add_capabilities(&mut add);
        }
        // A process that outlives us could write to directories whose lock we no longer hold.
        add(&["--die-with-parent".as_ref()]);
        for namespace in &self.namespaces {
            add(&[namespace.option().as_ref()]);
        }
        if let Some(name) = self.hostname {
            add(&["--hostname".as_ref(), name.as_ref()]);
        }
        if self.has_session {
            add(&["--new-session".as_ref()]);
        }
        if let Some(filter) = self.filter {
            add(&["--seccomp".as_ref(), filter.to_string().as_ref()]);
        }
        add(&self.mounts.iter().map(OsString::as_os_str).collect::<Vec<_>>());
        for at in &self.sealed {
            add(&["--remount-ro".as_ref(), at.as_ref()]);
        }
        if let Some(dir) = &self.dir {
            add(&["--chdir".as_ref(), dir.as_ref()]);
        }
        if let Some(variables) = &self.environment {
            add(&["--clearenv".as_ref()]);
            for (name, value) in variables {
                add(&["--setenv".as_ref(), name.as_ref(), value]);
            }
        }
        options
    }

    fn add_capabilities(&self, add: &mut impl FnMut(&[&OsStr])) {
        // A bubblewrap that is setuid leaves ordinary users without any, and refuses these options.
        if self.caller.is_setuid && !self.caller.is_root {
            return;
        }
        if self.drops_capabilities {
            add(&["--cap-drop".as_ref(), "ALL".as_ref()]);
        }
        for capability in &self.capabilities {
            add(&["--cap-add".as_ref(), capability.as_ref()]);
        }
    }

    fn mount<const N: usize>(&mut self, words: [&OsStr; N]) -> &mut Self {
        self.mounts.extend(words.map(ToOwned::to_owned));
        self
    }
}

/// Plans for unit tests, each for another caller.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// The callers: root, a user, and a user with a bubblewrap that is setuid.
    pub(crate) const ALL: [fn() -> Bubblewrap; 3] = [for_root, for_user, for_user_of_setuid];

    pub(crate) fn for_root() -> Bubblewrap {
        Bubblewrap::new("/usr/bin/bwrap", Caller { is_root: true, is_setuid: false })
    }

    pub(crate) fn for_user() -> Bubblewrap {
        Bubblewrap::new("/usr/bin/bwrap", Caller { is_root: false, is_setuid: false })
    }

    pub(crate) fn for_user_of_setuid() -> Bubblewrap {
        Bubblewrap::new("/usr/bin/bwrap", Caller { is_root: false, is_setuid: true })
    }

    /// Returns the options of a plan, an option a line.
    pub(crate) fn lines(bwrap: &Bubblewrap) -> String {
        let words = bwrap.options();
        let words = words.iter().map(|word| word.to_str().unwrap());
        words.fold(String::new(), |text, word| match word {
            _ if text.is_empty() => word.to_owned(),
            option if option.starts_with("--") => text + "\n" + option,
            argument => text + " " + argument,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_option(mut bwrap: Bubblewrap) -> Bubblewrap {
        bwrap
            .nestable()
            .unshare(Namespace::Pid)
            .ro_bind(Path::new("/a"), &inside::ROOT)
            .bind(Path::new("/b"), &inside::STAGING)
            .dev_bind(Path::new("/dev"), &inside::DEV)
            .symlink(Path::new("usr/lib"), &inside::ROOT.join("lib"))
            .dir(&inside::ETC)
            .tmpfs(&inside::FPREFIX)
            .tmpfs_for_all(&inside::TMP)
            .seal(&inside::ROOT)
            .proc()
            .dev()
            .chdir(&inside::ROOT)
            .environment(vec![("PATH", "/usr/bin".into())]);
        bwrap
    }

    #[test]
    fn options_depend_on_the_caller() {
        let [root, user, setuid] = samples::ALL.map(|sample| every_option(sample()));
        insta::assert_snapshot!(samples::lines(&user));
        let without = |text: String, lines: &[&str]| -> String {
            text.lines()
                .filter(|line| !lines.contains(line))
                .map(|line| format!("{line}\n"))
                .collect()
        };
        let user = samples::lines(&user);
        let capability = "--cap-add CAP_SETFCAP";
        assert_eq!(without(user.clone(), &[capability]), without(samples::lines(&setuid), &[]));
        let of_users = ["--unshare-user", "--uid 0", "--gid 0", capability];
        assert_eq!(without(user, &of_users), without(samples::lines(&root), &[]));
    }

    #[test]
    fn messages_show_the_options_or_leave_them_out() {
        let mut bwrap = samples::for_root();
        bwrap.chdir(&inside::ROOT);
        let command = bwrap.command("try", "emerge").arg("x").to_string();
        assert_eq!(command, "/usr/bin/bwrap --die-with-parent --chdir / -- emerge x");
        let command = bwrap.brief().command("try", "emerge").arg("x").to_string();
        assert_eq!(command, "/usr/bin/bwrap ... -- emerge x");
    }

    #[test]
    fn entries_of_a_directory_are_shown_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", "hidden"] {
            fs_err::create_dir(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let at = InsidePath::parse(dir.path()).unwrap();
        let mut bwrap = samples::for_root();
        bwrap.ro_bind_entries(&at, &["hidden"]).unwrap();
        let expected = "--die-with-parent\n--ro-bind-try AT/a AT/a\n--ro-bind-try AT/b AT/b\n\
                        --symlink a AT/link";
        assert_eq!(samples::lines(&bwrap), expected.replace("AT", &at.to_string()));
        let absent = bwrap.ro_bind_entries(&at.join("absent"), &[]).unwrap_err().to_string();
        assert!(absent.contains("absent"), "{absent}");
    }
}
