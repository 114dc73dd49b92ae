//! A program that is started in a world, signalled, waited for, and what it said.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output, Stdio};

use super::World;
use super::tools::find;
use super::wait::wait_for;

/// A run of a program that is about to start. Its environment is the search path, what reaches the
/// network, and what is set here.
pub(crate) struct Run<'w> {
    pub(super) world: &'w World,
    pub(super) before: Vec<OsString>,
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, Option<OsString>)>,
    pub(super) dir: PathBuf,
}

/// What passes from whoever runs the tests: how pip and fetchers reach the network here.
fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "PATH"
        || name.starts_with("PIP_")
        || name.starts_with("SSL_CERT_")
        || name.to_lowercase().ends_with("_proxy")
        || name.starts_with("LLVM_PROFILE_")
}

impl Run<'_> {
    /// Adds arguments.
    pub(crate) fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), Some(value.as_ref().into())));
        self
    }

    /// Takes a variable away.
    pub(crate) fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), None));
        self
    }

    /// The directory to start in.
    pub(crate) fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    /// Words that start the program in some way of their own.
    pub(crate) fn through<I, S>(mut self, words: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let words: Vec<OsString> = words.into_iter().map(|word| word.as_ref().into()).collect();
        self.before.splice(0..0, words);
        self
    }

    /// The command as the shell would have it, for messages.
    fn shown(&self) -> String {
        let words: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        let program = Path::new(&self.program).file_name().unwrap_or_default().to_string_lossy();
        format!("{program} {}", words.join(" "))
    }

    /// The words that start it, for a shell.
    pub(crate) fn shell_words(&self) -> String {
        let words = self.before.iter().chain([&self.program]).chain(&self.args);
        let words = words.map(|word| shlex::try_quote(word.to_str().unwrap()).unwrap());
        words.collect::<Vec<_>>().join(" ")
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs too, here")]
    fn command(&self) -> std::process::Command {
        let mut words = self.before.iter().chain([&self.program]).chain(&self.args);
        let mut command = std::process::Command::new(find(words.next().unwrap()));
        command.args(words).current_dir(&self.dir).env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)));
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Starts it with no input, and leaves it running. As from a shell at a terminal, it leads a
    /// process group of its own.
    pub(crate) fn start(self) -> Running {
        use std::os::unix::process::CommandExt;
        let shown = self.shown();
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .process_group(0);
        let mut started = None;
        // What another test forks has a moment long the files open that this one writes, and a program
        // that somebody may write to is not started (ETXTBSY, execve(2)).
        wait_for("a program that nobody writes", || {
            let outcome = command.spawn();
            let is_busy = |error: &std::io::Error| error.kind() == ErrorKind::ExecutableFileBusy;
            let is_over = !outcome.as_ref().is_err_and(is_busy);
            started = Some(outcome);
            is_over
        });
        let child =
            started.unwrap().unwrap_or_else(|error| panic!("`{shown}` did not start: {error}"));
        Running { child, stdout, stderr, shown }
    }

    /// Runs it with no input.
    pub(crate) fn said(self) -> Said {
        let world = self.world;
        self.start().wait(world)
    }

    /// Runs it with `input`.
    pub(crate) fn said_to(self, input: &str) -> Said {
        let shown = self.shown();
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read closes its end.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        Said { shown, status, stdout: self.world.plain(&stdout), stderr: self.world.plain(&stderr) }
    }
}

/// A program that runs.
pub(crate) struct Running {
    child: Child,
    stdout: std::fs::File,
    stderr: std::fs::File,
    shown: String,
}

impl Running {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// What it has said on stdout so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Returns whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal, it alone.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Sends a signal to it and what it started, as a terminal does at ctrl-C.
    pub(crate) fn signal_group(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process_group(id, signal).unwrap();
    }

    /// Waits until `ready` says so, for as long as it runs.
    pub(crate) fn until(&mut self, mut ready: impl FnMut(&Self) -> bool) -> bool {
        let mut is_ready = false;
        wait_for("what a program is to do, or its end", || {
            is_ready = ready(self);
            is_ready || !self.runs()
        });
        is_ready
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self, world: &World) -> Said {
        let status = self.child.wait().unwrap();
        Said {
            stdout: world.plain(read(&self.stdout).as_bytes()),
            stderr: world.plain(read(&self.stderr).as_bytes()),
            shown: self.shown,
            status,
        }
    }
}

fn read(file: &std::fs::File) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    let length = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8_lossy(bytes.get(..length).unwrap()).into_owned()
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    shown: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The status as a shell has it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// It has to have ended with this status.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert!(self.code() == code, "expected status {code}\n{self}");
        self
    }

    /// It has to have succeeded.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// This has to be in what it printed to stdout.
    #[track_caller]
    pub(crate) fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected {text:?} on stdout\n{self}");
        self
    }

    /// This has to be in what it printed to stderr.
    #[track_caller]
    pub(crate) fn tells(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected {text:?} on stderr\n{self}");
        self
    }

    /// All of it, for a snapshot.
    pub(crate) fn transcript(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}", self.shown)?;
        f.write_str(&self.stdout)?;
        f.write_str(&self.stderr)?;
        writeln!(f, "[{}]", self.code())
    }
}
