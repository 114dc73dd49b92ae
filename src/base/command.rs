//! The only module that starts external programs.
//!
//! A command is built with its own environment and prints as text that can be pasted into a shell.
//! Each way to run it documents the use of its streams. Errors carry the purpose, the command, its
//! status and the end of its stderr.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use crate::base::escape::{Escape, is_hidden, visible_line};
use anyhow::{Context, Result, anyhow, bail};
use memchr::memmem;
use rustix::process::Signal;

use crate::base::input;

/// Variables that every child inherits from the caller: network access and terminal type. Every
/// other variable is set explicitly.
const PASSED_ON: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "TERM",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "NOCOLOR",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SOURCE_DATE_EPOCH",
];

/// Directories of the machine in which a build may find tools: those of its own packages.
pub(crate) const MACHINE_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Search path of children that bring none of their own.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// External program with its purpose, arguments, environment and directory.
#[derive(Clone, Debug)]
pub struct Command {
    purpose: String,
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    dir: Option<PathBuf>,
    /// Number of arguments that messages leave out.
    unsaid: usize,
    meanings: Vec<(Symptom, String)>,
    inherited: Vec<Arc<OwnedFd>>,
}

/// A sign by which the reason of a failure is known.
#[derive(Clone, Copy, Debug)]
pub enum Symptom {
    /// The exit status.
    Status(i32),
    /// Part of a message.
    Message(&'static str),
}

impl Command {
    /// Makes a command that runs `program`; `purpose` completes the sentence "could not ...".
    pub fn new(purpose: impl Into<String>, program: impl AsRef<OsStr>) -> Self {
        let mut env: BTreeMap<OsString, OsString> = PASSED_ON
            .iter()
            .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
            .collect();
        env.insert("PATH".into(), SYSTEM_PATH.into());
        env.insert("LC_ALL".into(), "C.UTF-8".into());
        Self {
            purpose: purpose.into(),
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env,
            dir: None,
            unsaid: 0,
            meanings: Vec::new(),
            inherited: Vec::new(),
        }
    }

    /// Makes a command for a program that this process becomes, with the environment that it has.
    pub fn as_caller(program: impl AsRef<OsStr>) -> Self {
        let name = program.as_ref().to_string_lossy().into_owned();
        let env = std::env::vars_os().collect();
        Self { env, ..Self::new(format!("run {name}"), program) }
    }

    /// Leaves the arguments added so far out of messages, which they would make unreadable.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.unsaid = self.args.len();
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the child's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Passes on a variable of this process's environment if it is set.
    #[must_use]
    pub fn pass(self, name: &str) -> Self {
        match std::env::var_os(name) {
            Some(value) => self.env(name, value),
            None => self,
        }
    }

    /// Adds a reason to the error of a failure with this symptom.
    #[must_use]
    pub fn explain(mut self, symptom: Symptom, reason: impl Into<String>) -> Self {
        self.meanings.push((symptom, reason.into()));
        self
    }

    /// Keeps a file open for the child. It must not have the flag `FD_CLOEXEC`.
    #[must_use]
    pub fn inherit(mut self, file: Arc<OwnedFd>) -> Self {
        self.inherited.push(file);
        self
    }

    /// Sets the directory in which the child starts.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Runs with no input and returns stdout. stderr is kept for the error message only.
    pub fn read(&self) -> Result<String> {
        let output = self
            .expression()
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        self.check_status(output.status, &output.stderr)?;
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{self}` printed something that is not UTF-8"))
    }

    /// Runs with no input and returns both streams and the status, even on failure.
    pub fn output(&self) -> Result<std::process::Output> {
        self.expression()
            .stdin_null()
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))
    }

    /// Runs with no input and drops stdout. Returns the status, even on failure, and the end of
    /// stderr, without the lines that contain `expected`.
    pub fn messages(&self, expected: &'static str) -> Result<Messages> {
        let (end, kept) = KeptEnd::open(Some(expected))?;
        let output = self
            .expression()
            .stdin_null()
            .stdout_null()
            .stderr_file(end)
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        let (others, expected) = kept.join();
        Ok(Messages { status: output.status, expected, others })
    }

    /// Fails as the other ways to run do if the program failed.
    ///
    /// # Errors
    ///
    /// Fails if the status is not 0.
    pub fn require_success(&self, messages: &Messages) -> Result<()> {
        self.check_status(messages.status, &messages.others)
    }

    /// Runs with no input; the output is dropped unless the command fails.
    pub fn run_quiet(&self) -> Result<()> {
        let output = self
            .expression()
            .stdin_null()
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        self.check_status(output.status, &output.stdout)
    }

    /// Runs with no input; both streams are written to the file `log`, whose path the error names.
    pub fn run_logged(&self, log: &Path) -> Result<()> {
        let file = fs_err::File::create(log)?;
        let copy = file.try_clone()?;
        let output = self
            .expression()
            .stdin_null()
            .stdout_file(file.into_file())
            .stderr_file(copy.into_file())
            .unchecked()
            .run()
            .map_err(|error| self.not_started(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let written = input::read_end(log)?.into_bytes();
        self.check_status(output.status, &written)
            .with_context(|| format!("its whole output is in {}", log.escaped()))
    }

    /// Runs with the output of `feed` as its input; its own output is dropped unless it fails.
    pub fn run_fed(&self, feed: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let (input, mut output) = std::io::pipe().context("could not make a pipe")?;
        let (end, kept) = KeptEnd::open(None)?;
        let running = self
            .expression()
            .stdin_file(input)
            .stderr_to_stdout()
            .stdout_file(end)
            .unchecked()
            .start()
            .map_err(|error| self.not_started(&error))?;
        let outcome = feed(&mut output);
        drop(output);
        let gone = |error: &anyhow::Error| {
            error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
                .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
        };
        if outcome.as_ref().is_err_and(|error| !gone(error)) {
            // End of input would look like complete input, so the child is killed instead.
            running.kill().with_context(|| format!("could not end `{self}`"))?;
            return outcome;
        }
        let ended = running.wait().with_context(|| format!("could not wait for `{self}`"))?;
        self.check_status(ended.status, &kept.join().0)?;
        outcome
    }

    /// Runs with no input and passes stdout to `read` as it arrives. The end of stderr is kept for
    /// the error message only.
    pub fn run_read<T>(&self, read: impl FnOnce(&mut dyn std::io::Read) -> Result<T>) -> Result<T> {
        let (end, kept) = KeptEnd::open(None)?;
        let running = self
            .expression()
            .stdin_null()
            .stderr_file(end)
            .unchecked()
            .reader()
            .map_err(|error| self.not_started(&error))?;
        let mut output = &running;
        let outcome = read(&mut output);
        // The child ends once all its output is read. After a failure nobody reads the rest.
        if outcome.is_ok() {
            std::io::copy(&mut output, &mut std::io::sink())
                .with_context(|| format!("could not read what `{self}` prints"))?;
        } else {
            let ended = running.try_wait().ok().flatten().map(|output| output.status);
            running.kill().with_context(|| format!("could not end `{self}`"))?;
            if ended.is_none() {
                return outcome;
            }
        }
        let Some(ended) = running.try_wait()? else {
            bail!("`{self}` closed its output and did not end");
        };
        self.check_status(ended.status, &kept.join().0)?;
        outcome
    }

    /// Runs with the stdin, stdout and stderr of this process and returns the status, even on
    /// failure.
    pub fn run_attached(&self) -> Result<ExitStatus> {
        let output =
            self.expression().unchecked().run().map_err(|error| self.not_started(&error))?;
        Ok(output.status)
    }

    /// Becomes the program. It has the streams and the other open files of this process.
    ///
    /// # Errors
    ///
    /// Fails if the program cannot be started, and only then returns.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        use std::os::unix::process::CommandExt;
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let error = std::process::Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .exec();
        Err(self.not_started(&error))
    }

    /// Runs with the stdin of this process and passes chunks of both output streams to `each`.
    pub fn run_piped(&self, each: impl FnMut(&[u8])) -> Result<ExitStatus> {
        self.run_through(&self.expression().stderr_to_stdout(), each)
    }

    /// Runs with the stdin and stderr of this process and passes chunks of stdout to `each`.
    pub fn run_filtered(&self, each: impl FnMut(&[u8])) -> Result<ExitStatus> {
        self.run_through(&self.expression(), each)
    }

    fn run_through(
        &self,
        expression: &duct::Expression,
        mut each: impl FnMut(&[u8]),
    ) -> Result<ExitStatus> {
        let mut reader =
            expression.unchecked().reader().map_err(|error| self.not_started(&error))?;
        let mut chunk = [0_u8; 8192];
        loop {
            let count = reader
                .read(&mut chunk)
                .with_context(|| format!("could not read what `{self}` prints"))?;
            if count == 0 {
                break;
            }
            each(chunk.get(..count).unwrap_or_default());
        }
        match reader.try_wait()? {
            Some(output) => Ok(output.status),
            None => bail!("`{self}` closed its output and did not end"),
        }
    }

    /// Starts the command in parallel; its output is dropped. Its input ends when the attendant is
    /// dismissed or dropped, and when this process ends for any reason. It alone goes on then.
    pub fn attend(&self) -> Result<Attendant> {
        let (input, output) = std::io::pipe().context("could not make a pipe")?;
        let running = self
            .outliving_expression()
            .stdin_file(input)
            .stdout_null()
            .stderr_null()
            .unchecked()
            .start()
            .map_err(|error| self.not_started(&error))?;
        Ok(Attendant { running, output })
    }

    /// Returns the expression of a program that is killed when this process ends for any reason:
    /// nobody writes any more to what the next run removes or makes anew.
    fn expression(&self) -> duct::Expression {
        self.outliving_expression().before_spawn(|command| {
            end_with_us(command);
            Ok(())
        })
    }

    fn outliving_expression(&self) -> duct::Expression {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut expression = duct::cmd(&self.program, &self.args).full_env(&self.env);
        if let Some(dir) = &self.dir {
            expression = expression.dir(dir);
        }
        expression
    }

    fn not_started(&self, error: &std::io::Error) -> anyhow::Error {
        anyhow!("could not {}: `{self}` did not start: {error}", self.purpose)
    }

    fn check_status(&self, status: ExitStatus, written: &[u8]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let tail = tail(written);
        let said = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
        let meaning = self.meanings.iter().find(|(symptom, _)| match symptom {
            Symptom::Status(known) => status.code() == Some(*known),
            Symptom::Message(part) => said.contains(part),
        });
        let reason = meaning.map(|(_, reason)| format!(" ({reason})")).unwrap_or_default();
        bail!("could not {}: `{self}` {}{reason}{said}", self.purpose, describe(status))
    }
}

/// Lets the kernel kill the program of `command` when this process has ended (prctl(2),
/// `PR_SET_PDEATHSIG`). Programs start in threads that end with this process.
#[expect(unsafe_code, reason = "between fork and exec, it makes system calls alone")]
fn end_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if rustix::process::getppid() != Some(parent) {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    unsafe { command.pre_exec(ask) };
}

/// Messages of a program that has ended.
#[derive(Debug)]
pub struct Messages {
    /// Status of the program.
    pub status: ExitStatus,
    /// Number of lines that were expected.
    pub expected: usize,
    /// The end of the other lines.
    pub others: Vec<u8>,
}

/// The end of a stream, which may be endless.
struct KeptEnd(std::thread::JoinHandle<(Vec<u8>, usize)>);

impl KeptEnd {
    /// Number of bytes that are kept, at least.
    const SIZE: usize = 1 << 20;
    /// Number of bytes that are read as one line, at most.
    const LINE: u64 = 1 << 16;

    /// Starts to read a pipe, without the lines that contain `expected`. Returns the other end of
    /// the pipe, for the child.
    fn open(expected: Option<&'static str>) -> Result<(std::io::PipeWriter, Self)> {
        let (input, output) = std::io::pipe().context("could not make a pipe")?;
        let reading = std::thread::spawn(move || {
            let mut input = BufReader::new(input);
            let finder = expected.map(memmem::Finder::new);
            let (mut kept, mut count, mut line) = (Vec::new(), 0, Vec::new());
            while let Ok(1..) = (&mut input).take(Self::LINE).read_until(b'\n', &mut line) {
                if finder.as_ref().is_some_and(|finder| finder.find(&line).is_some()) {
                    count += 1;
                } else {
                    kept.extend_from_slice(&line);
                }
                line.clear();
                if kept.len() > 2 * Self::SIZE {
                    kept.drain(..kept.len() - Self::SIZE);
                }
            }
            (kept, count)
        });
        Ok((output, Self(reading)))
    }

    /// Waits for the end of the stream. Returns what was kept, and the number of expected lines.
    fn join(self) -> (Vec<u8>, usize) {
        self.0.join().unwrap_or_default()
    }
}

/// Program that runs in parallel and waits for the end of its input.
pub struct Attendant {
    running: duct::Handle,
    output: std::io::PipeWriter,
}

impl Attendant {
    /// Writes a last word to the program's input and waits for the program to end.
    pub fn dismiss(mut self, word: &str) {
        // The program may have ended already.
        let _ = self.output.write_all(word.as_bytes());
        drop(self.output);
        let _ = self.running.wait();
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_word(&self.program))?;
        if self.unsaid > 0 {
            f.write_str(" ...")?;
        }
        for arg in self.args.iter().skip(self.unsaid) {
            write!(f, " {}", show_word(arg))?;
        }
        Ok(())
    }
}

/// Returns `text` as one word of a POSIX shell, for a script.
pub(crate) fn quote(text: impl AsRef<OsStr>) -> String {
    // Neither an argument nor a script can contain a NUL byte.
    let quoted = shlex::bytes::try_quote(text.as_ref().as_bytes()).unwrap_or_default();
    String::from_utf8_lossy(&quoted).into_owned()
}

/// Returns `text` as one word of a shell, for a message. Bytes that would act on a terminal are
/// escaped in the quotes that bash, zsh and POSIX.1-2024 have for them.
fn show_word(text: &OsStr) -> String {
    match text.to_str() {
        Some(plain) if !plain.contains(is_hidden) => quote(plain),
        _ => format!("$'{}'", text.escaped().to_string().replace('\'', "\\'")),
    }
}

/// Returns a description of how a process ended.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// Returns the exit code that a shell would report for `status`.
pub(crate) fn shell_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// Returns the path of `program` on `path`, a list in the form of `$PATH`; `None` if it is absent.
pub fn find_program(program: &str, path: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| {
        fs_err::metadata(candidate)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// Message of every program for a full disk. Some programs print it long before they end.
pub(crate) const NO_SPACE: &str = "No space left on device";

/// Returns the last twelve lines of `written`, and an earlier line that reports a full disk, each
/// indented: what a program prints is never taken for a line of ours.
pub(crate) fn tail(written: &[u8]) -> String {
    let lines: Vec<&[u8]> = written
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.trim_ascii().is_empty())
        .collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(12));
    let full = before.iter().find(|line| memmem::find(line, NO_SPACE.as_bytes()).is_some());
    full.into_iter().chain(last).map(|line| format!("  {}\n", visible_line(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_pasteable() {
        let command = Command::new("try", "echo").arg("a b").arg("$x").arg("it's");
        assert_eq!(command.to_string(), "echo 'a b' '$x' \"it's\"");
        let words = shlex::split(&command.to_string()).unwrap();
        assert_eq!(words, ["echo", "a b", "$x", "it's"]);
        let odd = OsStr::from_bytes(b"it's\\\n\x1b\xff1");
        let command = Command::new("try", "printf").arg("%s").arg(odd);
        assert_eq!(command.to_string(), r"printf '%s' $'it\'s\\\n\x1b\xff1'");
        let shell = Command::new("paste", "bash").arg("-c").arg(command.to_string());
        assert_eq!(shell.output().unwrap().stdout, odd.as_bytes());
    }

    #[test]
    fn feeding_ends_whichever_side_fails() {
        let command = |script: &str| Command::new("count", "sh").args(["-c", script]);
        let much = vec![b'x'; 1 << 20];
        command("test $(wc -c) = 1048576").run_fed(|input| Ok(input.write_all(&much)?)).unwrap();
        let error = command("echo full >&2; exit 3")
            .run_fed(|input| Ok(input.write_all(&much)?))
            .unwrap_err()
            .to_string();
        assert!(error.contains("ended with status 3") && error.contains("full"), "{error}");
        let error = command("cat").run_fed(|_| bail!("unreadable")).unwrap_err().to_string();
        assert_eq!(error, "unreadable");
    }

    #[test]
    fn reading_ends_whichever_side_fails() {
        let command = |script: &str| Command::new("count", "sh").args(["-c", script]);
        let all = |output: &mut dyn std::io::Read| Ok(std::io::read_to_string(output)?);
        assert_eq!(command("echo one; echo two >&2").run_read(all).unwrap(), "one\n");
        let error = command("echo lost >&2; exit 3").run_read(all).unwrap_err().to_string();
        assert!(error.contains("ended with status 3") && error.contains("lost"), "{error}");
        let none = |_: &mut dyn std::io::Read| -> Result<()> { bail!("nonsense") };
        let error = command("exec yes").run_read(none).unwrap_err().to_string();
        assert_eq!(error, "nonsense");
    }

    #[test]
    fn the_end_of_many_messages_is_kept() {
        let script = "yes early | head -c 9000000 >&2; echo last >&2; exit 3";
        let command = Command::new("complain", "sh").args(["-c", script]);
        let messages = command.messages("none").unwrap();
        assert_eq!((messages.status.code(), messages.expected), (Some(3), 0));
        assert!(messages.others.len() <= 2 * KeptEnd::SIZE, "{}", messages.others.len());
        assert!(messages.others.ends_with(b"early\nlast\n"));
        let messages = command.messages("early").unwrap();
        assert_eq!((messages.expected, &messages.others[..]), (1_500_000, &b"last\n"[..]));
        let error = command.run_read(|_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("ended with status 3") && error.ends_with("last\n"), "{error}");
        let error = command.run_fed(|_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("ended with status 3") && error.ends_with("last\n"), "{error}");
    }

    #[test]
    fn symptoms_explain_a_failure() {
        let command = |script: &str| {
            Command::new("try", "sh")
                .args(["-c", script])
                .explain(Symptom::Status(7), "it was seven")
                .explain(Symptom::Message("sheep"), "there are none")
        };
        let error = |script: &str| command(script).read().unwrap_err().to_string();
        assert!(error("exit 7").ends_with("ended with status 7 (it was seven)"));
        assert!(error("echo no sheep >&2; exit 6").contains("status 6 (there are none)\n"));
        assert!(error("exit 6").ends_with("ended with status 6"));
    }

    #[test]
    fn error_names_purpose_command_status_and_stderr() {
        let error = Command::new("count the sheep", "sh")
            .args(["-c", "echo no sheep >&2; exit 7"])
            .read()
            .unwrap_err()
            .to_string();
        assert!(error.contains("could not count the sheep"), "{error}");
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("status 7"), "{error}");
        assert!(error.contains("no sheep"), "{error}");
    }

    #[test]
    fn environment_is_built() {
        let printed = Command::new("list", "env").env("ONE", "1").read().unwrap();
        assert!(printed.contains("ONE=1\n"));
        assert!(!printed.contains("CARGO"), "{printed}");
    }
}
